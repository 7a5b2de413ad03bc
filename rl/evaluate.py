"""Evaluate a policy, or two side by side: held-out LongReward, LongBench, LongBench-Chat, short instructions, MT-Bench.

    python rl/evaluate.py --config configs/grpo_cpu.yaml [--model PATH [--against PATH]] [section.key=value ...]

`data.heldout` and the files that `evaluation:` names are evaluated on. Results: summary.json and evaluation.md in
runs/<name>-evaluation/, each answer with its verdicts beside. resume=true continues there after a kill, asking nothing
twice; --dry-run checks everything and tells what would be sampled and judged. --against may be the directory of an
earlier evaluation, whose answers and verdicts then count for its policy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rl.config import RunConfig
from rl.offline.config import load_any
from rl.plan import RunPlan
from rl.run import command


def main(argv: list[str] | None = None) -> int:
    """Evaluate. Returns 0; 1 if it failed; 2 for a user's error; 130 if stopped."""
    parser = command.parser(__doc__, dry_run=True)
    parser.add_argument("--model", help="the policy; default: the configuration's")
    against = "another policy to compare it with, which comes first; or the directory of an evaluation of it"
    parser.add_argument("--against", metavar="PATH", help=against)
    options, overrides = parser.parse_known_args(argv)
    if options.against and not options.model:
        parser.error("--against needs --model, the policy that is compared with it")

    def work(config: RunConfig) -> int:
        from longreward.report.reading.sources import POLICIES
        from rl.run import evaluation_plan, planning, policy_evaluation, session

        # A directory of its own: the policies may lie in the training run's.
        config = config.model_copy(deep=True)
        config.run.name += "-evaluation"
        against = Path(options.against).absolute() if options.against else None
        earlier = against if against and (against / POLICIES).is_file() else None
        models = [model for model in (None if earlier else options.against, options.model) if model]
        for model in models:
            planning.refuse(evaluation_plan.unusable(model, config))
        sets = evaluation_plan.load_sets(config)
        models = [str(Path(model).absolute()) if Path(model).is_dir() else model for model in models]

        def plan() -> RunPlan[RunConfig]:
            made = planning.make(config, "evaluation")
            if earlier is not None:
                evaluation_plan.check_comparable(load_any(earlier / "config.yaml", []), made.config, earlier)
            policies = evaluation_plan.policies_of(made, models, earlier)  # refuses others than those it began with
            evaluation_plan.check_lengths(made, policies, sets, local=True)
            return made

        def run(plan: RunPlan[RunConfig], verbose: bool) -> int:
            policies = evaluation_plan.policies_of(plan, models, earlier)
            with session.open_session(plan, verbose=verbose) as opened:
                policy_evaluation.evaluate_policies(opened, policies, sets)
            return 0

        def expected(plan: RunPlan[RunConfig]) -> Iterator[str]:
            return evaluation_plan.expected(plan, sets, evaluation_plan.policies_of(plan, models, earlier))

        return command.plan_and_run("evaluate", options, config, plan, run, always_planned=True, expected=expected)

    return command.carry_out("evaluate", lambda: load_any(options.config, overrides), work)


if __name__ == "__main__":
    sys.exit(main())
