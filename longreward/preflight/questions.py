"""Short questions to try a judge with: one of each kind, so easy that every judge can answer them rightly."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from longreward.config import RewardConfig
from longreward.judge.requests import (
    CheckCoverage,
    CheckStatement,
    ExtractRelevant,
    RateCompleteness,
    RateHelpfulness,
    RateLogicality,
    RewardRequest,
    VerifyStatement,
    kinds_for,
)
from longreward.prompts import Language
from longreward.text.chunking import word_spans


@dataclass(frozen=True, slots=True)
class _Example:
    """A short document, a question about it, a right answer and a wrong one."""

    passage: str
    query: str
    right: str
    wrong: str
    points: tuple[str, str]
    """What a complete answer says."""


_EXAMPLES: dict[Language, _Example] = {
    "en": _Example(
        "Mara sold 40 crates of copper to Otto in Lisbon. It rained all day. Lena bought apples from Karl in Rome.",
        "What did Mara sell to Otto, and where?",
        "Mara sold 40 crates of copper to Otto in Lisbon.",
        "Karl bought 12 ships from Lena in Oslo.",
        ("Mara sold 40 crates of copper to Otto.", "The copper was sold in Lisbon."),
    ),
    "zh": _Example(
        "玛拉在里斯本把40箱铜卖给了奥托。那天一直下雨。莉娜在罗马向卡尔买了苹果。",
        "玛拉卖给奥托什么？在哪里？",
        "玛拉在里斯本把40箱铜卖给了奥托。",
        "卡尔在奥斯陆向莉娜买了12艘船。",
        ("玛拉把40箱铜卖给了奥托。", "铜是在里斯本卖出的。"),
    ),
}

_BESIDE_THE_POINT = "Thank you for this interesting question. Rain is water that falls from clouds."
_CONTRADICTORY = (
    "Mara sold copper to Otto in Lisbon. Mara never sold anything to Otto in Lisbon, and she was in Oslo then."
)

_NEEDLES = {"beginning": ("first", "Quillon"), "middle": ("second", "Tamsin"), "end": ("third", "Orrery")}
"""Part of the full-size passage -> which ship it names, and the ship's name."""
_HAY = (
    "It rained all day, and nobody in the town went out. Karl counted the crates of the week and wrote the sum on a "
    "board. Towards the evening the wind turned, and the gulls came back to the roofs. Lena closed her shop early, for "
    "there was nothing left to sell. The old bell was rung twice, as on every other day. "
)


def questions(config: RewardConfig, language: Language = "en") -> list[RewardRequest[Any]]:
    """One short question of each kind that this reward asks, about a right answer.

    Six questions if every dimension has a weight, and more for what a reward may ask besides.
    """
    return [_about_example(kind, language) for kind in kinds_for(config)]


def wrong_answers(config: RewardConfig) -> list[RewardRequest[Any]]:
    """The questions that end in a number, or in one for each point, each about an answer that is clearly wrong in just
    that respect."""
    wrong = _EXAMPLES["en"].wrong
    changes: dict[type[RewardRequest[Any]], dict[str, str]] = {
        RateHelpfulness: {"answer": _BESIDE_THE_POINT},
        RateLogicality: {"answer": _CONTRADICTORY},
        VerifyStatement: {"statement": wrong},
        CheckStatement: {"statement": wrong},
        RateCompleteness: {"answer": wrong},
        CheckCoverage: {"answer": wrong},
    }
    asked = kinds_for(config)
    return [_about_example(kind, "en", **change) for kind, change in changes.items() if kind in asked]


def full_extraction(config: RewardConfig) -> ExtractRelevant:
    """An extraction as long as those of a real document, with a fact at its beginning, its middle and its end."""
    facts = {part: f"The {ship} ship of Mara is called {name}. " for part, (ship, name) in _NEEDLES.items()}
    words = max(2, config.chunking.extraction_tokens - sum(len(word_spans(fact)) for fact in facts.values()))
    half = _HAY * (words // (2 * len(word_spans(_HAY))) + 1)
    half = half[: word_spans(half)[words // 2 - 1][1]] + ". "
    chunk = facts["beginning"] + half + facts["middle"] + half + facts["end"]
    return ExtractRelevant("en", "What are the ships of Mara called?", chunk.strip())


def parts_missed(extracted: str | None) -> list[str]:
    """The parts of `full_extraction`'s passage whose fact is not in the reply's value."""
    said = (extracted or "").casefold()
    return [part for part, (_, name) in _NEEDLES.items() if name.casefold() not in said]


def _about_example(kind: type[RewardRequest[Any]], language: Language, **changes: str) -> RewardRequest[Any]:
    """A question of this kind about the example's right answer, with `changes` to its material."""
    example = _EXAMPLES[language]
    material: dict[str, Any] = {
        "language": language,
        "query": example.query,
        "answer": example.right,
        "answers": [example.wrong, example.right],
        "statement": example.right,
        "statements": [example.right, example.wrong],
        "evidence": [example.passage],
        "chunk": example.passage,
        "document": example.passage,
        "extractions": [example.right],
        "points": example.points,
    } | changes
    return kind(**{field.name: material[field.name] for field in fields(kind)})
