"""What stands in a text word for word: a quotation in an answer, and the whole sentences that a document itself states.
A statement that repeats one of them needs no judge.

Every doubtful sentence is dropped: a statement like it is then verified by the judge as any other, while a sentence
that is kept by mistake would count as supported without a check.
"""

from __future__ import annotations

import re

from longreward.text.language import letters, nfkc, terms
from longreward.text.sentences import FULL_STOPS, QUESTION_MARKS, is_question, sentence_spans

_LEFT_OUT = re.compile(r"\.{3,}|…")
_MIN_TERMS = 3
"""Shorter sentences ("He agreed.") depend on what stands around them."""

# NFKC would make 102 of 10² and 1⁄2 of ½.
_RAISED = re.compile("[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209c\u2150-\u215f]")

_CLOSED_BY = {
    **{"“": "”", "„": "“”", "「": "」", "『": "』", "‘": "’", "'": "'", '"': '"', "＂": "＂"},
    **{"«": "»", "»": "«", "‹": "›", "›": "‹"},
}
# Apostrophes inside a word or before a number ('90s) are not quotation marks. A straight mark with white space before
# it opens a quotation even where one is open: a quotation of several paragraphs opens again in each.
_QUOTE = re.compile(
    r"(?P<opens>(?<![^\s(\[（—–-])(?:[\"＂](?=\S)|'(?=[^\W\d])))|[“”„「」『』«»‹›\"＂]|‘(?!\d)|[’'](?!\w)"
)
_STOPS = ".!！۔" + "".join(mark for mark in FULL_STOPS if mark not in QUESTION_MARKS + "；⁈⁉")
_END = re.compile(rf"[{_STOPS}][\"＂”'’»›」』)\]）】]*$")
_END_OR_QUESTION = re.compile(rf"[{_STOPS}{QUESTION_MARKS}][\"＂”'’»›」』)\]）】]*$")


def stated_sentences(text: str) -> frozenset[str]:
    """`normal_form` of each sentence that begins after a full stop (or with the text), ends with one, asks nothing and
    stands in no quotation.

    Text in short lines has line breaks inside its sentences, so a line alone is not a sentence.
    """
    found: set[str] = set()
    quotes = _QUOTE.finditer(text)
    quote = next(quotes, None)
    quoting: set[str] = set()
    done, done_well = 0, True  # where the sentence before ended, and whether with a full stop or question mark
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        first_word = next(i for i, char in enumerate(sentence, start) if char.isalnum())
        while quote is not None and quote.start() < first_word:
            _follow(quoting, quote)
            quote = next(quotes, None)
        begins = not done or (done_well and not text[done:start].strip())
        if begins and not quoting and _END.search(sentence) and (normal := normal_form(sentence)):
            found.add(normal)
        done, done_well = end, bool(_END_OR_QUESTION.search(sentence))
    return frozenset(found)


def stands_in(quote: str, text: str) -> bool:
    """Whether a quotation stands in a text, but for white space, case and punctuation. Where "..." leaves something
    out, each of its parts must; without a letter or digit it does not."""
    parts = [said for part in _LEFT_OUT.split(quote) if (said := letters(part))]
    whole = letters(text)
    return bool(parts) and all(part in whole for part in parts)


def normal_form(sentence: str) -> str | None:
    """The sentence without differences that do not matter: case, width, spaces, the full stop. None for a question, for
    fewer than three words, and where width matters (10²)."""
    folded = " ".join(nfkc(sentence).casefold().split())
    if is_question(folded) or _RAISED.search(sentence) or len(terms(folded)) < _MIN_TERMS:
        return None
    return folded.rstrip(_STOPS + " ")


def _follow(quoting: set[str], quote: re.Match[str]) -> None:
    """Keep `quoting`, the marks of the quotations that are open, up to date with the next mark."""
    mark = quote[0]
    closed = {opening for opening in quoting if mark in _CLOSED_BY[opening]}
    if closed and not quote["opens"]:
        quoting -= closed
    elif mark in _CLOSED_BY and (mark != "'" or quote["opens"]):
        quoting.add(mark)
