"""Text as one sees it who looks past spelling: look-alikes as the plain characters, without what nobody sees."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate

from longreward.text.scripts import CJK

ANY = "\ue000"
"""What a letter of another script becomes that resembles no letter of a tag in particular."""
RING = "\ue001"
"""What a mark becomes that resembles an o."""
LONG_S = "\u017f"
"""Stays as it is: it resembles two letters."""

# What the skeleton of UTS #39 (confusables.txt, Unicode 17) shows as a letter of a tag's name, in either case, and that
# neither its decomposition nor its name tells. Three are ours: \u03c2 for c, \u043f for n, \u03c9 for w.
_LETTERS = {
    "a": "\u0251\u0391\u03b1\u13aa\u15c5\u2376\u237a\u2c6d\uab7a\U00016f40\U0001ccd6",
    "c": (
        "\xa2\u03c2\u03f2\u03f9\u0421\u0441\u04aa\u04ab\u1004\u105a\u13df\u1c83\u20a1\u2ca4\u2ca5\ua4da\uabaf"
        "\U000102a2\U00010302\U00010415\U0001043d\U0001051c\U000118e9\U000118f2\U0001ccd8\U0001f16e\U0001f74c"
    ),
    "d": "\xd0\xf0\u0189\u0500\u0501\u13a0\u13e7\u146f\u15de\u15ea\u20ab\ua4d2\ua4d3\uab70\uabb7\U0001ccd9",
    "e": (
        "\u0395\u03b5\u0415\u0435\u04bc\u04bd\u04be\u04bf\u13ac\u212e\u22ff\u2d39\uab32\uab7c\U00010286"
        "\U000118a6\U000118ae\U000118c6\U000118ce\U0001ccda"
    ),
    "f": (
        "\u03dc\u03dd\u0554\u0584\u15b4\u1e9d\ua4dd\uab35\U00010287\U000102a5\U00010525\U000118a2"
        "\U000118c2\U0001ccdb\U0001d213"
    ),
    "g": "\u018d\u0261\u050c\u050d\u0551\u0581\u13c0\u13f3\u13fb\ua4d6\ua7ac\uab90\U0001ccdc",
    "h": (
        "\u0397\u040b\u041d\u043d\u045b\u04a2\u04a3\u04ba\u04bb\u04c7\u04c8\u04c9\u04ca\u0540\u0570\u13bb\u13c2"
        "\u13f2\u13fa\u157c\u2c8e\u2c8f\ua4e7\ua694\ua695\uab8b\uab92\U000102cf\U0001ccdd"
    ),
    "i": (
        "\u0131\u0269\u02db\u037a\u03b9\u0456\u0552\u0582\u13a5\u1d7c\u2373\u2378\u2c93\ua646\ua647\uab75"
        "\U000118c3\U0001ccde"
    ),
    "k": (
        "\u039a\u03ba\u041a\u043a\u049a\u049b\u049e\u049f\u13e6\u16d5\u20ad\u2c94\u2c95\ua4d7\uabb6\U00010518\U0001cce0"
    ),
    "l": (
        "\u0196\u0197\u0399\u0406\u04c0\u04cf\u05d5\u05df\u0627\u0661\u0673\u06f1\u07ca\u13de\u14aa\u16c1\u2c92"
        "\u2cd0\u2cd1\u2d4f\ua4e1\ua4f2\uabae\U0001028a\U00010309\U00010320\U0001041b\U00010443\U00010526"
        "\U000118a3\U000118b2\U000118d2\U00011dda\U00011de1\U00016eaa\U00016f16\U00016f28\U0001cce1\U0001ccf1"
        "\U0001d22a\U0001e8c7"
    ),
    "m": (
        "\u039c\u03bc\u03fa\u03fb\u041c\u043c\u04cd\u04ce\u13b7\u15f0\u16d6\u2c98\u2c99\ua4df\uab87\U000102b0"
        "\U00010311\U0001cce2"
    ),
    "n": (
        "\u014a\u014b\u039d\u03b7\u043f\u0542\u0548\u054c\u0572\u0578\u057c\u2c9a\u2c9b\ua4e0\U0001018e"
        "\U00010513\U0001cce3"
    ),
    "o": (
        "\u0275\u0398\u039f\u03a3\u03b8\u03bf\u03c3\u03ec\u03ed\u0472\u0473\u04e8\u04e9\u0555\u0585\u05e1\u0647"
        "\u0665\u06be\u06c1\u06d5\u06f5\u06ff\u07c0\u0966\u09e6\u0a66\u0ae6\u0b20\u0b66\u0be6\u0c66\u0ce6\u0d20"
        "\u0d66\u0e50\u0ed0\u101d\u1040\u10ff\u12d0\u13a4\u13be\u13eb\u17e0\u1c82\u1cbf\u1d11\u2296\u229d\u236c"
        "\u2c90\u2c91\u2d31\u2d41\u2d54\u3007\uab3d\uab3e\uab74\uab8e\uabbb\U00010292\U00010404\U0001042c"
        "\U000114d0\U000118a8\U000118b5\U000118b7\U000118c8\U000118d5\U000118d7\U000118e0\U00011de0\U0001cce4"
        "\U0001ccf0\U0001d21a\U0001f714"
    ),
    "p": (
        "\xde\xfe\u01bf\u01f7\u03a1\u03c1\u03f7\u03f8\u0420\u0440\u13e2\u146d\u2374\u2ca2\u2ca3\u2cce\u2ccf"
        "\ua4d1\uabb2\U00010295\U0001cce5"
    ),
    "q": "\u051a\u051b\u0533\u0536\u0563\u0566\u2d55\U0001cce6",
    "r": (
        "\u01a6\u0413\u0433\u0492\u0493\u13a1\u13b1\u13d2\u1587\u1d26\u2c84\u2c85\ua4e3\uab47\uab48\uab71\uab81"
        "\uaba2\U000104b4\U000104dc\U00016f35\U0001cce7\U0001d216"
    ),
    "s": (
        "\u01bc\u01bd\u0405\u0455\u054f\u057f\u0d1f\u13d5\u13da\ua4e2\uaba5\uabaa\U00010420\U00010448\U000118a1"
        "\U000118c1\U00016f3a\U0001cce8"
    ),
    "t": (
        "\u03a4\u03c4\u0422\u0442\u04ac\u04ad\u13a2\u1c84\u1c85\u20ae\u22a4\u2361\u27d9\u2ca6\u2ca7\ua4d4\uab72"
        "\U000102b1\U00010315\U000118bc\U000118dc\U00016f0a\U0001cce9\U0001f768"
    ),
    "u": (
        "\u01b2\u0244\u0289\u028b\u03a5\u03c5\u040f\u045f\u054d\u057d\u1200\u13cc\u144c\u222a\u22c3\ua79e\ua79f"
        "\uab9c\U000118b8\U000118d8\U00016f42\U0001ccea"
    ),
    "v": (
        "\u03bd\u0474\u0475\u05d8\u0667\u06f7\u13d9\u142f\u2228\u22c1\u2d38\ua4e6\ua6df\uaba9\U00010197"
        "\U0001051d\U00011706\U000118a0\U000118c0\U00016f08\U0001cceb\U0001d20d\U0001f708"
    ),
    "w": (
        "\u019c\u026f\u03c9\u0428\u0448\u0460\u0461\u047c\u047d\u051c\u051d\u0531\u0561\u13b3\u13d4\u20a9\u2cbc"
        "\u2cbd\ua4ea\ua760\ua761\uab83\uaba4\U000114c5\U0001170a\U0001170e\U0001170f\U000118e6\U000118ef"
        "\U0001ccec"
    ),
    "x": (
        "\xd7\u03a7\u03c7\u0425\u0445\u04b2\u04b3\u1541\u157d\u166d\u16b7\u2573\u292b\u292c\u2a2f\u2a30\u2cac"
        "\u2cad\u2d5d\ua4eb\ua7b3\uab53\U00010196\U00010290\U00010317\U00010322\U00010527\U000118ec\U0001cced"
    ),
}
_SIGNS = {
    "<": "〈⟨❬❮❰⦑⧼ᐸ˂≺◁ᚲ\U0001d236",
    ">": "〉⟩❭❯❱⦒⧽ᐳ˃≻▷›\U00016f3f\U0001d237",
    "/": "⁄∕⧸╱⟋⧶᜵⁁Ⳇⳇ⼃〳ノ㇓丿\U0001d23a",
    "\\": "⧵∖╲⟍⧹⼂㇔丶\U0001d20f\U0001d23b",
    "|": "∣ǀ│❘⏽\u05c0┃⎪丨ㅣ",
    "[": "【",
    "]": "】",
}
# Marks, which a reader may pass over, that the skeleton shows as an o.
_RINGS = dict.fromkeys("\u0c02\u0c82\u0d02\u0d82", RING)
_TWO_LETTERS = {"\u02a6": "ts", "\u1d6b": "ue"}
_PLAIN = {other: plain for table in (_LETTERS, _SIGNS) for plain, others in table.items() for other in others}
_PLAIN |= _TWO_LETTERS | _RINGS | {LONG_S: LONG_S}
_NAMED = re.compile(r"\b(?:LETTER|CAPITAL|SMALL|SYMBOL) ([A-Z])(?: WITH .*)?$")
_OTHER_LETTER = re.compile(rf"[^\x00-\xbf\u2000-\u2bff\u3000-\u303f{CJK}]")
# Blank, though letters or symbols by category.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffd")


class _Folding(dict[int, str]):
    """str.translate table: every character to what it looks like, filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        shown = self[code] = _letter(char) or "".join(map(_look, unicodedata.normalize("NFKD", char)))
        return shown


