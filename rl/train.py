"""Train a policy with LongReward inside OpenRLHF's own Ray PPO/GRPO loop.

    python rl/train.py --config configs/grpo_cpu.yaml [section.key=value ...] [--dry-run] [--verbose]
    ray job submit -- python rl/train.py --config configs/grpo_cpu.yaml

config -> preflight -> Ray -> judge workers -> held-out scores -> OpenRLHF -> held-out scores -> summary.json
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from longreward.errors import ConfigError, LongRewardError
from rl.config import RunConfig, load
from rl.errors import RunFailedError


def main(argv: list[str] | None = None, evaluate_only: bool = False) -> int:
    """Run one configuration. Returns 0; 1 if training failed; 2 for a user's error; 130 if stopped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True, help="a YAML file, see configs/")
    parser.add_argument(
        "--verbose", action="store_true", help="show the logs of engines and learners on the screen too"
    )
    if evaluate_only:
        parser.add_argument("--model", help="the policy to score; default: the configuration's")
    else:
        parser.add_argument("--dry-run", action="store_true", help="check, write config.yaml and command.txt, and exit")
    # Overrides may stand between the options, where argparse would not look for a list of positionals.
    options, overrides = parser.parse_known_args(argv)
    try:
        config = load(options.config, overrides)
        if evaluate_only:
            return evaluate_policy(config, options.model, options.verbose)
        if options.dry_run:
            from rl.dry_run import dry_run

            return dry_run(config)
        return train(config, options.verbose)
    except RunFailedError as error:
        return _failed(error, config)
    except LongRewardError as error:
        if hasattr(error, "cause"):  # Ray's form of an error that was raised in a worker: the run failed, not the user
            return _failed(error, config)
        print(f"train: {error}", file=sys.__stderr__, flush=True)
        return 2
    except KeyboardInterrupt:
        print("train: stopped; everything it started is gone", file=sys.__stderr__, flush=True)
        return 130
    except Exception as error:
        return _failed(error, config)


def train(config: RunConfig, verbose: bool) -> int:
    """Score the held-out set, train, score it again, write summary.json."""
    from rl import expected, progress, run_directory, session, training
    from rl.evaluate import Scores, evaluate, gain

    if config.resume and run_directory.finished(config):
        print(f"train: {config.directory} is finished, see its summary.json; begin another run with run.name")
        return 0
    with session.open_session(config, verbose=verbose) as run:
        flags, before, after = vars(run.args), None, None
        if judged := expected.expected(config, flags) if config.reward.judge.kind == "openai" else None:
            run.say(expected.sentence(judged, config.reward.judge.price))
        if "heldout" in run.reports:
            taken = config.directory / "heldout_before.json"
            before = Scores.read(taken)
            if before is None:
                run.say("scoring the held-out documents before training")
                before = evaluate(config, flags["actor.model_name_or_path"], config.prompts("heldout"), flags)
                before.write(taken)
        summary: dict[str, Any] = training.fit(run)
        if judged:
            summary["expected"] = judged.model_dump(include={"calls", "prompt_tokens", "completion_tokens", "cost"})
        if before is not None:
            run.say("scoring the held-out documents after training")
            after = evaluate(config, str(config.directory / "model"), config.prompts("heldout"), flags)
            summary |= {"before": before.summary(), "after": after.summary(), "gain": gain(before, after)}
            progress.print_table(run.console, before, after, summary["gain"])
        summary |= training.judged(config)
        summary["wall_s"] = round(time.monotonic() - run.started, 1)
        run_directory.write_summary(config, summary)
        run.say(
            f"done in {summary['wall_s']:.0f} s, {summary['train_s']:.0f} s of it training; "
            f"run directory: {config.directory}"
        )
    return 0


def evaluate_policy(config: RunConfig, model: str | None, verbose: bool) -> int:
    """Score one policy on the held-out set, print the table and write summary.json."""
    from rl import progress, run_directory, session
    from rl.evaluate import evaluate

    if config.data.heldout is None:
        raise ConfigError("data.heldout is not set: there is nothing to evaluate on")
    # A directory of its own: the policy may lie in the training run's.
    config.run.name += "-evaluation"
    config.resume = False
    with session.open_session(config, verbose=verbose) as run:
        flags = vars(run.args)
        policy = str(Path(model).absolute()) if model and Path(model).is_dir() else model
        policy = policy or flags["actor.model_name_or_path"]
        run.say(f"scoring {policy} on the held-out documents")
        scores = evaluate(config, policy, config.prompts("heldout"), flags)
        progress.print_table(run.console, scores, None, None)
        run_directory.write_summary(config, {"kind": "evaluation", "model": policy, "scores": scores.summary()})
        run.say(f"done; run directory: {config.directory}")
    return 0


def _failed(error: Exception, config: RunConfig) -> int:
    """Training ended in an exception: its root in one line on the screen, all of it in the log."""
    import traceback

    from rl.cluster import what_happened

    log = config.log
    if not log.parent.is_dir():
        raise error
    with log.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    print(f"train: failed: {what_happened(error)}\ntrain: the whole log is in {log}", file=sys.__stderr__, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
