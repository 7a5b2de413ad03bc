"""OpenRLHF's `train_ppo_ray`, run as its own main module and left as it is."""

from __future__ import annotations

import runpy
import sys
from argparse import Namespace
from typing import Any, NoReturn
from unittest import mock

from longreward.errors import ConfigError
from rl.openrlhf_args import MODULE


def run(argv: list[str]) -> None:
    """Train to the end. Ray must be connected: OpenRLHF's own `ray.init` forwards next to none of the environment."""
    with mock.patch.object(sys, "argv", [MODULE, *argv]):
        runpy.run_module(MODULE, run_name="__main__")


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

    # Its `train` connects to Ray first and asks for the strategy next; there it is stopped.
    patches: list[Any] = [
        mock.patch.object(ray, "is_initialized", lambda: True),
        mock.patch.object(openrlhf.utils, "get_strategy", stop),
    ]
    with patches[0], patches[1]:
        try:
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
