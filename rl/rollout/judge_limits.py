"""One limit for all judge workers of a run: a Ray actor that divides the judge's limits and keeps count of the spend.

It also writes `spend.json` into the run directory twice a second and reads `spend_cap.json` there, with which
`rl/spend.py` raises the cap of a paused run.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any, Literal

from longreward import jsonlines
from longreward.config import JudgeConfig
from longreward.judge.engine import shares
from longreward.judge.engine.shares import Report, Share, Shares
from longreward.judge.engine.spend_cap import Amount

SPENT, CAP = "spend.json", "spend_cap.json"
_FILES_S = 0.5


class JudgeLimits:
    """Workers call `exchange` a few times a second; nothing else goes through it, least of all judge calls."""

    def __init__(
        self, config: JudgeConfig, workers: int, on_reached: Literal["stop", "pause"], directory: Path
    ) -> None:
        self._spent, self._cap = directory / SPENT, directory / CAP
        before = _read(self._spent).get("by_worker", {})
        spent = {worker: Amount(used["cost"], used["tokens"]) for worker, used in before.items()}
        self._shares = Shares(config, workers, on_reached, spent)
        self._written: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Answers once it is up."""
        self._begin()

    async def exchange(self, worker: str, report: Report) -> Share:
        """Take in a worker's load and tell it its share."""
        self._begin()
        return self._shares.exchange(worker, report, time.monotonic())

    async def state(self) -> dict[str, Any]:
        """What `spend.json` holds: `used` by all and by each worker that ever was, `cap` (None: no cap), and whether
        the cap is reached."""
        used, cap = self._shares.used, self._shares.cap
        return {
            "used": _plain(used),
            "by_worker": {worker: _plain(amount) for worker, amount in self._shares.used_by_worker.items()},
            "cap": {name: value if value < math.inf else None for name, value in cap._asdict().items()},
            "reached": self._shares.reached,
            "paused": self._shares.paused,
        }

    def _begin(self) -> None:
        """Mind the files. In both methods: after a restart the workers call on, and nobody calls `ready`."""
        if self._task is None:
            self._task = asyncio.create_task(self._mind_files())

    async def _mind_files(self) -> None:
        told = ""
        while True:
            try:
                await self._mind_files_once()
            except (OSError, ValueError, TypeError) as error:
                if str(error) != told:
                    told = str(error)
                    print(f"longreward: {self._spent} or {self._cap.name} beside it: {error}; tried again", flush=True)
            await asyncio.sleep(_FILES_S)

    async def _mind_files_once(self) -> None:
        state = await self.state()
        if state != self._written:
            await asyncio.to_thread(jsonlines.write_json, self._spent, state)
            self._written = state
        raised = await asyncio.to_thread(_read, self._cap)
        if raised:
            cost, tokens = raised.get("cost"), raised.get("tokens")
            self._shares.set_cap(
                Amount(math.inf if cost is None else float(cost), math.inf if tokens is None else float(tokens))
            )


async def follow(limits: Any, worker: str, endpoints: Any) -> None:
    """In a worker: report and take over the share for ever. A share lasts while the actor is away.

    `worker` names this process and no other of the run.
    """
    await shares.follow(lambda report: limits.exchange.remote(worker, report), worker, endpoints)


def _plain(amount: Amount) -> dict[str, float]:
    return {"cost": round(amount.cost, 6), "tokens": round(amount.tokens)}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
