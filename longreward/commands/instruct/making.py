"""The making of supervised data from documents: what is known by now, and what is still asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from longreward import store
from longreward.commands.accounts import Account
from longreward.commands.instruct.writing import Document, Question, Texts, Writer, Written, appender
from longreward.commands.rows import row_key
from longreward.commands.score import Run, Way, check_any_scored, what_is_left
from longreward.commands.score_display import judge_log, progress, warning_of_cap
from longreward.concurrency.pacing import at_most, rare_collections
from longreward.concurrency.tasks import together
from longreward.config import RewardConfig
from longreward.errors import InputError, Reason
from longreward.files.locks import lock
from longreward.fingerprint import fingerprint, of_writer
from longreward.judge import judge_of, offline
from longreward.judge.cache import VerdictCache
from longreward.judge.offline.statements import refuses
from longreward.judge.requests.writing import WriteQuestions
from longreward.preflight.estimate import estimate
from longreward.prompts import OURS
from longreward.reward import LongReward
from longreward.schema import OK, Sample, ScoredAnswer, Usage
from longreward.text.amounts import in_words
from longreward.text.tokens import tokens_in

WRITING = "writing"
"""In an account, beside the dimensions: what the writer used."""
_QUESTION, _ANSWER = 60, 300  # tokens of a reply, for the estimate
_LOOKED_INTO = 50  # documents for the estimate


@contextmanager
def held(out: Path) -> Iterator[tuple[Path, Path]]:
    """The files of what was written and of all scores, beside `out`; no other run works on them meanwhile. InputError
    where one does, or `out` cannot be written or is no file of ours."""
    if out.is_dir():
        raise InputError(f"--out {out} is a directory; give a file, such as --out sft.jsonl")
    work, scores = out.with_suffix(".work.jsonl"), out.with_suffix(".scores.jsonl")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and out.stat().st_size > 0 and not (work.exists() and work.stat().st_size):
            raise InputError(f"{out} exists and was not made by longreward instruct; choose another --out")
        file = lock(work)
    except BlockingIOError:
        raise InputError(
            f"another longreward instruct works on {out}; wait for its end, or choose another --out"
        ) from None
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    with file:
        yield work, scores


class Making:
    """Questions, answers and scores of some documents."""

    def __init__(
        self, documents: list[Document], config: RewardConfig, files: tuple[Path, Path], questions: int
    ) -> None:
        """As earlier runs left it in `files`, those of `held`. InputError where they had other settings."""
        work, scores = files
        self.documents, self.files = documents, files
        self.texts = Texts.read(work, of_writer(config, questions), questions)
        self.run = Run(config, {}, Way(config, used_beside=self.texts.used), scores, Account(config))
        self.run.read()
        self._samples: dict[tuple[str, str], tuple[str, Sample] | None] = {}

    def answer(self, document: Document, question: Question) -> tuple[str, Sample] | None:
        """The answer as it is scored, and its key. None where there is none, or it refuses."""
        name = document.key, question.text
        if name not in self._samples:
            written = self.texts.of(document, question.text)
            if written is None or written.status != OK:
                return None
            text = "".join(written.texts)
            sample = Sample(id=question.id, context=document.text, query=question.text, answer=text)
            self._samples[name] = (row_key(sample), sample) if text and not refuses(text) else None
        return self._samples[name]

    def score(self, document: Document, question: Question) -> ScoredAnswer | None:
        """None where it was not reached."""
        found = self.answer(document, question)
        return None if found is None else self.run.known.get(found[0])

    async def work(self, config: RewardConfig, concurrency: int, console: Console) -> None:
        """Have all written and scored that is not yet, until the spend cap is reached. `config`: that of the making,
        with a judge that can be asked."""
        todo = [document for document in self.documents if not self._is_done(document)]
        if config.judge.kind == "offline":
            console.print(offline.NOTICE, style="yellow")
        if len(todo) < len(self.documents):
            done = len(self.documents) - len(todo)
            console.print(f"{done:,} of {len(self.documents):,} documents are done already; {len(todo):,} to go")
        started = time.monotonic()
        if todo:
            left = what_is_left(config.judge, self.run.earlier, self.files[0])
            config = config.model_copy(update={"judge": left})
            with console.status("estimating"):
                expected = await asyncio.to_thread(self._expected, todo, config)
            warning = warning_of_cap(expected, config)
            console.print(f"expected: about {in_words(expected, config.judge)}{warning}")
            await self._work(todo, config, concurrency, console)
        for document in self.documents:  # in the order of the input
            found = (self.answer(document, question) for question in self.texts.questions_about(document))
            self.run.samples |= dict(filter(None, found))
        self.run.seconds = time.monotonic() - started

    async def _work(self, todo: list[Document], config: RewardConfig, concurrency: int, console: Console) -> None:
        judge = judge_of(config, VerdictCache.of(config.cache))
        reward = LongReward(config, judge)
        rare_collections()
        try:
            with (
                appender(self.files[0]) as work,
                store.Store(self.files[1], with_scores=True) as scores,
                progress(console, len(todo) * self.texts.questions) as show,
                judge_log(console),
            ):
                writer = Writer(judge, self.texts, work)
                each = _Each(self, writer, reward, scores, lambda: show(self.run.account))
                await at_most(concurrency, todo, each.document)
        finally:
            await reward.aclose()

    def _is_done(self, document: Document) -> bool:
        return self.texts.has(document) and all(
            self.texts.has(document, question.text) and not self.is_to_be_scored(document, question)
            for question in self.texts.questions_about(document)
        )

    def is_to_be_scored(self, document: Document, question: Question) -> bool:
        """Whether there is an answer without a score."""
        scored = self.score(document, question)
        return self.answer(document, question) is not None and (scored is None or scored.total is None)

    def _expected(self, todo: list[Document], config: RewardConfig) -> Usage:
        """What is left will take. Questions that are not written yet are taken for their kinds."""
        calls, tokens, replies = 0, 0.0, 0
        to_score: list[tuple[str, str]] = []
        for document in todo:
            asked, known = self.texts.has(document), self.texts.questions_about(document)
            queries = [question.text for question in known] if asked else document.kinds(self.texts.questions)
            answers = sum(not self.texts.has(document, query) for query in queries)
            calls += answers + (not asked)
            tokens += (answers + (not asked)) * tokens_in(document.text)
            replies += answers * _ANSWER + (not asked) * len(queries) * _QUESTION
            to_score += [(document.text, query) for query in queries]
        tokens += calls * tokens_in(OURS.render(WriteQuestions.kind, "en", document="", kinds=""))
        price = config.model_for(WriteQuestions.kind).price
        writing = Usage(
            calls=calls, prompt_tokens=round(tokens), completion_tokens=replies, cost=price.cost(tokens, replies)
        )
        return writing + estimate(to_score, config, sample=_LOOKED_INTO, answer_tokens=_ANSWER)


class _Each:
    """What is done with a document: its questions, their answers, the scores of these."""

    def __init__(
        self, making: Making, writer: Writer, reward: LongReward, scores: store.Store, show: Callable[[], None]
    ) -> None:
        """`show` is called once for each question, however it ends."""
        self._making, self._run, self._writer = making, making.run, writer
        self._reward, self._scores, self._show = reward, scores, show
        self._config = fingerprint(making.run.config)

    async def document(self, document: Document) -> None:
        if self._run.stopped:
            return
        self._note(await self._writer.write(document))
        questions = self._making.texts.questions_about(document)
        await together(self._question(document, question) for question in questions)
        for _ in range(self._making.texts.questions - len(questions)):
            self._show()

    async def _question(self, document: Document, question: Question) -> None:
        if not self._run.stopped:
            self._note(await self._writer.write(document, question.text))
        found = self._making.answer(document, question)
        if found and not self._run.stopped and self._making.is_to_be_scored(document, question):
            await self._score(*found)
        self._show()

    async def _score(self, key: str, sample: Sample) -> None:
        about = {"time": time.time(), "earlier_usage": self._run.used_before.get(key, Usage())}
        row = ScoredAnswer.of(sample, await self._reward.score(sample), key=key, config=self._config, **about)
        self._scores.append(row)
        self._run.add(row)
        if not self._run.stopped:
            check_any_scored(self._run.account, row)

    def _note(self, written: Written) -> None:
        self._run.account.dimensions[WRITING] = self._writer.used
        self._run.stopped |= written.status == Reason.SPEND_CAP
