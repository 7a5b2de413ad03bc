"""The criteria of a row, as data sets have them: ours, rubric files of `verifiers` and of `rubric`, the rubrics of
RaR-Medicine and RaR-Science, and those of HealthBench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from longreward.schema import Criterion

NAMES = ("criteria", "rubric", "rubrics")
"""Where a row has them; the first that is there counts."""
_SECTIONS = (*NAMES, "sections")
_TEXTS = ("text", "requirement", "criterion", "description")
_WEIGHTS = ("weight", "points")
_BINARY = ["no", "yes"]
_EXAMPLE = 'write each as {"text": "Names the buyer.", "weight": 2}, or as text alone'
_CRITERION = TypeAdapter(Criterion)


def criteria_of(row: Mapping[str, Any]) -> tuple[Criterion, ...]:
    """The criteria of a row that needs some. ValueError says which is wrong, or that there is none."""
    name = next((name for name in NAMES if row.get(name) is not None), None)
    if name is None:
        raise ValueError(f"there are no criteria; add the field criteria, and {_EXAMPLE}; or set weights without them")
    return criteria_in(row[name], name)


def criteria_in(value: Any, name: str = NAMES[0]) -> tuple[Criterion, ...]:
    """The criteria in a field called `name`: a list, or sections with a list each. ValueError as above."""
    if not isinstance(value, list | tuple | Mapping):
        raise ValueError(f"{name} is {type(value).__name__}, not a list; {_EXAMPLE}")
    found = tuple(_criterion(one, name, number) for number, one in enumerate(_flat(value), 1))
    if not any(criterion.weight > 0 for criterion in found):
        what = "no criterion has a positive weight, so no answer could score" if found else "there is no criterion"
        raise ValueError(f"{name}: {what}; add one")
    return found


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [one for part in value for one in _flat(part)]
    if isinstance(value, Mapping):
        inner = next((value[name] for name in _SECTIONS if isinstance(value.get(name), list | tuple | Mapping)), None)
        return [value] if inner is None else _flat(inner)
    return [value]


def _criterion(value: Any, name: str, number: int) -> Criterion:
    where = f"{name}: criterion {number}"
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {type(value).__name__}; {_EXAMPLE}")
    text, weight = (_first(value, keys) for keys in (_TEXTS, _WEIGHTS))
    if text is None:
        raise ValueError(f"{where} has no text; {_EXAMPLE}")
    if value.get("choices") is not None and list(value["choices"]) != _BINARY:
        raise ValueError(f"{where} has choices of its own; here each is met, partly met or unmet: leave choices out")
    if isinstance(weight, bool | str):
        raise ValueError(f"{where}: weight is {weight!r}; give it a number, below 0 for what an answer should not do")
    try:
        return _CRITERION.validate_python({"text": text, "weight": 1.0 if weight is None else weight})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {'.'.join(map(str, first['loc']))} is {first['input']!r}: {what}") from None


def _first(value: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What stands under the first of the keys that is there; tables have null where a row has none."""
    return next((value[key] for key in keys if value.get(key) is not None), None)
