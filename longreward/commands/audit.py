"""`longreward audit`: what a judge is worth on one's own answers, without labels. Flaws are planted in the answers, and
their scores must fall; changes that do not matter are made, and they must not move."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from longreward import config_file
from longreward.commands.audit_display import Audited, print_audit, print_difference
from longreward.commands.options import SETTINGS, add_concurrency, add_contexts, add_judge, positive, reward_config
from longreward.commands.rows import Rows
from longreward.commands.score import Way, check_continues, print_run, score_samples, what_is_left
from longreward.commands.score_display import judge_log, warning_of_cap
from longreward.config import CacheConfig, RewardConfig
from longreward.errors import InputError
from longreward.evaluation.audit import Audit
from longreward.evaluation.flaws import AGAIN, FLAWS, HARMLESS, planted
from longreward.evaluation.orders import Comparison, Pair, compare, orders
from longreward.files import jsonlines
from longreward.fingerprint import fingerprint
from longreward.judge import judge_of
from longreward.judge.cache import VerdictCache
from longreward.judge.own_server.local import as_served, served
from longreward.prompts import Prompts
from longreward.reward import LongReward
from longreward.schema import OK, Reward, Sample, ScoredAnswer, Usage
from longreward.server.config import ServerConfig
from longreward.text.amounts import in_words
from longreward.text.chunking import TokenSpans
from longreward.text.sentences import says_nothing
from longreward.text.thoughts import without_thoughts
from longreward.text.tokens import tokens_in

_ORIGINAL = "original"
_REPLY = 150  # tokens of a judge that compares two answers


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Plant flaws in the answers of a file (a changed number, a dropped half, an instruction to the judge, ...), "
        "score the answers and their flawed versions, and show for each dimension which flaws the judge sees, how far "
        "changes that do not matter move it, and how much it differs from itself. Each answer is also compared with "
        "its flawed versions in both orders. A run that is started again continues where it stopped."
    )
    command.epilog = f"An answer takes some 15 times what scoring it takes: begin with --limit 20. {SETTINGS}"
    command.add_argument("input", type=Path, metavar="IN.jsonl", help="rows with idx (or id), context, query, answer")
    add_contexts(command)
    out = "where the scores go; the comparisons go to OUT.pairs.jsonl"
    command.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help=out)
    against = "a second judge's configuration, to be shown beside; its scores go to OUT.against.jsonl"
    command.add_argument("--against", type=Path, metavar="YAML", help=against)
    limit = "take so many of the rows, chosen by --seed (default: all)"
    command.add_argument("--limit", type=positive, metavar="N", help=limit)
    command.add_argument("--seed", default="0", metavar="TEXT", help="decides what is planted where (default 0)")
    add_judge(command)
    add_concurrency(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Audit a judge, or two. Returns 0, or 1 where rows were unreadable, nothing could be scored, or the spend cap
    ended it.

    Raises as `score_samples` does, InputError where the file holds no answer, and ConfigError for wrong settings.
    """
    config = reward_config(options, overrides)
    config.refuse_ranking("longreward audit")
    config.refuse_criteria("longreward audit")
    judges = [(config.judge.model or config.judge.kind, config, options.out)]
    if options.against is not None:
        data = config_file.load_yaml(options.against)
        other = config_file.validate(ServerConfig, data, str(options.against)).reward
        other.refuse_ranking("longreward audit")
        other.refuse_criteria("longreward audit")
        if fingerprint(other) == fingerprint(config):
            raise InputError(f"{options.against} scores as the first configuration does; give another one as --against")
        name = other.judge.model or other.judge.kind
        name = options.against.stem if name == judges[0][0] else name
        judges.append((name, other, options.out.with_suffix(".against.jsonl")))
    screen, rows = Console(stderr=True, soft_wrap=True), Rows(options.input, contexts=options.contexts)
    samples = {key: sample for key, sample, _ in rows.samples() if not says_nothing(sample.answer)}
    if not samples:
        raise InputError(f"{options.input} holds no answer to plant something in{rows.first_problem}")
    # Files of earlier runs are looked into before the first judge is asked.
    tasks = [Task.of(name, config, out, samples, options) for name, config, out in judges]
    console, done = Console(soft_wrap=True), list[Audited]()
    for task in tasks:
        done.append(_audited(task, options.concurrency, screen))
        print_audit(console, done[-1])
    if len(done) == 2:
        print_difference(console, done[0], done[1])
    rows.report(screen)
    return int(bool(rows.broken) or not all(each.whole for each in done))


