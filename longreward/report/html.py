"""The page itself: one file of markup, style and script, and the blocks of data behind them.

Nothing that comes from a run stands in the markup. A policy for its contents, in the page, allows this script and this
style by their hashes and nothing else: no network, no other script, no string that becomes markup.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import BinaryIO

_MODULES = (
    "dom",
    "text",
    "data",
    "chart",
    "overview",
    "answers",
    "answer",
    "alarms",
    "compare",
    "reproduction",
    "main",
)
"""In the order in which they need each other; as one script, since a page from disk can import no other file."""
_IMPORT = re.compile(r"^import .*?;\n", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
END = b"</body>\n</html>\n"
"""Everything after the blocks."""


def modules() -> dict[str, str]:
    return {name: _file(f"{name}.js") for name in _MODULES}


def script() -> str:
    """All modules as one. Names at the top of a module must differ among all of them: a test looks."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in modules().values())


def write_head(out: BinaryIO) -> None:
    """Everything before the blocks. The script runs as soon as it is read: the first view needs only the blocks that
    come first, however many there are."""
    code, style = script(), _file("page.css")
    # trusted-types without a name: no policy can be made, so that no string can become markup or script.
    policy = (
        f"default-src 'none'; script-src {_hash(code)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types"
    )
    head, body = _file("page.html").split("<!-- script -->\n")
    head = head.replace("{{policy}}", policy).replace("{{style}}", style)
    out.write(f'{head}<script type="module" async>{code}</script>\n{body}'.encode())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return resources.files("longreward.report").joinpath("page", name).read_text(encoding="utf-8")
