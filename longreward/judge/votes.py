"""The mean of several replies to one question, for endpoints that give no probabilities (`judge.votes`)."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, TypeVar, cast

from longreward.errors import VerdictError
from longreward.judge.said import Reading, Said

T = TypeVar("T")


def mean(read: Callable[[str], T], said: Said, wanted: int) -> Reading[T]:
    """Of the votes that `read` can read, element by element where they are lists. VerdictError unless more than half of
    those that were `wanted` can be."""
    found: list[Any] = []
    failure = VerdictError(
        f"the endpoint gave {1 + len(said.others)} of the {wanted} replies that judge.votes asks for", said.text
    )
    for text in (said.text, *said.others):
        try:
            found.append(read(text))
        except VerdictError as error:
            failure = error
    if 2 * len(found) <= wanted:
        raise failure
    each = list(zip(*found, strict=True)) if isinstance(found[0], list) else [tuple(found)]
    means, deviations = [statistics.fmean(one) for one in each], tuple(statistics.pstdev(one) for one in each)
    return Reading(cast(T, means if isinstance(found[0], list) else means[0]), deviations)
