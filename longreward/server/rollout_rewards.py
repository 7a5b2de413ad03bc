"""Answers of a rollout in, numbers that a trainer can take out: each in time, void ones filled from their siblings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from longreward.errors import Reason
from longreward.reward import LongReward
from longreward.schema import Reward, Sample
from longreward.server.config import ServeConfig
from longreward.server.openrlhf_protocol import Item, Outcome, RewardReply, reply_of, void_reward
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
        config: ServeConfig,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self.reward, self._settle, self._config, self._on_outcome = reward, settle, config, on_outcome

    async def reply(self, items: Sequence[Item], begun: float) -> RewardReply:
        """Score a request's answers within the deadline, counted from `begun` by the event loop's clock; what is not
        scored by then is void with reason `timeout`."""
        until = begun + self._config.deadline_s
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(item, until)) for item in items]
        outcomes = [task.result() for task in tasks]
        return reply_of(outcomes, self.reward.config.needed, self.reward.stats(), self._config.void)

    async def _outcome(self, item: Item, until: float) -> Outcome:
        reward = await self._score(item.sample, until)
        # A null reward needs no mean of siblings, so it does not wait for them.
        left_s = 0.0 if self._config.void == "null" else max(0.0, until - asyncio.get_running_loop().time())
        outcome = Outcome(reward, await self._settle(item.prompt, reward.scores, left_s))
        self._on_outcome(outcome)
        return outcome

    async def _score(self, sample: Sample, until: float) -> Reward:
        needed = self.reward.config.needed
        try:
            async with asyncio.timeout_at(until):
                return await self.reward.score(sample)
        except TimeoutError:
            detail = f"not scored within serve.deadline_s={self._config.deadline_s:g}"
            return void_reward(sample, needed, Reason.TIMEOUT, detail, self._config.deadline_s)
        except Exception as error:
            # A bug: told in the log with all that is known, and to the trainer as what it is, no score.
            _log.exception("scoring %s failed", sample.id or "an answer")
            return void_reward(sample, needed, Reason.INTERNAL, repr(error))
