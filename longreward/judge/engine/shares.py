"""One limit for several processes: who may use how much of an endpoint's limits and of the spend at the moment.

Every process reports what it has under way and waiting a few times a second and is told its share. A share is only
raised by what the others have given back, so that all together never exceed the limit, whoever reports when.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from longreward.config import EndpointConfig, JudgeConfig
from longreward.judge.engine.spend_cap import Amount

if TYPE_CHECKING:
    from longreward.judge.engine.endpoints import Endpoints

EXCHANGE_S = 0.25
"""Seconds between two reports of a process."""
_SILENT_S = 10.0  # a process that does not report for so long is taken for dead, its share for free
_EVERYBODY_S = 5.0  # so long the processes that have not reported yet are counted as there


@dataclass(slots=True)
class Load:
    """What a process has at one endpoint: requests under way and waiting, and the share it works with."""

    in_flight: int = 0
    waiting: int = 0
    max_in_flight: int = 0


@dataclass(slots=True)
class Report:
    """What a process tells: its load by endpoint, and what it has spent, reserved, and cannot do for want of money."""

    loads: dict[str, Load]
    used: Amount = field(default_factory=Amount)
    reserved: Amount = field(default_factory=Amount)
    wanted: Amount | None = None
    seen: float = 0.0


@dataclass(slots=True)
class Limits:
    """A process's part of an endpoint's limits; None: no limit."""

    max_in_flight: int = 0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(slots=True)
class Share:
    """What a process may do until it reports again."""

    limits: dict[str, Limits]
    allowance: Amount
    """The most that `used` and `reserved` may come to."""
    reached: bool = False
    """The spend cap is reached: fail what waits."""
    paused: bool = False
    """The spend cap is reached: let wait what waits."""
    used_by_all: Amount = field(default_factory=Amount)
    """What all have spent until now, earlier parts of the run included."""


@dataclass
class _Member:
    report: Report
    share: Share = field(default_factory=lambda: Share({}, Amount()))
    served: float = 0.0


class Shares:
    """Divides the limits of `config` among `members` processes."""

    def __init__(
        self,
        config: JudgeConfig,
        members: int,
        on_reached: Literal["stop", "pause"],
        spent: Mapping[str, Amount] | None = None,
    ) -> None:
        """`spent` was used before, by processes of an earlier part of the same run, or by those still at work that
        another instance of this has watched until now."""
        self.cap = Amount(config.spend.max_cost or math.inf, config.spend.max_tokens or math.inf)
        self.reached = False
        self._endpoints = {endpoint.base_url: endpoint for endpoint in config.resolved_endpoints}
        self._expected = members
        self._on_reached = on_reached
        self._spent_before = dict(spent or {})
        self._members: dict[str, _Member] = {}
        self._begun = math.nan

    @property
    def used(self) -> Amount:
        """By all, ever."""
        return _total(*self.used_by_worker.values())

    @property
    def used_by_worker(self) -> dict[str, Amount]:
        """By each process that ever was."""
        return self._spent_before | {name: member.report.used for name, member in self._members.items()}

    @property
    def paused(self) -> bool:
        return self.reached and self._on_reached == "pause"

    def set_cap(self, cap: Amount) -> None:
        """Another cap, from the run's begin on; those who wait for it go on at their next exchange."""
        if cap != self.cap:
            self.cap, self.reached = cap, False

    def exchange(self, name: str, report: Report, now: float) -> Share:
        """Take in a process's report and tell it its share. A restarted process needs a new name."""
        self._begun = now if math.isnan(self._begun) else self._begun
        report.seen = now
        member = self._members.setdefault(name, _Member(report))
        member.report = report
        live = {key: m for key, m in self._members.items() if now - m.report.seen < _SILENT_S}
        limits = {url: self._limits(url, name, live, now) for url in self._endpoints}
        if any(limit.max_in_flight for limit in limits.values()):
            member.served = now
        stops = self._on_reached == "stop"
        # Once stopped, nobody waits any more, and nothing may begin again.
        self.reached = (stops and self.reached) or self._is_reached(live)
        member.share = Share(
            limits,
            self._allowance(name, live),
            reached=stops and self.reached,
            paused=self.paused,
            used_by_all=self.used,
        )
        return member.share

    def _limits(self, url: str, name: str, live: dict[str, _Member], now: float) -> Limits:
        endpoint = self._endpoints[url]
        # Until all have reported, nobody takes what may be another's already.
        complete = len(live) >= self._expected or now - self._begun >= _EVERYBODY_S
        members = max(len(live), 0 if complete else self._expected)
        wanted = {key: _demand(m, url) for key, m in live.items()}
        fair = _fair_shares(endpoint.max_in_flight or 1, wanted, members, order=lambda key: live[key].served)
        held = sum(_held(m, url) for key, m in live.items() if key != name)
        free = (endpoint.max_in_flight or 1) - held if complete else (endpoint.max_in_flight or 1) // members
        part = (wanted[name] + 1) / (sum(wanted.values()) + members)
        return Limits(
            max(0, min(fair[name], free)),
            self._rate(endpoint, "requests_per_minute", part, name, live, complete, members),
            self._rate(endpoint, "tokens_per_minute", part, name, live, complete, members),
        )

    def _rate(
        self,
        endpoint: EndpointConfig,
        kind: str,
        part: float,
        name: str,
        live: dict[str, _Member],
        complete: bool,
        members: int,
    ) -> float | None:
        rate: float | None = getattr(endpoint, kind)
        if rate is None:
            return None
        given = [m.share.limits.get(endpoint.base_url) for key, m in live.items() if key != name]
        free = rate - sum(getattr(limits, kind) or 0.0 for limits in given if limits is not None)
        return max(0.0, min(rate * part, free if complete else rate / members))

    def _allowance(self, name: str, live: dict[str, _Member]) -> Amount:
        mine = live[name].report.used.plus(live[name].report.reserved)
        others = [
            self._committed(m) if key in live else m.report.used for key, m in self._members.items() if key != name
        ]
        active = [
            key for key, m in live.items() if any(load.in_flight or load.waiting for load in m.report.loads.values())
        ]
        # Those with nothing to do keep a little, to begin at once when they have.
        divisor = max(1, len(active)) if name in active else 4 * max(len(live), self._expected)
        if name not in active and any(m.report.wanted is not None for m in live.values()):
            return mine  # somebody else could use it
        silent = (amount for key, amount in self._spent_before.items() if key not in self._members)
        left = self._left(_total(mine, *others, *silent))
        more = Amount(left.cost / divisor, left.tokens / divisor)
        wanted = live[name].report.wanted
        if wanted is not None:
            # A part that is too small for a single request is of use to nobody: all of it, or another's turn.
            more = _most(more, wanted) if wanted.fits(left) else Amount()
        return mine.plus(more)

    def _committed(self, member: _Member) -> Amount:
        """What a process may already come to; no number where there is no cap."""
        most = _most(member.share.allowance, member.report.used.plus(member.report.reserved))
        return Amount(*(part if part < math.inf else 0.0 for part in most))

    def _left(self, taken: Amount) -> Amount:
        return Amount(max(0.0, self.cap.cost - taken.cost), max(0.0, self.cap.tokens - taken.tokens))

    def _is_reached(self, live: dict[str, _Member]) -> bool:
        """Somebody waits for more than is left, and nobody has anything under way that could give some back."""
        reports = [member.report for member in live.values()]
        if any(load.in_flight for report in reports for load in report.loads.values()):
            return self.reached and not self._fits(reports)
        return not self._fits(reports)

    def _fits(self, reports: list[Report]) -> bool:
        wishes = [report.wanted for report in reports if report.wanted is not None]
        return not wishes or any(self.used.plus(wish).fits(self.cap) for wish in wishes)


