"""The group barrier: an answer waits here until all answers to its prompt are scored."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from longreward.errors import Reason
from longreward.voids import Scores, VoidWindow, mean
from rl.errors import RunStoppedError
from rl.trainer.seams.advantages import NO_SPREAD


@dataclass(frozen=True)
class Member:
    """One answer as the barrier sees it."""

    scores: Scores | None
    """None: void."""
    tokens: int = 0
    """Its length."""
    reason: str = ""
    """Why it is void."""
    noise: Scores = field(default_factory=dict)
    """Standard deviation of the judge's noise by now; empty where it is not known."""


@dataclass(frozen=True)
class Settled:
    """One answer's part in its group, once all siblings are scored."""

    scores: Scores
    """Its own, or for a void one the mean of its valid siblings'."""
    reward: float
    """What to train on, 0..10."""
    masked: bool
    """Void, or in a skipped group: it is to take no part in the update (rl/trainer/seams/masking.py)."""
    group: Group
    """The whole group's figures."""


@dataclass
class Group:
    """The answers sampled for one prompt. Members register before any of them finishes generating."""

    document: Any
    """What the group shares; set by the caller when the first member registers."""
    size: int = 0
    answers: list[str] = field(default_factory=list)
    """Those that are generated."""
    without_answer: int = 0
    """Members whose generation brought none."""
    generated: asyncio.Event = field(default_factory=asyncio.Event)
    """No member is being generated any more."""
    members: list[Member] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    final: list[Scores] = field(default_factory=list)
    permutation: list[int] = field(default_factory=list)
    deviations: Scores = field(default_factory=dict)
    """Standard deviation of the valid members' `total` and dimensions; 0 for fewer than two."""
    spread: float = 0.0
    """The largest deviation of what the members are compared by."""
    min_spread: Scores = field(default_factory=dict)
    """By what the members are compared by: a smaller deviation is the judge's noise."""
    length_correlation: float = 0.0
    """Pearson's correlation of `total` and length among valid members; 0 where one of them does not vary."""
    alone: bool = False
    """Just one valid member is left, and the estimator compares it with its siblings."""
    skipped: bool = False
    """No valid member, one alone, or a spread below `min_spread`: nothing here to learn from."""
    error: Exception | None = None
    """Why the group could not be settled, for all its members."""

    def add(self, answer: str | None) -> None:
        """A member is generated; None: without an answer."""
        if answer is None:
            self.without_answer += 1
        else:
            self.answers.append(answer)
        if len(self.answers) + self.without_answer == self.size:
            self.generated.set()

    @property
    def without_spread(self) -> bool:
        """Whether all valid members have the same scores, so that no group estimator can tell them apart."""
        return self.spread < NO_SPREAD


