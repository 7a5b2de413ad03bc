"""The id of a row: what pandas, datasets and people write for the same id is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def row_id(row: dict[str, Any], number: int | None, names: Sequence[str] = ("idx", "id")) -> str:
    """A row's own id: the first of `names` that holds one, text or a whole number, of which 11 and 11.0 are the same.
    Null, NaN and empty text are none; then it is the `number` of the row. ValueError where that is None, or where the
    row's own is something else."""
    found: Any = next((value for name in names if not _missing(value := row.get(name))), number)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise ValueError(f"{names[0]} must be text or a whole number, found {found!r}")
    return str(found)


def _missing(value: Any) -> bool:
    # pandas writes NaN where there is nothing, and makes the other whole numbers of that column fractions.
    return value is None or value == "" or (isinstance(value, float) and value != value)
