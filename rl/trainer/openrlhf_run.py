"""OpenRLHF's `train_ppo_ray`, run as its own main module and left as it is."""

from __future__ import annotations

import math
import runpy
import sys
from argparse import Namespace
from typing import Any, NoReturn
from unittest import mock

from longreward.errors import ConfigError
from rl.trainer import checkpoints
from rl.trainer.openrlhf_parser import MODULE


def run(argv: list[str]) -> None:
    """Train to the end. Ray must be connected: OpenRLHF's own `ray.init` forwards next to none of the environment."""
    with mock.patch.object(sys, "argv", [MODULE, *argv]):
        runpy.run_module(MODULE, run_name="__main__")


def save_checkpoint(error: BaseException, step: int, timeout_s: float) -> None:
    """Save a checkpoint of the last complete step after `run` has ended in `error`, if that can be done.

    OpenRLHF saves only at its own steps. Its trainer actor outlives an exception in `fit`, with models and data loader
    as they were, and a frame of the error holds it. The error must be from a rollout: while the learners are at work
    the models are of no step. With dynamic filtering nobody knows any more where the step began in the data.
    """
    import ray

    trainer = None
    frame = error.__traceback__
    while frame is not None and trainer is None:
        trainer = frame.tb_frame.f_locals.get("ppo_trainer")
        frame = frame.tb_next
    if trainer is None or step < 1:
        return
    try:
        ray.get(trainer.__ray_call__.remote(_save_now, step), timeout=timeout_s)
    except ray.exceptions.RayError as failure:
        print(f"longreward: the checkpoint could not be saved: {failure}", flush=True)


def _save_now(trainer: Any, step: int) -> None:
    """In the trainer's process: OpenRLHF's own saving, made due."""
    args = trainer.args
    if args.algo.dynamic_filtering_enable:
        raise RuntimeError("with dynamic filtering only OpenRLHF's own checkpoints know their position in the data")
    args.ckpt.save_steps, args.logger.logging_steps = 1, step + 1  # the step's logs were written when it ended
    prompts, batch = len(trainer.prompts_dataloader), args.rollout.batch_size
    episode, steps = divmod(step, math.ceil(prompts / batch))  # an episode's last batch may be a short one
    states = {
        "episode": episode,
        "global_step": step,
        "total_consumed_prompts": episode * prompts + steps * batch,
        "data_loader_state_dict": checkpoints.loader_at(trainer.prompts_dataloader.state_dict(), steps * batch),
    }
    trainer.save_logs_and_checkpoints(step, {}, states)


def release() -> None:
    """Give back the placement groups that OpenRLHF made in this job and keeps for good, with the actors in them."""
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    for identity, entry in placement_group_table().items():
        # A placement group's id ends in the id of the job that made it; other jobs' groups are not ours to remove.
        if identity.endswith(job) and entry["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(identity))))


def validate(argv: list[str]) -> None:
    """Run OpenRLHF's parser and all its checks, and stop where it would begin to work.

    ConfigError with OpenRLHF's own words where it rejects the flags.
    """
    import openrlhf.utils
    import ray

    def stop(args: Namespace) -> NoReturn:
        raise _Accepted

    # OpenRLHF's `train` connects to Ray first and asks for the strategy next; there it is stopped.
    connected = mock.patch.object(ray, "is_initialized", lambda: True)
    stopped = mock.patch.object(openrlhf.utils, "get_strategy", stop)
    try:
        with connected, stopped:
            run(argv)
    except _Accepted:
        return
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"OpenRLHF rejects these flags: {error or type(error).__name__}") from None
    except SystemExit as error:
        raise ConfigError(f"OpenRLHF's parser rejects these flags (exit code {error.code})") from None
    raise ConfigError("OpenRLHF did not ask for its strategy where version 0.11.2 does; install openrlhf==0.11.2")


class _Accepted(BaseException):
    """Not an Exception, so that nothing on the way takes it for an error."""
