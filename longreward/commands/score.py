"""`longreward score`: a file of answers in, a file of scores out, resumable at any kill."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from longreward import store
from longreward.commands.accounts import Account, used_for
from longreward.commands.options import SETTINGS, add_concurrency, add_contexts, add_judge, reward_config
from longreward.commands.rows import Rows
from longreward.commands.score_display import compared, judge_log, print_summary, progress, warning_of_cap
from longreward.concurrency.pacing import at_most, rare_collections
from longreward.config import JudgeConfig, RewardConfig
from longreward.dimensions.document import document_key
from longreward.errors import InputError, JudgeError, Reason
from longreward.fingerprint import fingerprint, of_record
from longreward.judge import offline
from longreward.judge.own_server.local import served
from longreward.preflight.estimate import Estimate, estimate
from longreward.reward import LongReward, Scoring
from longreward.schema import Sample, ScoredAnswer, Usage
from longreward.text.amounts import caps, in_words
from longreward.text.chunking import TokenSpans

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
    add_contexts(command)
    add_judge(command)
    add_concurrency(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Score the rows of a file. Returns 0, or 1 where rows were unreadable, nothing could be scored, or the spend cap
    ended the run.

    Raises as `score_samples` does, and InputError where the file holds nothing to score.
    """
    config = reward_config(options, overrides)
    config.refuse_ranking("longreward score")
    console = Console(stderr=True, soft_wrap=True)
    rows = Rows(options.input, criteria=config.uses_criteria, contexts=options.contexts)
    samples = {key: sample for key, sample, _ in rows.samples()}
    if not samples:
        wanted = "context, query, answer and criteria" if rows.criteria else "context, query and answer"
        joined = "" if options.contexts else " (responses without a context need --contexts SFT.jsonl)"
        raise InputError(f"{options.input} holds no readable row with {wanted}{joined}{rows.first_problem}")
    with served(config) as asked:
        scoring = asyncio.run(score_samples(samples, options.out, asked, options.concurrency, console))
    others = scoring.keep()
    print_summary(scoring.rows, scoring.account, config.judge.knows_prices, scoring.seconds, options.out)
    print_run(console, scoring)
    if others:
        console.print(f"{options.out} also holds {others:,} scores of another input: they are kept, behind these")
    rows.report(console)
    return 1 if rows.broken or scoring.stopped or not scoring.whole else 0


@dataclass(frozen=True)
class Way:
    """How answers are scored."""

    asked: RewardConfig
    """What is asked of the judge now."""
    record: Callable[..., ScoredAnswer] = ScoredAnswer.of
    """As `ScoredAnswer.of`."""
    token_spans: TokenSpans | None = None
    """As `LongReward` takes them."""
    reward: Callable[[RewardConfig, TokenSpans | None], LongReward] = LongReward.from_config
    scoring: Scoring = LongReward.score
    noun: str = "answers"
    """What people call the samples."""
    mark: str = ""
    """Ends the rows' `config`, so that no other command goes on with them."""
    used_beside: Usage = field(default_factory=Usage)
    """What earlier runs used for other questions, which `judge.spend` counts too."""
    expected_beside: Usage = field(default_factory=Usage)
    """What other questions are expected to use after the scoring."""


@dataclass
class Run:
    """The scoring of some answers: what is known of each by now, and what it took."""

    config: RewardConfig
    samples: dict[str, Sample]
    """By key, in the order of the input."""
    way: Way
    out: Path | None
    """Where scored answers are kept, so that the next run goes on where this one stopped."""
    account: Account
    """What this run alone used."""
    known: dict[str, ScoredAnswer] = field(default_factory=dict)
    """By key, what this run and the ones before it have scored, and what else is in `out`."""
    used_before: dict[str, Usage] = field(default_factory=dict)
    """By key, what earlier runs used, also for answers that ended void."""
    expected: Estimate | None = None
    seconds: float = 0.0
    stopped: bool = False
    """The spend cap is reached: nothing more is asked."""

    @property
    def rows(self) -> list[ScoredAnswer]:
        """In the order of the input, without the answers that were not reached because of a spend cap."""
        return [self.known[key] for key in self.samples if key in self.known]

    @property
    def whole(self) -> int:
        """Answers that have a total."""
        return sum(row.total is not None for row in self.rows)

    @property
    def earlier(self) -> Usage:
        """What all runs before this one used."""
        return sum(self.used_before.values(), self.way.used_beside)

    def read(self) -> None:
        """Take in what an earlier run of the same command left in `out`. A line cut by a kill is passed over."""
        out, ours = self.out, fingerprint(self.config) + self.way.mark
        if out is None or not out.exists():
            return
        for number, _, row in store.read(out, [], ScoredAnswer):
            if row.config != ours or not row.key:
                raise InputError(
                    f"{out}:{number} was written by another command, or with another reward configuration, judge or "
                    "prompt version; "
                    "choose another --out, or remove that file to score again"
                )
            # The last row of an answer includes what the ones before it used.
            self.used_before[row.key] = used_for(row, self.config)
            before, sample = self.known.get(row.key), self.samples.get(row.key)
            if sample is None:
                self.known[row.key] = row
            elif row.total is not None or before is None or before.total is None:
                # Rows of old have neither.
                self.known[row.key] = row.model_copy(update={"query": sample.query, "answer": sample.answer})
        if not self.used_before and out.stat().st_size:
            raise InputError(f"{out} exists and is not a file of scores; choose another --out")

    def keep(self) -> int:
        """Put `out` in the order of the input. Returns the number of other answers that it holds: they were paid for,
        and stand behind."""
        others = [row for key, row in self.known.items() if key not in self.samples]
        if self.out is not None:
            store.rewrite(self.out, [*self.rows, *others])
        return len(others)

    def todo(self) -> list[tuple[str, Sample]]:
        """What has no total yet. The answers about one document stand next to each other, because only so many prepared
        documents are kept at a time."""
        groups: dict[str, list[tuple[str, Sample]]] = {}
        for key, sample in self.samples.items():
            if key not in self.known or self.known[key].total is None:
                groups.setdefault(document_key(sample.context, sample.query), []).append((key, sample))
        return [pair for group in groups.values() for pair in group]

    def add(self, row: ScoredAnswer) -> None:
        self.known[row.key] = row
        self.account.add(row)
        self.stopped |= Reason.SPEND_CAP in row.void_reasons.values()


