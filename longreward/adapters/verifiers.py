"""LongReward as a judge of verifiers, and a taskset of questions about documents. Written for verifiers 0.4.0.

verifiers finds a plugin by the name of a top-level module, so both are plugged as `longreward-verifiers`, the module
that exports what is here:

    [[env.taskset.task.judges]]
    id = "longreward-verifiers"
    config = "/absolute/path/reward.yaml"

What verifiers 0.4.0 does with the exception of a void reward: `trace.rewards` keeps None under the judge's name, the
error is recorded as a TaskError, and `trace.ok` is False. prime-rl computes rewards, their mean and advantages from
the traces that are ok alone, so the siblings' advantages are those of the group without the answer. Two things to know:

- `trace.reward` is the sum of what there is, 0 here: it means nothing unless `trace.ok`. GEPA of verifiers takes it
  nevertheless.
- Where `timeout.scoring` runs out, verifiers leaves the trace ok, with a reward of 0. `score` refuses to run with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import verifiers.v1 as vf
from pydantic import Field, SerializeAsAny, model_validator

from longreward.adapters.background import BackgroundReward, shared_part
from longreward.errors import ConfigError, InputError, VoidRewardError
from longreward.rows import read, row_id
from longreward.rows.criteria import criteria_in
from longreward.schema import Reward, Sample

PLUGIN = "longreward-verifiers"
_FULL = 10.0  # a reward of verifiers is by custom from 0 to 1
_OWN = {"id", "name", "weight"}
"""What is read of the settings that every judge of verifiers has."""


class LongRewardJudgeConfig(vf.JudgeConfig):
    """ValueError where the reward's configuration cannot work, or where a setting has no effect here."""

    id: vf.ID = PLUGIN
    name: str = "longreward"
    config: str | dict[str, Any] | None = None
    """The path of a reward YAML, or its content; None: the environment variable LONGREWARD_CONFIG names the file."""
    processes: int = Field(1, ge=1)
    """How many workers the environment's server has: they divide the judge's limits and spend among them."""
    context_field: str = "context"
    """The task's field with the document."""
    query_field: str = "query"
    """The task's field with the question."""
    criteria_field: str = "criteria"
    """The task's field with the criteria, read where these have a weight."""

    @model_validator(mode="after")
    def _can_work(self) -> LongRewardJudgeConfig:
        theirs = vf.JudgeConfig()
        for name in vf.JudgeConfig.model_fields.keys() - _OWN:
            if (value := getattr(self, name)) != getattr(theirs, name):
                raise ConfigError(f"{name} is {value!r}, which has no effect here; set up the judge in the reward YAML")
        if self.config is not None:
            self.reward()
        return self

    def reward(self) -> BackgroundReward:
        """The process's one reward for this configuration. ConfigError."""
        return shared_part(self.config, self.processes)


class LongRewardJudge(vf.Judge[float, LongRewardJudgeConfig]):
    """Scores the last reply of a trace."""

    async def score(self, task: vf.TaskData, trace: vf.Trace, runtime: vf.Runtime | None = None) -> float:
        """The total, from 0 to 1 (0..10 in LongReward). The trace gets the total and the dimensions (0..10), `void`,
        `judge_calls` and `judge_cost` as metrics, and the judge's tokens as `extra_usage`.

        VoidRewardError where the judge failed; ConfigError and InputError say what is wrong with the set-up. With
        `runtime` it is the end of a rollout, else a replay, which no time-out of verifiers ends.
        """
        if runtime is not None:
            _refuse_deadline(task, trace)
        background = self.config.reward()
        (reward,) = await background.score_async([self._sample(task, trace, background.config.uses_criteria)])
        self._record(reward, trace)
        if reward.total is None:
            raise VoidRewardError(f"no reward for the answer to task {reward.id} ({reward.why_void}); it is left out")
        return reward.total / _FULL

    def _sample(self, task: vf.TaskData, trace: vf.Trace, with_criteria: bool) -> Sample:
        identity = task.id or str(task.idx)
        texts = []
        for setting in ("context_field", "query_field"):
            name = getattr(self.config, setting)
            text = getattr(task, name, None)
            if not isinstance(text, str):
                own = {*type(task).model_fields, *(task.model_extra or {})} - vf.TaskData.model_fields.keys()
                raise InputError(
                    f"the field {name!r} of task {identity} is {text!r}, not text (there: "
                    f"{', '.join(sorted(own)) or 'none'}); name the task's field with {setting} of the judge"
                )
            texts.append(text)
        context, query = texts
        try:
            name = self.config.criteria_field
            criteria = criteria_in(getattr(task, name, None), name) if with_criteria else ()
        except ValueError as error:
            raise InputError(f"task {identity}: {error}") from None
        cut = trace.is_truncated
        return Sample(
            id=identity, context=context, query=query, answer=trace.last_reply, criteria=criteria, truncated=cut
        )

    def _record(self, reward: Reward, trace: vf.Trace) -> None:
        used = reward.usage
        metrics = {"void": float(reward.total is None), "judge_calls": used.calls, "judge_cost": used.cost}
        for name, value in {**(reward.scores or {}), **metrics}.items():
            trace.record_metric(f"{self.reward_name}/{name}", value)
        if used.calls:
            usage = vf.Usage(
                prompt_tokens=used.prompt_tokens - used.cached_tokens,
                completion_tokens=used.completion_tokens,
                cached_input_tokens=used.cached_tokens,
                cost=used.cost or None,
            )
            trace.extra_usage.append(usage)


def _refuse_deadline(task: vf.TaskData, trace: vf.Trace) -> None:
    deadline = trace.agent.config.timeout.scoring or task.timeout.scoring
    if deadline is not None:
        raise ConfigError(
            f"timeout.scoring is {deadline:g}: an answer that is not scored by then would have a reward of 0; "
            "leave it out, and bound the judge by judge.call_timeout_s of the reward YAML"
        )


class LongRewardData(vf.TaskData):
    context: str
    query: str
    criteria: Any = None


class LongRewardTaskConfig(vf.TaskConfig):
    judges: vf.Judges = Field(default_factory=lambda: [LongRewardJudgeConfig()])


class LongRewardTask(vf.Task[LongRewardData, vf.State, LongRewardTaskConfig]):
    """A question about a document, in one prompt."""


class LongRewardTasksetConfig(vf.TasksetConfig):
    id: vf.ID = PLUGIN
    path: Path
    """The rows: idx, context and query, criteria where these have a weight. JSON lines, or any file that
    `longreward score` reads."""
    task: SerializeAsAny[LongRewardTaskConfig] = LongRewardTaskConfig()


class LongRewardTaskset(vf.Taskset[LongRewardTask, LongRewardTasksetConfig]):
    """The rows of a file as tasks, judged by LongReward unless the configuration names other judges."""

    def load(self) -> Iterator[LongRewardTask]:
        """InputError names a row that has no document or no question."""
        for number, row in read(self.config.path):
            given = {name: row.get(name) for name in ("context", "query", "criteria")}
            for name in ("context", "query"):
                if not isinstance(given[name], str):
                    raise InputError(f"{self.config.path}:{number}: {name} is {given[name]!r}; it must be text")
            prompt = f"{given['context']}\n\n{given['query']}"
            yield LongRewardTask(LongRewardData(id=row_id(row, number), prompt=prompt, **given), self.config.task)


__all__ = ["LongRewardJudge", "LongRewardJudgeConfig", "LongRewardTaskset", "LongRewardTasksetConfig"]
