"""What a complete answer has to say, as points, and which of them an answer covers (`completeness.way=key_points`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from longreward.config import RewardConfig
from longreward.errors import VerdictError
from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import AnalysedRequest, Measure, RewardRequest, as_lines
from longreward.judge.said import first_vote
from longreward.model_config import ReplyForm
from longreward.schema import Dimension
from longreward.text.shorten import without_middle
from longreward.text.tokens import text_of, tokens_in
from longreward.text.verbatim import stands_in

MOST_POINTS = 20
"""The judge is asked for no more, the ones that matter most first; of a longer list the first count."""
_POINT_TOKENS = 25  # a short sentence


class Quote(NamedTuple):
    """Words that the judge quotes for a point."""

    text: str = ""
    in_answer: bool | None = None
    """Whether they stand in the answer; None where it quotes none."""


@dataclass(frozen=True, slots=True)
class ListPoints(RewardRequest[list[str]]):
    """The distinct points on the question among all extractions, possibly none, in the document's language."""

    kind: ClassVar[str] = "points"
    dimension: ClassVar[Dimension] = "completeness"
    label: ClassVar[str] = "key points"
    grows_with: ClassVar[Measure] = "document_text"
    goes_first: ClassVar[bool] = True
    query: str
    extractions: Sequence[str]

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        return config.completeness.way == "key_points"

    def parse(self, text: str) -> list[str]:
        return verdicts.parse_points(text)[:MOST_POINTS]

    def shape(self, form: ReplyForm) -> Shape[list[str]]:
        return constrained.points(MOST_POINTS)

    def typical(self) -> tuple[list[str], float]:
        # Half of what was extracted repeats itself or is a side matter. Its two tags have 8 tokens together.
        material = " ".join(self.extractions)
        count = min(MOST_POINTS, max(1, round(tokens_in(material) / 2 / _POINT_TOKENS)))
        return [text_of(_POINT_TOKENS, like=material)] * count, (_POINT_TOKENS + 8) * count

    def shrunk(self) -> ListPoints | None:
        extractions = [without_middle(text) for text in self.extractions]
        return replace(self, extractions=extractions) if extractions != list(self.extractions) else None


@dataclass(frozen=True, slots=True)
class CheckCoverage(AnalysedRequest[list[float]]):
    """Does the answer cover each of the points? 1, 0.5 or 0 for each, in their order."""

    kind: ClassVar[str] = "coverage"
    dimension: ClassVar[Dimension] = "completeness"
    label: ClassVar[str] = "coverage of key points"
    query: str
    answer: str
    points: Sequence[str]

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        return config.completeness.way == "key_points"

    def fields(self) -> dict[str, str]:
        return {"points": as_lines(self.points), "query": self.query, "answer": self.answer}

    def parse(self, text: str) -> list[float]:
        return verdicts.parse_coverage(text, len(self.points))

    def shape(self, form: ReplyForm) -> Shape[list[float]]:
        return constrained.coverage(len(self.points), form.analysis)

    def quotes(self, reply: str, wanted: ReplyForm) -> list[Quote]:
        """What the reply quotes for each point: of several quotations the first that stands in the answer, of votes
        those of the first. A quotation changes no verdict: judges shorten and reword what they quote, and a point that
        is covered would count as missing, or the whole answer be void. It is looked up so that people can see what a
        verdict rests on."""
        form = self.form(wanted)
        reply = reply if form.votes == 1 else first_vote(reply)
        try:
            if form.verdict == "written":
                found = verdicts.parse_quotes(reply)
            else:
                entries = self.shape(form).object(reply)["verdict"]
                found = {number: [entry.get("quote", "")] for number, entry in enumerate(entries, 1)}
        except VerdictError:  # one of several votes; the others have a verdict
            found = {}
        return [self._quote(found.get(number, [])) for number in range(1, len(self.points) + 1)]

    def _quote(self, texts: Sequence[str]) -> Quote:
        quotes = [Quote(text, stands_in(text, self.answer)) for text in map(str.strip, texts) if text]
        return next((quote for quote in quotes if quote.in_answer), next(iter(quotes), Quote()))

    def typical(self) -> tuple[list[float], float]:
        return [1.0] * len(self.points), 35 * len(self.points)  # a line for each, with a quotation

    def shrunk(self) -> CheckCoverage | None:
        points = [without_middle(text) for text in self.points]
        return replace(self, points=points) if points != list(self.points) else None
