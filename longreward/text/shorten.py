"""Half of a text or of some passages, for a judge whose context is too short. As little as possible is lost."""

from __future__ import annotations

from collections.abc import Sequence

from longreward.text.sentences import content_words, sentence_spans

GAP = "\n…\n"
"""Stands where a text was cut."""
_TOO_SHORT = 80  # characters; a cut in a shorter text saves nothing and spoils the sense


def without_middle(text: str) -> str:
    """About the first and the last quarter of a text, cut between sentences where that keeps most of them, else at
    white space, else anywhere. A text of under 80 characters is left as it is."""
    if len(text) < _TOO_SHORT:
        return text
    quarter = len(text) // 4
    spans = sentence_spans(text)
    head = _cut(text, quarter // 2, quarter, [end for _, end in spans], last=True)
    tail = _cut(text, len(text) - quarter, len(text) - quarter // 2, [start for start, _ in spans], last=False)
    return text[:head].rstrip() + GAP + text[tail:].lstrip()


def better_half(passages: Sequence[str], statements: Sequence[str]) -> list[str]:
    """Half of the passages, rounded down, in their order: those that hold most of the words of some statement."""
    wanted = [words for words in (set(content_words(statement)) for statement in statements) if words]

    def worth(passage: str) -> float:
        found = set(content_words(passage))
        return max((len(words & found) / len(words) for words in wanted), default=0.0)

    # The sort is stable: of two equals the earlier one stays.
    best = sorted(range(len(passages)), key=[-worth(passage) for passage in passages].__getitem__)
    return [passages[i] for i in sorted(best[: len(passages) // 2])]


def _cut(text: str, low: int, high: int, between_sentences: list[int], *, last: bool) -> int:
    """Where to cut from `low` to `high`: as far out as a good place allows, that is the last place or the first."""
    spaces = [i for i in range(low, high) if text[i].isspace()]
    for places in ([i for i in between_sentences if low <= i <= high], spaces):
        if places:
            return places[-1] if last else places[0]
    return high if last else low
