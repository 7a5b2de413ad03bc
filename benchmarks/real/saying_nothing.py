"""Do refusals, empty words and copied passages pay? Their rewards beside those of honest answers.

    PYTHONPATH=. python benchmarks/real/saying_nothing.py --data ../shared/data [section.key=value ...]

Honest answers are those of models and people about real documents (answers_leval.jsonl, not shipped), and the toy
policy's on its task, with the settings of configs/grpo_cpu.yaml. The offline judge, the default configuration; further
words change it, such as `copying.loss=0`. Printed is the share of each kind that gets more than a tenth of the honest
answers do. Exit code 1 where one in a hundred does, or one in twenty passages of four sentences and more: a passage may
happen to answer the question, and a sentence or two are short exact answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from toy import answers, task
from toy import rewards as toy_rewards

from longreward import LongReward, Sample
from longreward.config import RewardConfig
from longreward.config_file import apply_overrides, validate
from longreward.text.sentences import split_sentences
from real.embedded_judge import REFUSALS

EMPTY = (
    "This is a very interesting question, and there are several important points to consider about it.",
    "The document discusses this topic in detail and gives a comprehensive overview of the relevant aspects.",
    "As the document states, this is an important matter that depends on many factors.",
    "The answer can be found in the document, which covers the subject thoroughly and clearly.",
    "There is much to say about this. Some things are more important than others. It is a complex matter.",
)
COPIED = (1, 2, 4, 40)  # sentences
MOST = {"refusal": 0.01, "empty words": 0.01, "4 sentences copied": 0.05, "40 sentences copied": 0.05}

Asked = tuple[str, str]
"""Document and question."""


def real(data: Path) -> tuple[list[Asked], list[tuple[Asked, str]]]:
    """The questions, and the honest answers to them."""
    rows = [json.loads(line) for line in (data / "answers_leval_documents.jsonl").read_text().splitlines()]
    documents = {row["document"]: row["context"] for row in rows}
    found = [json.loads(line) for line in (data / "answers_leval.jsonl").read_text().splitlines()]
    honest = [((documents[row["document"]], row["query"]), row["answer"]) for row in found]
    return list(dict.fromkeys(asked for asked, _ in honest)), honest


def toy() -> tuple[list[Asked], list[tuple[Asked, str]]]:
    chance = random.Random(0)
    prompts = list(islice(task.prompts("heldout"), 50))
    honest = [((p.context, p.query), answers.compromised_answer(p, chance)) for p in prompts for _ in range(8)]
    return [(prompt.context, prompt.query) for prompt in prompts], honest


def worthless(asked: Asked, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Kinds of answers that say nothing of their own, and one each."""
    yield from (("refusal", text) for text in REFUSALS)
    yield from (("empty words", text) for text in EMPTY)
    sentences = split_sentences(asked[0])
    for count in COPIED:
        places = (0, chance.randrange(max(1, len(sentences) - count)))
        yield from ((f"{count} sentences copied", " ".join(sentences[p : p + count])) for p in places)


def measure(name: str, questions: Sequence[Asked], honest: Sequence[tuple[Asked, str]], config: RewardConfig) -> bool:
    """Print a table. Returns whether one of the kinds pays."""
    chance = random.Random(0)
    given = [("honest", asked, answer) for asked, answer in honest]
    given += [(kind, asked, answer) for asked in questions for kind, answer in worthless(asked, chance)]
    samples = [Sample(id="", context=asked[0], query=asked[1], answer=answer) for _, asked, answer in given]
    rewards = asyncio.run(LongReward(config).score_many(samples))
    totals: dict[str, list[float]] = {}
    for (kind, _, _), reward in zip(given, rewards, strict=True):
        assert reward.total is not None
        totals.setdefault(kind, []).append(reward.total)
    bound = statistics.quantiles(totals["honest"], n=10)[0]
    print(f"\n{name}: a tenth of the honest answers get less than {bound:.2f}\n")
    print("| answers | n | mean | highest | more than that |\n| --- | ---: | ---: | ---: | ---: |")
    shares = {kind: statistics.fmean(total > bound for total in each) for kind, each in totals.items()}
    for kind, each in totals.items():
        cells = f"{len(each)} | {statistics.fmean(each):.2f} | {max(each):.2f} | {shares[kind]:.0%}"
        print(f"| {kind} | {cells} |")
    return any(shares[kind] >= most for kind, most in MOST.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options, words = parser.parse_known_args()
    offline = {"judge": {"kind": "offline"}}
    settings = [
        validate(RewardConfig, apply_overrides(base, words), "words") for base in (offline, toy_rewards.SETTINGS)
    ]
    pays = [measure(*each) for each in (("real", *real(options.data), settings[0]), ("toy", *toy(), settings[1]))]
    return int(any(pays))


if __name__ == "__main__":
    sys.exit(main())
