"""`longreward score`: a file of answers in, a file of scores out, resumable at any kill."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from longreward import store
from longreward.commands.accounts import Account, used_for
from longreward.commands.options import SETTINGS, add_concurrency, add_judge, reward_config
from longreward.commands.rows import Rows
from longreward.commands.score_display import ProgressLine, Run, judge_log, print_run, print_summary, warning_of_cap
from longreward.config import JudgeConfig, RewardConfig
from longreward.dimensions.document import document_key
from longreward.errors import InputError, JudgeError, Reason
from longreward.judge import offline
from longreward.pacing import rare_collections
from longreward.preflight.estimate import estimate
from longreward.reward import LongReward, fingerprint
from longreward.schema import Reward, Sample, ScoredAnswer, Usage
from longreward.text.amounts import caps, in_words

_HOPELESS_AFTER = 8  # answers, all void: the judge is what is wrong, not the answers
_LOOKED_INTO = 50  # documents for the estimate, some 0.1 s each if they are long


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Score each answer on helpfulness, logicality, faithfulness and completeness (0-10). A run that is started "
        "again continues where it stopped, and scores void answers again."
    )
    command.epilog = SETTINGS
    command.add_argument("input", type=Path, metavar="IN.jsonl", help="rows with idx (or id), context, query, answer")
    command.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help="where the scores go")
    add_judge(command)
    add_concurrency(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    config = reward_config(options, overrides)
    return asyncio.run(score_file(options.input, options.out, config, options.concurrency))


async def score_file(source: Path, out: Path, config: RewardConfig, concurrency: int) -> int:
    """Score the rows of `source` into `out`. Returns 0, or 1 where rows were unreadable, nothing could be scored, or
    the spend cap ended the run.

    Raises as `score_samples` does, and InputError where `source` holds nothing to score.
    """
    console = Console(stderr=True, soft_wrap=True)
    rows = Rows(source)
    samples = {key: sample for key, sample, _ in rows.samples()}
    if not samples:
        raise InputError(f"{source} holds no readable row with context, query and answer{rows.first_problem}")
    run = await score_samples(samples, out, config, concurrency, console)
    scored = list(run.rows.values())
    store.rewrite(out, scored)  # in the order of the input
    print_summary(scored, run.account, config.judge.price.known, run.seconds, out)
    print_run(console, run)
    rows.report(console)
    return 1 if rows.broken or run.stopped or not run.whole else 0


async def score_samples(
    samples: dict[str, Sample], out: Path | None, config: RewardConfig, concurrency: int, console: Console
) -> Run:
    """Score answers, given by their keys. With `out` each is kept there as it is done, and what it holds already is
    not asked again unless it is void.

    InputError where `out` cannot be used, was scored with another configuration or has used up `judge.spend`;
    JudgeError where the judge answers nothing at all.
    """
    judge = config.judge
    earlier = _Earlier() if out is None else _Earlier.read(out, config, samples)
    todo = _by_document([(key, sample) for key, sample in samples.items() if key not in earlier.done])
    if judge.kind == "offline":
        console.print(offline.NOTICE, style="yellow")
    if earlier.done:
        console.print(f"{len(earlier.done)} of {len(samples)} answers are already scored in {out}; {len(todo)} to go")
    used = earlier.used
    if todo:
        config = config.model_copy(update={"judge": _what_is_left(judge, used, out)})
    expected = None
    if todo and judge.kind == "openai":
        with console.status("estimating"):
            expected = await asyncio.to_thread(estimate, [sample for _, sample in todo], config, sample=_LOOKED_INTO)
        console.print(f"expected: about {in_words(expected, judge.price)}{warning_of_cap(expected, config)}")

    started = time.monotonic()
    with nullcontext() if out is None else _opened(out) as file:
        reward = LongReward.from_config(config)
        rare_collections()
        try:
            with ProgressLine(console, len(todo)) as progress, judge_log(console):
                keeper = _Keeper(file, config, earlier, progress)
                await _score_all(reward, todo, concurrency, keeper)
        except BaseExceptionGroup as group:
            raise _leaf(group) from None
        finally:
            await reward.aclose()
    known = earlier.void | earlier.done
    return Run(
        rows={key: known[key] for key in samples if key in known},
        others=earlier.others,
        account=keeper.account,
        earlier=used,
        seconds=time.monotonic() - started,
        stopped=keeper.stopped,
        expected=expected,
        judge=judge,
        answers=len(samples),
        kept=out is not None,
    )


@dataclass
class _Earlier:
    """What an earlier run of the same command left in OUT."""

    done: dict[str, ScoredAnswer] = field(default_factory=dict)
    """Scored rows by key; a line cut by a kill is not there."""
    void: dict[str, ScoredAnswer] = field(default_factory=dict)
    """Void rows, which are asked again."""
    others: dict[str, ScoredAnswer] = field(default_factory=dict)
    """Rows about answers that are not to be scored now."""
    used_by: dict[str, Usage] = field(default_factory=dict)
    """What each answer has used so far, void ones as well."""

    @property
    def used(self) -> Usage:
        return sum(self.used_by.values(), Usage())

    @classmethod
    def read(cls, out: Path, config: RewardConfig, samples: dict[str, Sample]) -> _Earlier:
        earlier = cls()
        if not out.exists():
            return earlier
        ours = fingerprint(config)
        for number, _, row in store.read(out, broken=[]):
            if row.config != ours or not row.key:
                raise InputError(
                    f"{out}:{number} was written with another reward configuration, judge or prompt version; "
                    "choose another --out, or remove that file to score again"
                )
            # The last row of an answer includes what the ones before it used.
            earlier.used_by[row.key] = used_for(row, config.judge.price)
            rows = earlier.void if row.total is None else earlier.done
            if (sample := samples.get(row.key)) is not None:
                # Rows of old have neither.
                rows[row.key] = row.model_copy(update={"query": sample.query, "answer": sample.answer})
            else:
                earlier.others[row.key] = row
        if not earlier.used_by and out.stat().st_size:
            raise InputError(f"{out} exists and is not a file of scores; choose another --out")
        return earlier


def _opened(out: Path) -> store.Store:
    try:
        return store.Store(out, with_scores=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}; choose another --out") from None


def _by_document(todo: list[tuple[str, Sample]]) -> list[tuple[str, Sample]]:
    """The answers about one document next to each other: only so many prepared documents are kept at a time."""
    groups: dict[str, list[tuple[str, Sample]]] = {}
    for key, sample in todo:
        groups.setdefault(document_key(sample.context, sample.query), []).append((key, sample))
    return [pair for group in groups.values() for pair in group]


async def _score_all(reward: LongReward, todo: Sequence[tuple[str, Sample]], concurrency: int, keeper: _Keeper) -> None:
    """Score until there is nothing left to do or to spend; what is under way then is finished, for it is paid for."""
    remaining = iter(todo)

    async def worker() -> None:
        for key, sample in remaining:
            began = time.time()
            keeper.keep(key, began, sample, await reward.score(sample))
            if keeper.stopped:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(todo))):
            group.create_task(worker())


class _Keeper:
    """Writes each scored answer down as it is done, and stops a run whose judge answers nothing."""

    def __init__(
        self, file: store.Store | None, config: RewardConfig, earlier: _Earlier, progress: ProgressLine
    ) -> None:
        self.account = Account(config.judge.price)
        self.stopped = False
        """The spend cap is reached: nothing more is asked."""
        self._file, self._fingerprint, self._earlier, self._progress = file, fingerprint(config), earlier, progress
        self._void = self._scored = 0

    def keep(self, key: str, began: float, sample: Sample, reward: Reward) -> None:
        used = self._earlier.used_by.get(key, Usage())
        about = {"key": key, "config": self._fingerprint, "time": began, "earlier_usage": used}
        row = ScoredAnswer.of(sample, reward, **about)
        self._earlier.done[key] = row
        if self._file is not None:
            self._file.append(row)
        self.account.add(row)
        self._void += reward.total is None
        self._scored += reward.total is not None
        self._progress.advance(reward.total, self.account)
        self.stopped |= Reason.SPEND_CAP in reward.void_reasons.values()
        if self._void >= _HOPELESS_AFTER and not self._scored and not self.stopped:
            name, reason = next(iter(reward.void_reasons.items()))
            detail = f"the first {self._void} answers are all void, {name}: {reason} ({reward.dimensions[name].detail})"
            raise JudgeError(Reason(reason), detail=f"{detail}; check judge.base_url, judge.model and the key")


def _what_is_left(judge: JudgeConfig, used: Usage, out: Path | None) -> JudgeConfig:
    """The judge with `spend` lowered by what earlier runs have used. InputError where nothing is left."""
    left: dict[str, float] = {}
    for name, cap, amount, words in caps(judge, used):
        left[name] = cap - amount
        if left[name] <= 0:
            raise InputError(
                f"the answers in {out} have used {words(amount)} of judge.spend.{name}={cap:.12g} already; "
                f"raise judge.spend.{name} and run the same command again"
            )
    return judge.model_copy(update={"spend": judge.spend.model_copy(update=left)})


def _leaf(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
