"""What a run has spent on its judge, kept in the run directory, so that it is known after a kill and on resume.

The judge worker writes `spend.json` at least twice a second while anything changes. It reads `spend_cap.json`, with
which `rl/spend.py` raises the cap of a paused run.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from longreward.config import JudgeConfig
from longreward.files import jsonlines
from longreward.files.nesting import from_json
from longreward.judge.engine.spend_cap import Amount, Spend, cap_of

SPENT, CAP = "spend.json", "spend_cap.json"
_FILES_S = 0.5
_AHEAD = 0.01  # of the cap


class SpendLedger:
    """Keeps `spend` in step with the files, under one cap for all parts of the run.

    Under a cap, requests may only use what `spend.json` already counts as used (`committed`): about 1% of the cap more
    than is really used. A worker that is killed therefore leaves no call uncounted; its successor begins at `committed`
    and counts at most that 1% and the calls then under way too much.
    """

    def __init__(self, config: JudgeConfig, directory: Path, *, pauses: bool) -> None:
        """Begins where `spend.json` ends. `pauses`: calls wait when the cap is reached, instead of failing."""
        self._spent, self._cap = directory / SPENT, directory / CAP
        before = _read(self._spent)
        cap = _cap(_read(self._cap)) or cap_of(config)
        self.spend = Spend(cap, _amount(before.get("committed") or before.get("used")), pauses=pauses)
        self.spend.allowance = self._allowance()  # nothing under a cap leaves before the first `update`
        self._written: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    def begin(self) -> None:
        """Keep the files up to date from now on, on the running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def end(self) -> None:
        """Write down what was really used, once no call is under way any more."""
        # Not cancelled: the thread of a write under way would go on and replace the last count by an older one.
        self._ending = True
        self.spend.asked.set()
        if self._task is not None:
            await self._task
        await asyncio.to_thread(jsonlines.write_json, self._spent, self.state(self.spend.used))

    async def update(self) -> None:
        """Read the cap, write what is used, and let requests use a little more than before."""
        raised = _cap(await asyncio.to_thread(_read, self._cap))
        if raised is not None:
            self.spend.set_cap(raised)
        ahead = self._allowance(ahead=True)
        # The file must never hold less than requests may use, not even while it is being written.
        self.spend.allowance = self.spend.allowance.at_most(ahead)
        state = self.state(ahead)
        if state != self._written:
            await asyncio.to_thread(jsonlines.write_json, self._spent, state)
            self._written = state
        if ahead != self.spend.allowance:
            self.spend.grant(ahead.at_most(self.spend.cap))

    async def _follow(self) -> None:
        told = ""
        while not self._ending:
            self.spend.asked.clear()
            try:
                await self.update()
            except (OSError, ValueError, TypeError) as error:
                # A full disk must not stop the run: the count in memory still holds the cap.
                self.spend.grant(self._allowance(ahead=True))
                if str(error) != told:
                    told = str(error)
                    print(f"longreward: {self._spent} or {self._cap.name} beside it: {error}; tried again", flush=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_FILES_S):
                    await self.spend.asked.wait()

    def _allowance(self, *, ahead: bool = False) -> Amount:
        """What may be used and reserved, and `ahead` a little more; no limit where there is no cap."""
        spend = self.spend
        taken, wanted = spend.used.plus(spend.reserved), (ahead and spend.wanted) or Amount()
        parts = [
            math.inf if cap == math.inf else min(cap, now + max(ahead * _AHEAD * cap, more))
            for cap, now, more in zip(spend.cap, taken, wanted, strict=True)
        ]
        return Amount(*parts)

    def state(self, committed: Amount | None = None) -> dict[str, Any]:
        """What `spend.json` holds: `used` by the whole run, `cap` (None: no cap), whether the cap is `reached`, and
        `paused` where calls wait for that. `committed` is what may have been used when the worker is killed now: the
        allowance, unless another amount is given."""
        spend = self.spend
        committed = committed or spend.allowance
        return {
            "used": {"cost": round(spend.used.cost, 6), "tokens": round(spend.used.tokens)},
            # Rounded up, but not for a float's last digit; what has no cap is counted as it is.
            "committed": {
                "cost": math.ceil(round(_finite(committed.cost, spend.used.cost) * 1e6, 3)) / 1e6,
                "tokens": math.ceil(_finite(committed.tokens, spend.used.tokens)),
            },
            "cap": {name: value if value < math.inf else None for name, value in spend.cap._asdict().items()},
            "reached": spend.reached,
            "paused": spend.paused,
        }


def _finite(value: float, otherwise: float) -> float:
    return value if value < math.inf else otherwise


def _amount(written: Any) -> Amount:
    return Amount(float(written["cost"]), float(written["tokens"])) if written else Amount()


def _cap(written: dict[str, Any]) -> Amount | None:
    """The caps that `spend_cap.json` holds, infinity where it says null; None where there is no such file."""
    if not written:
        return None
    cost, tokens = written.get("cost"), written.get("tokens")
    return Amount(math.inf if cost is None else float(cost), math.inf if tokens is None else float(tokens))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
