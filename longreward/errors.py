"""Every error the library raises on purpose. All survive pickling, since they cross process boundaries in Ray."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longreward.schema import Usage


class Reason(StrEnum):
    """Why a judge call has no verdict. The values are the statuses that rows, logs and metrics show."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    PARSE_ERROR = "parse_error"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    CONTEXT_LENGTH = "context_length"
    BAD_RESPONSE = "bad_response"
    BAD_REQUEST = "bad_request"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"
    QUOTA = "quota"
    NOT_FOUND = "not_found"
    SERVER_ERROR = "server_error"
    SPEND_CAP = "spend_cap"
    INTERNAL = "internal"


class LongRewardError(Exception):
    """The root of all errors raised on purpose: catch this one to catch them all."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way calls cls(*args), which fails for constructors that build their message.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigError(LongRewardError, ValueError):
    """A configuration that cannot work; the message names the key, the value and what to write instead."""


class InputError(LongRewardError, ValueError):
    """A row or a file that cannot be read as what it should be."""


class VerdictError(LongRewardError):
    """A judge's reply that holds no valid verdict. `text` is the whole reply."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class JudgeError(LongRewardError):
    """A judge call that failed. It is retried or void, never a score (DESIGN, section 5).

    `reason` must be one of `Reason`, else ValueError. `retry_after` is the server's own wish in seconds; `usage` and
    `text` are what a reply that is no good cost and said.
    """

    def __init__(
        self,
        reason: Reason | str,
        detail: str = "",
        *,
        retry_after: float | None = None,
        usage: Usage | None = None,
        text: str = "",
    ) -> None:
        self.reason = Reason(reason)
        self.detail = detail
        self.retry_after = retry_after
        self.usage = usage
        self.text = text
        super().__init__(f"{self.reason}: {detail}" if detail else str(self.reason))


def _rebuild(cls: type[LongRewardError], args: tuple[Any, ...], state: dict[str, Any]) -> LongRewardError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
