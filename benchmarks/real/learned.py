"""What a run of configs/grpo_smollm2_cpu.yaml has learned, by other eyes than its judge's.

    PYTHONPATH=. python benchmarks/real/learned.py --run runs/grpo_smollm2_cpu [--run runs/OTHER] [--show 4]
    PYTHONPATH=. python benchmarks/real/learned.py --claims claims_qags_cnndm.jsonl

Of the held-out answers before and after training: the reward; the second judge; how many copy the document or repeat
themselves; their length. The second judge is the model before training, asked how likely an answer is to it after
document and question, and how much of that the document adds, in nats a token. It compares no words, no rule of the
offline judge is in it, and nothing was trained on it. `--claims` measures it on claims that people labelled: AUC of
supported against others.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from longreward import store
from longreward.evaluation.intervals import mean_and_interval
from longreward.schema import ScoredAnswer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real.embedded_judge import auc, read

COPIED_RUN, COPIES = 6, 0.5  # words in a row that stand in the document; share of an answer that makes it a copy
REPEATED_RUN, REPEATS = 4, 0.1  # words in a row that an answer says again; share that makes it repetitive


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def runs(text: str, length: int) -> list[tuple[str, ...]]:
    found = words(text)
    return [tuple(found[i : i + length]) for i in range(len(found) - length + 1)]


def copied(document: str, answer: str) -> float:
    """Share of an answer's words that stand in a row of `COPIED_RUN` from the document."""
    known, marked = set(runs(document, COPIED_RUN)), [False] * len(words(answer))
    for start, run in enumerate(runs(answer, COPIED_RUN)):
        if run in known:
            marked[start : start + COPIED_RUN] = [True] * COPIED_RUN
    return sum(marked) / max(1, len(marked))


def repeated(answer: str) -> float:
    """Share of an answer's rows of `REPEATED_RUN` words that it has said before."""
    found = runs(answer, REPEATED_RUN)
    return 1 - len(set(found)) / len(found) if found else 0.0


