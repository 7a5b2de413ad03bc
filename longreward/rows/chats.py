"""A document and a question about it, from chat messages that hold both."""

from __future__ import annotations

import re
from typing import Any

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_MESSAGE = 'a list of messages, {"role": "user", "content": TEXT}, of which the user has the last'


def context_and_query(messages: Any, name: str) -> tuple[str, str]:
    """(context, query): the query is the last paragraph of the last message, which is the user's, and the context is
    all that stands before it, the earlier messages included. ValueError, with the `name` of the field, where the
    messages are not of this kind, or hold one paragraph alone."""
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"{name} must be {_MESSAGE}")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f"{name} must be {_MESSAGE}; found {str(message)[:60]!r}")
    if (role := messages[-1].get("role")) != "user":
        raise ValueError(f"{name} must be {_MESSAGE}; the last role is {role!r}")
    *earlier, last = (message["content"].strip() for message in messages)
    place = 0
    for gap in _BLANK.finditer(last):
        place = gap.end()
    context = "\n\n".join(text for text in (*earlier, last[:place].rstrip()) if text)
    if not context or not last:
        raise ValueError(
            f"{name} holds one paragraph alone: no document stands before the question; leave that row out"
        )
    return context, last[place:]
