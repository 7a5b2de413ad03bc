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
from collections.abc import Callable, Sequence
from pathlib import Path

from longreward import LongReward, Sample
from longreward.judge.offline import OfflineJudge, by_rules
from longreward.judge.requests import JudgeRequest
from longreward.text.sentences import content_words, split_sentences

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


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    pairs = [(a, b) for a, x in zip(scores, labels, strict=True) if x for b, y in zip(scores, labels, strict=True) if not y]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def replaced(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def planted(answer: str, other: str, rng: random.Random) -> dict[str, tuple[str, str]]:
    """Kind of flaw -> the dimension that should fall, the flawed answer. `other`: another document."""
    sentences, flaws = split_sentences(answer), {}
    if numbers := list(NUMBER.finditer(answer)):
        match = rng.choice(numbers)
        value = str(int(re.sub(r"\D", "", match[0])[:9]) + rng.randint(3, 90))
        flaws["a number changed"] = "faithfulness", replaced(answer, match, value)
    if names := list(NAME.finditer(answer)):
        match = rng.choice(names)
        others = sorted({name for name in NAME.findall(other) if len(name) > 3 and name not in answer})
        flaws["a name changed"] = "faithfulness", replaced(answer, match, rng.choice(others))
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
    """Scores by the whole pipeline; documents are prepared once."""

    def __init__(self) -> None:
        self.reward = LongReward.from_config({"judge": {"kind": "offline"}})

    async def __call__(self, samples: list[tuple[str, str, str]]) -> list[dict[str, float]]:
        results = await self.reward.score_many([Sample(context=c, query=q, answer=a) for c, q, a in samples])
        return [{name: r.dimensions[name].score for name in DIMENSIONS} | {"total": r.total} for r in results]


async def claims(path: Path, score: Scorer) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
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


async def answers(folder: Path, score: Scorer) -> None:
    rows = [json.loads(line) for line in (folder / "answers_leval.jsonl").read_text().splitlines()]
    lines = (folder / "answers_leval_documents.jsonl").read_text().splitlines()
    documents = {row["document"]: row["context"] for row in map(json.loads, lines)}
    order = sorted(documents, key=int)
    halves = {name: place % 2 for place, name in enumerate(order)}
    texts = [(documents[row["document"]], row["query"], row["answer"]) for row in rows]
    scores = await score(texts)
    print("\n| model | " + " | ".join((*DIMENSIONS, "total")) + " |\n|---|---|---|---|---|---|")
    by_model = defaultdict(list)
    for row, one in zip(rows, scores, strict=True):
        by_model[row["model"]].append(one)
    for model, ones in by_model.items():
        print(f"| {model} | " + " | ".join(f"{statistics.mean(o[d] for o in ones):.2f}" for d in ones[0]) + " |")
    for name, chosen in (("all answers", scores), ("references", by_model["reference"])):
        print(f"| standard deviation, {name} | " + " | ".join(f"{statistics.pstdev(o[d] for o in chosen):.2f}" for d in chosen[0]) + " |")

    references = [(i, row) for i, row in enumerate(rows) if row["model"] == "reference"]
    cases = []
    for i, row in references:
        other = documents[order[(order.index(row["document"]) + 1) % len(order)]]
        for seed in range(5):
            for kind, (dimension, text) in planted(row["answer"], other, random.Random(f"{seed} {row['idx']}")).items():
                cases.append((kind, dimension, i, halves[row["document"]], text))
    flawed = await score([(*texts[i][:2], text) for _, _, i, _, text in cases])
    print("\n| flaw | should fall | falls, first half | second half | mean change: " + " | ".join(DIMENSIONS) + " |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in dict.fromkeys(case[0] for case in cases):
        mine = [(case, new) for case, new in zip(cases, flawed, strict=True) if case[0] == kind]
        target = mine[0][0][1]
        falls = []
        for half in (0, 1):
            fell = [new[target] < scores[i][target] - 1e-9 for (_, _, i, h, _), new in mine if h == half]
            falls.append(f"{100 * statistics.mean(fell or [0]):.0f}% of {len(fell)}")
        moved = {d: [new[d] - scores[i][d] for (_, _, i, _, _), new in mine] for d in DIMENSIONS}
        means = [f"{statistics.mean(m):+.2f} (abs {statistics.mean(map(abs, m)):.2f})" for m in moved.values()]
        print(f"| {kind} | {target} | {' | '.join(falls)} | {' | '.join(means)} |")

    attacks = [(i, dict(ARBITRARY) | copies(*texts[i][:2], random.Random(row["idx"]))) for i, row in references]
    tried = [(i, name, text) for i, made in attacks for name, text in made.items()]
    gained = await score([(*texts[i][:2], text) for i, _, text in tried])
    print("\n| attack | beats, of the real answers to the question | mean: " + " | ".join((*DIMENSIONS, "total")) + " |\n|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(name for _, name, _ in tried):
        mine = [(i, one) for (i, n, _), one in zip(tried, gained, strict=True) if n == name]
        beaten = [
            one["total"] > real["total"]
            for i, one in mine
            for text, real in zip(texts, scores, strict=True)
            if text[:2] == texts[i][:2]
        ]
        print(f"| {name} | {100 * statistics.mean(beaten):.0f}% of {len(beaten)} | " + " | ".join(f"{statistics.mean(o[d] for _, o in mine):.2f}" for d in mine[0][1]) + " |")


class Timed(OfflineJudge):
    """Counts the CPU time of each kind of question."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)

    async def ask(self, request: JudgeRequest, *, document: str = ""):
        begun = time.thread_time()
        by_rules(request)
        self.spent[request.kind].append(time.thread_time() - begun)
        return await super().ask(request, document=document)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=("claims", "answers"))
    options = parser.parse_args()
    score = Scorer()
    judge = Timed()
    score.reward = LongReward(score.reward.config, judge)
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
