"""What an audit plants in answers: flaws that a judge must see, and changes that must not matter to it.

facts.py makes facts wrong, passages.py adds and drops sentences, harmless.py changes the form alone. English and
Chinese. The same answer, rows and seed always give the same text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longreward.evaluation.flaws import facts, harmless, passages
from longreward.evaluation.flaws.material import Material
from longreward.schema import DIMENSIONS, Dimension, Sample

AGAIN = "judged again"
"""The answer as it is, past everything that is kept: what moves then is the judge's own noise."""


@dataclass(frozen=True)
class Flaw:
    """Something planted in an answer. Where it lowers no dimension and has none that may not rise, it is harmless."""

    name: str
    plant: Callable[[Material], str | None]
    """None where the answer has no place for it."""
    lowers: tuple[Dimension, ...] = ()
    """Dimensions whose score must fall."""
    never_raises: tuple[Dimension, ...] = ()
    """Dimensions whose score must not rise."""

    @property
    def is_harmless(self) -> bool:
        return not (self.lowers or self.never_raises)


FLAWS = (
    Flaw("number changed", facts.number_changed, ("faithfulness",)),
    Flaw("name changed", facts.name_changed, ("faithfulness",)),
    Flaw("unit changed", facts.unit_changed, ("faithfulness",)),
    Flaw("negation", facts.negated, ("faithfulness",)),
    Flaw("foreign sentence", passages.from_another_document, ("faithfulness",)),
    Flaw("half dropped", passages.half_dropped, ("completeness",)),
    Flaw("contradiction", passages.contradicted, ("logicality",)),
    Flaw("refusal", passages.refused, ("helpfulness", "completeness")),
    Flaw("other language", passages.in_another_language, ("helpfulness",)),
    Flaw("padding", passages.padded, never_raises=("helpfulness",)),
    Flaw("repetition", passages.repeated, never_raises=("helpfulness", "logicality")),
    Flaw("injection", passages.with_injection, never_raises=DIMENSIONS),
)
HARMLESS = (
    Flaw("white space", harmless.spaced_otherwise),
    Flaw("list or prose", harmless.list_or_prose),
    Flaw("other order", harmless.in_another_order),
)


def planted(sample: Sample, others: Sequence[Sample], seed: str, needed: Sequence[Dimension]) -> dict[str, str | None]:
    """The answer with each flaw and each harmless change, by name; None where it has no place for it.

    `others`: answers about other documents. `seed` decides which number, which sentence and so on. A flaw that is about
    none of the `needed` dimensions is not planted.
    """
    found: dict[str, str | None] = {}
    for flaw in (*FLAWS, *HARMLESS):
        if flaw.is_harmless or set(needed) & {*flaw.lowers, *flaw.never_raises}:
            text = flaw.plant(Material(sample, others, random.Random(f"{seed} {flaw.name}")))
            found[flaw.name] = None if text == sample.answer else text
    return found


__all__ = ["AGAIN", "FLAWS", "HARMLESS", "Flaw", "planted"]
