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
    """At most half of the text of some passages, in whole sentences and in their order: those that hold, together with
    their neighbours, most of the words of some statement. Empty for passages of under 80 characters together."""
    left = sum(map(len, passages)) / 2
    if 2 * left < _TOO_SHORT:
        return []
    wanted = [words for words in (set(content_words(statement)) for statement in statements) if words]
    spans = [sentence_spans(passage) for passage in passages]
    worth: dict[tuple[int, int], float] = {}
    for i, sentences in enumerate(spans):
        for j in range(len(sentences)):
            around = sentences[max(0, j - 1) : j + 2]
            found = set(content_words(passages[i][around[0][0] : around[-1][1]]))
            worth[i, j] = max((len(words & found) / len(words) for words in wanted), default=0.0)
    kept: set[tuple[int, int]] = set()
    # The sort is stable: of two equals the earlier one stays.
    for i, j in sorted(worth, key=lambda place: -worth[place]):
        start, end = spans[i][j]
        if end - start <= left:
            kept.add((i, j))
            left -= end - start
        elif kept:
            break
    shown = (
        _joined(text, [span if (i, j) in kept else None for j, span in enumerate(spans[i])])
        for i, text in enumerate(passages)
    )
    return [text for text in shown if text]


def _joined(text: str, spans: Sequence[tuple[int, int] | None]) -> str:
    """The pieces of a text that stay, with a gap where one is left out (None) between them."""
    pieces: list[tuple[int, int]] = []
    for before, span in zip([None, *spans], spans, strict=False):
        if span and before:
            pieces[-1] = pieces[-1][0], span[1]
        elif span:
            pieces.append(span)
    return GAP.join(text[start:end] for start, end in pieces)


def _cut(text: str, low: int, high: int, between_sentences: list[int], *, last: bool) -> int:
    """Where to cut from `low` to `high`: as far out as a good place allows, that is the last place or the first."""
    spaces = [i for i in range(low, high) if text[i].isspace()]
    for places in ([i for i in between_sentences if low <= i <= high], spaces):
        if places:
            return places[-1] if last else places[0]
    return high if last else low