async def follow(exchange: Callable[[Report], Awaitable[Share]], name: str, endpoints: Endpoints) -> None:
    """In a process called `name`: report and take over the share for ever. A share lasts while nobody answers."""
    while True:
        try:
            endpoints.apply(await exchange(endpoints.report()))
        except Exception as error:
            print(f"longreward: {name} works on with its last share of the judge's limits: {error}", flush=True)
            await asyncio.sleep(10 * EXCHANGE_S)
        await asyncio.sleep(EXCHANGE_S)


def _demand(member: _Member, url: str) -> int:
    load = member.report.loads.get(url, Load())
    return load.in_flight + load.waiting


def _held(member: _Member, url: str) -> int:
    """What others must leave alone: what was granted, what is used, what was granted by an earlier allocator."""
    load = member.report.loads.get(url, Load())
    granted = member.share.limits.get(url)
    return max(granted.max_in_flight if granted else load.max_in_flight, load.in_flight)


def _fair_shares(limit: int, wanted: dict[str, int], members: int, order: Callable[[str], float]) -> dict[str, int]:
    """Whole numbers that sum up to at most `limit`: everybody gets what he wants up to an even share, and what is then
    left is spread evenly. Where it does not go round, those come first who have waited longest."""
    shares = dict.fromkeys(wanted, 0)
    left = limit
    hungry = sorted(wanted, key=order)
    while left > 0 and hungry:
        even = max(1, left // len(hungry))
        for key in list(hungry):
            give = min(even, wanted[key] - shares[key], left)
            shares[key] += give
            left -= give
            if shares[key] >= wanted[key]:
                hungry.remove(key)
    for key in shares:
        shares[key] += left // members
    return shares


def _most(a: Amount, b: Amount) -> Amount:
    return Amount(max(a.cost, b.cost), max(a.tokens, b.tokens))


def _total(*amounts: Amount) -> Amount:
    return Amount(sum(a.cost for a in amounts), sum(a.tokens for a in amounts))