_MARK = "-audit"


@dataclass
class Plan:
    """What is asked: the answers, and their versions."""

    samples: dict[str, Sample] = field(default_factory=dict)
    """By key."""
    versions: list[tuple[str, str, str]] = field(default_factory=list)
    """The name of a version, its key, and that of its original."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Answers that have no place for a flaw, by its name."""

    @classmethod
    def of(cls, samples: dict[str, Sample], config: RewardConfig, limit: int | None, seed: str) -> Plan:
        """Of so many of the samples; more of them are the same ones and others."""
        plan = cls()
        chosen = set(sorted(samples, key=lambda key: _hash(seed, key))[:limit])
        for key, given in samples.items():
            if key not in chosen:
                continue
            answer = without_thoughts(given.answer) if config.strip_thoughts else given.answer
            if says_nothing(answer):
                continue
            sample = given.model_copy(update={"answer": answer})
            others = [other for other in samples.values() if other.context != sample.context]
            original = plan._add(sample, _ORIGINAL, key, answer)
            for name, text in planted(sample, others, f"{seed} {key}", config.needed).items():
                if text is None:
                    plan.left_out[name] += 1
                else:
                    plan.versions.append((name, plan._add(sample, name, key, text), original))
            plan.versions.append((AGAIN, plan._add(sample, AGAIN, key, answer), original))
        return plan

    @property
    def pairs(self) -> list[Pair]:
        flaws = {flaw.name for flaw in FLAWS}
        return [
            Pair(key, self.samples[original], self.samples[key])
            for name, key, original in self.versions
            if name in flaws
        ]

    def figures(self, rows: Sequence[ScoredAnswer], dimensions: Sequence[str]) -> Audit:
        """How the scores move, where both an answer and its version are scored."""
        audit, scored = Audit(dimensions), {row.key: row for row in rows}
        for name, key, original in self.versions:
            if key in scored and original in scored:
                old, new = ({part: scored[each].score_of(part) for part in dimensions} for each in (original, key))
                sample = self.samples[original]
                audit.add(name, original, (sample.context, sample.query), old, new)
        return audit

    def _add(self, sample: Sample, name: str, row: str, text: str) -> str:
        key = _hash(row, name, text)
        self.samples[key] = sample.model_copy(update={"id": f"{sample.id}/{name}", "answer": text})
        return key


class TwiceJudged(LongReward):
    """Scores answers; of those that are to be judged again everything is asked anew, within the same limits."""

    def __init__(self, config: RewardConfig, token_spans: TokenSpans | None) -> None:
        judge = judge_of(config, VerdictCache.of(config.cache))
        super().__init__(config, judge, token_spans)
        self._anew = LongReward(config.model_copy(update={"cache": CacheConfig()}), judge.afresh(), token_spans)

    async def score(self, sample: Sample) -> Reward:
        again = sample.id.endswith(f"/{AGAIN}")
        return await (self._anew.score(sample) if again else super().score(sample))

    async def aclose(self) -> None:
        await self._anew.aclose()
        await super().aclose()


async def _scoring(reward: LongReward, sample: Sample) -> Reward:
    """As the reward itself does it: TwiceJudged otherwise than LongReward."""
    return await reward.score(sample)


@dataclass(frozen=True)
class Task:
    """A judge to be audited, and what it has been asked already."""

    name: str
    """What people call it."""
    config: RewardConfig
    out: Path
    plan: Plan
    known: dict[str, Comparison]
    """By the key of the version with the flaw."""

    @classmethod
    def of(
        cls, name: str, config: RewardConfig, out: Path, samples: dict[str, Sample], options: argparse.Namespace
    ) -> Task:
        """InputError where there is no answer, and where files of an earlier run cannot be continued."""
        plan = Plan.of(samples, config, options.limit, options.seed)
        if not plan.samples:
            raise InputError(f"{options.input} holds thoughts alone, no answer; strip_thoughts=false judges them")
        check_continues(out, as_served(config), _MARK)
        return cls(name, config, out, plan, _comparisons(_pairs_file(out), fingerprint(config)))

    @property
    def todo(self) -> list[Pair]:
        """What is to be compared."""
        return [pair for pair in self.plan.pairs if pair.key not in self.known or self.known[pair.key].status != OK]

    @property
    def used(self) -> Usage:
        """By comparisons."""
        return sum((each.usage for each in self.known.values()), Usage())

    @property
    def expected(self) -> Usage:
        """What comparing will use."""
        judge, prompts, todo = self.config.judge, Prompts.of(self.config), self.todo
        if judge.kind == "offline":
            return Usage()
        tokens = sum(tokens_in(request.text(prompts, judge.form)) for pair in todo for request in pair.requests)
        calls, reply = 2 * len(todo), min(_REPLY, judge.max_tokens)
        cost = judge.price.cost(tokens, calls * reply)
        return Usage(calls=calls, prompt_tokens=round(tokens), completion_tokens=calls * reply, cost=cost)


