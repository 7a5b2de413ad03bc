"""The endpoints' queues in the moments that are hard to hit over a network."""

from __future__ import annotations

import asyncio
import math

import pytest

from longreward.errors import JudgeError, Reason
from longreward.judge.engine.endpoints import Endpoint, Endpoints
from longreward.judge.engine.spend_cap import Amount, Spend
from longreward.model_config import EndpointConfig

NOTHING = Amount()


def endpoints(count: int = 1, patience_s: float = 60, **settings) -> Endpoints:
    configs = [EndpointConfig(base_url=f"http://{i}/v1", **{"max_in_flight": 100, **settings}) for i in range(count)]
    return Endpoints([Endpoint(c, None) for c in configs], Spend(Amount(math.inf, math.inf)), patience_s)


def fault(reason: Reason, retry_after: float | None = None) -> JudgeError:
    return JudgeError(reason, "no", retry_after=retry_after)


async def fail(pool: Endpoints, times: int, error: JudgeError) -> None:
    permits = [await pool.enter("d", 1, Amount) for _ in range(times)]
    for permit in permits:
        pool.leave(permit, error, NOTHING)


def test_an_endpoint_whose_probe_is_refused_is_asked_again():
    async def run():
        pool = endpoints()
        pool.leave(await pool.enter("d", 1, Amount), None, NOTHING)
        await fail(pool, 5, fault(Reason.UNREACHABLE))
        probe = await asyncio.wait_for(pool.enter("d", 1, Amount), 3)
        pool.leave(probe, fault(Reason.NOT_FOUND), NOTHING)
        again = await asyncio.wait_for(pool.enter("d", 1, Amount), 3)
        pool.leave(again, None, NOTHING)
        pool.aclose()

    asyncio.run(run())


def test_a_cancelled_probe_lets_another_go():
    async def run():
        pool = endpoints()
        pool.leave(await pool.enter("d", 1, Amount), None, NOTHING)
        await fail(pool, 5, fault(Reason.UNREACHABLE))
        probe = await asyncio.wait_for(pool.enter("d", 1, Amount), 3)
        pool.leave(probe, None, NOTHING, heard=False)
        await asyncio.wait_for(pool.enter("d", 1, Amount), 1)
        pool.aclose()

    asyncio.run(run())


def test_waiters_cancelled_in_the_moment_they_are_failed_are_counted_once():
    async def run():
        pool = endpoints(max_in_flight=1)
        permit = await pool.enter("d", 1, Amount)
        waiters = [asyncio.create_task(pool.enter("d", 1, Amount)) for _ in range(4)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        pool.spend.reached = True
        pool.pump_all()
        await asyncio.gather(*waiters, return_exceptions=True)
        (endpoint,) = pool
        assert endpoint.waiting == 0
        pool.leave(permit, None, NOTHING)
        assert endpoint.concurrency.in_flight == 0

    asyncio.run(run())


def test_a_long_wish_of_the_endpoint_does_not_outlive_its_recovery():
    async def run():
        pool = endpoints(requests_per_minute=1200)
        early = await pool.enter("d", 1, Amount)
        await fail(pool, 5, fault(Reason.SERVER_ERROR, retry_after=30))
        waiting = [asyncio.create_task(pool.enter("d", 1, Amount)) for _ in range(70)]
        await asyncio.sleep(0)
        pool.leave(early, None, NOTHING)  # it is well again, and only the rate holds the others
        await asyncio.wait_for(asyncio.gather(*waiting), 8)
        pool.aclose()

    asyncio.run(run())


def test_nobody_is_stuck_behind_a_request_that_avoids_the_only_well_endpoint():
    async def run():
        pool = endpoints(2)
        first, second = pool
        for endpoint in pool:
            for _ in range(5):
                serial = endpoint.concurrency.begin()
                endpoint.concurrency.end(serial, None)
                endpoint.health.ended(serial, serial, fault(Reason.UNREACHABLE), asyncio.get_running_loop().time())
        second.health._until += 60
        tasks = [asyncio.create_task(pool.enter("d", 1, Amount, avoid=first)) for _ in range(2)]
        permits = await asyncio.wait_for(asyncio.gather(tasks[0]), 5)
        pool.leave(permits[0], None, NOTHING)
        await asyncio.wait_for(tasks[1], 5)
        pool.aclose()

    asyncio.run(run())


def test_all_down_for_longer_than_their_patience_fails_who_waits():
    async def run():
        pool = endpoints(patience_s=0.5)
        pool.leave(await pool.enter("d", 1, Amount), None, NOTHING)
        await fail(pool, 5, fault(Reason.SERVER_ERROR, retry_after=20))
        with pytest.raises(JudgeError, match="server_error"):
            await asyncio.wait_for(pool.enter("d", 1, Amount), 3)
        pool.aclose()

    asyncio.run(run())
