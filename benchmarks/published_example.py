"""The published example (LongReward's data/example) through this program, without work by hand: its responses are
scored, paired and compared, and the table says what came out.

    PYTHONPATH=.:benchmarks python benchmarks/published_example.py [--data FOLDER] [--folder DIR] [SETTING ...]

FOLDER holds sft.jsonl and sampled_responses.jsonl. The judge is the offline one unless settings name another, such as
judge.kind=openai judge.base_url=URL judge.model=NAME; with --folder what is scored is kept and not paid twice. Exit
code 1 where a step fails or finds nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DATA = Path("../shared/data/longreward_example")
MIN_ANSWERS = 5  # scored ones that a question must have (paper)


class Example:
    """The steps, in their order. Each gives what the table says of it."""

    def __init__(self, data: Path, folder: Path, settings: list[str]) -> None:
        self.data, self.settings = data, settings
        self.scored, self.pairs, self.agreement = (
            folder / name for name in ("scored_responses.jsonl", "preference_pairs.jsonl", "agreement.json")
        )
        self.judged = folder / "judged.jsonl"

    @property
    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        # SFT, collect and pair with a policy (rl/sft.py, rl/dpo.py) come here.
        return [
            ("score --contexts", self.score),
            ("pairs, best against worst", self.pair),
            ("agree", self.agree),
            ("agree without faithfulness, same file", self.agree_without),
        ]

    def score(self) -> str:
        given = [str(self.data / "sampled_responses.jsonl"), "--contexts", str(self.data / "sft.jsonl")]
        self._longreward("score", *given, "--out", str(self.scored))
        totals = [row["scores"]["total"] for row in _rows(self.scored)]
        scored = [total for total in totals if total is not None]
        return f"{len(scored)} of {len(totals)} answers, mean {sum(scored) / len(scored):.2f}"

    def pair(self) -> str:
        """By what the published pair script reads: idx, query, answer, scores.total."""
        contexts = {str(row["idx"]): row["context"] for row in _rows(self.data / "sft.jsonl")}
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in _rows(self.scored):
            if row["scores"]["total"] is not None:
                groups[row["idx"].split("-")[-2]].append(row)
        found = []
        for idx, group in groups.items():
            group.sort(key=lambda row: row["scores"]["total"], reverse=True)
            if len(group) >= MIN_ANSWERS:
                pair = {"idx": idx, "context": contexts[idx], "query": group[0]["query"]}
                found.append(pair | {"win_response": group[0]["answer"], "lose_response": group[-1]["answer"]})
        self.pairs.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in found), encoding="utf-8")
        return f"{len(found)} of {len(groups)} questions"

    def agree(self) -> str:
        """The pairs were made by these scores, so the total must agree with all of them."""
        return self._agreement()

    def agree_without(self) -> str:
        return self._agreement("weights.faithfulness=0")

    def _agreement(self, *settings: str) -> str:
        given = ["--out", str(self.judged), "--json", str(self.agreement), *settings]
        self._longreward("agree", str(self.pairs), *given)
        share = json.loads(self.agreement.read_text())["agreement"]["total"]["agree_ties_half"]
        return f"{share['count']:g} of {share['n']} pairs"

    def _longreward(self, *words: str) -> None:
        done = subprocess.run([sys.executable, "-m", "longreward", *words, *self.settings], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise SystemExit(f"longreward {words[0]} ended with {done.returncode}")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--folder", type=Path, help="where what is made is kept (default: it is thrown away)")
    options, settings = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="example-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        example = Example(options.data, folder, settings or ["judge.kind=offline"])
        table = ["| step | what came out | seconds |", "|---|---|---|"]
        for step, run in example.steps:
            started = time.monotonic()
            table.append(f"| {step} | {run()} | {time.monotonic() - started:.1f} |")
    print("\n".join(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
