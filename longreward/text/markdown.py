"""Markdown of our own tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right. A | in a cell is shown as such."""
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (heads, *rows)]
    lines.insert(1, ["---", *["---:"] * (len(heads) - 1)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
