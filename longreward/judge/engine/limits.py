"""How much may be sent to one endpoint: requests at once, requests and tokens per minute, and whether it is well.

Nothing here waits. These classes say whether a request may leave now and how many seconds are left until then; the
endpoint's queue waits. `now` is the event loop's time in seconds.
"""

from __future__ import annotations

from longreward.errors import JudgeError, Reason

_BURST = 1 / 20  # of a minute's allowance may go out at once
_GROWTH = 0.1  # of the limit, per round of answers
_DEEPEST_CUT = 0.5
_ROUND = 5  # so few answers say nothing about the share of refusals
_FAULTS_IN_A_ROW = 5  # then the endpoint is left alone for a while
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_FIRST_BAN_S, _LONGEST_BAN_S = 60.0, 600.0
_REFUSED_IN_A_ROW = 8
"""Different requests in a row that an endpoint which has worked must refuse before we believe that it refuses us: all
that is asked about one answer may be refused for what that answer says."""

REFUSES_US = frozenset({Reason.MISCONFIGURED, Reason.UNAUTHORIZED, Reason.NOT_FOUND, Reason.QUOTA})
"""The endpoint will not serve us, whatever we ask."""
PASSING = frozenset({Reason.RATE_LIMITED, Reason.TIMEOUT, Reason.UNREACHABLE, Reason.SERVER_ERROR})
"""Faults that may be over at the next attempt."""


def is_doubtful(failure: JudgeError) -> bool:
    """Whether a refusal of us may as well be one of this request: a 403 comes from moderation and firewalls too."""
    return failure.reason is Reason.UNAUTHORIZED and failure.status == 403


class AdaptiveConcurrency:
    """The limit on requests at once: up to `ceiling`, and lower while the endpoint refuses requests or times out.

    Answers are counted in rounds of about one round trip. A round with refusals lowers the limit once, by the refused
    share and at most by half. A round without refusals raises it by a tenth if it was used up.
    """

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.in_flight = 0
        self._limit = float("inf")
        self.last_serial = self._counted_from = 0
        self._round = _ROUND
        self._answers = self._refused = self._timed_out = self._highest = 0

    @property
    def limit(self) -> int:
        return int(min(self._limit, self._ceiling))

    def begin(self) -> int:
        """A request leaves; its number."""
        self.in_flight += 1
        self.last_serial += 1
        return self.last_serial

    def end(self, serial: int, failure: Reason | None) -> None:
        """The request of that number is over."""
        used_up = self.in_flight >= self.limit
        self.in_flight -= 1
        if serial <= self._counted_from:
            return  # sent before the last cut, so it says nothing about the limit of now
        self._answers += 1
        self._refused += failure is Reason.RATE_LIMITED
        self._timed_out += failure is Reason.TIMEOUT
        self._highest = max(self._highest, self.in_flight + 1)
        if failure is None and used_up and self._limit < self._ceiling:
            self._limit += max(_GROWTH, 1 / self._limit)
        if self._answers >= self._round:
            self._end_round()

    def _end_round(self) -> None:
        # One time-out may be chance; several in a round mean that a queue grows at the endpoint.
        too_slow = self._timed_out if self._timed_out >= 3 else 0
        refused = (self._refused + too_slow) / self._answers
        if refused:
            # From what was really under way: to cut a limit that was never reached would change nothing.
            under_way = min(self._limit, self._ceiling, self._highest)
            self._limit = max(1.0, under_way * max(_DEEPEST_CUT, 1 - refused))
            self._counted_from = self.last_serial
        self._round = max(_ROUND, self.in_flight)
        self._answers = self._refused = self._timed_out = self._highest = 0