class GroupBarrier:
    """Keeps the groups in flight of one engine, fills void rewards, and watches the void rate.

    A void reward becomes the mean of its valid siblings, for the logs; a group without a valid member gets the mean of
    the latest valid rewards, all alike. Neither is trained on, nor is a valid answer whose siblings are all void.
    """

    def __init__(
        self,
        *,
        max_void_rate: float,
        void_window: int,
        min_spread: float | None = 0.0,
        shuffle: bool = False,
        compares: bool = True,
        compared: Sequence[str] = ("total",),
        names: Sequence[str] | None = None,
    ) -> None:
        """`min_spread`: groups that deviate less than that (0..10) in all that is `compared` are skipped; 0 skips none.
        None: less than the judge's noise, as the members know it.

        `compares`: whether the estimator compares an answer with its siblings, so that one alone is worth nothing, and
        `compared` by which of the `names`.
        `names`: what scores consist of, `total` among it; None: what the first valid ones of a group consist of.
        """
        self._names = None if names is None else list(names)
        self._groups: dict[int, Group] = {}
        self._voids = VoidWindow(
            max_void_rate,
            void_window,
            setting="reward.max_void_rate",
            then="continue with resume=true from the last checkpoint",
        )
        self._min_spread, self._compares, self._compared = min_spread, compares, compared
        self._valid: deque[Scores] = deque(maxlen=256)
        self._shuffle = random.Random(0) if shuffle else None

    def register(self, prompt: object, make_document: Callable[[], Any]) -> Group:
        """Join the group of `prompt`. The object's identity tells the group: siblings share the very same object.

        `make_document` is called for the first member only; its result is the group's `document`.
        """
        group = self._groups.get(id(prompt))
        if group is None:
            group = self._groups[id(prompt)] = Group(make_document())
        group.size += 1
        return group

    def deliver(self, prompt: object, group: Group, member: Member) -> int:
        """Take in one member's outcome; its place in the group.

        Whatever the error, `settled` raises it for all siblings, so that none is left waiting.
        """
        place = len(group.members)
        group.members.append(member)
        try:
            if member.reason != Reason.LATE:  # not the reward's failure
                self._voids.add(member.scores is None, member.reason)
            if len(group.members) == group.size and group.error is None:
                self._settle(group)
        except Exception as error:
            group.error = group.error or error
        finally:
            if len(group.members) == group.size or group.error is not None:
                if self._groups.get(id(prompt)) is group:
                    del self._groups[id(prompt)]
                group.complete.set()
        return place

    async def settled(self, group: Group, place: int) -> Settled:
        """Wait for the siblings of a member that was delivered: its part in the group.

        TooManyVoidsError when too many of the last answers are void; RunStoppedError where a sibling's scores lack a
        name.
        """
        await group.complete.wait()
        if group.error is not None:
            raise group.error
        return Settled(
            scores=group.final[place],
            reward=group.final[group.permutation[place]]["total"],
            masked=group.skipped or group.members[place].scores is None,
            group=group,
        )

    def can_spare(self, group: Group) -> bool:
        """Whether the members so far are worth training on without the others."""
        valid = [member.scores for member in group.members if member.scores is not None]
        return len(valid) > 1 and any(
            statistics.stdev(scores.get(name, 0.0) for scores in valid) >= max(NO_SPREAD, self._least(group, name))
            for name in self._compared
        )

    def _least(self, group: Group, name: str) -> float:
        """The deviation below which there is nothing but the judge's noise."""
        if self._min_spread is not None:
            return self._min_spread
        noise = next((member.noise for member in reversed(group.members) if member.noise), Scores())
        return noise.get(name, 0.0)

    def _settle(self, group: Group) -> None:
        valid = [member.scores for member in group.members if member.scores is not None]
        names = self._names or list(valid[0] if valid else ())
        for scores in valid:
            if missing := [name for name in names if name not in scores]:
                raise RunStoppedError(
                    f"the reward gave an answer the scores {sorted(scores)} without {', '.join(missing)}, which it "
                    "gives others: make it give the same names for every answer (docs/rewards.md), and continue with "
                    "resume=true"
                )
        valid = [{name: scores[name] for name in names} for scores in valid]
        self._valid.extend(valid)
        filler = mean(valid or list(self._valid))
        group.final = [filler if member.scores is None else member.scores for member in group.members]
        if valid:
            several = len(valid) > 1
            group.deviations = {n: statistics.stdev(s[n] for s in valid) if several else 0.0 for n in names}
            group.spread = max(group.deviations[name] for name in self._compared)
        lengths = [float(member.tokens) for member in group.members if member.scores is not None]
        with suppress(statistics.StatisticsError):  # fewer than two answers, or one of the two does not vary
            group.length_correlation = statistics.correlation([scores["total"] for scores in valid], lengths)
        # One answer alone has no siblings to differ from: then the estimator does not compare within groups.
        group.min_spread = {name: self._least(group, name) for name in self._compared}
        deviations = group.deviations
        small = group.size > 1 and valid and all(deviations[name] < least for name, least in group.min_spread.items())
        group.alone = self._compares and group.size > 1 and len(valid) == 1
        group.skipped = not valid or group.alone or bool(small)
        group.permutation = list(range(group.size))
        if self._shuffle is not None:  # among the valid ones: what stands for a void one is no reward
            places = [place for place, member in enumerate(group.members) if member.scores is not None]
            for place, other in zip(places, self._shuffle.sample(places, len(places)), strict=True):
                group.permutation[place] = other
