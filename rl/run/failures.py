"""Why OpenRLHF's loop failed: while it generated, or because the process of one of its parts died."""

from __future__ import annotations

import re
import time

_NOTICE_S = 5  # until Ray has noticed that a process is gone
_LOST_S = 60  # until Ray has noticed that a whole machine is gone

_ROLES = {
    "RolloutRayActor": "a rollout engine",
    "PolicyModelActor": "a learner",
    "ReferenceModelActor": "a reference model",
    "CriticModelActor": "a critic",
    "PPOTrainer": "the trainer",
    "PPOTrainerAsync": "the trainer",
    "TrainingActor": "the trainer",
    "GenerateSamplesActor": "the rollout generator",
}
"""OpenRLHF's actors."""


def in_rollout(error: BaseException) -> bool:
    """Whether an error of OpenRLHF's loop was raised while it generated, so that no update is half done."""
    return re.search(r"in generate_(eval_)?samples", str(error)) is not None


def dead_part(error: BaseException, since: float) -> str | None:
    """The part of the run whose process died after `since` (`time.time()`), if an error of OpenRLHF's loop comes to
    that.

    The others notice in many ways, of which Ray's error is only one: a connection that is closed, say.
    """
    import ray
    from ray._private.state import actors

    job = ray.get_runtime_context().get_job_id()
    root, wait_s = error, _NOTICE_S
    while isinstance(cause := getattr(root, "cause", None), BaseException):
        root = cause  # Ray wraps errors in errors
    if isinstance(root, ray.exceptions.ActorUnavailableError):
        wait_s = _LOST_S
    elif isinstance(root, ray.exceptions.RayActorError):
        wait_s = 0
    deadline = time.monotonic() + wait_s
    while True:
        gone = [
            actor
            for actor in actors().values()
            if (actor["JobID"], actor["State"]) == (job, "DEAD")
            and actor["ActorClassName"] in _ROLES
            and actor["EndTime"] > since * 1000
        ]
        if gone:
            first = min(gone, key=lambda actor: actor["EndTime"])
            return f"{_ROLES[first['ActorClassName']]} died (process {first['Pid']})"
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)