class SecondJudge:
    """How well an answer fits its document, by the likelihoods of a model that was not trained."""

    def __init__(self, model: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    @cache  # noqa: B019 (one judge a process)
    def likelihood(self, asked: str, answer: str) -> float:
        """Of an answer to what is asked, mean over its tokens, in nats; 0 for an answer without a word."""
        if not answer.strip():
            return 0.0
        turn = [{"role": "user", "content": asked}]
        prompt = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        before = self.tokenizer(prompt, return_tensors="pt").input_ids
        said = self.tokenizer(answer.strip(), return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = self.model(torch.cat([before, said], 1), logits_to_keep=said.shape[1] + 1).logits[0, :-1]
        return float(torch.log_softmax(logits, -1).gather(1, said[0][:, None]).mean())


def given_document(judge: SecondJudge, document: str, query: str, answer: str) -> float:
    return judge.likelihood(f"{document}\n\n{query}", answer)


def added_by_document(judge: SecondJudge, document: str, query: str, answer: str) -> float:
    return given_document(judge, document, query, answer) - judge.likelihood(query, answer)


MEASURES = {"likelihood, nats a token": given_document, "what the document adds": added_by_document}


@dataclass(frozen=True)
class Answers:
    """Held-out answers of one policy, with their documents."""

    answers: list[ScoredAnswer]
    documents: dict[str, str]

    def over_prompts(self, measure: Callable[[ScoredAnswer, str], float]) -> dict[str, float]:
        """Prompt -> mean of its answers."""
        found: dict[str, list[float]] = {}
        for answer in self.answers:
            found.setdefault(answer.id, []).append(measure(answer, self.documents[answer.id]))
        return {prompt: statistics.fmean(values) for prompt, values in found.items()}


def heldout(run: Path, documents: dict[str, str]) -> tuple[Answers, Answers]:
    """A run's held-out answers from before and from after training."""
    every = [answer for file in store.files(run / "store") for _, _, answer in store.read(file, None, ScoredAnswer)]
    began = min(answer.time for answer in every if answer.split == "train")
    asked = [answer for answer in every if answer.split == "heldout"]
    return tuple(Answers([a for a in asked if (a.time > began) is after], documents) for after in (False, True))  # type: ignore[return-value]


def change(before: Answers, after: Answers, measure: Callable[[ScoredAnswer, str], float]) -> str:
    first, last = before.over_prompts(measure), after.over_prompts(measure)
    differences = [last[prompt] - first[prompt] for prompt in sorted(first.keys() & last.keys())]
    mean, low, high, _ = mean_and_interval(differences) or (0.0, None, None, 0)
    ends = f" ({low:+.2f} to {high:+.2f})" if low is not None and high is not None else ""
    return f"{statistics.fmean(first.values()):.2f} | {statistics.fmean(last.values()):.2f} | {mean:+.2f}{ends}"


def share(before: Answers, after: Answers, fulfils: Callable[[ScoredAnswer, str], bool]) -> str:
    first, last = (
        statistics.fmean(fulfils(answer, side.documents[answer.id]) for answer in side.answers)
        for side in (before, after)
    )
    return f"{first:.0%} | {last:.0%} | {100 * (last - first):+.1f} points"


def score(answer: ScoredAnswer, name: str) -> float:
    found = answer.score_of(name)
    if found is None:
        raise SystemExit(
            f"{answer.id}: {name} is void ({answer.why_void}); this compares answers that all have a score"
        )
    return found


def report(run: Path, documents: dict[str, str], judge: SecondJudge, show: int) -> None:
    before, after = heldout(run, documents)
    print(f"\n{run}: {len(before.answers)} answers before, {len(after.answers)} after\n")
    print("| | before | after | change |\n|---|---|---|---|")
    for name in ("total", *before.answers[0].dimensions):
        print(f"| {name} | {change(before, after, lambda a, _, name=name: score(a, name))} |")  # type: ignore[misc]
    for name, measure in MEASURES.items():
        print(f"| {name} | {change(before, after, lambda a, d, m=measure: m(judge, d, a.query, a.answer))} |")  # type: ignore[misc]
    print(f"| words | {change(before, after, lambda a, _: len(words(a.answer)))} |")
    print(f"| cut at the limit | {share(before, after, lambda a, _: bool(a.truncated))} |")
    print(f"| copy the document | {share(before, after, lambda a, d: copied(d, a.answer) > COPIES)} |")
    print(f"| repeat themselves | {share(before, after, lambda a, _: repeated(a.answer) > REPEATS)} |")
    either = share(before, after, lambda a, d: copied(d, a.answer) > COPIES or repeated(a.answer) > REPEATS)
    print(f"| one or the other | {either} |")
    for prompt in sorted({answer.id for answer in before.answers})[:show]:
        print(f"\n{prompt}: {documents[prompt]}")
        for name, side in (("before", before), ("after", after)):
            for answer in side.answers:
                if answer.id == prompt:
                    print(f"- {name}, {answer.total:.1f}: {answer.answer.strip()}")


def claims(path: Path, judge: SecondJudge, most: int) -> None:
    rows = read(path)[:most]
    for name, measure in MEASURES.items():
        scores = [measure(judge, row["context"], "Summarise the text in two sentences.", row["claim"]) for row in rows]
        print(f"{name}: AUC {auc(scores, [row['supported'] for row in rows]):.3f} of {len(rows)} claims")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="what make_data.py made")
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--show", type=int, default=0, help="so many prompts with all their answers")
    parser.add_argument("--claims", type=Path)
    parser.add_argument("--most", type=int, default=90, help="claims")
    options = parser.parse_args(arguments)
    judge = SecondJudge(options.data / "smollm2")
    rows = [json.loads(line) for line in (options.data / "readmes" / "heldout.jsonl").read_text().splitlines()]
    for run in options.run:
        report(run, {row["idx"]: row["context"] for row in rows}, judge, options.show)
    if options.claims:
        claims(options.claims, judge, options.most)


if __name__ == "__main__":
    main()
