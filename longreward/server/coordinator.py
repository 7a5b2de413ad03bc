"""What worker processes need of one another: parts of the judge's limits, the scores of siblings elsewhere, and that
none leaves while another one is still at work.

JSON lines over a socket pair, one for each worker. The parent has the `Coordinator`, a worker the `Link` to it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter

from longreward.config import JudgeConfig
from longreward.judge.engine.shares import Report, Share, Shares
from longreward.voids import Scores, Siblings, mean

_LONGEST_LINE = 2**20
_REPORT, _SHARE = TypeAdapter(Report), TypeAdapter(Share)


class CoordinatorGoneError(ConnectionError):
    """The parent process is gone."""


class Coordinator:
    """In the parent: divides the judge's limits and knows all siblings."""

    def __init__(self, judge: JudgeConfig, workers: int, group_size: int | None) -> None:
        self._shares = Shares(judge, workers, on_reached="stop")
        self._siblings = Siblings(group_size)
        self._workers: dict[str, asyncio.StreamWriter] = {}
        self._idle: set[str] = set()
        self._ending = False

    def end(self) -> None:
        """All workers are told to end. From now on they leave together: the port is theirs in common, and a connection
        that one of them has taken is broken if it leaves."""
        self._ending = True

    async def serve(self, end: socket.socket, name: str) -> None:
        """Answer the worker called `name`, until it is gone. A restarted worker needs a new name."""
        reader, writer = await asyncio.open_connection(sock=end, limit=_LONGEST_LINE)
        waiting: set[asyncio.Task[None]] = set()
        self._workers[name] = writer
        try:
            async for message in _messages(reader):
                if "report" in message:
                    report = _REPORT.validate_python(message["report"])
                    share = self._shares.exchange(name, report, time.monotonic())
                    _write(writer, {"share": _SHARE.dump_python(share, mode="json")})
                elif "idle" in message:
                    self._idle.add(name)
                    self._let_go()
                else:
                    task = asyncio.create_task(self._settle(writer, message))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
        finally:
            for task in waiting:
                task.cancel()
            del self._workers[name]
            self._idle.discard(name)
            self._let_go()
            writer.close()

    def _let_go(self) -> None:
        """Let those leave that are idle: all at once where all are to end."""
        if self._ending and len(self._idle) < len(self._workers):
            return
        for name in self._idle:
            _write(self._workers[name], {"leave": True})
        self._idle.clear()

    async def _settle(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        scores = await self._siblings.settle(message["prompt"], message["scores"], message["wait_s"])
        if message["scores"] is None:
            _write(writer, {"settled": message["number"], "scores": scores})


class Link:
    """In a worker: its line to the coordinator."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count()
        self._settling: dict[int, asyncio.Future[Scores]] = {}
        self._share: asyncio.Future[Share] | None = None
        self._may_leave = asyncio.Event()
        self._gone = False

    @classmethod
    async def open(cls, end: socket.socket) -> Link:
        return cls(*await asyncio.open_connection(sock=end, limit=_LONGEST_LINE))

    async def listen(self) -> None:
        """Take in what the coordinator says, until it is gone. Nothing else is answered while this does not run."""
        async for message in _messages(self._reader):
            if "share" in message:
                if self._share is not None and not self._share.done():
                    self._share.set_result(_SHARE.validate_python(message["share"]))
                continue
            if "leave" in message:
                self._may_leave.set()
                continue
            future = self._settling.pop(message["settled"], None)
            if future is not None and not future.done():
                future.set_result(message["scores"] or mean([]))
        self._gone = True
        self._may_leave.set()
        pending: list[asyncio.Future[Any] | None] = [self._share, *self._settling.values()]
        for waiting in pending:
            if waiting is not None and not waiting.done():
                waiting.set_exception(CoordinatorGoneError("the parent process is gone"))

    async def exchange(self, report: Report) -> Share:
        """`Shares.exchange` in the parent. One at a time."""
        self._share = asyncio.get_running_loop().create_future()
        self._send({"report": _REPORT.dump_python(report, mode="json")})
        return await self._share

    async def leave(self) -> None:
        """Tell that nothing is under way here, and wait until this worker may leave."""
        if not self._gone:
            _write(self._writer, {"idle": True})
        await self._may_leave.wait()

    async def settle(self, prompt: str, scores: Scores | None, wait_s: float) -> Scores:
        """`Siblings.settle` in the parent. CoordinatorGoneError."""
        number = next(self._numbers)
        self._send({"number": number, "prompt": prompt, "scores": scores, "wait_s": wait_s})
        if scores is not None:
            return scores
        future = self._settling[number] = asyncio.get_running_loop().create_future()
        try:
            return await future
        finally:
            self._settling.pop(number, None)

    def _send(self, message: dict[str, Any]) -> None:
        if self._gone:
            raise CoordinatorGoneError("the parent process is gone")
        _write(self._writer, message)


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """All until the other end is gone; one that was killed may leave half a line."""
    with suppress(ConnectionError):
        while (line := await reader.readline()).endswith(b"\n"):
            yield json.loads(line)


def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
