"""From what trainers send to an answer to be scored."""

from __future__ import annotations

import sys
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel

from longreward.errors import InputError
from longreward.rows.criteria import criteria_of
from longreward.schema import Sample
from longreward.server.protocols.protocol import Item, Protocol


class Question(BaseModel):
    context: str
    """The document."""
    query: str
    """The question."""
    criteria: Any = None
    """Where these have a weight, as in the rows of a data set."""
    id: str | int = ""


def item(
    protocol: Protocol, where: str, question: Question, answer: str, prompt: str = "", *, thinking: bool = False
) -> Item:
    """An answer to be scored; `prompt` is what its siblings share, `thinking` as in Sample.

    InputError, which begins with `where`, if the reward needs criteria and there are none, or none that can be read.
    """
    try:
        criteria = criteria_of({"criteria": question.criteria or None}) if protocol.config.uses_criteria else ()
    except ValueError as error:
        raise InputError(f"{where}{error}") from None
    # Interned, because thousands of siblings in flight share a document, and each request brings its own copy.
    sample = Sample(
        id=question.id,
        context=sys.intern(question.context),
        query=question.query,
        answer=answer,
        criteria=criteria,
        thinking=thinking,
    )
    digest = blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=16)
    return Item(sample, digest.hexdigest())
