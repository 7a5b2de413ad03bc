"""Answers of compromised quality, and the reading of an answer's faults.

``compromised_answer`` makes the answers of the supervised start; ``faults`` says what is wrong with any answer,
made here or sampled from a policy.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from toy.task import GOODS, PLACES, RECEIVERS, SUBJECTS, VERBS, ToyFact, ToyPrompt

FILLERS = (
    "That is a very interesting question.",
    "I hope this helps.",
    "Thank you for asking.",
    "There is much more to say about this.",
    "As everyone knows, trade is important.",
    "Please ask again at any time.",
)
# Weights of the draw: a policy this small learns to contradict itself less often than it is shown.
MODES = {"invented": 1.0, "missing": 1.0, "padded": 1.0, "contradicting": 2.5, "off_topic": 1.0}
CLEAN_SHARE = 0.42
SECOND_MODE_SHARE = 0.2

SLOTS = {"verb": VERBS, "good": GOODS, "receiver": RECEIVERS, "place": PLACES}
FACT = re.compile(rf"({'|'.join(SUBJECTS)}) (\w+) (\w+) to (\w+) in (\w+)\.")


def _altered(fact: ToyFact, rng: random.Random, slots: list[str]) -> ToyFact:
    changes = {slot: rng.choice([word for word in SLOTS[slot] if word != getattr(fact, slot)]) for slot in slots}
    return replace(fact, **changes)


def compromised_answer(prompt: ToyPrompt, rng: random.Random, modes: frozenset[str] | None = None) -> str:
    """Return an answer with the given modes, or with modes drawn from ``rng``.

    - ``invented``: one or two slots of a fact hold wrong values;
    - ``missing``: one or two of the asked facts are left out;
    - ``padded``: sentences without content, sometimes a sentence said twice;
    - ``contradicting``: a fact, then the same subject and verb with another value;
    - ``off_topic``: facts about subjects that were not asked.
    """
    if modes is None and rng.random() < CLEAN_SHARE:
        modes = frozenset()
    elif modes is None:
        count = 2 if rng.random() < SECOND_MODE_SHARE else 1
        modes = frozenset(rng.choices(list(MODES), list(MODES.values()), k=count))
    if unknown := modes - set(MODES):
        raise ValueError(f"unknown modes {sorted(unknown)}: use some of {', '.join(MODES)}")
    asked = list(prompt.asked_facts)
    if "missing" in modes:
        for _ in range(min(rng.randint(1, 2), len(asked) - 1)):
            asked.pop(rng.randrange(len(asked)))
    spoiled = rng.randrange(len(asked))
    if "invented" in modes:
        asked[spoiled] = _altered(asked[spoiled], rng, rng.sample(list(SLOTS), rng.randint(1, 2)))
    said = list(asked)
    if "contradicting" in modes:
        # Built on the fact as said: an invented fact stays the only kind of claim made before it is contradicted.
        place = rng.randrange(len(said))
        said.insert(place + 1, _altered(said[place], rng, [rng.choice(["good", "receiver", "place"])]))
    if "off_topic" in modes:
        others = [fact for fact in prompt.facts if fact.subject not in prompt.asked]
        for fact in rng.sample(others, rng.randint(1, 2)):
            said.insert(rng.randint(0, len(said)), fact)
    sentences = [fact.sentence for fact in said]
    if "padded" in modes:
        if rng.random() < 0.3:
            place = rng.randrange(len(sentences))
            sentences.insert(place + 1, sentences[place])
        for filler in rng.sample(FILLERS, rng.randint(1, 2)):
            sentences.insert(rng.choice([0, len(sentences), rng.randint(0, len(sentences))]), filler)
    return " ".join(sentences)


def faults(prompt: ToyPrompt, answer: str) -> frozenset[str]:
    """Return what is wrong with an answer: modes, ``broken`` sentences, ``reordered`` facts; nothing if it is clean."""
    if answer == prompt.answer:
        return frozenset()
    truth = {fact.subject: fact.sentence for fact in prompt.facts}
    claims: dict[str, list[str]] = {}
    found: set[str] = set()
    sentences = re.findall(r"[^.]+\.?", answer)
    for sentence in (part.strip() for part in sentences):
        match = FACT.fullmatch(sentence)
        if sentence in FILLERS:
            found.add("padded")
        elif match is None:
            found.add("broken")
        elif sentence in claims.setdefault(match[1], []):
            found.add("padded")
        else:
            claims[match[1]].append(sentence)
    for subject, said in claims.items():
        if subject not in prompt.asked:
            found.add("off_topic")
        if len(said) > 1:
            found.add("contradicting")
        if truth.get(subject) not in said:
            found.add("invented")
    if not set(prompt.asked) <= claims.keys():
        found.add("missing")
    return frozenset(found or {"reordered"})


def exact_facts(prompt: ToyPrompt, answer: str) -> int:
    """Return how many of the asked facts an answer says word for word."""
    return sum(fact.sentence in answer for fact in prompt.asked_facts)
