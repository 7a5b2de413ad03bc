"""Make the shipped files of the toy, byte for byte: prompts, canaries, short conversations and small benchmarks.

python benchmarks/toy/make_data.py --out rl/toy/data
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy.answers import MODES, compromised_answer
from toy.task import SPLITS, ToyPrompt, make_prompt, prompts

CANARIES = ("clean", "invented", "missing", "padded") * 3
"""Kinds of canaries: clean answers, and those of one mode."""
SHORT_SENTENCES, SHORT_ASKED = 8, 2
SFT, BENCHMARK = 256, 12
"""Rows of supervised data, and questions of each small benchmark."""


def row(prompt: ToyPrompt, **fields: str) -> dict[str, str]:
    """A prompt in the published schema of the sft split, with ``fields`` replaced."""
    return {"idx": prompt.idx, "context": prompt.context, "query": prompt.query, "answer": prompt.answer} | fields


def split_rows(split: str) -> Iterator[dict[str, str]]:
    """The prompts of ``train`` or ``heldout`` with their clean answers."""
    return (row(prompt) for prompt in islice(prompts(split), SPLITS[split]))


def canary_rows() -> Iterator[dict[str, str]]:
    """Answers of known quality, each about a document of its own."""
    kinds = len(set(CANARIES))
    for number, (kind, prompt) in enumerate(zip(CANARIES, prompts("canary"), strict=False)):
        idx = f"{kind}-{number // kinds}"
        made = compromised_answer(prompt, random.Random(f"toy {idx}"), frozenset({kind} & MODES.keys()))
        yield row(prompt, idx=idx, answer=made)


def short_prompts(name: str, size: int) -> Iterator[ToyPrompt]:
    """Prompts whose document is a few sentences in the question itself; the name is part of each seed."""
    for number in range(size):
        idx = f"{name}-{number:03d}"
        yield make_prompt(random.Random(f"toy {idx}"), idx, SHORT_SENTENCES, SHORT_ASKED)


def short_pair_rows() -> Iterator[dict[str, str]]:
    """Preference pairs: a clean answer and one of compromised quality."""
    for prompt in short_prompts("short-pair", 192):
        rng = random.Random(f"toy fault {prompt.idx}")
        fault = frozenset({rng.choice(sorted(MODES))})
        yield {
            "prompt": prompt.message,
            "chosen": prompt.answer,
            "rejected": compromised_answer(prompt, rng, fault),
        }


def short_heldout_rows() -> Iterator[dict[str, str]]:
    """Short prompts with the clean answer as reference."""
    for prompt in short_prompts("short-heldout", 64):
        yield {"idx": prompt.idx, "query": prompt.message, "reference": prompt.answer}


def sft_rows() -> Iterator[dict[str, str]]:
    """Supervised data as the paper says it is: answers of compromised quality."""
    for prompt in islice(prompts("sft-file"), SFT):
        yield row(prompt, answer=compromised_answer(prompt, random.Random(f"toy {prompt.idx}")))


def longbench_rows() -> Iterator[dict[str, Any]]:
    """In the form of LongBench, a dataset of each class."""
    for dataset in ("multifieldqa_en", "hotpotqa", "multi_news"):
        for prompt in islice(prompts(dataset), BENCHMARK):
            yield row(prompt, dataset=dataset) | {"answer": [prompt.answer]}


def chat_rows() -> Iterator[dict[str, Any]]:
    """In the form of LongBench-Chat's test cases: idx is the number of its entry in few_shots.json."""
    for number, prompt in enumerate(islice(prompts("chat"), BENCHMARK), 1):
        yield {"idx": number, "prompt": prompt.message, "query": prompt.query, "answer": prompt.answer}


def few_shot_rows() -> Iterator[list[dict[str, Any]]]:
    """The scored answers to each test case: a clean one, and one with two faults."""
    for prompt in islice(prompts("chat"), BENCHMARK):
        faulty = compromised_answer(prompt, random.Random(f"toy {prompt.idx}"), frozenset({"invented", "missing"}))
        yield [{"answer": prompt.answer, "score": 10}, {"answer": faulty, "score": 3}]


FILES: dict[str, Callable[[], Iterator[Any]]] = {
    "train.jsonl": lambda: split_rows("train"),
    "heldout.jsonl": lambda: split_rows("heldout"),
    "canaries.jsonl": canary_rows,
    "short_pairs.jsonl": short_pair_rows,
    "short_heldout.jsonl": short_heldout_rows,
    "sft.jsonl": sft_rows,
    "longbench.jsonl": longbench_rows,
    "longbench_chat.jsonl": chat_rows,
    "few_shots.json": few_shot_rows,
}


def file_text(name: str) -> str:
    """The text of a shipped file: JSON lines, or a list in a .json file. ValueError for an unknown name."""
    if name not in FILES:
        raise ValueError(f"no shipped file {name!r}: use one of {', '.join(FILES)}")
    lines = [json.dumps(line, ensure_ascii=False) for line in FILES[name]()]
    return "[" + ",\n".join(lines) + "]\n" if name.endswith(".json") else "".join(line + "\n" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the shipped files of the toy.")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).write_text(file_text(name), encoding="utf-8")
