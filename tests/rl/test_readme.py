"""README.md is short, and it and docs/design.md name only what exists, and every folder of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
MOST_WORDS = 1300
TOP = ("longreward", "rl", "configs", "launch", "docs", "benchmarks", "tests")
PATH = re.compile(rf"(?<![\w./~-])\.?/?((?:{'|'.join(TOP)})/[\w./*-]*)")


def tree() -> dict[str, str]:
    """The folders in the README's tree, and what it says of each."""
    block = next(text for text in re.findall(r"```\n(.*?)```", README, re.DOTALL) if text.startswith("longreward/"))
    found, top = {}, ""
    for line in block.splitlines():
        name, about = line.split(maxsplit=1)
        top = top if line.startswith(" ") else name
        found[name if name == top else top + name] = about
    return found


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", [README, DESIGN], ids=["README.md", "docs/design.md"])
def test_every_path_that_is_named_exists(page: str) -> None:
    named = {path.rstrip(".") for path in PATH.findall(page)}
    assert len(named) > 15
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_folder_has_one_line_in_the_readme() -> None:
    lines = tree()
    assert all(about.strip() for about in lines.values())
    assert [name for name in lines if not (ROOT / name).is_dir()] == []
    packages = {file.parent for name in ("longreward", "rl") for file in (ROOT / name).rglob("__init__.py")}
    assert sorted(f"{path.relative_to(ROOT)}/" for path in packages) == sorted(
        name for name in lines if name.startswith(("longreward/", "rl/"))
    )
