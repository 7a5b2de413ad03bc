"""No exception of work in the background is lost, and none is told where somebody waits for it."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from longreward.concurrency.tasks import Shared, task_group, together
from longreward.config import RewardConfig
from longreward.judge.offline import OfflineJudge
from longreward.reward import LongReward
from longreward.schema import Sample


class BrokenError(Exception):
    """A bug."""


async def breaks(number: int = 0) -> None:
    await asyncio.sleep(0)
    raise BrokenError(f"number {number}")


@pytest.fixture
def told(caplog):
    """The exceptions in the log, whoever wrote them there: ours, or asyncio when a task is collected."""

    def found() -> list[str]:
        gc.collect()
        return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]

    caplog.set_level(logging.ERROR)
    return found


def test_what_nobody_waits_for_is_in_the_log(told):
    async def run() -> None:
        shared = Shared(breaks(1))
        await asyncio.wait({shared.task})
        assert shared.failed

    asyncio.run(run())
    assert told() == ["number 1"]


def test_what_is_waited_for_is_raised_for_all_who_wait_and_told_nobody_else(told):
    async def run() -> list[object]:
        shared = Shared(breaks(2))
        return await asyncio.gather(*(shared.result() for _ in range(3)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(run())] == ["number 2"] * 3
    assert told() == []


@pytest.mark.parametrize("passes", range(6))
def test_what_was_waited_for_by_one_who_is_cancelled_is_in_the_log(told, passes):
    """Cancelled before, at and after the moment at which it fails."""

    async def run() -> bool:
        shared = Shared(breaks(3))
        waiting = asyncio.create_task(shared.result())
        for _ in range(passes):
            await asyncio.sleep(0)
        waiting.cancel()
        (raised,) = await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait({shared.task})
        return isinstance(raised, BrokenError)

    raised = asyncio.run(run())
    assert told() == ([] if raised else ["number 3"])


def test_one_who_is_cancelled_does_not_take_the_result_from_the_others():
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 7

    async def run() -> int:
        shared = Shared(work())
        leaving = asyncio.create_task(shared.result())
        staying = asyncio.create_task(shared.result())
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    assert asyncio.run(run()) == 7


def test_of_several_that_fail_one_is_raised_and_the_others_are_in_the_log(told):
    async def run() -> None:
        await together(breaks(number) for number in range(3))

    with pytest.raises(BrokenError, match="number 0"):
        asyncio.run(run())
    assert told() == ["number 1", "number 2"]


def test_the_others_end_where_one_fails():
    ended = []

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run() -> None:
        async with task_group() as group:
            group.create_task(hangs())
            await breaks(4)

    with pytest.raises(BrokenError, match="number 4"):
        asyncio.run(run())
    assert ended == [True]


def test_a_document_that_cannot_be_prepared_is_told_before_an_answer_comes(told):
    """The prompt comes long before its answers, and perhaps they never do."""

    def spans(text: str) -> list[tuple[int, int]]:
        raise BrokenError("no tokenizer")

    async def run() -> None:
        reward = LongReward(RewardConfig(), OfflineJudge(), spans)
        reward.prepare("Ada met Bob. It rained.", "Who met Bob?")
        while "no tokenizer" not in told():  # noqa: ASYNC110 - what is waited for is a line in the log
            await asyncio.sleep(0.01)
        with pytest.raises(BrokenError):
            await reward.score(Sample(context="Ada met Bob. It rained.", query="Who met Bob?", answer="Ada did."))
        await reward.aclose()

    asyncio.run(asyncio.wait_for(run(), 60))
