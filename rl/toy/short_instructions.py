"""Short conversations of the toy: a few sentences in the question itself. Make the shipped files again with:

    python rl/toy/short_instructions.py --out rl/toy/data

`short_pairs.jsonl` are preference pairs (a clean answer, and one of compromised quality), `short_heldout.jsonl` prompts
with the clean answer as reference.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl.toy.answers import MODES, compromised_answer
from rl.toy.task import Prompt, make_prompt, message

SENTENCES, ASKED = 8, 2
PAIRS, HELDOUT = 192, 64


def prompts(name: str, count: int) -> Iterator[Prompt]:
    """Prompts of their own: the name is part of each seed."""
    for number in range(count):
        idx = f"{name}-{number:03d}"
        yield make_prompt(random.Random(f"toy {idx}"), idx, SENTENCES, ASKED)


def pair_rows() -> Iterator[dict[str, Any]]:
    """Rows of `short_pairs.jsonl`."""
    for prompt in prompts("short-pair", PAIRS):
        rng = random.Random(f"toy fault {prompt.idx}")
        fault = frozenset({rng.choice(sorted(MODES))})
        rejected = compromised_answer(prompt, rng, fault)
        yield {"prompt": message(prompt.context, prompt.query), "chosen": prompt.answer, "rejected": rejected}


def heldout_rows() -> Iterator[dict[str, Any]]:
    """Rows of `short_heldout.jsonl`."""
    for prompt in prompts("short-heldout", HELDOUT):
        yield {"idx": prompt.idx, "query": message(prompt.context, prompt.query), "reference": prompt.answer}


def main() -> None:
    """Write the shipped files."""
    parser = argparse.ArgumentParser(description="Write the short conversations of the toy.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("short_pairs", pair_rows()), ("short_heldout", heldout_rows())):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
