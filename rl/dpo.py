"""Offline DPO with LongReward, the paper's own setting: a policy and prompts to a better policy.

    python rl/dpo.py --config configs/dpo_cpu.yaml [section.key=value ...] [--stage NAME ...] [--dry-run] [--verbose]

collect (answers, generated and scored) -> pair -> train (OpenRLHF's train_dpo) -> evaluate -> summary.json. Every stage
can be run alone with --stage; resume=true continues where the run of this name stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from longreward.errors import ConfigError
from longreward.text.amounts import duration
from rl.config import load_as
from rl.offline.config import STAGES, DpoConfig
from rl.plan import RunPlan
from rl.run import command


def main(argv: list[str] | None = None) -> int:
    """Run one configuration. Returns 0; 1 if a stage failed; 2 for a user's error; 130 if stopped."""
    parser = command.parser(__doc__, dry_run=True)
    parser.add_argument("--stage", action="append", choices=STAGES, help="only this one; may be given several times")
    options, overrides = parser.parse_known_args(argv)
    stages = [stage for stage in STAGES if stage in (options.stage or STAGES)]

    def work(config: DpoConfig) -> int:
        from rl.offline import planning
        from rl.run import run_directory

        goes_on = "collect" not in stages  # the other stages work on what is there
        begins = "pair" in stages and config.pairs_others
        if goes_on and not begins and run_directory.earlier(config) is None:
            raise ConfigError(
                f"there is no run in {config.directory} yet; collect answers first, set run.name, or pair those of "
                "another run (--stage pair with collect.stores)"
            )
        return command.plan_and_run(
            "dpo",
            options,
            config,
            lambda: planning.plan_dpo(config, stages, resume=goes_on or None),
            lambda plan, verbose: dpo(plan, stages, verbose),
            whole=stages == list(STAGES),
        )

    return command.carry_out("dpo", lambda: load_as(DpoConfig, options.config, overrides), work)


def dpo(plan: RunPlan[DpoConfig], stages: Sequence[str], verbose: bool) -> int:
    """Run the stages one after the other, what they share held open: Ray, judge workers, and one start of engines for
    the first held-out scores and collecting."""
    from rl.offline import finetune, planning
    from rl.offline import stages as stage
    from rl.run import run_directory, session

    config = plan.config
    if config.resume and {"collect", "train"} <= {*stages} and finetune.begun_and_done(config)[0]:
        # Judging void answers again could change the pairs under the training: --stage collect alone does it.
        stages = [name for name in stages if name not in ("collect", "pair")]
    with ExitStack() as stack:
        opened = session.open_session if planning.asks(config, stages) else session.open_directory
        run = stack.enter_context(opened(plan, verbose=verbose))
        config = config.model_copy(update={"reward": run.config.reward})  # where its judge is by now
        (config.directory / "summary.json").unlink(missing_ok=True)  # of what was there before
        summary: dict[str, Any] = {"kind": "dpo"}
        if "collect" in stages:
            stage.collect_answers(run, config)
        if "pair" in stages:
            stage.make_pairs(run, config)
        if "train" in stages:
            stage.end_reward_models(run, config)
            finetune.train(plan, run.screen)
        if "evaluate" in stages:
            summary |= stage.evaluate(run, config)
            summary["wall_s"] = round(time.monotonic() - plan.started, 1)
            run_directory.write_summary(config, summary)
        run.say(f"done in {duration(time.monotonic() - plan.started)}; run directory: {config.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
