"""An answer compared with its version that has a flaw, in both orders: does the judge prefer an answer, or a place?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from longreward.concurrency.pacing import at_most
from longreward.concurrency.tasks import together
from longreward.errors import Reason
from longreward.evaluation.people.agreement import Proportion
from longreward.judge import Judge
from longreward.judge.requests.evaluation import CompareAnswers
from longreward.judge.verdicts import Preference
from longreward.schema import OK, Record, Sample, Usage


class Comparison(Record):
    """A pair that was compared in both orders. "A" is the answer that stands first."""

    key: str
    """The key of the version with the flaw."""
    idx: str
    """Its id."""
    config: str
    """The fingerprint of what the judge was asked with."""
    original_first: Preference | None = None
    flawed_first: Preference | None = None
    status: str = OK
    """Why one of them is void."""
    usage: Usage = Usage()


@dataclass(frozen=True)
class Pair:
    key: str
    original: Sample
    flawed: Sample

    @property
    def requests(self) -> tuple[CompareAnswers, CompareAnswers]:
        """The original first, then the flawed one first. The judge sees no document, as in an evaluation."""
        return CompareAnswers.both_orders(self.original.query, self.original.answer, self.flawed.answer)


async def compare(
    pairs: Sequence[Pair], judge: Judge, config: str, concurrency: int, done: Callable[[Comparison], None]
) -> bool:
    """Ask about pairs; `done` takes each as it is there. False where the spend cap ended it."""
    stopped = False

    async def one(pair: Pair) -> None:
        nonlocal stopped
        if stopped:
            return
        first, second = await together(judge.ask(request, document=pair.key) for request in pair.requests)
        calls = [first.call, second.call]
        status = next((call.status for call in calls if call.status != OK), OK)
        usage = sum((call.usage for call in calls), Usage())
        values = {"original_first": first.value, "flawed_first": second.value}
        done(Comparison(key=pair.key, idx=pair.flawed.id, config=config, status=status, usage=usage, **values))
        stopped |= status == Reason.SPEND_CAP

    await at_most(concurrency, pairs, one)
    return not stopped


@dataclass(frozen=True)
class Orders:
    """What came of pairs in both orders. Pairs with a void verdict are in `void` alone."""

    same: int = 0
    """The same answer is preferred in both orders, or neither."""
    first: int = 0
    """What stands first is preferred in both."""
    second: int = 0
    """What stands second is."""
    half: int = 0
    """One is preferred in one order, and neither in the other."""
    original: int = 0
    """The original is preferred in both orders."""
    flawed: int = 0
    """The one with the flaw is."""
    void: int = 0

    @property
    def n(self) -> int:
        return self.same + self.first + self.second + self.half

    @property
    def consistent(self) -> Proportion:
        return Proportion(self.same, self.n)

    @property
    def prefers_first(self) -> Proportion:
        """Among the pairs in which a place wins in both orders: 50% is no bias."""
        return Proportion(self.first, self.first + self.second)


def orders(comparisons: Iterable[Comparison]) -> Orders:
    """Count them."""
    counts: Counter[str] = Counter()
    for each in comparisons:
        pair = each.original_first, each.flawed_first
        if None in pair:
            counts["void"] += 1
        elif pair in (("A", "B"), ("B", "A"), ("tie", "tie")):
            counts["same"] += 1
            counts["original"] += pair == ("A", "B")
            counts["flawed"] += pair == ("B", "A")
        else:
            counts["first" if pair == ("A", "A") else "second" if pair == ("B", "B") else "half"] += 1
    return Orders(**counts)
