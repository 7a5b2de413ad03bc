"""A step's last rewards: how long they are waited for, and the few that are left behind."""

from __future__ import annotations

import asyncio

import pytest

from longreward.errors import Reason
from longreward.judge.base import SlowCall
from rl.reward_functions.config import LateSection
from rl.rollout.group_barrier import GroupBarrier, Member, Settled
from rl.rollout.judge_wait import JudgeWait, JudgeWaits
from rl.rollout.rounds import Round, Rounds

QUICK_S = 0.02


class Engine:
    """The answers of one engine, `size` to each prompt, without engine and judge."""

    def __init__(self, share: float, size: int = 4, patience: float = 3.0) -> None:
        self.ended: list[Round] = []
        self.barrier = GroupBarrier(max_void_rate=0.1, void_window=4)
        late = LateSection(share=share, patience=patience)
        self.rounds = Rounds(self.ended.append, late, self.barrier.can_spare)
        self.size = size

    def prompt(self, number: int, scores: list[asyncio.Future[float] | float], generation_s: float = 0) -> list:
        prompt = f"prompt {number}"
        joined = []
        for _ in scores:
            group = self.barrier.register(prompt, lambda: prompt)
            joined.append((group, self.rounds.begin(group)))
        return [
            asyncio.ensure_future(self._answer(prompt, *each, score, generation_s))
            for each, score in zip(joined, scores, strict=True)
        ]

    async def _answer(self, prompt, group, under_way, score, generation_s) -> Settled:
        await asyncio.sleep(generation_s)
        self.rounds.generated(under_way)
        scoring = score if isinstance(score, asyncio.Future) else asyncio.ensure_future(asyncio.sleep(QUICK_S, score))
        await asyncio.wait({scoring, under_way.late}, return_when=asyncio.FIRST_COMPLETED)
        member = Member({"total": scoring.result()}) if scoring.done() else Member(None, reason=Reason.LATE)
        place = self.barrier.deliver(prompt, group, member)
        self.rounds.scored(under_way)
        try:
            return await self.barrier.settled(group, place)
        finally:
            self.rounds.rewarded(under_way)


def never() -> asyncio.Future[float]:
    return asyncio.get_running_loop().create_future()


def test_a_step_leaves_its_last_answer_behind_and_the_siblings_keep_their_own_scores():
    async def run():
        engine = Engine(share=0.1)
        others = [task for number in range(3) for task in engine.prompt(number, [1.0, 2.0, 3.0, 4.0])]
        slow = await asyncio.gather(*engine.prompt(3, [5.0, 9.0, never(), 7.0]))
        return await asyncio.gather(*others), slow, engine.ended

    others, slow, ended = asyncio.run(run())
    assert [settled.masked for settled in slow] == [False, False, True, False]
    assert [settled.reward for settled in slow] == [5.0, 9.0, 7.0, 7.0]
    assert not any(settled.masked for settled in others)
    assert len(ended) == 1 and ended[0].began <= ended[0].generated <= ended[0].rewarded


@pytest.mark.parametrize(
    ("share", "scores", "generation_s"),
    [
        (0.0, [5.0, 9.0, None, 7.0], 0.0),  # off
        (0.1, [5.0, 9.0, None, None], 0.0),  # more than the share
        (0.1, [5.0, 5.0, None, 5.0], 0.0),  # without it the group has no spread
        (0.3, [5.0, None, None, None], 0.0),  # without them there is one answer left
    ],
)
def test_a_step_waits_for_all_others(share, scores, generation_s):
    async def run():
        engine = Engine(share)
        for number in range(3):
            engine.prompt(number, [1.0, 2.0, 3.0, 4.0])
        slow = engine.prompt(3, [never() if score is None else score for score in scores], generation_s)
        done, waiting = await asyncio.wait(slow, timeout=40 * QUICK_S)
        for task in waiting:
            task.cancel()
        return len(done), engine.ended

    assert asyncio.run(run()) == (0, [])


def test_nothing_is_late_while_answers_are_still_generated():
    async def run():
        engine = Engine(share=0.4)
        slow = engine.prompt(0, [5.0, 9.0, never(), 7.0])
        engine.prompt(1, [1.0], generation_s=3600)
        _, waiting = await asyncio.wait(slow, timeout=40 * QUICK_S)
        return len(waiting)

    assert asyncio.run(run()) == 4


def test_scores_that_come_in_time_after_all_count():
    async def run():
        engine = Engine(share=0.1, patience=1e6)
        for number in range(3):
            engine.prompt(number, [1.0, 2.0, 3.0, 4.0])
        slow = engine.prompt(3, [5.0, 9.0, (score := never()), 7.0])
        await asyncio.sleep(10 * QUICK_S)
        score.set_result(3.0)
        return await asyncio.gather(*slow)

    assert [settled.reward for settled in asyncio.run(run())] == [5.0, 9.0, 3.0, 7.0]


def test_late_answers_are_no_failure_of_the_reward():
    async def run():
        engine = Engine(share=0.4)
        for number in range(10):  # a quarter is late, and a tenth may be void
            settled = await asyncio.gather(*engine.prompt(number, [5.0, 9.0, never(), 7.0]))
            assert [each.masked for each in settled] == [False, False, True, False]
        return engine.ended

    assert len(asyncio.run(run())) == 10


# How long steps wait


def test_a_step_waits_from_the_last_token_at_any_engine_to_the_last_reward():
    waits = JudgeWaits()
    waits.add(Round(0, 4, 10), [SlowCall("verify", "a", 5.0)])
    waits.add(Round(0, 6, 9), [SlowCall("extract", "b", 2.0)])
    assert waits.so_far == JudgeWait(1, 4, 10, (SlowCall("verify", "a", 5.0), SlowCall("extract", "b", 2.0)))
    waits.add(Round(15, 16, 30), [])
    so_far = waits.so_far
    assert (so_far.steps, so_far.wait_s, so_far.steps_s) == (2, 18, 30)
    assert so_far.share == 0.6 and so_far.mean_s == 9
    assert so_far - JudgeWait(1, 4, 10) == JudgeWait(1, 14, 20, ())


def test_a_judge_that_holds_the_gpus_for_long_is_told_with_its_slowest_calls():
    assert JudgeWait(10, 5, 100).sentence() is None
    slow = (SlowCall("verify", "http://a/v1", 5.25),)
    said = JudgeWait(10, 31, 100, slow).sentence()
    assert "31% of the time, 3.1 s a step" in said and "verify at http://a/v1 (5.2 s)" in said
    assert JudgeWait().summary() == {}
