"""Constrained verdicts: the judge's server holds the reply to a JSON object with an analysis, if one is wanted, and a
verdict.

The request has the object's schema in `response_format`, which vLLM, SGLang, llama.cpp, Ollama, TGI and OpenAI take. It
keeps to what all of them know. A server that takes the field and ignores it is found out here: what is no object of the
schema is VerdictError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from longreward.errors import VerdictError
from longreward.judge import verdicts
from longreward.judge.distribution import mean_and_deviation
from longreward.judge.last_verdict import after_thoughts
from longreward.judge.said import Odds, Reading

T = TypeVar("T")
Schema = dict[str, Any]

# No lengths of texts in the schema: vLLM's xgrammar compiles a text of at most 300 characters for seconds, a list of
# such texts for minutes, and fails on a pattern with a repetition. `judge.max_tokens` ends a text that goes on; the
# reply is truncated. A list is ended here: small judges repeat its entries without end.
_TEXT: Schema = {"type": "string"}
_MOST = 40
_SUPPORT = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
_COVERAGE = {"Covered": 1.0, "Partly covered": 0.5, "Missing": 0.0}
_MET = {"Met": 1.0, "Partly met": 0.5, "Unmet": 0.0}
_PREFERENCE: dict[str, verdicts.Preference] = {"A": "A", "B": "B", "C": "tie"}


def _object(verdict: Schema, analysis: bool, name: str = "analysis") -> Schema:
    """The analysis comes first: what is written first cannot rest on what comes later."""
    properties = {name: _TEXT, "verdict": verdict} if analysis else {"verdict": verdict}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """What the verdict of one request looks like in JSON, and its value."""

    verdict: Schema
    value: Callable[[Any], T]
    """Of a verdict that has the schema; VerdictError where it still is none."""
    labels: Mapping[str, float] = field(default_factory=dict)
    """What a verdict may be, and its value. Empty for what has no mean."""
    analysis: bool = True
    """Whether it stands before the verdict."""

    @property
    def schema(self) -> Schema:
        """Of the whole reply."""
        return _object(self.verdict, self.analysis)

    @property
    def shown(self) -> str:
        """The object in few words: what each of its values may be."""
        return _alternatives(self.schema)

    @property
    def is_digit(self) -> bool:
        """Whether the verdict is one of the digits that stand for 0..10."""
        return "9" in self.labels

    @property
    def response_format(self) -> dict[str, Any]:
        """The field of the request."""
        return {"type": "json_schema", "json_schema": {"name": "verdict", "schema": self.schema, "strict": True}}

    def object(self, text: str) -> dict[str, Any]:
        """A reply that is one JSON object of the schema, behind closed thoughts or alone.

        VerdictError for all else: a missing, further or repeated key, a number in quotes or out of range.
        """
        said = text.strip()
        if not said.startswith("{"):
            said = after_thoughts(text, text).strip()
        try:
            found = json.loads(said, object_pairs_hook=_once, parse_constant=_no_number)
            _check(found, self.schema, "the reply")
        except (ValueError, RecursionError) as error:
            raise VerdictError(
                f"not the JSON object that was asked for ({error}); where the server ignores response_format, set "
                "judge.verdict=written or use another server",
                text,
            ) from None
        return dict(found)

    def read(self, text: str) -> T:
        """The value in such a reply; VerdictError where there is none."""
        found = self.object(text)
        try:
            return self.value(found["verdict"])
        except VerdictError as error:
            raise VerdictError(str(error), text) from None

    def mean(self, odds: Sequence[Odds]) -> Reading[T]:
        """The expected value by the judge's distribution, of each verdict where there are several. VerdictError for
        odds of other verdicts."""
        if len(odds) != self.verdict.get("minItems", 1):
            raise VerdictError(f"there are probabilities of {len(odds)} verdicts", "")
        found = [mean_and_deviation(each, self.labels) for each in odds]
        means = [mean for mean, _ in found]
        value: Any = means if self.verdict["type"] == "array" else means[0]
        return Reading(value, tuple(deviation for _, deviation in found))


def number(lowest: int, highest: int, analysis: bool = True) -> Shape[float]:
    """A whole number."""
    return Shape({"type": "integer", "enum": list(range(lowest, highest + 1))}, float, analysis=analysis)


def digit(analysis: bool = True) -> Shape[float]:
    """0..10 in ten steps, each of which is one token for every judge: 9 stands for 10."""
    values = {str(found): found * 10 / 9 for found in range(10)}
    schema = {"type": "integer", "enum": list(range(10))}
    return Shape(schema, lambda found: values[str(found)], values, analysis)


def support(analysis: bool = True) -> Shape[float]:
    """1, 0.5 or 0."""
    return Shape(_one_of(_SUPPORT), _SUPPORT.__getitem__, _SUPPORT, analysis)


def supports(count: int, analysis: bool = True) -> Shape[list[float]]:
    """One for each of `count` statements, in their order, each with its analysis."""
    return _one_each(count, _SUPPORT, analysis, "analysis")


def coverage(count: int, analysis: bool = True) -> Shape[list[float]]:
    """1, 0.5 or 0 for each of `count` points, in their order, each with a quotation in the place of an analysis."""
    return _one_each(count, _COVERAGE, analysis, "quote")


def criteria(count: int, analysis: bool = True) -> Shape[list[float]]:
    """As `supports`, for criteria: met, partly met or unmet."""
    return _one_each(count, _MET, analysis, "analysis")


def preference() -> Shape[verdicts.Preference]:
    """Which of two answers is better."""
    return Shape(_one_of(_PREFERENCE), _PREFERENCE.__getitem__)


def places(count: int, analysis: bool = True) -> Shape[list[int]]:
    """The place of each of `count` answers, in their order: 1 is the best, several may share one."""
    names = [f"place_of_answer_{i}" for i in range(1, count + 1)]
    place: Schema = {"type": "integer", "enum": list(range(1, count + 1))}
    schema: Schema = {"type": "object", "properties": dict.fromkeys(names, place), "required": names}
    schema["additionalProperties"] = False
    return Shape(schema, lambda found: [found[name] for name in names], analysis=analysis)


def statements() -> Shape[list[str]]:
    """At most 40 statements, repetitions (but for case and white space) counted once; none for an empty list.

    VerdictError for a list of 40 that does not end in a repetition: more may be missing. So for `passages`.
    """
    return Shape(_texts(_MOST), _all_different)


def points(most: int) -> Shape[list[str]]:
    """At most `most` points, repetitions counted once; none for an empty list. The list may be full: the judge is asked
    for no more."""
    return Shape(_texts(most), _different)


def passages() -> Shape[str | None]:
    """At most 40 passages, a line each; None for an empty list."""
    return Shape(_texts(_MOST), _joined)


def questions(count: int) -> Shape[list[str]]:
    """So many questions, none of them empty; none at all for an empty list."""

    def read(found: list[str]) -> list[str]:
        asked = [text.strip() for text in found]
        if asked and (len(asked) < count or not all(asked)):
            raise VerdictError(f"{sum(map(bool, asked))} questions, and {count} were asked for")
        verdicts.refuse_unsound(asked)
        return asked

    return Shape(_texts(count), read)


def answer() -> Shape[str | None]:
    """A text; None where it says that the document does not answer."""
    return Shape(_TEXT, verdicts.parse_answer)


def _texts(most: int) -> Schema:
    return {"type": "array", "items": _TEXT, "maxItems": most}


def _one_each(count: int, labels: dict[str, float], analysis: bool, name: str) -> Shape[list[float]]:
    one = _object(_one_of(labels), analysis, name)
    schema = {"type": "array", "items": one, "minItems": count, "maxItems": count}
    return Shape(schema, lambda found: [labels[each["verdict"]] for each in found], labels, analysis)


def _one_of(values: dict[str, Any]) -> Schema:
    return {"type": "string", "enum": list(values)}


def _alternatives(schema: Schema) -> str:
    if "enum" in schema:
        return "|".join(json.dumps(value) for value in schema["enum"])
    if schema["type"] == "string":
        return '"..."'
    if schema["type"] == "array":
        return f"[{_alternatives(schema['items'])}, ...]"
    return "{" + ", ".join(f'"{name}": {_alternatives(inner)}' for name, inner in schema["properties"].items()) + "}"


def _different(found: list[str]) -> list[str]:
    different: dict[str, str] = {}
    for text in filter(None, map(str.strip, found)):
        different.setdefault(_key(text), text)
    return list(different.values())


def _all_different(found: list[str]) -> list[str]:
    said = [_key(text) for text in found if text.strip()]
    if len(found) == _MOST and not (said and said[-1] in said[:-1]):
        raise VerdictError(f"the list has {_MOST} entries, the most it may have, so more may be missing")
    return _different(found)


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def _joined(found: list[str]) -> str | None:
    text = "\n".join(_all_different(found))
    return verdicts.parse_extraction(text) if text else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is repeated among {', '.join(key for key, _ in pairs)}")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check(value: Any, schema: Schema, where: str) -> None:
    """ValueError unless `value` has the schema."""
    wanted: Any = {"object": dict, "array": list, "string": str, "integer": int}[schema["type"]]
    if type(value) is not wanted:  # True is no number
        raise ValueError(f"{where} is no {schema['type']}: {str(value)[:40]!r}")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{where} is {str(value)[:40]!r}, none of {', '.join(map(str, schema['enum']))}")
    if wanted is dict:
        if value.keys() != schema["properties"].keys():
            raise ValueError(f"{where} has the keys {', '.join(value)[:80] or '(none)'}")
        for name, inner in schema["properties"].items():
            _check(value[name], inner, name)
    elif wanted is list:
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            raise ValueError(f"{where} has {len(value)} entries")
        for item in value:
            _check(item, schema["items"], f"an entry of {where}")
