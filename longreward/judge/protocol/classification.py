"""Reads the response of vLLM's /classify for a reward model: one number, or the error that says what it is instead."""

from __future__ import annotations

import math
from collections.abc import Mapping

from longreward.errors import JudgeError, Reason
from longreward.judge.protocol.refusals import short
from longreward.judge.protocol.replies import Reply, body_of, usage_in
from longreward.schema import Usage


def read(status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
    """The only output of a model with one label, as text. JudgeError where the response holds anything else."""
    body = body_of(status, headers, raw)
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], dict):
        raise _bad(f"the reply is not a classification of one text: {short(raw)}", Usage(calls=1))
    usage, outputs = usage_in(body.get("usage")), data[0].get("probs")
    if not isinstance(outputs, list) or not outputs:
        raise _bad(f"the classification holds no `probs`: {short(data[0])}", usage)
    if len(outputs) > 1:
        raise _bad(f"the model tells {len(outputs)} classes apart; a reward model has one output", usage)
    reward = outputs[0]
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not math.isfinite(reward):
        raise _bad(f"the reward is {short(reward)}, which is not a finite number", usage)
    return Reply([repr(float(reward))], usage)


def _bad(detail: str, usage: Usage) -> JudgeError:
    return JudgeError(Reason.BAD_RESPONSE, detail=detail, usage=usage)
