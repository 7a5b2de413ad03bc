"""From what trainers send to an answer to be scored."""

from __future__ import annotations

import sys
from hashlib import blake2b
from typing import Any

from longreward.errors import InputError
from longreward.rows.criteria import criteria_of
from longreward.schema import Sample
from longreward.server.protocols.protocol import Item, Protocol


def item(
    protocol: Protocol,
    where: str,
    *,
    id: str | int,
    context: str,
    query: str,
    answer: str,
    criteria: Any,
    prompt: str = "",
    thinking: bool = False,
) -> Item:
    """The answer of which these are told; `prompt` is what its siblings share, `thinking` as in Sample.

    InputError, which begins with `where`, for a text that is too long, and where the reward needs criteria and these
    are none.
    """
    for name, text in (("context", context), ("query", query), ("answer", answer)):
        protocol.limits.check_text(where, name, text)
    try:
        wanted = criteria_of({"criteria": criteria or None}) if protocol.config.uses_criteria else ()
    except ValueError as error:
        raise InputError(f"{where}{error}") from None
    # Interned, because thousands of siblings in flight share a document, and each request brings its own copy.
    context = sys.intern(context)
    sample = Sample(id=id, context=context, query=query, answer=answer, criteria=wanted, thinking=thinking)
    digest = blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=16)
    return Item(sample, digest.hexdigest())
