"""Supervised start: OpenRLHF's train_sft on documents, questions and answers, before DPO or GRPO.

    python rl/sft.py --config configs/sft_cpu.yaml [section.key=value ...] [--dry-run] [--verbose]

Rows of data.train are the published sft data's: idx (or id), context, query, answer. The model is then in
runs/<name>/model, for openrlhf.actor.model_name_or_path of the next stage.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from longreward import jsonlines
from longreward.errors import InputError
from rl.config import load_as
from rl.offline.config import SftConfig
from rl.run import command

if TYPE_CHECKING:
    from rl.run.session import Session


def main(argv: list[str] | None = None) -> int:
    """Run one configuration. Returns 0; 1 if training failed; 2 for a user's error; 130 if stopped."""
    parser = command.parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="check, write config.yaml and command.txt, and exit")
    options, overrides = parser.parse_known_args(argv)
    work = dry_run if options.dry_run else lambda config: sft(config, options.verbose)
    return command.carry_out("sft", lambda: load_as(SftConfig, options.config, overrides), work)


def sft(config: SftConfig, verbose: bool) -> int:
    """Prepare the examples, train, write summary.json."""
    from rl.offline import finetune
    from rl.run import run_directory, session

    if config.resume and run_directory.finished(config):
        print(f"sft: {config.directory} is finished, see its summary.json; begin another run with run.name")
        return 0
    with session.open_directory(config, verbose=verbose) as run:
        run.say(prepare(run, config))
        finetune.train(run, finetune.SFT, config)
        summary = {"kind": "sft", "steps": finetune.steps_done(config)}
        run_directory.write_summary(config, summary | {"wall_s": round(time.monotonic() - run.started, 1)})
        run.say(f"done; run directory: {config.directory}")
    return 0


def dry_run(config: SftConfig) -> int:
    """Everything that needs no GPU."""
    from rl.offline import finetune
    from rl.run import preflight, run_directory

    device = "gpu" if config.run.device == "gpu" else preflight.choose_device(config)
    argv, _ = preflight.flags(config, device)
    config.run.name += "-dry-run"
    words, _, _ = finetune.argv(finetune.SFT, config, device)
    run_directory.write_plan(config, argv)
    learners = finetune.processes(config.processes, device)
    run_directory.write_command(config, finetune.command(finetune.SFT, words, learners))
    if not config.data.train.is_file():
        print(f"note: data.train {config.data.train} does not exist")
    print(f"{config.directory}: config.yaml and command.txt are written")
    return 0


def prepare(run: Session, config: SftConfig) -> str:
    """Write `prompt` and `answer` of each usable row into `config.examples`. Returns what became of them; InputError
    where none is usable."""
    from rl.data.prompt_files import Report, load_tokenizer, renderer
    from rl.offline import published_files
    from rl.offline.pair_answers import ended

    flags = run.flags
    tokenizer, longest = load_tokenizer(flags.policy), flags.data_max_len
    report = Report()
    render = renderer(tokenizer, flags.prompt_tokens, "train", report)
    too_long = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal too_long
        for sample in published_files.sft(config.data.train, report.broken):
            answer = ended(sample.answer, tokenizer.eos_token)
            if answer is None:
                report.broken.append(f"{config.data.train}: answer of {sample.id} holds {tokenizer.eos_token} inside")
                continue
            prompt = render(sample.id, sample.context, sample.query)["input"]
            if len(tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]) > longest:
                too_long += 1
                continue
            report.kept += 1
            yield {"prompt": prompt, "answer": answer}

    config.examples.parent.mkdir(parents=True, exist_ok=True)
    jsonlines.rewrite(config.examples, rows())
    if not report.kept:
        first = f"; first problem: {report.broken[0]}" if report.broken else ""
        raise InputError(f"{config.data.train} holds no row with context, query and answer that fits{first}")
    left_out = f", {too_long} left out whose answer does not fit into openrlhf.data.max_len" if too_long else ""
    return f"train: {report.sentence()}{left_out}"


if __name__ == "__main__":
    sys.exit(main())
