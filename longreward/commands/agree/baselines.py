"""The paper's baselines on labelled pairs: a judge that compares the two answers, and a reward model."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from rich.console import Console

from longreward.commands.rows import LabelledPair
from longreward.commands.score import what_is_left
from longreward.commands.score_display import judge_log
from longreward.concurrency.pacing import at_most
from longreward.config import RewardConfig
from longreward.errors import InputError, JudgeError, Reason
from longreward.evaluation.people.agreement import Judged
from longreward.evaluation.scoring import compare
from longreward.evaluation.tasks import SHORT, EvaluationItem
from longreward.files import jsonlines
from longreward.fingerprint import fingerprint, of_questions
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.requests.evaluation import CompareAnswers
from longreward.judge.reward_model import Reads, RewardModel
from longreward.prompts import Prompts
from longreward.schema import OK, Sample, Usage
from longreward.text.amounts import in_words
from longreward.text.thoughts import without_thoughts

Name = Literal["pairwise", "reward model"]


class Said(msgspec.Struct, omit_defaults=True):
    """What a baseline said of a pair (1: b is better, 0: a is, 0.5: neither) or of an answer (its reward)."""

    baseline: Name
    config: str
    """A hash of all that it can depend on."""
    key: str
    value: float | None = None
    status: str = OK
    detail: str = ""
    usage: dict[str, float] = {}


def add_arguments(command: argparse.ArgumentParser) -> None:
    pairwise = "for pairs: ask the judge too which answer is better, without the document and in both orders; an "
    pairwise += "answer wins if the two replies do not contradict each other"
    command.add_argument("--baseline", choices=["pairwise"], help=pairwise)
    url = "for pairs: ask a reward model too, a sequence classifier with one output behind vLLM's server"
    command.add_argument("--reward-model", metavar="URL", help=url)
    reads = "what the reward model reads with the answer: document and question, or for a model of short contexts the "
    reads += "question alone (default prompt)"
    command.add_argument("--reward-model-reads", choices=get_args(Reads), default="prompt", help=reads)


class Baselines:
    """The baselines that are asked for, and what they have said by now."""

    def __init__(self, options: argparse.Namespace, config: RewardConfig) -> None:
        """Reads what an earlier run of the same command left beside --out. ConfigError for a URL that is none."""
        self._options, self._config = options, config
        self._file = None if options.out is None else options.out.with_name(f"{options.out.stem}.baselines.jsonl")
        self._configs: dict[Name, str] = {}
        self._of_old: str | None = None
        if options.reward_model:
            # One that is wrong is told before anything is paid for.
            RewardModel(options.reward_model, options.reward_model_reads, config.judge)
            self._configs["reward model"] = _hash(
                options.reward_model, options.reward_model_reads, config.strip_thoughts
            )
        if options.baseline:
            prompt = Prompts.of(config).version([CompareAnswers.kind])
            self._configs["pairwise"] = _hash(of_questions(config), prompt, config.strip_thoughts)
            # Until it was a hash of the questions, other weights than the paper's were in it.
            self._of_old = _hash(fingerprint(config), prompt, config.strip_thoughts)
        self._known: dict[tuple[Name, str], Said] = {}
        self.earlier, self.used = Usage(), Usage()
        """What the judge was asked for comparisons, by earlier runs and by this one."""
        self.stopped = False
        """The spend cap ended the comparisons."""
        if self._configs and self._file and self._file.exists():
            for said in _read(self._file):
                if said.config in (self._configs.get(said.baseline), self._of_old):
                    self._known[said.baseline, said.key] = said
                    self.earlier += Usage(**said.usage)

    @property
    def names(self) -> list[Name]:
        return list(self._configs)

    def rate(self, samples: Mapping[str, Sample], console: Console) -> None:
        """Ask the reward model about the answers. JudgeError where it does not answer at all."""
        if "reward model" in self._configs and (todo := self._todo("reward model", samples)):
            with console.status("asking the reward model"):
                asyncio.run(self._rate({key: samples[key] for key in todo}))

    def compare(
        self,
        pairs: Sequence[LabelledPair],
        samples: Mapping[str, Sample],
        asked: RewardConfig,
        used: Usage,
        console: Console,
    ) -> None:
        """Ask the judge about the pairs. `used` is what it has cost so far, which counts towards `judge.spend`."""
        texts = {_key(pair): (samples[pair.a], samples[pair.b]) for pair in pairs}
        if "pairwise" not in self._configs or not (todo := self._todo("pairwise", texts)):
            return
        try:
            judge = what_is_left(asked.judge, used, self._options.out)
        except InputError:
            self.stopped = True
            return
        left = asked.model_copy(update={"judge": judge})
        with console.status("comparing the answers"), judge_log(console):
            asyncio.run(self._compare({key: texts[key] for key in todo}, left))

    def notes(self) -> Iterator[str]:
        """What a person has to know of them."""
        if "pairwise" in self._configs:
            used = in_words(self.earlier + self.used, self._config.judge)
            yield (
                "pairwise: the judge sees the question and both answers, not the document; an answer wins if the two "
                f"orders do not contradict each other, else it is a tie; {used}"
            )
        if "reward model" in self._configs:
            reads = {"prompt": "document, question and answer", "query": "question and answer, not the document"}
            yield f"reward model: it reads {reads[self._options.reward_model_reads]}"
            said = [said for (name, _), said in self._known.items() if name == "reward model"]
            long = sum(one.status == Reason.CONTEXT_LENGTH for one in said)
            if long and self._options.reward_model_reads == "prompt":
                yield f"{long:,} answers are too long for it; --reward-model-reads query leaves the document out"

    def judged(self, pairs: Sequence[LabelledPair]) -> dict[str, list[Judged]]:
        """What each baseline makes of the pairs, in their order."""
        found: dict[str, list[Judged]] = {}
        for name in self._configs:
            keys = [(_key(pair),) if name == "pairwise" else (pair.a, pair.b) for pair in pairs]
            said = [[self._known.get((name, key)) for key in each] for each in keys]
            found[name] = [_judged(pair, each) for pair, each in zip(pairs, said, strict=True)]
        return found

    def _todo(self, name: Name, keys: Mapping[str, Any]) -> list[str]:
        return [key for key in keys if (said := self._known.get((name, key))) is None or said.value is None]

    async def _rate(self, samples: Mapping[str, Sample]) -> None:
        model = RewardModel(self._options.reward_model, self._options.reward_model_reads, self._config.judge)

        async def one(key: str, sample: Sample) -> Said:
            if self._config.strip_thoughts:
                sample = sample.model_copy(update={"answer": without_thoughts(sample.answer)})
            verdict = await model.rate(sample)
            return self._said("reward model", key, verdict.value, verdict.call.status, verdict.call.detail)

        try:
            (first, sample), *others = samples.items()
            said = await one(first, sample)
            if said.value is None and said.status != Reason.CONTEXT_LENGTH:
                why = f"the reward model at {self._options.reward_model} gives no reward ({said.detail})"
                raise JudgeError(said.status, f"{why}; check --reward-model, and that vLLM serves a classifier there")
            with self._opened() as add:
                add(said)
                await self._all(dict(others), one, add)
        finally:
            await model.aclose()

    async def _compare(self, texts: Mapping[str, tuple[Sample, Sample]], asked: RewardConfig) -> None:
        judge = make_judge(asked.judge, VerdictCache.of(asked.cache), Prompts.of(asked))
        thoughts = asked.strip_thoughts

        async def one(key: str, answers: tuple[Sample, Sample]) -> Said:
            a, b = answers
            item = EvaluationItem(key, SHORT, "", a.query, ())
            (found,) = await compare([item], {key: a.answer}, {key: b.answer}, judge, strip_thoughts=thoughts)
            self.used += found.usage
            return self._said("pairwise", key, found.value, found.status, found.detail, found.usage)

        try:
            with self._opened() as add:
                await self._all(texts, one, add)
        finally:
            await judge.aclose()

    @contextmanager
    def _opened(self) -> Iterator[Callable[[Said], None]]:
        """Takes note of what a baseline says, on disk too where there is an --out."""
        with ExitStack() as stack:
            file = self._file and stack.enter_context(jsonlines.Appender[Said](self._file, msgspec.to_builtins))

            def add(said: Said) -> None:
                self._known[said.baseline, said.key] = said
                if file:
                    file.append(said)

            yield add

    async def _all(
        self, todo: Mapping[str, Any], ask: Callable[[str, Any], Awaitable[Said]], add: Callable[[Said], None]
    ) -> None:
        """Ask until there is nothing left to do or to spend."""

        async def one(each: tuple[str, Any]) -> None:
            if not self.stopped:
                said = await ask(*each)
                add(said)
                self.stopped |= said.status == Reason.SPEND_CAP

        await at_most(self._options.concurrency, list(todo.items()), one)

    def _said(
        self, name: Name, key: str, value: float | None, status: str, detail: str, usage: Usage | None = None
    ) -> Said:
        used = {} if usage is None else usage.model_dump(exclude_defaults=True)
        return Said(name, self._configs[name], key, value, status, detail, used)


def _key(pair: LabelledPair) -> str:
    return f"{pair.a}:{pair.b}"


def _judged(pair: LabelledPair, said: Sequence[Said | None]) -> Judged:
    # What is not there was not reached: a spend cap ended the run.
    void = {str(Reason.SPEND_CAP) if one is None else one.status for one in said if one is None or one.value is None}
    values = [one.value for one in said if one is not None and one.value is not None]
    if void:
        return Judged(pair.human, None, None, " + ".join(sorted(void)))
    a, b = values if len(values) == 2 else (1 - values[0], values[0])
    return Judged(pair.human, a, b)


def _read(path: Path) -> Iterator[Said]:
    """A line cut by a kill is passed over."""
    for number, row in jsonlines.read(path, broken=[]):
        try:
            yield msgspec.convert(row, Said)
        except msgspec.ValidationError as error:
            problem = f"{path}:{number} is not what a baseline said ({error})"
            raise InputError(f"{problem}; choose another --out, or move that file away") from None


def _hash(*settings: str | bool) -> str:
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
