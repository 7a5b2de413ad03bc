"""The toy task: a document of one-fact sentences and a question that names three of its subjects.

Every slot of every document is drawn anew, so an answer can only come from the document.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

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
class ToyFact:
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
class ToyPrompt:
    """A document and the subjects its question asks for, in the order asked."""

    idx: str
    facts: tuple[ToyFact, ...]
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
    def asked_facts(self) -> tuple[ToyFact, ...]:
        """The facts of a good answer, in the order asked."""
        by_subject = {fact.subject: fact for fact in self.facts}
        return tuple(by_subject[name] for name in self.asked)

    @property
    def answer(self) -> str:
        """The clean reference answer: the asked sentences, word for word, and nothing else."""
        return " ".join(fact.sentence for fact in self.asked_facts)

    @property
    def message(self) -> str:
        """The one user message that the document and its question become."""
        return f"{self.context}\n\n{self.query}"


def make_prompt(rng: random.Random, idx: str, sentences: int | None = None, asked: int = ASKED) -> ToyPrompt:
    """Draw a prompt: ``sentences`` facts with distinct subjects (36 to 44 if not given), ``asked`` of them asked."""
    size = rng.randint(*SENTENCES) if sentences is None else sentences
    if not 1 <= asked <= size <= len(SUBJECTS):
        raise ValueError(
            f"cannot ask for {asked} of {size} sentences: choose 1 <= asked <= sentences <= {len(SUBJECTS)}"
        )
    facts = tuple(
        ToyFact(name, rng.choice(VERBS), rng.choice(GOODS), rng.choice(RECEIVERS), rng.choice(PLACES))
        for name in rng.sample(SUBJECTS, size)
    )
    return ToyPrompt(idx, facts, tuple(fact.subject for fact in rng.sample(facts, asked)))


def prompts(split: str) -> Iterator[ToyPrompt]:
    """Yield the prompts of a split without end; the split's name is part of each seed, so splits share no document."""
    for number in count():
        idx = f"{split}-{number:05d}"
        yield make_prompt(random.Random(f"toy {idx}"), idx)
