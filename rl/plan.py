"""What a run will do, made once from its configuration before anything is started. Nothing in it changes afterwards.

rl/run/planning.py and rl/offline/planning.py make it; all that works on a run is handed it, or a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from longreward.preflight.finding import Finding
from rl.config import RunConfig
from rl.trainer.learner_programs import Learners
from rl.trainer.openrlhf_flags import Flags

Kind = Literal["online", "dpo", "sft", "evaluation"]
C = TypeVar("C", bound=RunConfig, covariant=True)


@dataclass(frozen=True)
class Resources:
    """What OpenRLHF asks of Ray at once. Each of its actors and placement bundles takes one CPU beside its GPU; judge
    workers and replicas of a judge take a GPU alone."""

    gpus: int
    cpus: int
    parts: str
    """The sum in words, for messages."""

    @classmethod
    def of(cls, flags: Flags, kind: Kind, reward_models: int, judge: int = 0, *, engines: bool = True) -> Resources:
        """The logical GPUs and CPUs of a run; OpenRLHF waits forever for what is not there.

        Follows `openrlhf.cli.train_ppo_ray.train`: learners, reference, critic and engines, shared where colocated;
        only `engines`, if it starts any, where the run does not train online. `reward_models` are GPUs of judge
        workers and `judge` those of a judge that the run serves, on top.
        """
        if kind == "sft":
            return cls.none()
        parts = {"vLLM engines": flags.engine_gpus * engines} if kind != "online" else _online(flags)
        cpus = sum(parts.values())
        more = {"reward models": reward_models, "the judge": judge}
        in_words = " + ".join(f"{n} {name}" for name, n in (parts | more).items() if n) or "nothing on GPUs"
        # The trainer itself is one more actor: Ray places an actor only where a whole CPU is free, then gives it back.
        return cls(cpus + reward_models + judge, cpus + 1, in_words)

    @classmethod
    def none(cls) -> Resources:
        """Where nothing is generated or scored."""
        return cls(0, 0, "nothing of Ray")


def _online(flags: Flags) -> dict[str, int]:
    """GPUs of OpenRLHF's loop by part, shared ones counted once."""
    parts, colocated = {"learners": flags.gpus("actor")}, flags.train_colocate_all
    if "ref" in flags.models and not (colocated or flags.train_colocate_actor_ref):
        parts["reference"] = flags.gpus("ref")
    if not colocated or flags.train_async_enable:
        parts["vLLM engines"] = flags.engine_gpus
    if "critic" in flags.models and not colocated:
        parts["critic"] = flags.gpus("critic")
    return parts


@dataclass(frozen=True)
class RunPlan(Generic[C]):
    """A run, planned: its configuration with everything resolved, and what was found out about it."""

    kind: Kind
    config: C
    """A copy of its own, with absolute model folders and W&B's run id."""
    device: Literal["cpu", "gpu"]
    flags: Flags
    """OpenRLHF's flags of `argv`, typed."""
    argv: list[str]
    """Arguments of OpenRLHF's train_ppo_ray."""
    resources: Resources
    """What the run needs of Ray."""
    environment: Mapping[str, str]
    """Variables of every process of the run. The driver needs them too: a cluster of its own and OpenRLHF's imports
    inherit them from it."""
    run_id: str
    """Names this run's actors on the cluster."""
    started: float
    """`time.monotonic()` when planning began: the run's time counts from there."""
    before: RunConfig | None = None
    """The configuration of the run that is continued."""
    findings: tuple[Finding, ...] = ()
    """All that was found out without a network."""
    prompts: int | None = None
    """Prompts of an episode; None where they were not counted."""
    learners: Learners | None = None
    """train_dpo or train_sft, where the run has one."""

    @property
    def trains_online(self) -> bool:
        """Whether OpenRLHF's online loop is a part of the run, and not only rollouts or learners."""
        return self.kind == "online"

    @property
    def uses_ray(self) -> bool:
        """Whether anything is generated or scored."""
        return self.resources.cpus > 0

    @property
    def tokenizer(self) -> str | None:
        """The policy whose tokenizer counts chunk sizes; None where words do."""
        return self.flags.policy if self.config.reward.tokenizer == "policy" else None
