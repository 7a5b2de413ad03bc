"""Answers of a rollout in, scored answers out: each in time, void ones with what stands for them where it is needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from longreward.errors import Reason
from longreward.reward import LongReward
from longreward.schema import DimensionScore, Reward, Sample
from longreward.server.protocols.protocol import Item, Outcome, Protocol
from longreward.voids import Scores

_log = logging.getLogger("longreward")

Settle = Callable[[str, Scores | None, float], Awaitable[Scores]]
"""`Siblings.settle`, or a function that calls it."""


class RolloutRewards:
    """Scores the answers of requests, all of them at once. Use it on one event loop."""

    def __init__(
        self,
        reward: LongReward,
        settle: Settle,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self.reward, self._settle, self._on_outcome = reward, settle, on_outcome

    async def score(
        self,
        protocol: Protocol,
        items: Sequence[Item],
        begun: float,
        on_each: Callable[[int, Outcome], None] = lambda number, outcome: None,
    ) -> list[Outcome]:
        """Score a request's answers within the protocol's deadline, counted from `begun` by the event loop's clock;
        what is not scored by then is void with reason `timeout`. `on_each` is told of each answer as it comes, by its
        place in the request."""
        until = begun + protocol.deadline_s

        async def score(number: int, item: Item) -> Outcome:
            outcome = await self._outcome(protocol, item, until)
            on_each(number, outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(score(number, item)) for number, item in enumerate(items)]
        return [task.result() for task in tasks]

    async def _outcome(self, protocol: Protocol, item: Item, until: float) -> Outcome:
        reward = await self._score(item.sample, until, protocol.deadline_s)
        scores = reward.scores
        if protocol.neutral:
            scores = await self._settle(item.prompt, scores, max(0.0, until - asyncio.get_running_loop().time()))
        outcome = Outcome(reward, scores)
        self._on_outcome(outcome)
        return outcome

    async def _score(self, sample: Sample, until: float, deadline_s: float) -> Reward:
        needed = self.reward.config.needed
        try:
            async with asyncio.timeout_at(until):
                return await self.reward.score(sample)
        except TimeoutError:
            detail = f"not scored within {deadline_s:g} s"
            return _void(sample, needed, Reason.TIMEOUT, detail, deadline_s)
        except Exception as error:
            # A bug: told in the log with all that is known, and to the trainer as what it is, no score.
            _log.exception("scoring %s failed", sample.id or "an answer")
            return _void(sample, needed, Reason.INTERNAL, repr(error))


def _void(sample: Sample, dimensions: Sequence[str], reason: Reason, detail: str, seconds: float = 0.0) -> Reward:
    """The reward of an answer whose scoring did not come to an end."""
    void = DimensionScore(score=None, status=str(reason), detail=detail)
    return Reward(id=sample.id, total=None, dimensions=dict.fromkeys(dimensions, void), seconds=seconds)
