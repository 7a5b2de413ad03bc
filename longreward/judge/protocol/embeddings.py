"""Reads the response of /v1/embeddings: one vector for each text, or the error that says what it is instead."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from longreward.errors import JudgeError, Reason
from longreward.judge.protocol.refusals import short
from longreward.judge.protocol.replies import Reply, body_of, usage_in
from longreward.schema import Usage


def read(status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
    """The vectors of a response in the order of their `index`, each as float32 bytes in base64, one to a line.

    JudgeError where it holds anything else: vectors of different lengths, without a direction (all zero), or with a
    number that is none.
    """
    body = body_of(status, headers, raw)
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not data or not all(isinstance(each, dict) for each in data):
        raise _bad(f"the reply holds no embeddings: {short(raw)}", Usage(calls=1))
    usage = usage_in(body.get("usage"))
    places = [each.get("index", i) for i, each in enumerate(data)]
    if sorted(map(str, places)) != sorted(map(str, range(len(data)))):
        raise _bad(f"the embeddings' `index` is {short(places)}, not 0 to {len(data) - 1}", usage)
    rows = [each.get("embedding") for _, each in sorted(zip(map(int, places), data, strict=True), key=lambda e: e[0])]
    return Reply(["\n".join(_encoded(rows, usage))], usage)


def _encoded(rows: list[Any], usage: Usage) -> list[str]:
    import numpy as np  # not before an embedding is asked for: it takes a tenth of a second

    if not all(isinstance(row, list) and row for row in rows) or len({len(row) for row in rows}) > 1:
        lengths = [len(row) if isinstance(row, list) else type(row).__name__ for row in rows]
        raise _bad(f"the embeddings are not lists of numbers of one length: {short(lengths)}", usage)
    try:
        with np.errstate(over="ignore"):
            vectors = np.array(rows, dtype=np.float64).astype("<f4")
    except (TypeError, ValueError):
        raise _bad(f"an embedding holds what is no number: {short(rows[0])}", usage) from None
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise _bad("an embedding holds a number that is not finite", usage)
    if not vectors.any(axis=1).all():
        raise _bad("an embedding is all zeros", usage)
    return [base64.b64encode(vector.tobytes()).decode() for vector in vectors]


def _bad(detail: str, usage: Usage) -> JudgeError:
    return JudgeError(Reason.BAD_RESPONSE, detail=detail, usage=usage)
