"""The group barrier: a void reward is never a number that its siblings' advantages can feel."""

from __future__ import annotations

import asyncio

import pytest

from longreward.errors import TooManyVoidsError
from longreward.voids import SCALE_MIDDLE, VoidWindow
from rl.errors import RunStoppedError
from rl.rollout.group_barrier import Group, GroupBarrier, Member, Settled


def scores(total: float) -> dict[str, float]:
    return {"total": total, "helpfulness": total, "faithfulness": total / 2}


async def delivered(barrier: GroupBarrier, prompt: object, group: Group, member: Member) -> Settled:
    return await barrier.settled(group, barrier.deliver(prompt, group, member))


def exchange(
    barrier: GroupBarrier, *groups: list[float | None], tokens=lambda value: 10, noise=None
) -> list[list[Settled]]:
    """Run groups concurrently through the barrier, as the engine does: all join, then finish in any order."""

    async def member(prompt, group, value, delay):
        await asyncio.sleep(delay)
        scored = None if value is None else scores(value)
        known = {} if value is None or noise is None else noise
        return await delivered(barrier, prompt, group, Member(scored, tokens(value), noise=known))

    async def run():
        prompts = [f"prompt {i}" for i in range(len(groups))]
        joined = [[barrier.register(p, lambda p=p: p) for _ in g] for p, g in zip(prompts, groups, strict=True)]
        return [
            await asyncio.gather(
                *(member(p, j, v, 0.01 * (len(g) - i)) for i, (j, v) in enumerate(zip(js, g, strict=True)))
            )
            for p, g, js in zip(prompts, groups, joined, strict=True)
        ]

    return asyncio.run(run())


def make(**settings) -> GroupBarrier:
    return GroupBarrier(**{"max_void_rate": 1.0, "void_window": 100, **settings})


def rewards(results) -> list[float]:
    return [settled.reward for settled in results]


def test_valid_rewards_go_through_as_they_are():
    (results,) = exchange(make(), [7, 8, 6])
    assert rewards(results) == [7, 8, 6]


def test_a_void_reward_becomes_the_mean_of_its_valid_siblings():
    (results,) = exchange(make(), [7, 8, None, 6])
    assert rewards(results) == [7, 8, 7, 6]
    assert results[2].scores == scores(7)
    assert [settled.masked for settled in results] == [False, False, True, False]


def test_a_group_knows_its_spread_and_how_length_goes_with_reward():
    (results,) = exchange(make(), [7, 8, None, 6], tokens=lambda value: 10 * (value or 0))
    group = results[0].group
    assert group.deviations == {"total": 1, "helpfulness": 1, "faithfulness": 0.5}
    assert group.length_correlation == pytest.approx(1)
    assert not group.without_spread
    (even,) = exchange(make(), [5, 5, None])
    assert even[0].group.without_spread and even[0].group.length_correlation == 0


def test_a_group_within_the_judges_noise_is_skipped_where_that_is_asked_for():
    near, far = exchange(make(min_spread=0.5), [7.0, 7.1, 7.2], [3, 7, 9])
    assert all(settled.masked for settled in near) and not any(settled.masked for settled in far)
    assert rewards(near) == [7.0, 7.1, 7.2]
    (off,) = exchange(make(), [7.0, 7.0])
    assert not any(settled.masked for settled in off)


def test_what_the_judge_is_known_to_add_by_itself_is_the_limit_where_it_is_measured():
    groups = [[7.0, 7.1, 7.2, None], [3, 7, 9, None]]
    near, far = exchange(make(min_spread=None), *groups, noise={"total": 0.3})
    assert all(settled.masked for settled in near)
    assert [settled.masked for settled in far] == [False, False, False, True]
    unknown, _ = exchange(make(min_spread=None), *groups)
    assert [settled.masked for settled in unknown] == [False, False, False, True]
    # By dimension: where one of them tells the answers apart, there is something to learn.
    by_dimension = make(min_spread=None, compared=["helpfulness", "faithfulness"])
    (kept,) = exchange(by_dimension, [7.0, 7.4, 7.2], noise={"helpfulness": 0.3, "faithfulness": 0.05})
    assert not any(settled.masked for settled in kept)


def test_an_answer_without_siblings_is_not_skipped_for_want_of_spread():
    (results,) = exchange(make(min_spread=0.5), [7.0])
    assert not results[0].masked


def test_a_group_without_a_valid_reward_is_even_and_near_what_was_seen():
    first, second = exchange(make(), [2, 4], [None, None, None])
    assert rewards(first) == [2, 4]
    assert rewards(second) == [3, 3, 3]
    assert all(settled.masked for settled in second)


def test_before_any_valid_reward_the_middle_of_the_scale_is_used():
    (results,) = exchange(make(), [None, None])
    assert rewards(results) == [SCALE_MIDDLE, SCALE_MIDDLE]
    assert results[0].scores["faithfulness"] == SCALE_MIDDLE


