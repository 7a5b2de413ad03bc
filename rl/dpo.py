"""Offline DPO with LongReward, the paper's own setting: a policy and prompts to a better policy.

    python rl/dpo.py --config configs/dpo_cpu.yaml [section.key=value ...] [--stage NAME ...] [--dry-run] [--verbose]

collect (answers, generated and scored) -> pair -> train (OpenRLHF's train_dpo) -> evaluate -> summary.json. Every stage
can be run alone with --stage; resume=true continues where the run of this name stopped.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

from longreward.errors import ConfigError
from rl.config import load_as
from rl.offline.config import DpoConfig
from rl.run import command

STAGES = ("collect", "pair", "train", "evaluate")


def main(argv: list[str] | None = None) -> int:
    """Run one configuration. Returns 0; 1 if a stage failed; 2 for a user's error; 130 if stopped."""
    parser = command.parser(__doc__)
    parser.add_argument("--stage", action="append", choices=STAGES, help="only this one; may be given several times")
    parser.add_argument("--dry-run", action="store_true", help="check, write config.yaml and command.txt, and exit")
    options, overrides = parser.parse_known_args(argv)

    def work(config: DpoConfig) -> int:
        if options.dry_run:
            return dry_run(config)
        return dpo(config, [stage for stage in STAGES if stage in (options.stage or STAGES)], options.verbose)

    return command.carry_out("dpo", lambda: load_as(DpoConfig, options.config, overrides), work)


def dpo(config: DpoConfig, stages: list[str], verbose: bool) -> int:
    """Run the stages one after the other, what they share held open: Ray, judge workers, and one start of engines for
    the first held-out scores and collecting."""
    from rl.offline import collect, finetune
    from rl.offline import stages as stage
    from rl.run import run_directory, session

    if config.resume and stages == list(STAGES) and run_directory.finished(config):
        print(f"dpo: {config.directory} is finished, see its summary.json; begin another run with run.name")
        return 0
    if "collect" not in stages:
        config.resume = True  # they work on what is there
        if run_directory.earlier(config) is None:
            raise ConfigError(f"there is no run in {config.directory} yet; collect answers first, or set run.name")
    elif config.resume and stages == list(STAGES) and finetune.begun_and_done(config)[0]:
        # Judging void answers again could change the pairs under the training: --stage collect does it.
        stages = ["train", "evaluate"]
    if "train" in stages:
        stage.check(config)
    elif "collect" in stages and config.collect.responses is not None:
        collect.refuse_responses(config)
    with ExitStack() as stack:
        if {"collect", "evaluate"} & set(stages):
            run = stack.enter_context(session.open_session(config, verbose=verbose, trains=False))
        else:
            run = stack.enter_context(session.open_directory(config, verbose=verbose))
        (config.directory / "summary.json").unlink(missing_ok=True)  # of what was there before
        summary: dict[str, Any] = {"kind": "dpo"}
        if "collect" in stages:
            stage.collect_answers(run, config)
        if "pair" in stages:
            stage.make_pairs(run, config)
        if "train" in stages:
            stage.end_reward_models(run, config)
            stage.train(run, config)
        if "evaluate" in stages:
            stage.start_reward_models(run, config)
            summary |= stage.evaluate(run, config)
            summary["wall_s"] = round(time.monotonic() - run.started, 1)
            run_directory.write_summary(config, summary)
        run.say(f"done in {time.monotonic() - run.started:.0f} s; run directory: {config.directory}")
    return 0


def dry_run(config: DpoConfig) -> int:
    """Everything that needs no cluster and no judge."""
    from rl.offline import collect, finetune
    from rl.reward_functions import registry
    from rl.run import cluster, judge_estimate, preflight, run_directory

    registry.check(config.reward)
    if config.collect.responses is not None:
        collect.refuse_responses(config)
    device = "gpu" if config.run.device == "gpu" else preflight.choose_device(config)
    argv, flags = preflight.flags(config, device)
    config.run.name += "-dry-run"
    words, _, _ = finetune.argv(finetune.DPO, config, device)
    run_directory.write_plan(config, argv)
    run_directory.write_command(
        config, finetune.command(finetune.DPO, words, finetune.processes(config.processes, device))
    )
    for problem in preflight.problems(config, flags, trains=False):
        print(f"note: {problem}")
    if config.reward.asks_judge and config.data.train.is_file():
        print(judge_estimate.sentence(judge_estimate.expected(config, flags), config.reward.judge.price))
    print(f"needs {cluster.needed(flags, config, trains=False).parts}, then the learners")
    print(f"{config.directory}: config.yaml and command.txt are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
