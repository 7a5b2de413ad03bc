"""Train a policy with LongReward inside OpenRLHF's own Ray PPO/GRPO loop.

    python rl/train.py --config configs/grpo_cpu.yaml [section.key=value ...] [--dry-run] [--verbose]
    ray job submit -- python rl/train.py --config configs/grpo_cpu.yaml

config -> plan -> Ray -> judge workers -> held-out scores -> OpenRLHF -> held-out scores -> summary.json
"""

from __future__ import annotations

import sys
import time
from typing import Any

from longreward.text.amounts import duration
from rl.config import RunConfig, load
from rl.plan import RunPlan
from rl.run import command


def main(argv: list[str] | None = None) -> int:
    """Run one configuration. Returns 0; 1 if training failed; 2 for a user's error; 130 if stopped."""
    parser = command.parser(__doc__, dry_run=True)
    options, overrides = parser.parse_known_args(argv)

    def work(config: RunConfig) -> int:
        from rl.run import planning

        return command.plan_and_run("train", options, config, lambda: planning.make(config, "online"), train)

    return command.carry_out("train", lambda: load(options.config, overrides), work)


def train(plan: RunPlan[RunConfig], verbose: bool) -> int:
    """Score the held-out set, train, score it again, write summary.json."""
    from rl.monitor import progress
    from rl.rollout.engines import rollout_engines
    from rl.rollout.heldout_scores import HeldoutScores, evaluate
    from rl.run import judge_estimate, online_training, run_directory, session

    config, flags, before, after = plan.config, plan.flags, None, None
    with session.open_session(plan, verbose=verbose) as run:
        if judged := judge_estimate.expected(config, flags) if config.reward.asks_judge else None:
            run.say(judge_estimate.sentence(judged, config.reward.judge))
        if "heldout" in run.reports:
            taken = config.directory / "heldout_before.json"
            before = HeldoutScores.read(taken)
            if before is None:
                run.say("scoring the held-out prompts before training")
                with rollout_engines(config, flags.policy, flags) as engines:
                    before = evaluate(config, engines)
                before.write(taken)
        summary: dict[str, Any] = online_training.fit(run)
        if judged:
            summary["expected"] = judged.model_dump(include={"calls", "prompt_tokens", "completion_tokens", "cost"})
        if before is not None:
            run.say("scoring the held-out prompts after training")
            with rollout_engines(config, str(config.directory / "model"), flags) as engines:
                after = evaluate(config, engines)
            summary |= progress.show_heldout(run.console, [before, after])
        summary |= online_training.judged(config)
        summary["wall_s"] = round(time.monotonic() - plan.started, 1)
        run_directory.write_summary(config, summary)
        run.say(
            f"done in {duration(summary['wall_s'])}, {duration(summary['train_s'])} of it training; "
            f"run directory: {config.directory}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
