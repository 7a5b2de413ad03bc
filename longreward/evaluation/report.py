"""The result of an evaluation, for one policy, two side by side, or two compared: as JSON and as a Markdown table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from longreward.evaluation.intervals import METHOD, MeanEstimate
from longreward.evaluation.scoring import ItemOutcome
from longreward.evaluation.tasks import CHAT
from longreward.prompts import EVALUATION_VERSION
from longreward.schema import OK, Usage
from longreward.text.markdown import table

Grouping = Literal["datasets", "classes", "average"]

_NOTE = f"In brackets: {METHOD}; none where there is a single item or all have the same value."

_COLUMNS = {
    CHAT: "LongBench-Chat",
    "single_doc_qa": "Single-doc QA",
    "multi_doc_qa": "Multi-doc QA",
    "summarization": "Summarization",
    "average": "Average",
}
_AS_PUBLISHED = (
    "LongBench x 100 and LongBench-Chat x 10; the average is that of the four columns (arXiv 2410.21252, table 2)."
)


@dataclass(frozen=True, slots=True)
class MeanRow:
    """A mean for each policy. With two also the mean difference, second minus first, over the items of both."""

    name: str
    level: Grouping
    policies: tuple[MeanEstimate, ...]
    difference: MeanEstimate | None


@dataclass(frozen=True, slots=True)
class Result:
    """LongBench or LongBench-Chat, for one policy or two."""

    evaluation: Literal["longbench", "longbench_chat"]
    policies: tuple[str, ...]
    tallies: tuple[dict[str, Any], ...]
    """What `tally` gives for each policy."""
    lines: list[MeanRow] = field(default_factory=list)
    """Datasets, then classes, then the average."""
    judge: str = ""
    """The judge's name: scores of different judges must not be compared."""

    @property
    def average(self) -> MeanRow:
        return self.lines[-1]

    def to_json(self) -> dict[str, Any]:
        policies = {
            name: counts | self._levels([line.policies[i] for line in self.lines])
            for i, (name, counts) in enumerate(zip(self.policies, self.tallies, strict=True))
        }
        differences = [line.difference for line in self.lines if line.difference is not None]
        of = {"of": [self.policies[1], "minus", self.policies[0]]} if differences else {}
        return {
            "evaluation": self.evaluation,
            "scale": [1, 10] if self.evaluation == CHAT else [0, 1],
            **_made_with(self.judge),
            "policies": policies,
            "difference": of | self._levels(differences) if differences else None,
        }

    def markdown(self) -> str:
        chat = self.evaluation == CHAT
        digits = 2 if chat else 3
        first, *second = self.policies
        heads = ["LongBench-Chat, 1 to 10" if chat else "LongBench, 0 to 1", first]
        heads += [*second, f"{second[0]} - {first}"] if second else []
        rows = []
        for line in self.lines:
            name = line.name if line.level == "datasets" else f"**{line.name}**"
            cells = [_with_count(one, digits) for one in line.policies]
            if line.difference is not None:
                cells.append(f"{line.difference.text(digits, signed=True)}, n={line.difference.n}")
            rows.append([name, *cells])
        sentences = [_about_void(name, counts) for name, counts in zip(self.policies, self.tallies, strict=True)]
        return _document(heads, rows, [*sentences, _NOTE], self.judge)

    def _levels(self, estimates: Sequence[MeanEstimate]) -> dict[str, Any]:
        found: dict[str, Any] = {} if self.evaluation == CHAT else {"datasets": {}, "classes": {}}
        for line, one in zip(self.lines, estimates, strict=True):
            if line.level == "average":
                found["average"] = one.to_json()
            else:
                found[line.level][line.name] = one.to_json()
        return found


