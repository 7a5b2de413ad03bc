"""Secrets that this process holds, and texts without them.

A server may repeat the key that it was sent: in a refusal, in a redirect, in a reply. So each secret is made known
where it is read, and every error of the library and every reply of a judge leaves it out where they are made. Whatever
is printed, stored or served later is made of those.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

MASK = "***"
_SHORTEST = 8
"""A shorter value is a placeholder for servers that ask for no key (EMPTY, none), and may be a word of any text."""
_ELSEWHERE = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
"""Variables of other libraries: they send these, and their errors become ours."""

_heads: dict[str, str] = {}
"""What a secret may look like in a text -> the beginning that gives it away, the longest first."""


def keep_secret(value: str) -> None:
    """Leave `value` out of texts from now on. Of `Bearer KEY` that is the key, of `Basic ...` the password too."""
    global _heads
    found = {form: form[: max(_SHORTEST, 2 * len(form) // 3)] for part in _parts(value) for form in _forms(part)}
    # Another dictionary: texts may be looked at in other threads meanwhile.
    _heads = dict(sorted((_heads | found).items(), key=lambda each: -len(each[0])))


def keep_environment() -> None:
    """Leave the secrets out that other libraries read: from the environment, and what `hf auth login` has written."""
    for name in _ELSEWHERE:
        keep_secret(os.environ.get(name, "").strip())
    hub = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    with suppress(OSError, ValueError):
        keep_secret(Path(os.environ.get("HF_TOKEN_PATH") or hub / "token").read_text(encoding="utf-8").strip())


def redacted(text: str) -> str:
    """The text with *** for each known secret: whole, broken off after two thirds, or escaped for JSON, a URL or
    HTML."""
    heads = _heads
    for secret in heads:
        if secret in text:
            text = text.replace(secret, MASK)
    for secret, head in heads.items():
        if head in text:
            text = _without(text, secret, head)
    return text


def _without(text: str, secret: str, head: str) -> str:
    kept, end = [], 0
    while (start := text.find(head, end)) >= 0:
        kept.append(text[end:start])
        end = start + len(head)
        while text[end : end + 1] and text[end : end + 1] == secret[end - start : end - start + 1]:
            end += 1
    return MASK.join([*kept, text[end:]])


def _parts(value: str) -> Iterator[str]:
    """What is secret in the value of a header."""
    scheme, _, rest = value.partition(" ")
    given = rest.strip() if scheme.lower() in ("bearer", "basic") else value
    yield from (part for part in (value, given) if len(given) >= _SHORTEST)
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(given, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield from (part for part in (pair, pair.partition(":")[2]) if len(part) >= _SHORTEST)


def _forms(secret: str) -> set[str]:
    in_json = json.dumps(secret)[1:-1]
    for_html = in_json
    for sign in "<>&'":  # as Go and PHP write them
        for_html = for_html.replace(sign, f"\\u{ord(sign):04x}")
    in_url = {quote(secret), quote(secret, safe="")}
    in_url |= {re.sub("%..", lambda escape: escape[0].lower(), form) for form in in_url}
    return {
        *(secret, repr(secret)[1:-1], html.escape(secret), html.escape(secret, quote=False)),
        *(in_json, for_html, in_json.replace("/", "\\/"), for_html.replace("/", "\\/")),
        *(in_url | {form.replace("%", "%25") for form in in_url}),
    }
