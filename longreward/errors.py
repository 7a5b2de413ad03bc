"""Every error that the library raises on purpose. All can be pickled: in training they cross process boundaries."""

from __future__ import annotations

import copyreg
from enum import StrEnum
from typing import Any

from longreward.redaction import redacted
from longreward.schema import Usage


class Reason(StrEnum):
    """Why a judge call has no verdict. The values are the statuses that rows, logs and metrics show."""

    TIMEOUT = "timeout"
    """No complete reply in the time allowed. Raise judge.attempt_timeout_s, or see whether the server is overloaded."""
    RATE_LIMITED = "rate_limited"
    """The endpoint asks for fewer requests (429). Lower judge.max_in_flight, or set judge.requests_per_minute."""
    PARSE_ERROR = "parse_error"
    """The reply holds no valid verdict. Use a judge that follows the reply format, or more judge.parse_attempts."""
    TRUNCATED = "truncated"
    """The reply was cut at judge.max_tokens before its verdict. Raise judge.max_tokens, or judge.reasoning_tokens for a
    judge that reasons."""
    FILTERED = "filtered"
    """The endpoint's content filter refused the material or the reply. Use an endpoint without one."""
    CONTEXT_LENGTH = "context_length"
    """The question is longer than the judge's context, even with half its material. Serve a longer context."""
    BAD_RESPONSE = "bad_response"
    """The reply is not a chat completion, or is empty. Check that judge.base_url speaks the OpenAI API."""
    ONLY_REASONING = "only_reasoning"
    """The judge wrote its reasoning and no reply after it. Give its server the reasoning parser of its model, or raise
    judge.reasoning_tokens."""
    BAD_REQUEST = "bad_request"
    """The endpoint refuses the request as malformed (400). Check judge.model and judge.extra_body."""
    UNREACHABLE = "unreachable"
    """No connection. Check judge.base_url, and that the server runs."""
    MISCONFIGURED = "misconfigured"
    """The way to the endpoint is set up wrongly: its certificate, a proxy or a redirect, which the detail names."""
    UNAUTHORIZED = "unauthorized"
    """The endpoint refuses the key (401, 403). Check the key and judge.api_key_env."""
    QUOTA = "quota"
    """The account behind the key has no credit left (402, insufficient_quota). Top it up or use another key."""
    NOT_FOUND = "not_found"
    """The endpoint does not know the model or the path (404). Check judge.model and judge.base_url."""
    SERVER_ERROR = "server_error"
    """The server failed (5xx). It is asked again; see its log where that lasts."""
    SPEND_CAP = "spend_cap"
    """The next call could go past judge.spend, so it was not made. Raise judge.spend to go on."""
    LATE = "late"
    """All other answers of the step were scored long before (reward.late)."""
    INTERNAL = "internal"
    """A bug in this library or in a reward function. Report it with the traceback in the log."""


class LongRewardError(Exception):
    """The root of all errors raised on purpose: catch this one to catch them all. No message holds a known secret."""

    def __init__(self, *said: object) -> None:
        super().__init__(*(redacted(each) if isinstance(each, str) else each for each in said))

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls cls(*args), which fails for constructors that build their message.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__.copy()  # type: ignore[attr-defined]


class ConfigError(LongRewardError, ValueError):
    """A configuration that cannot work; the message names the key, the value and what to write instead."""


class InputError(LongRewardError, ValueError):
    """A row or a file that cannot be read as what it should be."""


class TooManyVoidsError(LongRewardError):
    """The share of void rewards passed the configured limit: the judge fails, not the policy."""


class VoidRewardError(LongRewardError):
    """An answer has no reward, for the reasons that the message names; the trainer is not to train on it."""


class VerdictError(LongRewardError):
    """A judge's reply that holds no valid verdict. `text` is the whole reply."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = redacted(text)


class JudgeError(LongRewardError):
    """A judge call that failed. It is retried or void, never a score.

    `reason` must be one of `Reason`, else ValueError. `retry_after`: the seconds that the server asks to wait. `usage`
    and `text`: the tokens and the words of a reply that cannot be used. `status`: the HTTP status of a refusal, or the
    one that its body names. `unsupported`: the field of the request that the endpoint does not take.
    """

    def __init__(
        self,
        reason: Reason | str,
        detail: str = "",
        *,
        retry_after: float | None = None,
        usage: Usage | None = None,
        text: str = "",
        status: int | None = None,
        unsupported: str = "",
    ) -> None:
        self.reason = Reason(reason)
        self.detail = detail = redacted(detail)
        self.retry_after = retry_after
        self.usage = usage
        self.text = redacted(text)
        self.status = status
        self.unsupported = unsupported
        super().__init__(f"{self.reason}: {detail}" if detail else str(self.reason))
