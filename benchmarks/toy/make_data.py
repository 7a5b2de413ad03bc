"""Make the shipped files of the toy, byte for byte: prompts, canaries and short conversations.

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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy.answers import MODES, compromised_answer
from toy.task import SPLITS, ToyPrompt, make_prompt, prompts

CANARIES = ("clean", "invented", "missing", "padded") * 3
"""Kinds of canaries: clean answers, and those of one mode."""
SHORT_SENTENCES, SHORT_ASKED = 8, 2


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


FILES: dict[str, Callable[[], Iterator[dict[str, str]]]] = {
    "train": lambda: split_rows("train"),
    "heldout": lambda: split_rows("heldout"),
    "canaries": canary_rows,
    "short_pairs": short_pair_rows,
    "short_heldout": short_heldout_rows,
}


def file_text(name: str) -> str:
    """The JSON lines of a shipped file, named without its ending. ValueError for an unknown name."""
    if name not in FILES:
        raise ValueError(f"no shipped file {name!r}: use one of {', '.join(FILES)}")
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in FILES[name]())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the shipped files of the toy.")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / f"{name}.jsonl").write_text(file_text(name), encoding="utf-8")
