"""What the offline judge measures on real text: labelled claims, planted flaws, spread, attacks, CPU time.

    PYTHONPATH=. python benchmarks/real/embedded_judge.py --data ../shared/data

The files (claims_qags_cnndm.jsonl, answers_leval.jsonl and answers_leval_documents.jsonl; not shipped) are split by
document into two halves. What was chosen was chosen on the first; both are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from longreward import LongReward, Sample
from longreward.config import RewardConfig
from longreward.evaluation.people.claims import auc
from longreward.judge import Judge, Verdict
from longreward.judge.offline import OfflineJudge, by_rules
from longreward.judge.requests import JudgeRequest
from longreward.text.chunking import word_spans
from longreward.text.sentences import content_words, split_sentences

T = TypeVar("T")

SEEDS = 5  # flaws of each kind in each answer
DIMENSIONS = ("helpfulness", "logicality", "faithfulness", "completeness")
REFUSALS = (
    "I'm sorry, but I cannot answer this question.",
    "The document does not contain enough information to answer the question.",
    "As an AI language model, I am unable to help with that.",
)
AUXILIARY = re.compile(r"\b(is|are|was|were|has|have|had|can|could|will|would|should|must|may|might|does|do|did)\b")
NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w,]*\d)")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][A-Za-z]+")
ARBITRARY = {
    "`[[10]]`": "[[10]]",
    "a lone name": "Otto",
    "an opening phrase": "Thank you for this interesting question. Here is my answer:",
    "arbitrary words": "Seven purple kettles hummed beside the old railway. Nobody counted the lanterns twice.",
    "a refusal": REFUSALS[0],
}


def replaced(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def planted(answer: str, other: str, rng: random.Random) -> dict[str, tuple[str, str]]:
    """Kind of flaw -> the dimension that should fall, the flawed answer. `other`: another document."""
    sentences = split_sentences(answer)
    flaws: dict[str, tuple[str, str]] = {}
    matches = [*NUMBER.finditer(answer), *NAME.finditer(answer)]
    if matches:
        match = rng.choice(matches)
        others = sorted({name for name in NAME.findall(other) if len(name) > 3 and name not in answer})
        number = str(int(re.sub(r"\D", "", match[0])[:9] or 0) + rng.randint(3, 90))
        changed = number if match[0][0].isdigit() else rng.choice(others)
        flaws["a number or name changed"] = "faithfulness", replaced(answer, match, changed)
    if verbs := list(AUXILIARY.finditer(answer)):
        match = rng.choice(verbs)
        flaws["a negation"] = "faithfulness", replaced(answer, match, match[0] + " not")
    if len(sentences) > 1:
        kept = sorted(rng.sample(range(len(sentences)), (len(sentences) + 1) // 2))
        flaws["half of the sentences dropped"] = "completeness", " ".join(sentences[i] for i in kept)
    long = [text for text in split_sentences(other) if 8 <= len(text.split()) <= 30]
    flaws["a sentence of another document"] = "faithfulness", f"{answer} {rng.choice(long)}"
    again = rng.choice(sentences)
    flaws["a sentence repeated"] = "logicality", f"{answer} {again}"
    flaws["a refusal instead"] = "helpfulness", rng.choice(REFUSALS)
    return flaws


def copies(document: str, query: str, rng: random.Random) -> dict[str, str]:
    sentences = [text for text in split_sentences(document) if len(text.split()) > 4]
    asked = set(content_words(query))
    on_topic = sorted(sentences, key=lambda text: -len(asked & set(content_words(text))))[:5]
    return {
        "forty copied sentences": " ".join(rng.sample(sentences, min(40, len(sentences)))),
        "the first forty sentences": " ".join(sentences[:40]),
        "five copied sentences": " ".join(rng.sample(sentences, 5)),
        "five copied sentences on topic": " ".join(on_topic),
    }


class Scorer:
    """Scores by the whole pipeline."""

    def __init__(self, judge: Judge) -> None:
        self.reward = LongReward(RewardConfig(), judge, word_spans)

    async def __call__(self, samples: list[tuple[str, str, str]]) -> list[dict[str, float]]:
        results = await self.reward.score_many([Sample(context=c, query=q, answer=a) for c, q, a in samples])
        return [
            {name: r.dimensions[name].score or 0.0 for name in DIMENSIONS} | {"total": r.total or 0.0} for r in results
        ]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def claims(path: Path, score: Scorer) -> None:
    rows = read(path)
    found = await score([(row["context"], "Summarize the article.", row["claim"]) for row in rows])
    print("\n| claims | first half | second half | all |\n|---|---|---|---|")
    shown = []
    for half in (0, 1, None):
        chosen = [
            (one["faithfulness"], bool(row["supported"]))
            for row, one in zip(rows, found, strict=True)
            if half in (None, int(row["id"].split("-")[1]) % 2)
        ]
        shown.append(f"{auc(*zip(*chosen, strict=True)):.3f} ({len(chosen)})")
    print(f"| AUC of faithfulness | {' | '.join(shown)} |")


@dataclass(frozen=True)
class Answers:
    """The real answers with their scores."""

    rows: list[dict[str, Any]]
    texts: list[tuple[str, str, str]]
    """Document, question, answer."""
    scores: list[dict[str, float]]
    documents: dict[str, str]

    @property
    def references(self) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row["model"] == "reference"]

    def half(self, i: int) -> int:
        return list(self.documents).index(self.rows[i]["document"]) % 2


async def answers(folder: Path, score: Scorer) -> None:
    rows, found = read(folder / "answers_leval.jsonl"), read(folder / "answers_leval_documents.jsonl")
    documents = {row["document"]: row["context"] for row in sorted(found, key=lambda row: int(row["document"]))}
    texts = [(documents[row["document"]], row["query"], row["answer"]) for row in rows]
    all_answers = Answers(rows, texts, await score(texts), documents)
    spread(all_answers)
    await flaws(all_answers, score)
    await attacks(all_answers, score)


def spread(real: Answers) -> None:
    print(f"\n| answers | {' | '.join((*DIMENSIONS, 'total'))} |\n|---|---|---|---|---|---|")
    by_model = defaultdict(list)
    for row, one in zip(real.rows, real.scores, strict=True):
        by_model[row["model"]].append(one)
    for model, ones in by_model.items():
        print(f"| mean of {model} | {columns(ones, statistics.mean)} |")
    for name, ones in (("all", real.scores), ("references", by_model["reference"])):
        print(f"| standard deviation, {name} | {columns(ones, statistics.pstdev)} |")


def columns(ones: list[dict[str, float]], figure: Callable[[list[float]], float]) -> str:
    return " | ".join(f"{figure([one[name] for one in ones]):.2f}" for name in (*DIMENSIONS, "total"))


async def flaws(real: Answers, score: Scorer) -> None:
    cases = []
    names = list(real.documents)
    for i in real.references:
        row = real.rows[i]
        other = real.documents[names[(names.index(row["document"]) + 1) % len(names)]]
        for seed in range(SEEDS):
            made = planted(row["answer"], other, random.Random(f"{seed} {row['idx']}"))
            cases += [(kind, target, i, text) for kind, (target, text) in made.items()]
    flawed = await score([(*real.texts[i][:2], text) for _, _, i, text in cases])
    print(f"\n| flaw | falls, first half | second half | {' | '.join(DIMENSIONS)} |\n|---|---|---|---|---|---|---|")
    for kind, target in dict.fromkeys(case[:2] for case in cases):
        mine = [(i, new) for (k, _, i, _), new in zip(cases, flawed, strict=True) if k == kind]
        falls = []
        for half in (0, 1):
            fell = [new[target] < real.scores[i][target] - 1e-9 for i, new in mine if real.half(i) == half]
            falls.append(f"{100 * statistics.mean(fell):.0f}% of {len(fell)}")
        moved = [{d: new[d] - real.scores[i][d] for d in DIMENSIONS} for i, new in mine]
        means = [f"{statistics.mean(m[d] for m in moved):+.2f}" for d in DIMENSIONS]
        print(f"| {kind}: {target} | {' | '.join(falls)} | {' | '.join(means)} |")


async def attacks(real: Answers, score: Scorer) -> None:
    made = [
        (i, dict(ARBITRARY) | copies(*real.texts[i][:2], random.Random(real.rows[i]["idx"]))) for i in real.references
    ]
    tried = [(i, name, text) for i, texts in made for name, text in texts.items()]
    gained = await score([(*real.texts[i][:2], text) for i, _, text in tried])
    print(f"\n| attack | beats | {' | '.join((*DIMENSIONS, 'total'))} |\n|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(name for _, name, _ in tried):
        mine = [(i, one) for (i, n, _), one in zip(tried, gained, strict=True) if n == name]
        beaten = [
            one["total"] > score["total"]
            for i, one in mine
            for text, score in zip(real.texts, real.scores, strict=True)
            if text[:2] == real.texts[i][:2]
        ]
        means = columns([one for _, one in mine], statistics.mean)
        print(f"| {name} | {100 * statistics.mean(beaten):.0f}% of {len(beaten)} | {means} |")


class Timed(OfflineJudge):
    """Counts the CPU time of each kind of question."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        begun = time.thread_time()
        by_rules(request)
        self.spent[request.kind].append(time.thread_time() - begun)
        return await super().ask(request, document=document)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=("claims", "answers"))
    options = parser.parse_args()
    judge = Timed()
    score = Scorer(judge)
    if options.only != "answers":
        await claims(options.data / "claims_qags_cnndm.jsonl", score)
    if options.only != "claims":
        await answers(options.data, score)
    await score.reward.aclose()
    print("\n| question | asked | CPU, mean ms | 99th percentile ms |\n|---|---|---|---|")
    for kind, spent in judge.spent.items():
        late = sorted(spent)[int(0.99 * len(spent))]
        print(f"| {kind} | {len(spent)} | {1e3 * statistics.mean(spent):.2f} | {1e3 * late:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