@dataclass(frozen=True, slots=True)
class PairResult:
    """Two policies' answers to the same requests, compared. `score` is B's: (wins + ties / 2) / n, 0..1."""

    policies: tuple[str, str]
    tally: dict[str, Any]
    """What `tally` gives for the pairs."""
    wins_a: int
    ties: int
    wins_b: int
    score: MeanEstimate
    judge: str = ""

    def to_json(self) -> dict[str, Any]:
        a, b = self.policies
        return {
            "evaluation": "short",
            "scale": [0, 1],
            **_made_with(self.judge),
            **self.tally,
            "a": a,
            "b": b,
            "wins_a": self.wins_a,
            "ties": self.ties,
            "wins_b": self.wins_b,
            "score_of_b": self.score.to_json(),
        }

    def markdown(self) -> str:
        a, b = self.policies
        heads = ["Short requests, compared", f"{b} wins", "ties", f"{a} wins", f"{b} over {a}, 0 to 1"]
        cells = [str(self.wins_b), str(self.ties), str(self.wins_a), f"{self.score.text(3)}, n={self.score.n}"]
        return _document(heads, [["all", *cells]], [_about_void("pairs", self.tally), _NOTE], self.judge)


@dataclass(frozen=True, slots=True)
class PaperTable:
    """LongBench and LongBench-Chat on the paper's scale, 0 to 100, a row for each policy."""

    policies: dict[str, dict[str, MeanEstimate]]
    """Policy -> column -> its mean; `average` is the last column, where it is known."""
    judge: str = ""
    missing: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Policy -> column -> its datasets that were not evaluated; only where there are such."""

    def to_json(self) -> dict[str, Any]:
        """A column without some of its datasets has them as `missing`."""
        return {
            policy: {name: estimate.to_json() | self._lacks(policy, name) for name, estimate in columns.items()}
            for policy, columns in self.policies.items()
        }

    def markdown(self) -> str:
        columns = [name for name in _COLUMNS if any(name in found for found in self.policies.values())]
        nothing = MeanEstimate(None, None, 0)
        rows = [
            [policy, *(_with_count(found.get(name, nothing), 1) for name in columns)]
            for policy, found in self.policies.items()
        ]
        heads = ["The paper's table, 0 to 100", *(_COLUMNS[name] for name in columns)]
        lacks: dict[str, dict[str, None]] = {}
        for name, datasets in ((name, each) for found in self.missing.values() for name, each in found.items()):
            lacks.setdefault(name, {}).update(dict.fromkeys(datasets))
        notes = [f"{_COLUMNS[name]} without {', '.join(datasets)}." for name, datasets in lacks.items()]
        return _document(heads, rows, [_AS_PUBLISHED, *notes, _NOTE], self.judge)

    def _lacks(self, policy: str, column: str) -> dict[str, list[str]]:
        found = self.missing.get(policy, {}).get(column)
        return {"missing": found} if found else {}


def tally(outcomes: Sequence[ItemOutcome]) -> dict[str, Any]:
    """How many items there are, how many are void and in no mean (by reason), and what the judge was paid for."""
    void = Counter(outcome.status for outcome in outcomes if outcome.status != OK)
    usage = sum((outcome.usage for outcome in outcomes), Usage())
    return {"items": len(outcomes), "void": dict(void.most_common()), "usage": usage.model_dump(mode="json")}


def _about_void(name: str, counts: dict[str, Any]) -> str:
    """How many items were void, and why; empty if none was."""
    if not counts["void"]:
        return ""
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts["void"].items())
    return f"{name}: {sum(counts['void'].values())} of {counts['items']} void and left out ({reasons})."


def _made_with(judge: str) -> dict[str, Any]:
    return {"judge": judge, "prompts": EVALUATION_VERSION, "intervals": METHOD}


def _with_count(estimate: MeanEstimate, digits: int) -> str:
    return f"{estimate.text(digits)}, n={estimate.n}"


def _document(heads: Sequence[str], rows: Sequence[Sequence[str]], sentences: Sequence[str], judge: str) -> str:
    notes = [sentence for sentence in (*sentences, f"Judge: {judge}." if judge else "") if sentence]
    return "\n".join([table(heads, rows), "", *notes, ""])
