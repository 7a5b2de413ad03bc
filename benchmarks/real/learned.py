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
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from longreward.evaluation.people.claims import auc
from longreward.schema import ScoredAnswer
from longreward.text.copying import Copying
from longreward.text.language import terms
from rl.rollout.heldout_scores import markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from finished_runs import before_and_after, means, scores

from real.embedded_judge import read

COPIES = 0.5  # share of an answer's words that makes it a copy
REPEATED_RUN, REPEATS = 4, 0.1  # words in a row that an answer says again; share that makes it repetitive


def repeated(answer: str) -> float:
    """Share of an answer's rows of `REPEATED_RUN` words that it has said before."""
    words = terms(answer)
    found = list(zip(*(words[place:] for place in range(REPEATED_RUN)), strict=False))
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


def figures(answer: ScoredAnswer, document: str, judge: SecondJudge) -> dict[str, float]:
    copies = Copying(document, row=6).share(answer.answer) > COPIES
    repeats = repeated(answer.answer) > REPEATS
    return {
        **scores(answer),
        **{name: measure(judge, document, answer.query, answer.answer) for name, measure in MEASURES.items()},
        "words": len(terms(answer.answer)),
        "share cut at the limit": bool(answer.truncated),
        "share that copies the document": copies,
        "share that repeats itself": repeats,
        "share that does one or the other": copies or repeats,
    }


def report(run: Path, documents: dict[str, str], judge: SecondJudge, show: int) -> None:
    found = before_and_after(run)
    columns = [means(answers, lambda a: figures(a, documents[a.id], judge)) for answers in found.values()]
    print(f"\n{run}\n\n{markdown(list(found), columns)}")
    for prompt in sorted({answer.id for answer in found["before"]})[:show]:
        print(f"\n{prompt}: {documents[prompt]}")
        for name, answers in found.items():
            for answer in answers:
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