def test_groups_do_not_mix():
    first, second = exchange(make(), [1, None], [9, None])
    assert (rewards(first), rewards(second)) == ([1, 1], [9, 9])


def test_too_many_voids_stop_the_run_and_say_what_to_do():
    with pytest.raises(
        TooManyVoidsError, match=r"75% of the last 4 rewards are void .*max_void_rate is 50%.*checkpoint"
    ):
        exchange(make(max_void_rate=0.5, void_window=4), [1, None, None, None])


def test_voids_below_the_limit_do_not_stop_the_run():
    exchange(make(max_void_rate=0.5, void_window=4), [1, 2, None, None])


def test_the_shuffled_control_permutes_rewards_and_keeps_the_scores():
    (results,) = exchange(make(shuffle=True), [float(i) for i in range(32)])
    assert sorted(rewards(results)) == [float(i) for i in range(32)]
    assert rewards(results) != [float(i) for i in range(32)]
    assert [settled.scores["total"] for settled in results] == [float(i) for i in range(32)]


def test_too_many_voids_name_what_is_behind_most_of_them():
    watch = VoidWindow(0.5, 4, setting="reward.max_void_rate", then="continue with resume=true")
    watch.add(True, "timeout")
    watch.add(False)
    watch.add(True, "bad_response")
    with pytest.raises(TooManyVoidsError, match=r"most often: timeout\): the reward fails; repair it and continue"):
        watch.add(True, "timeout")


def outcomes(barrier: GroupBarrier, members: list[Member]) -> list[Settled | BaseException]:
    """A group's members one after the other; TimeoutError where one of them waits for ever."""

    async def run():
        joined = [barrier.register("prompt", lambda: None) for _ in members]
        all_of_them = (delivered(barrier, "prompt", *one) for one in zip(joined, members, strict=True))
        return await asyncio.wait_for(asyncio.gather(*all_of_them, return_exceptions=True), 5)

    return asyncio.run(run())


@pytest.mark.parametrize("names", [["total", "style"], None])
@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_scores_that_lack_a_name_are_an_error_to_the_whole_group_and_nobody_waits(names, lacking):
    whole, part = Member({"total": 5.0, "style": 1.0}), Member({"total": 5.0})
    members = [part if place == lacking else whole for place in range(3)]
    if names is None and lacking == 0:
        return  # then the others have one more than they need
    found = outcomes(make(names=names), members)
    assert all(isinstance(one, RunStoppedError) for one in found), found
    assert "the scores ['total'] without style" in str(found[0])


def test_scores_that_nobody_asked_for_are_left_out():
    found = outcomes(
        make(names=["total"]), [Member({"total": 5.0, "style": 1.0}), Member({"total": 3.0}), Member(None)]
    )
    assert [one.reward for one in found] == [5, 3, 4]
    assert found[0].group.deviations.keys() == {"total"}


def test_too_many_voids_are_an_error_to_all_siblings():
    found = outcomes(make(max_void_rate=0.5, void_window=2), [Member(None), Member(None), Member(None, reason="x")])
    assert all(isinstance(one, TooManyVoidsError) for one in found), found


def test_a_valid_answer_whose_siblings_are_all_void_is_masked_and_counted():
    (results,) = exchange(make(), [None, 8, None, None])
    assert rewards(results) == [8] * 4
    assert all(settled.masked and settled.group.alone and settled.group.skipped for settled in results)


def test_a_group_of_equal_totals_may_differ_in_its_dimensions():
    """(9, 1) and (1, 9): skipped by their total, not by their dimensions."""
    for compared, skipped in ((("total",), True), (("helpfulness", "logicality"), False)):
        barrier = make(min_spread=0.5, compared=compared)

        async def run(barrier=barrier) -> list[Settled]:
            _, group = (barrier.register("p", lambda: "p") for _ in range(2))
            members = [Member({"total": 5, "helpfulness": a, "logicality": 10 - a}) for a in (9, 1)]
            return await asyncio.gather(*(delivered(barrier, "p", group, member) for member in members))

        first, _ = asyncio.run(run())
        assert first.masked is first.group.without_spread is skipped


def test_one_that_is_compared_with_nobody_is_trained_on():
    (results,) = exchange(make(compares=False), [None, 8, None])
    assert [settled.masked for settled in results] == [True, False, True]
    (results,) = exchange(make(), [8])  # n_samples_per_prompt is 1
    assert not results[0].masked and not results[0].group.alone


def test_shuffled_rewards_are_those_of_valid_siblings():
    """What stands for a void one would be a reward that no answer got."""
    for results in exchange(make(shuffle=True), *[[1, 2, None, 3, None, 9]] * 20):
        assert sorted(settled.reward for settled in results if not settled.masked) == [1, 2, 3, 9]
