"""What came of the documents: rows of supervised data, and why the rest is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from longreward.commands.accounts import table
from longreward.commands.instruct.making import WRITING, Making
from longreward.commands.instruct.writing import Document, Question
from longreward.fingerprint import fingerprint
from longreward.schema import OK, Usage
from longreward.text.amounts import duration, money, rounded

_NOT_REACHED = "not reached"
_SHOWN = (7, 8, 9)  # scores of which it is told how many answers have them


@dataclass
class Outcome:
    rows: list[dict[str, Any]] = field(default_factory=list)
    """In the form of the published supervised data, in the order of the documents."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Questions, by the reason; of a document that has none, all that were asked for."""
    scores: list[float] = field(default_factory=list)
    """Of all answers that have one."""
    cut: int = 0
    """Documents that the writer saw without their middle."""

    @classmethod
    def of(cls, making: Making, min_score: float) -> Outcome:
        outcome, texts, config = cls(), making.texts, fingerprint(making.run.config)
        for document in making.documents:
            written, questions = texts.of(document), texts.questions_about(document)
            if not questions:
                why = _NOT_REACHED if written is None else "nothing to ask about the document"
                why = why if written is None or written.status == OK else f"questions: {written.status}"
                outcome.left_out[why] += texts.questions
                continue
            outcome.left_out["repeated question"] += texts.questions - len(questions)
            asked = [texts.of(document, question.text) for question in questions]
            outcome.cut += any(each.shrunk for each in (written, *asked) if each)
            for question in questions:
                outcome._add(making, document, question, min_score, config)
        return outcome

    def _add(self, making: Making, document: Document, question: Question, min_score: float, config: str) -> None:
        written, scored = making.texts.of(document, question.text), making.score(document, question)
        if written is None:
            self.left_out[_NOT_REACHED] += 1
        elif written.status != OK:
            self.left_out[f"answer: {written.status}"] += 1
        elif making.answer(document, question) is None:
            self.left_out["the document does not answer it" if not written.texts else "the answer refuses"] += 1
        elif scored is None:
            self.left_out[_NOT_REACHED] += 1
        elif scored.total is None:
            self.left_out[f"score: {scored.status}"] += 1
        else:
            self.scores.append(scored.total)
            if scored.total < min_score:
                self.left_out[f"score below {min_score:g}"] += 1
                return
            scores = {name: round(score, 4) for name, score in (scored.scores or {}).items()}
            cut = any(each.shrunk for each in (making.texts.of(document), written) if each)
            self.rows.append(
                {"idx": question.id, "context": document.text, "query": question.text, "answer": scored.answer}
                | {"kind": question.kind, "score": scores.pop("total"), "scores": scores}
                | ({"cut": True} if cut else {})
                | {"key": scored.key, "config": config, "writer": making.texts.config}
            )


def print_outcome(outcome: Outcome, making: Making, out: Path) -> None:
    """The tables of what was made and what it took, on stdout."""
    console, run = Console(soft_wrap=True), making.run
    documents, questions = len(making.documents), len(making.documents) * making.texts.questions
    became = table(f"{documents:,} documents in {duration(run.seconds)}", "questions", ["number"])
    became.add_row("asked for", f"{questions:,}")
    for why, count in outcome.left_out.most_common():
        if count:
            became.add_row(f"left out: {why}", f"{count:,}")
    became.add_row("kept", f"{len(outcome.rows):,}", style="bold")
    console.print(became)
    if outcome.scores:
        mean = sum(outcome.scores) / len(outcome.scores)
        at_least = ", ".join(f"{low} keeps {sum(score >= low for score in outcome.scores):,}" for low in _SHOWN)
        sentence = f"mean score {mean:.2f} of {len(outcome.scores):,} answers; --min-score {at_least}"
        console.print(sentence, highlight=False)
    kinds = Counter(row["kind"] for row in outcome.rows)
    if kinds:
        console.print(
            "kinds: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()), highlight=False
        )
    if outcome.cut:
        sentence = f"{outcome.cut:,} documents were shown to the writer without their middle: its context is too short"
        console.print(sentence, style="yellow", highlight=False)
    used = run.account.dimensions
    scoring = sum((usage for name, usage in used.items() if name != WRITING), Usage())
    if run.account.usage.calls:
        priced = run.config.judge.knows_prices
        usages = table("used by this run", "", ["calls", "tokens", *(["cost"] if priced else [])])
        for name, usage in ((WRITING, used[WRITING]), ("scoring", scoring), ("total", run.account.usage)):
            usages.add_row(name, *[f"{usage.calls:,}", rounded(usage.tokens), money(usage.cost)][: 2 + priced])
        console.print(usages)
    work, scores = making.files
    console.print(f"data: {out}; all that was written: {work}; all scores: {scores}", highlight=False)