async def score_samples(
    samples: dict[str, Sample],
    out: Path | None,
    config: RewardConfig,
    concurrency: int,
    console: Console,
    way: Way | None = None,
) -> Run:
    """Score answers, given by their keys. With `out` each is kept there as it is done, and what it holds already is
    not asked again unless it is void. `way`: None scores all that `config` says.

    InputError where `out` cannot be used, was scored with another configuration or has used up `judge.spend`;
    JudgeError where the judge answers nothing at all.
    """
    way = way or Way(config)
    judge, run = config.judge, Run(config, samples, way, out, Account(config))
    run.read()
    todo = run.todo()
    if not judge.asks_endpoints:
        console.print(offline.NOTICE, style="yellow")
    if len(todo) < len(samples):
        done = len(samples) - len(todo)
        console.print(f"{done} of {len(samples)} {way.noun} are already scored in {out}; {len(todo)} to go")
    if todo:
        left = way.asked.model_copy(update={"judge": what_is_left(judge, run.earlier, out)})
        way = replace(way, asked=left)
    if todo and judge.asks_endpoints:
        with console.status("estimating"):
            some = [sample for _, sample in todo]
            run.expected = await asyncio.to_thread(estimate, some, way.asked, sample=_LOOKED_INTO, scoring=way.scoring)
        warning = warning_of_cap(run.expected + way.expected_beside, way.asked)
        beside = f", then about {in_words(way.expected_beside, judge)}" if way.expected_beside.calls else ""
        console.print(f"expected: about {in_words(run.expected, judge)}{beside}{warning}")

    with nullcontext() if out is None else _opened(out) as file:
        reward = way.reward(way.asked, way.token_spans)
        rare_collections()
        started = time.monotonic()  # what a judge's client needs is imported by now
        try:
            await _score_all(reward, todo, concurrency, run, file, console)
        finally:
            await reward.aclose()
    run.seconds = time.monotonic() - started
    return run


async def _score_all(
    reward: LongReward,
    todo: Sequence[tuple[str, Sample]],
    concurrency: int,
    run: Run,
    file: store.Store | None,
    console: Console,
) -> None:
    """Score until there is nothing left to do or to spend; what is under way then is finished, for it is paid for."""
    ours, way = of_record(run.config, run.way.mark), run.way

    async def one(keyed: tuple[str, Sample]) -> None:
        if run.stopped:
            return
        key, sample = keyed
        about = {"time": time.time(), "earlier_usage": run.used_before.get(key, Usage())}
        row = way.record(sample, await way.scoring(reward, sample), key=key, **ours, **about)
        if file is not None:
            file.append(row)
        run.add(row)
        show(run.account)
        if not run.stopped:
            check_any_scored(run.account, row)

    with progress(console, len(todo)) as show, judge_log(console):
        await at_most(concurrency, todo, one)


def check_any_scored(account: Account, row: ScoredAnswer) -> None:
    """JudgeError where all answers so far are void: `row`, the last one, tells why."""
    if account.void == account.rows >= _HOPELESS_AFTER:
        name, reason = next(iter(row.void_reasons.items()))
        detail = f"the first {account.void} answers are all void, {name}: {reason} ({row.dimensions[name].detail})"
        action = "check judge.base_url, judge.model and the key, or let longreward doctor say what is wrong"
        raise JudgeError(Reason(reason), detail=f"{detail}; {action}")


def print_run(console: Console, run: Run) -> None:
    """Print what all runs together took, and how far this one was from its estimate or from the end."""
    judge = run.config.judge
    if run.earlier.calls:
        total = in_words(run.earlier + run.account.usage, judge)
        console.print(f"earlier runs: {in_words(run.earlier, judge)}; all runs: {total}")
    if run.stopped:
        sentence = f"{_stopped(run)}; {run.whole:,} of {len(run.samples):,} {run.way.noun} are scored"
        console.print(sentence, style="bold red")
    elif run.expected is not None:
        console.print(compared(run.account, run.expected, judge))


def _stopped(run: Run) -> str:
    used = caps(run.config.judge, run.earlier + run.account.usage)
    name, cap, amount, words = max(used, key=lambda c: c[2] / c[1])
    before = run.earlier.cost if name == "max_cost" else run.earlier.tokens
    of_it = f", {words(before)} of it by earlier runs" if before else ""
    again = "again, with --out to keep what is scored" if run.out is None else "the same command again to continue"
    return (
        f"stopped at the spend cap: {words(amount)} of judge.spend.{name}={cap:.12g} are used{of_it}, and the next "
        f"call could go past it; raise judge.spend.{name} and run {again}"
    )


def check_continues(out: Path, config: RewardConfig, mark: str) -> None:
    """InputError where `score_samples` could not go on with what is in `out`."""
    Run(config, {}, Way(config, mark=mark), out, Account(config)).read()


def _opened(out: Path) -> store.Store:
    try:
        return store.Store(out, with_scores=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}; choose another --out") from None


def what_is_left(judge: JudgeConfig, used: Usage, out: Path | None) -> JudgeConfig:
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
