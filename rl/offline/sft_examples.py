"""Rows of supervised data -> the examples that OpenRLHF's train_sft reads: prompt and answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from longreward.errors import InputError
from longreward.files import jsonlines
from rl.data.prompt_files import PromptReport, count_tokens, load_tokenizer, renderer
from rl.offline import published_files
from rl.offline.config import SftConfig
from rl.offline.pair_answers import ended
from rl.trainer.openrlhf_flags import Flags
from rl.trainer.seams import remote_code


def prepare(config: SftConfig, flags: Flags) -> str:
    """Write `prompt` and `answer` of each usable row into `config.examples`. Returns what became of them; InputError
    where none is usable."""
    tokenizer = load_tokenizer(flags.policy, trust_remote_code=remote_code.allowed())
    longest = flags.data_max_len
    report = PromptReport()
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
            if count_tokens(tokenizer, prompt + answer) > longest:
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
