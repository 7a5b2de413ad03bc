"""No run waits for ever: what stands still is named and ended.

OpenRLHF's own waits have no deadline. This thread looks every few seconds for signs of life, and whether Ray's head is
there at all: without it the other processes end by themselves a minute later, and the driver without a word.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from rl.errors import ClusterLostError, StalledError
from rl.rollout.judge_workers import Workers
from rl.run.interrupt import Interrupt

_LOOK_S = 2.0
_HEAD_GONE_S = 15.0  # a head that is merely busy answers within that; Ray itself gives up after 60


class Watchdog:
    """Use as a context around training. Ends it with StalledError; a lost cluster ends the process."""

    def __init__(
        self,
        workers: Workers,
        interrupt: Interrupt,
        log: Path,
        *,
        start_s: float,
        stall_s: float,
        last_words: Callable[[Exception], Any],
    ) -> None:
        """`last_words` tells the person who watches about a lost cluster; after it the process ends."""
        self._workers, self._interrupt, self._log = workers, interrupt, log
        self._start_s, self._stall_s = start_s, stall_s
        self._last_words = last_words
        self._head = ray.get_runtime_context().gcs_address
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"watchdog-{target.__name__}", daemon=True)
            for target in (self._watch_head, self._watch_progress)
        ]

    def __enter__(self) -> Watchdog:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch_head(self) -> None:
        host, _, port = self._head.rpartition(":")
        seen = time.monotonic()
        while not self._ended.wait(_LOOK_S):
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_S).close()
                seen = time.monotonic()
            except OSError as error:
                if time.monotonic() - seen > _HEAD_GONE_S:
                    self._last_words(
                        ClusterLostError(
                            f"Ray's head at {self._head} is gone ({error}); start the cluster again and continue with "
                            "resume=true from the last checkpoint"
                        )
                    )
                    # No way back from here: every call of Ray's would wait for the head.
                    os._exit(1)

    def _watch_progress(self) -> None:
        last, since = self._signs(), time.monotonic()
        unplaced_since: float | None = None
        while not self._ended.wait(_LOOK_S):
            try:
                unplaced = _unplaced()
            except (ray.exceptions.RayError, RuntimeError):
                continue  # the head is busy, or gone, which the other thread finds out
            unplaced_since = (unplaced_since or time.monotonic()) if unplaced else None
            if unplaced_since is not None and time.monotonic() - unplaced_since > self._start_s:
                self._end(f"Ray has not placed {unplaced} within {self._start_s:.0f} s (run.deadline_start_s)")
                return
            signs = self._signs()
            if signs != last or self._waits_for_money():
                last, since = signs, time.monotonic()
            elif time.monotonic() - since > self._stall_s:
                self._end(f"nothing has moved for {self._stall_s:.0f} s (run.stall_s): {self._waited_for()}")
                return

    def _end(self, what: str) -> None:
        self._interrupt.raise_in_main(
            StalledError(f"{what}; see `ray status`, then continue with resume=true from the last checkpoint")
        )

    def _signs(self) -> tuple[Any, ...]:
        """What changes while anything goes on: answers scored and judge calls made, and what all processes log."""
        try:
            size = self._log.stat().st_size
        except OSError:
            size = 0
        # Every worker process logs to a file of its own in Ray's session folder; the driver copies them here.
        counts = [(s["worker"], s["counts"], s["judge"].get("judge/requests")) for s in self._stats()]
        return size, str(counts)

    def _stats(self) -> list[dict[str, Any]]:
        try:
            return self._workers.stats()
        except ray.exceptions.RayError:
            return list(self._workers.last_stats.values())

    def _waits_for_money(self) -> bool:
        try:
            spent = self._workers.spend()
            return spent is not None and bool(spent["paused"])
        except ray.exceptions.RayError:
            return False

    def _waited_for(self) -> str:
        judged = sum(s["judge"].get("judge/in_flight", 0) + s["judge"].get("judge/waiting", 0) for s in self._stats())
        if judged:
            return f"{judged:.0f} calls wait for the judge"
        return "no call waits for the judge, so engines or learners hang; the last lines of the log say which"


def _unplaced() -> str:
    """The placement group that waits for resources, in words; empty if none does."""
    from ray.util.placement_group import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    for identity, group in placement_group_table().items():
        if identity.endswith(job) and group["state"] in ("PENDING", "RESCHEDULING"):
            bundles = list(group["bundles"].values())
            gpus = sum(bundle.get("GPU", 0) for bundle in bundles)
            return f"{len(bundles)} bundles with {gpus:g} GPUs"
    return ""
