"""The toy task: a document of one-fact sentences and a question that names three of its subjects.

Every slot of every document is drawn afresh, so an answer can only come from the document. Make the
shipped prompts again with:

    python rl/toy/task.py --out rl/toy/data
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUBJECTS = (
    "Mara Lena Tomas Ingrid Pavel Sofia Bruno Celia Dario Elsa Felix Greta Hugo Irene Jonas Katya Leon Mirko Nadia "
    "Oscar Petra Quinn Rosa Stefan Tilda Ugo Vera Walter Xenia Yusuf Zora Anton Berta Carlo Dora Emil Flora Gustav "
    "Helga Ivan Judit Karl Lucia Marko Nina Olga Paul Ruth Simon Tanja Ursula Viktor Wanda Yara Zeno Agnes Boris "
    "Clara Denis Edith"
).split()
# No receiver is ever a subject: a name in a question then points to one sentence only.
RECEIVERS = (
    "Otto Ada Basil Cora Duncan Esther Frida Gilbert Hanna Isaac Jasper Klara Lionel Mabel Nelson Opal Percy Ramona "
    "Silas Thelma Ulric Violet Winston Yvonne"
).split()
VERBS = "sold sent gave lent brought shipped carried showed offered promised mailed handed".split()
GOODS = (
    "copper silver amber wool silk salt pepper coffee cotton honey timber marble paper leather linen barley wheat "
    "olives cheese candles glass iron ivory ink maps lamps carpets pearls saffron tea"
).split()
PLACES = (
    "Lisbon Vienna Cairo Oslo Prague Athens Dublin Geneva Hamburg Istanbul Jakarta Kyoto Lagos Madrid Naples Ottawa "
    "Paris Quito Riga Seville Tunis Utrecht Verona Warsaw"
).split()

ASKED = 3
SENTENCES = (36, 44)
SPLITS = {"train": 512, "heldout": 96}


@dataclass(frozen=True)
class Fact:
    """One fact; its sentence has the same eight tokens' frame whatever the slots hold."""

    subject: str
    verb: str
    good: str
    receiver: str
    place: str

    @property
    def sentence(self) -> str:
        """The fact as the document says it."""
        return f"{self.subject} {self.verb} {self.good} to {self.receiver} in {self.place}."


@dataclass(frozen=True)
class Prompt:
    """A document and the subjects its question asks for, in the order asked."""

    idx: str
    facts: tuple[Fact, ...]
    asked: tuple[str, ...]

    @property
    def context(self) -> str:
        """The document."""
        return " ".join(fact.sentence for fact in self.facts)

    @property
    def query(self) -> str:
        """The question."""
        *first, last = self.asked
        return f"What did {', '.join(first)} and {last} do?" if first else f"What did {last} do?"

    @property
    def asked_facts(self) -> tuple[Fact, ...]:
        """The facts of a good answer, in the order asked."""
        by_subject = {fact.subject: fact for fact in self.facts}
        return tuple(by_subject[name] for name in self.asked)

    @property
    def answer(self) -> str:
        """The clean reference answer: the asked sentences, word for word, and nothing else."""
        return " ".join(fact.sentence for fact in self.asked_facts)

    def row(self) -> dict[str, str]:
        """The prompt in the published schema of the sft split."""
        return {"idx": self.idx, "context": self.context, "query": self.query, "answer": self.answer}


def message(context: str, query: str) -> str:
    """Return the one user message that a document and its question become."""
    return f"{context}\n\n{query}"


def make_prompt(rng: random.Random, idx: str, sentences: int | None = None, asked: int = ASKED) -> Prompt:
    """Draw a prompt: ``sentences`` facts with distinct subjects (36 to 44 if not given), ``asked`` of them asked."""
    count = rng.randint(*SENTENCES) if sentences is None else sentences
    if not 1 <= asked <= count <= len(SUBJECTS):
        raise ValueError(
            f"cannot ask for {asked} of {count} sentences: choose 1 <= asked <= sentences <= {len(SUBJECTS)}"
        )
    facts = tuple(
        Fact(name, rng.choice(VERBS), rng.choice(GOODS), rng.choice(RECEIVERS), rng.choice(PLACES))
        for name in rng.sample(SUBJECTS, count)
    )
    return Prompt(idx, facts, tuple(fact.subject for fact in rng.sample(facts, asked)))


def prompts(split: str) -> Iterator[Prompt]:
    """Yield the prompts of a split without end; the split's name is part of each seed, so splits share no document."""
    number = 0
    while True:
        idx = f"{split}-{number:05d}"
        yield make_prompt(random.Random(f"toy {idx}"), idx)
        number += 1


def split_text(split: str) -> str:
    """Return the JSON lines of a shipped split (``train`` or ``heldout``)."""
    if split not in SPLITS:
        raise ValueError(f"no shipped split {split!r}: use one of {', '.join(SPLITS)}")
    rows = (prompt.row() for prompt, _ in zip(prompts(split), range(SPLITS[split]), strict=False))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Write the shipped prompts."""
    parser = argparse.ArgumentParser(description="Write the prompts of the toy task.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        (out / f"{split}.jsonl").write_text(split_text(split), encoding="utf-8")


if __name__ == "__main__":
    main()
