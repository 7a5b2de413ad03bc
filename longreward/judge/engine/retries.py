"""What to do after a failed attempt: one rule for each reason of failure (docs/reference/failures.md)."""

from __future__ import annotations

import random

from longreward.errors import JudgeError, Reason
from longreward.judge.engine.limits import PASSING, REFUSES_US, is_doubtful
from longreward.model_config import ModelConfig

_LONGEST_BACKOFF_S = 20.0
_JITTER = 0.1
_BAD_RESPONSES_AT_MOST = 5
_CUT_IN_REASONING_AT_MOST = 3
_LAST_ATTEMPT = 0.25
"""This share of a call's remaining time is kept for one more attempt, even if the endpoint asks for a longer wait."""


class Retries:
    """One call's settings for its next attempt, and when that is due."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self.temperature = config.temperature
        self.max_tokens = config.max_tokens + config.reasoning_tokens
        """Room for the reply and the reasoning before it."""
        self._parse_errors = self._refusals = self._backoffs = self._moves = self._truncated = self._bad = 0
        self._was_last = False

    def wait(
        self,
        failure: JudgeError,
        attempts: int,
        remaining_s: float,
        *,
        elsewhere: bool,
        hopeless: bool,
        others_served: bool,
    ) -> float | None:
        """Seconds until the next attempt; None to give up.

        `attempts` were made so far, `remaining_s` are left of the call's time. `elsewhere`: another endpoint is free to
        be asked. `hopeless`: all endpoints refuse us, or this request, for good. `others_served`: the endpoint has
        answered other calls well since this one began.
        """
        config, reason = self._config, failure.reason
        if remaining_s <= 0 or (config.max_attempts is not None and attempts >= config.max_attempts):
            return None
        if reason is Reason.PARSE_ERROR:
            self._parse_errors += 1
            self.temperature = None if config.temperature is None else config.retry_temperature
            return 0.0 if self._parse_errors < config.parse_attempts else None
        if reason in REFUSES_US:
            self._refusals += 1
            # A 403 is often about the request: asking the same endpoint a third time changes nothing.
            most = max(1, len(config.endpoints)) * (1 if is_doubtful(failure) else 2)
            return 0.0 if not hopeless and self._refusals <= most else None
        if reason is Reason.TRUNCATED:
            self._truncated += 1
            self.max_tokens *= 2
            # A judge that was still reasoning may need several times the room; one that writes on and on does not.
            return 0.0 if self._truncated < (2 if failure.text else _CUT_IN_REASONING_AT_MOST) else None
        if reason in (Reason.BAD_RESPONSE, Reason.ONLY_REASONING):
            self._bad += 1
            # Two in a row are not chance, unless all other calls go well.
            if self._bad >= (_BAD_RESPONSES_AT_MOST if others_served else 2):
                return None
        elif reason not in PASSING:
            return None
        if elsewhere and self._moves < len(config.endpoints) - 1:
            self._moves += 1
            return 0.0
        if self._was_last:
            return None
        self._moves = 0
        # Who asks for a wait does not ask it for the others.
        return self._backoff(0.0 if elsewhere else failure.retry_after or 0.0, remaining_s)

    def _backoff(self, retry_after_s: float, remaining_s: float) -> float:
        base = min(_LONGEST_BACKOFF_S, self._config.retry_base_s * 2**self._backoffs)
        self._backoffs = min(self._backoffs + 1, 30)
        wait = max(base * random.uniform(0.5, 1), retry_after_s * random.uniform(1, 1 + _JITTER))
        longest = remaining_s * (1 - _LAST_ATTEMPT)
        self._was_last = wait > longest
        return min(wait, longest)