def _audited(task: Task, concurrency: int, screen: Console) -> Audited:
    plan, out, todo, expected = task.plan, task.out, task.todo, task.expected
    _announce(screen, task)
    with served(task.config) as asked:
        way = Way(
            asked, reward=TwiceJudged, scoring=_scoring, mark=_MARK, used_beside=task.used, expected_beside=expected
        )
        scoring = asyncio.run(score_samples(plan.samples, out, asked, concurrency, screen, way))
        scoring.keep()  # what was planted by another seed, too
        print_run(screen, scoring)
        used, whole = sum(scoring.used_before.values(), scoring.account.usage), not scoring.stopped
        if whole and todo:
            left = asked.model_copy(update={"judge": what_is_left(asked.judge, used + task.used, out)})
            if scoring.expected is None and expected.calls:  # else it is told before the scoring
                warning = warning_of_cap(expected, left)
                screen.print(f"expected: about {in_words(expected, asked.judge)}{warning}")
            with screen.status(f"comparing {len(todo):,} pairs"), judge_log(screen):
                whole = asyncio.run(_compare(left, todo, task, concurrency))
            if not whole:
                screen.print("stopped at the spend cap; raise judge.spend and run the same command again", style="red")
    compared = orders(task.known[pair.key] for pair in plan.pairs if pair.key in task.known)
    used, whole = used + task.used, whole and scoring.whole > 0
    audit = plan.figures(scoring.rows, list(map(str, task.config.needed)))
    return Audited(task.name, task.config, audit, compared, plan.left_out, scoring.rows, used, out, whole)


async def _compare(asked: RewardConfig, pairs: Sequence[Pair], task: Task, concurrency: int) -> bool:
    """Ask which answer is better, and keep what was said on disk and in `task`. False where the cap ended it."""
    judge, known = judge_of(asked, VerdictCache.of(asked.cache)), task.known
    file = _pairs_file(task.out)
    with jsonlines.Appender[Comparison](file, lambda row: row.model_dump(mode="json")) as kept:

        def done(comparison: Comparison) -> None:
            if before := known.get(comparison.key):
                comparison = comparison.model_copy(update={"usage": before.usage + comparison.usage})
            kept.append(comparison)
            known[comparison.key] = comparison

        try:
            return await compare(pairs, judge, fingerprint(task.config), concurrency, done)
        finally:
            await judge.aclose()


def _comparisons(file: Path, ours: str) -> dict[str, Comparison]:
    """What an earlier run has asked. InputError where the file holds something else."""
    found: dict[str, Comparison] = {}
    for number, row in jsonlines.read(file, []) if file.exists() else ():
        try:
            one = Comparison.model_validate(row)
        except ValidationError:
            raise InputError(f"{file}:{number} is no comparison of an audit; choose another --out") from None
        if one.config != ours:
            raise InputError(f"{file}:{number} was asked with another configuration; choose another --out")
        found[one.key] = one
    return found


def _pairs_file(out: Path) -> Path:
    return out.with_suffix(".pairs.jsonl")


def _announce(screen: Console, task: Task) -> None:
    """Say what will be asked."""
    counts = Counter(name for name, _, _ in task.plan.versions)
    flawed, harmless = (sum(counts[each.name] for each in several) for several in (FLAWS, HARMLESS))
    versions = f"{flawed:,} versions with a flaw, {harmless:,} with a change that must not matter"
    pairs = f"{len(task.todo):,} pairs to compare in both orders"
    screen.print(f"{counts[AGAIN]:,} answers, each judged twice; {versions}; {pairs}", highlight=False)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
