"""Reads the responses of models that check a statement without a verdict in words: a cross-encoder's score, and the
likelihood of a prompt's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longreward.errors import JudgeError, Reason
from longreward.judge.distribution import Token
from longreward.judge.protocol.refusals import short
from longreward.judge.protocol.replies import Reply, body_of, usage_in


def read_score(status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
    """The one score of a response of vLLM's /score, as text. JudgeError where it is no number from 0 to 1, which a
    cross-encoder with a sigmoid gives."""
    body = body_of(status, headers, raw)
    data = body.get("data") if isinstance(body, dict) else None
    usage = usage_in(body.get("usage") if isinstance(body, dict) else None)
    score = data[0].get("score") if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        detail = f"the reply holds no score from 0 to 1: {short(raw)}"
        raise JudgeError(Reason.BAD_RESPONSE, detail=detail, usage=usage)
    return Reply([f"{score:.6f}"], usage)


def read_likelihood(status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
    """The prompt's tokens with their log-likelihoods, in a chat completion with `prompt_logprobs` (vLLM). JudgeError
    where it has none."""
    body = body_of(status, headers, raw)
    usage = usage_in(body.get("usage") if isinstance(body, dict) else None)
    told = body.get("prompt_logprobs") if isinstance(body, dict) else None
    if not isinstance(told, list) or not told:
        detail = f"the reply has no prompt_logprobs, which way=likelihood needs: {short(raw)}"
        raise JudgeError(Reason.BAD_RESPONSE, detail=detail, usage=usage)
    try:
        tokens = [_token(each) for each in told if each is not None]
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration):
        detail = f"its prompt_logprobs are not those of vLLM: {short(raw)}"
        raise JudgeError(Reason.BAD_RESPONSE, detail=detail, usage=usage) from None
    return Reply([""], usage, tokens)


def _token(told: dict[str, Any]) -> Token:
    """vLLM names the prompt's own token first, then the likeliest ones."""
    own = next(iter(told.values()))
    return Token(str(own["decoded_token"]).encode(), float(own["logprob"]))
