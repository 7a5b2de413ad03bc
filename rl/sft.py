"""Supervised start: OpenRLHF's train_sft on documents, questions and answers, and on conversations, before DPO or GRPO.

    python rl/sft.py --config configs/sft_cpu.yaml [section.key=value ...] [--dry-run] [--verbose]

Rows of data.train are the published sft data's: idx (or id), context, query, answer; or conversations of several turns,
which may be in a second file: data.conversations. A base model gets the chat template of data.chat_template. The model
is then in runs/<name>/model, for openrlhf.actor.model_name_or_path of the next stage.
"""

from __future__ import annotations

import sys
import time

from rl.config import load_as
from rl.offline.config import SftConfig
from rl.plan import RunPlan
from rl.run import command


def main(argv: list[str] | None = None) -> int:
    """Run one configuration. Returns 0; 1 if training failed; 2 for a user's error; 130 if stopped."""
    parser = command.parser(__doc__, dry_run=True)
    options, overrides = parser.parse_known_args(argv)

    def work(config: SftConfig) -> int:
        from rl.offline.planning import plan_sft

        return command.plan_and_run("sft", options, config, lambda: plan_sft(config), sft)

    return command.carry_out("sft", lambda: load_as(SftConfig, options.config, overrides), work)


def sft(plan: RunPlan[SftConfig], verbose: bool) -> int:
    """Prepare the examples, train, write summary.json."""
    from rl.offline import finetune, sft_examples
    from rl.run import run_directory, session

    config = plan.config
    with session.open_directory(plan, verbose=verbose) as run:
        run.say(sft_examples.prepare(config, plan.flags))
        finetune.train(plan, run.screen)
        sft_examples.keep_tokenizer(config, plan.flags)
        summary = {"kind": "sft", "steps": finetune.steps_done(config)}
        run_directory.write_summary(config, summary | {"wall_s": round(time.monotonic() - plan.started, 1)})
        run.say(f"done; run directory: {config.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
