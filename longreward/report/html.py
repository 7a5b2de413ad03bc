"""A page itself: one file of markup, style and script, and the blocks of data behind them.

Nothing that comes from a run stands in the markup. A policy for its contents, in the page, allows this script and this
style by their hashes and nothing else: no network, no other script, no string that becomes markup.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import BinaryIO


@dataclass(frozen=True)
class Page:
    """What tells one page from another."""

    title: str
    modules: Sequence[str]
    """In the order in which they need each other; as one script, since a page from disk can import no other file."""
    styles: Sequence[str] = ("page",)


REPORT = Page(
    "LongReward report",
    ("dom", "text", "data", "chart", "overview", "answers", "answer", "alarms", "compare", "reproduction", "main"),
)
_IMPORT = re.compile(r"^import .*?;\n", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
END = b"</body>\n</html>\n"
"""Everything after the blocks."""


def modules(page: Page) -> dict[str, str]:
    return {name: _file(f"{name}.js") for name in page.modules}


def script(page: Page) -> str:
    """All modules as one. Names at the top of a module must differ among all of them: a test looks."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in modules(page).values())


def write_head(out: BinaryIO, page: Page) -> None:
    """Everything before the blocks. The script runs as soon as it is read: the first view needs only the blocks that
    come first, however many there are."""
    code, style = script(page), "".join(_file(f"{name}.css") for name in page.styles)
    # trusted-types without a name: no policy can be made, so that no string can become markup or script.
    policy = (
        f"default-src 'none'; script-src {_hash(code)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types"
    )
    head, body = _file("page.html").split("<!-- script -->\n")
    head = head.replace("{{policy}}", policy).replace("{{style}}", style).replace("{{title}}", page.title)
    out.write(f'{head}<script type="module" async>{code}</script>\n{body}'.encode())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return resources.files("longreward.report").joinpath("page", name).read_text(encoding="utf-8")