def _letter(char: str) -> str | None:
    named = None if char in _PLAIN else _NAMED.search(unicodedata.name(char, ""))
    return named[1] if named else _PLAIN.get(char)


def _look(char: str) -> str:
    if char.isspace() or " " <= char <= "~":
        return char
    # Controls, formats, what is not assigned, and marks, which are drawn over their neighbour.
    if char in _BLANK or unicodedata.category(char)[0] in "CM":
        return ""
    return _letter(char) or _OTHER_LETTER.sub(ANY, char)


_FOLDING = _Folding()
# Long stretches are cut, so that finding a place in one takes no longer.
_NOT_PLAIN = re.compile(r"([^\t-\r\x20-\x7e]{1,64})")


class Folded:
    """A text folded for a search, and where each of its places comes from."""

    def __init__(self, text: str) -> None:
        self._pieces = _NOT_PLAIN.split(text)
        looks = {piece: piece.translate(_FOLDING) for piece in set(self._pieces[1::2])}
        self.unusual = "".join(looks)
        """All characters of the text besides plain ASCII, each at least once."""
        self._folded = self._pieces.copy()
        self._folded[1::2] = map(looks.__getitem__, self._pieces[1::2])
        self.cased = "".join(self._folded)
        """As `text`, with its capital letters."""
        self.text = self.cased.lower()
        self._ends: list[int] = []
        self._origins: list[int] = []

    def origin(self, place: int) -> int:
        """Where in the text the character stands that was folded to what stands at this place."""
        if not self._ends:
            self._ends = list(accumulate(map(len, self._folded)))
            self._origins = list(accumulate(map(len, self._pieces), initial=0))
        index = bisect_right(self._ends, place)
        left = place - (self._ends[index] - len(self._folded[index]))
        if index % 2 == 0:
            return self._origins[index] + left
        offset = 0
        for char in self._pieces[index]:
            left -= len(_FOLDING[ord(char)])
            if left < 0:
                break
            offset += 1
        return self._origins[index] + offset