class RateBucket:
    """A limit per minute that no minute passes. `per_minute` None: no limit.

    A twentieth of it may go out at once, the rest flows evenly. A request that is larger than that twentieth leaves
    when the bucket is full, and later requests wait the longer. So do they when a request used more than was taken.
    """

    def __init__(self, per_minute: float | None) -> None:
        allowed = per_minute or 0
        self._unlimited = per_minute is None
        self._burst = max(1.0, allowed * _BURST)
        # A bucket lets burst + rate x 60 through in its worst minute.
        self._per_second = max(allowed - self._burst, allowed / 2) / 60
        self._level = self._burst
        self._filled: float | None = None

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; 0 for now."""
        if self._unlimited:
            return 0.0
        if self._filled is not None:
            self._level = min(self._burst, self._level + (now - self._filled) * self._per_second)
        self._filled = now
        return max(0.0, min(amount, self._burst) - self._level) / self._per_second

    def take(self, amount: float) -> None:
        self._level -= amount

    def settle(self, taken: float, used: float) -> None:
        """Correct an earlier `take` by what was really used."""
        self._level = min(self._burst, self._level + taken - used)


class Health:
    """Whether an endpoint is worth asking. After faults in a row it is left alone for a while that doubles up to 30 s;
    one that refuses us (wrong key, no such model, no quota) for 1 to 10 minutes. Then one request goes first.

    A refusal of one request is not a refusal of us: only different requests that are refused make one.
    """

    def __init__(self) -> None:
        self.failure: JudgeError | None = None
        """What it is left alone for; None while it is well."""
        self._until = 0.0
        self._closed_at = 0
        self.pauses = 0
        """How often in a row it was left alone."""
        self._faults = 0
        self._refused: set[int] = set()  # hashes of the prompts refused since the last reply
        self.worked = False
        """Whether it has ever answered."""
        self._probe: int | None = None  # the number of the request that is to find out

    @property
    def refuses_us(self) -> bool:
        return self.failure is not None and self.failure.reason in REFUSES_US and len(self._refused) > 1

    @property
    def suspected(self) -> bool:
        """Its first reply ever was a refusal; another request finds out whether that was about us."""
        return self.failure is not None and self.failure.reason in REFUSES_US and not self.refuses_us

    def refuses(self, prompt: str) -> bool:
        """Whether this prompt need not be asked here again."""
        return self.refuses_us or (self.suspected and hash(prompt) in self._refused)

    def wait(self, now: float) -> float:
        """Seconds until it may be asked; 0 for now, infinity while another request finds out."""
        if self.failure is None:
            return 0.0
        return float("inf") if self._probe is not None else max(0.0, self._until - now)

    def began(self, serial: int) -> None:
        if self.failure is not None:
            self._probe = serial

    def ended(
        self, serial: int, last_serial: int, failure: JudgeError | None, now: float, prompt: str | None = None
    ) -> bool:
        """Take an answer's outcome in; True if the endpoint is well again, or is to be left alone from now on.

        `serial` is the request's own number, `last_serial` the latest begun, `prompt` what it asked.
        """
        if serial == self._probe:
            self._probe = None
        if failure is None or failure.reason not in REFUSES_US | PASSING:
            # A reply, even a bad one, shows that the endpoint is there.
            changed = self.failure is not None
            self.failure = self._probe = None
            self._faults = self.pauses = 0
            self._refused.clear()
            self.worked = True
            return changed
        if serial <= self._closed_at:
            return False  # sent before it was left alone: no news
        if failure.reason in REFUSES_US:
            self._refused.add(hash(serial if prompt is None else prompt))
            likely = not self.worked and not is_doubtful(failure)
            if len(self._refused) < (2 if likely else _REFUSED_IN_A_ROW):
                if likely:
                    self.failure, self._until = failure, now
                return likely
            pause, longest = _FIRST_BAN_S, _LONGEST_BAN_S
        else:
            self._faults += 1
            if self.failure is None and self._faults < _FAULTS_IN_A_ROW:
                return False
            pause, longest = max(_FIRST_PAUSE_S, failure.retry_after or 0), _LONGEST_PAUSE_S
        self.failure, self._closed_at = failure, last_serial
        self._until = now + min(longest, pause * 2**self.pauses)
        self.pauses = min(self.pauses + 1, 10)
        return True

    def broken_off(self, serial: int) -> None:
        """The request of that number was cancelled; if it was to find out, another must."""
        if serial == self._probe:
            self._probe = None
