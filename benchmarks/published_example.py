"""The published example (LongReward's data/example) through this program, without work by hand: its responses are
scored, paired and compared; SmolLM2 is trained on its supervised data, and its responses become pairs for that policy.
The table says what came out.

    PYTHONPATH=.:benchmarks python benchmarks/published_example.py [--data FOLDER] [--folder DIR] [SETTING ...]

FOLDER holds sft.jsonl and sampled_responses.jsonl. The judge is the offline one unless settings name another, such as
judge.kind=openai judge.base_url=URL judge.model=NAME; with --folder what is scored is kept and not paid twice. Exit
code 1 where a step fails or finds nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from real.models import smollm2

ROOT = Path(__file__).resolve().parents[1]
DATA = Path("../shared/data/longreward_example")
MIN_ANSWERS = 5  # scored ones that a question must have (paper)
LENGTHS = ("openrlhf.data.max_len=2048", "openrlhf.rollout.max_new_tokens=640")  # the document is cut in the middle


class Example:
    """The steps, in their order. Each gives what the table says of it."""

    def __init__(self, data: Path, folder: Path, settings: list[str]) -> None:
        self.data, self.settings = data, settings
        self.scored, self.pairs, self.agreement = (
            folder / name for name in ("scored_responses.jsonl", "preference_pairs.jsonl", "agreement.json")
        )
        self.judged, self.runs = folder / "judged.jsonl", folder / "runs"

    @property
    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("score --contexts", self.score),
            ("pairs, best against worst", self.pair),
            ("agree", self.agree),
            ("agree without faithfulness, same file", self.agree_without),
            ("rl/sft.py", self.sft),
            ("rl/dpo.py, collect and pair", self.collect_and_pair),
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

    def sft(self) -> str:
        model = smollm2(Path(tempfile.gettempdir()) / "longreward-models")
        batch = ("train_sft.train.batch_size=1", "train_sft.train.micro_batch_size=1")
        self._rl("sft", "configs/sft_cpu.yaml", f"openrlhf.actor.model_name_or_path={model}", *batch)
        return f"{json.loads((self.runs / 'sft/summary.json').read_text())['steps']} step"

    def collect_and_pair(self) -> str:
        """The published responses, scored here as they stand."""
        stages = ("--stage", "collect", "--stage", "pair", "data.heldout=null", "short.heldout=null")
        chunks = ("reward.chunking.evidence_tokens=128", "reward.chunking.extraction_tokens=4096")
        responses = f"collect.responses={(self.data / 'sampled_responses.jsonl').resolve()}"
        judge = [f"reward.{setting}" for setting in self.settings]
        policy = f"openrlhf.actor.model_name_or_path={self.runs / 'sft/model'}"
        self._rl("dpo", "configs/dpo_cpu.yaml", *stages, *chunks, responses, policy, *judge)
        pairs = list(_rows(self.runs / "dpo/pairs/train.jsonl"))
        scores = f"{pairs[0]['chosen_score']:.2f} against {pairs[0]['rejected_score']:.2f}"
        return f"{len(pairs)} pair, {scores}"

    def _rl(self, program: str, config: str, *words: str) -> None:
        command = [sys.executable, f"rl/{program}.py", "--config", config, f"run.dir={self.runs.resolve()}"]
        command.append("resume=true")  # what a run of before has scored in --folder is not scored again
        command += [f"run.name={program}", f"data.train={(self.data / 'sft.jsonl').resolve()}", *LENGTHS, *words]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
        if done.returncode:
            raise SystemExit(f"rl/{program}.py ended with {done.returncode}")

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
