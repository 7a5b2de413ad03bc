"""Evaluate a policy, or two side by side: held-out LongReward, LongBench, LongBench-Chat, short instructions.

    python rl/evaluate.py --config configs/grpo_cpu.yaml [--model PATH [--against PATH]] [section.key=value ...]

`data.heldout`, `evaluation.longbench`, `evaluation.longbench_chat` and `evaluation.short` name the files; what is set
is evaluated. Results: summary.json and evaluation.md in runs/<name>-evaluation/, each answer with its verdicts beside.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rl.config import RunConfig
from rl.offline.config import load_any
from rl.run import command


def main(argv: list[str] | None = None) -> int:
    """Evaluate. Returns 0; 1 if it failed; 2 for a user's error; 130 if stopped."""
    parser = command.parser(__doc__)
    parser.add_argument("--model", help="the policy; default: the configuration's")
    parser.add_argument("--against", metavar="PATH", help="another policy to compare it with, which comes first")
    options, overrides = parser.parse_known_args(argv)
    models = [model for model in (options.against, options.model) if model]
    if options.against and not options.model:
        parser.error("--against needs --model, the policy that is compared with it")
    return command.carry_out(
        "evaluate",
        lambda: load_any(options.config, overrides),
        lambda config: evaluate(config, models, options.verbose),
    )


def evaluate(config: RunConfig, models: list[str], verbose: bool) -> int:
    """Sample answers from one policy after the other, have them judged, and write down what came of it."""
    from rl.run import planning, policy_evaluation, session
    from rl.trainer.model_folder import missing_model

    for model in models:
        planning.refuse(missing_model("--model or --against", model))
    sets = policy_evaluation.load_sets(config, two=len(models) == 2)
    with command.waiting("checking the configuration", verbose=verbose):
        # A directory of its own: the policies may lie in the training run's.
        plan = planning.make(config, "evaluation", resume=False, name_suffix="-evaluation")
    models = [str(Path(model).absolute()) if Path(model).is_dir() else model for model in models]
    with session.open_session(plan, verbose=verbose) as run:
        policy_evaluation.evaluate_policies(run, models or [plan.flags.policy], sets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
