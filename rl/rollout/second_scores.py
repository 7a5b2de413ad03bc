"""Some groups of answers are scored a second time in the background: by the run's own judge, whose noise that shows, or
by a shadow judge. No rollout waits for it, nothing is trained on it, and no failure of it ends the run."""

from __future__ import annotations

import asyncio
import math
import sys
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from longreward.errors import Reason
from longreward.evaluation import second_scores
from longreward.evaluation.second_scores import SecondScore
from longreward.redaction import redacted
from longreward.schema import Reward
from rl.data.prompts import TrainingSample
from rl.reward_functions.base import RewardFunction

_AT_ONCE = 64
_WAITING = 1024  # more than that: the second judge is slower than its share of the answers
_LAST_S = 3.0  # within the 5 s that a run gives its workers to end
_REMEMBERED = 4096  # groups whose answers may still come


@dataclass
class SecondJudge:
    """What scores a share of the groups again."""

    kind: Literal["repeat", "shadow"]
    share: float
    function: RewardFunction
    seen: int = 0
    chosen: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """By a prompt's id, the name of its group."""

    def group_begins(self, identity: str) -> None:
        """Evenly over time, and never more than the share."""
        self.seen += 1
        self.chosen.pop(identity, None)
        if math.floor(self.seen * self.share) > math.floor((self.seen - 1) * self.share):
            self.chosen[identity] = f"{identity}#{self.seen}"
            if len(self.chosen) > _REMEMBERED:
                self.chosen.popitem(last=False)


class SecondScoring:
    """Of one worker, on its event loop."""

    def __init__(self, judges: Sequence[SecondJudge], path: Path) -> None:
        """`path`: the file that the scores go to, made with the first one."""
        self._judges, self._path = judges, path
        self._file: second_scores.SecondScores | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._repeated: OrderedDict[str, list[SecondScore]] = OrderedDict()
        self._noise: dict[str, float] = {}
        self._told: set[str] = set()

    def group_begins(self, identity: str) -> None:
        """A group of answers to the prompt of this id is about to be generated."""
        for judge in self._judges:
            judge.group_begins(identity)

    def take(self, sample: TrainingSample, reward: Reward, *, rollout: str, time: float) -> None:
        """An answer was scored, at `time`. Returns at once."""
        first = reward.scores
        for judge in self._judges:
            group = judge.chosen.get(sample.id)
            if group is None or first is None:
                continue
            if len(self._tasks) >= _WAITING:
                self._tell(f"the {judge.kind} scores cannot keep up; some are left out: lower their share in watch")
                continue
            done = SecondScore(judge.kind, group, sample.id, rollout, time, first)
            task = asyncio.create_task(self._score(judge, sample, done))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def noise(self) -> dict[str, float]:
        """Standard deviation of the judge's noise within groups, by name, over the latest groups that it scored twice;
        empty before there is one."""
        return self._noise

    async def aclose(self) -> None:
        """What is under way has a moment to end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for judge in self._judges:
            await judge.function.aclose()
        if self._file is not None:
            self._file.close()

    async def _score(self, judge: SecondJudge, sample: TrainingSample, done: SecondScore) -> None:
        async with self._places:
            try:
                reward = await judge.function.score(sample)
                done.second = reward.scores
                if done.second is None:
                    done.status = next(iter(reward.void_reasons.values()), str(Reason.INTERNAL))
            except Exception as error:
                done.status = str(Reason.INTERNAL)
                self._tell(f"the {judge.kind} scores fail: {type(error).__name__}: {error}")
                print(redacted(traceback.format_exc()), file=sys.stderr, flush=True)
        try:
            self._file = self._file or second_scores.SecondScores(self._path)
            self._file.append(done)
        except OSError as error:
            self._tell(f"{self._path} cannot be written: {error}")
        if judge.kind == "repeat" and done.second is not None:
            self._take_in(done)

    def _take_in(self, done: SecondScore) -> None:
        self._repeated.setdefault(done.group, []).append(done)
        if len(self._repeated) > second_scores.NOISE_GROUPS:
            self._repeated.popitem(last=False)
        self._noise = {name: found.noise for name, found in second_scores.noise(self._repeated.values()).items()}

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            print(redacted(f"longreward: {what}"), flush=True)
