"""Two policies' answers compared by people who do not know whose answer is whose: the sheet that they fill in, the key
to it, and what their verdicts come to."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import msgspec

from longreward.errors import InputError
from longreward.evaluation.intervals import METHOD, MeanEstimate, mean_of_datasets
from longreward.rows.matching import Match
from longreward.schema import DIMENSIONS

ASKED = (*DIMENSIONS, "overall")
"""What people are asked of each item: the dimensions, and which answer is better in all."""
_WORDS = ("1", "tie", "2")
_OUTCOMES = {1: "win", 0: "tie", -1: "loss"}
_HEADER = ("sheet", "item", *ASKED)


class Question(msgspec.Struct, frozen=True):
    idx: str
    query: str


class Shown(Question, frozen=True):
    first: Literal["a", "b"]
    """Whose answer is called Answer 1."""


class Key(msgspec.Struct, frozen=True):
    """What tells whose answer is whose. People who fill in the sheet must not see it."""

    sheet: str
    """The name of the sheet, made of all that it shows."""
    a: str
    """Where the answers are from that the others are compared with."""
    b: str
    seed: int
    items: list[Shown]
    """In the order of the sheet, where the first is item 1."""
    same: list[Question]
    """Questions to which both gave the same answer: a tie, and nobody is asked."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a person sees of a question."""

    query: str
    document: str | None
    answers: tuple[str, str]
    """Answer 1 and Answer 2."""


def chosen(matches: Sequence[Match], seed: int, most: int | None) -> list[Match]:
    """At most so many of the questions, chosen by the seed, in their order."""
    if most is None or len(matches) <= most:
        return list(matches)
    return [matches[i] for i in sorted(random.Random(f"{seed} questions").sample(range(len(matches)), most))]


def sheet(matches: Sequence[Match], a: str, b: str, seed: int) -> tuple[Key, list[Item]]:
    """The key and the items of a sheet. Each comes first in half of the items (of an odd number, in one more or one
    less); the seed alone draws in which."""
    shown = [match for match in matches if not match.same]
    rng = random.Random(f"{seed} order")
    firsts = (rng.sample("ab", 2) * len(shown))[: len(shown)]
    rng.shuffle(firsts)
    places, items = [], []
    for match, first in zip(shown, firsts, strict=True):
        answers = (match.a, match.b) if first == "a" else (match.b, match.a)
        items.append(Item(match.query, match.document, answers))
        places.append(Shown(match.idx, match.query, "a" if first == "a" else "b"))
    content = json.dumps([[item.query, item.document, *item.answers] for item in items])
    # Letters in front: a program for tables takes 12e34 for a number.
    name = f"sheet-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    same = [Question(match.idx, match.query) for match in matches if match.same]
    return Key(name, a, b, seed, places, same), items


def read_key(path: Path) -> Key:
    """InputError where it cannot be read or is no key."""
    action = "give the SHEET.key.json that stands beside the sheet"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Key)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {action}") from None
    except ValueError as error:
        raise InputError(f"{path} is not the key of a sheet ({error}); {action}") from None


Verdicts = Mapping[tuple[int, str], int]
"""One annotator's: by item (from 1) and what was asked, 1 where the answer of b is better, 0 for a tie, -1 where that
of a is. A cell that was left empty is missing."""


def read_verdicts(path: Path, key: Key) -> dict[tuple[int, str], int]:
    """The verdicts that a person saved from the sheet, also where a program for tables has written them again.
    InputError, which names the line, where they are of another sheet or not as a sheet saves them."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a verdicts.csv that the sheet saved") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; give a verdicts.csv that the sheet saved") from None
    head = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    found: dict[tuple[int, str], int] = {}
    seen = set[int]()
    try:
        missing = [name for name in _HEADER if name not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}; the sheet saves {','.join(_HEADER)}")
        for row in rows:
            where, cells = f"{path}:{rows.line_num}", {name: (row[name] or "").strip() for name in _HEADER}
            if not any(cells.values()):
                continue
            if cells["sheet"] != key.sheet:
                raise InputError(
                    f"{where}: it is of the sheet {cells['sheet']!r}, and the key of {key.sheet!r}; give the key that "
                    "was written with that sheet"
                )
            item = _item(cells["item"], where, len(key.items))
            if item in seen:
                raise InputError(f"{where}: item {item} is there twice; leave one row for each item")
            seen.add(item)
            found |= _for_b(cells, item, where, key)
    except csv.Error as error:
        raise InputError(f"{path}: not a table ({error}); give a verdicts.csv that the sheet saved") from None
    if not found:
        raise InputError(f"{path} holds no verdict; leave it out, or have the sheet filled in")
    return found


def _item(text: str, where: str, count: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= count:
        raise InputError(f"{where}: there is no item {text!r}; the items of this sheet are 1 to {count}")
    return int(text)


def _for_b(cells: Mapping[str, str], item: int, where: str, key: Key) -> dict[tuple[int, str], int]:
    b = "1" if key.items[item - 1].first == "b" else "2"
    found = {}
    for name in ASKED:
        word = cells[name].lower()
        if word and word not in _WORDS:
            raise InputError(f"{where}: {name} of item {item} is {cells[name]!r}; write 1, tie or 2, or nothing")
        if word:
            found[item, name] = 0 if word == "tie" else 1 if word == b else -1
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What people say of b against a, in one thing that was asked. Means over items, 0..1, of the share of the
    annotators of an item; `difference` is wins less losses, -1..1."""

    win: MeanEstimate
    tie: MeanEstimate
    loss: MeanEstimate
    difference: MeanEstimate
    agreement: MeanEstimate
    """How often two annotators of an item give it the same verdict, 0..1; over the items that several have judged."""
    unfilled: int
    """Cells that were left empty, of all annotators."""

    def to_json(self) -> dict[str, Any]:
        names = {"win": self.win, "tie": self.tie, "loss": self.loss}
        names |= {"win_less_loss": self.difference, "agreement": self.agreement}
        return {name: estimate.to_json() for name, estimate in names.items()} | {"unfilled": self.unfilled}


def tally(key: Key, annotators: Sequence[Verdicts]) -> dict[str, Outcome]:
    """What the verdicts come to, by what was asked. Annotators of an item are averaged first: its verdicts are not
    independent of each other, and so the intervals are over items."""
    return {name: _outcome(key, annotators, name) for name in ASKED}


def _outcome(key: Key, annotators: Sequence[Verdicts], name: str) -> Outcome:
    items = range(1, len(key.items) + 1)
    judged = [[one[item, name] for one in annotators if (item, name) in one] for item in items]
    filled = [values for values in judged if values]
    alike = [fmean(x == y for x, y in combinations(values, 2)) for values in filled if len(values) > 1]
    filled += [[0]] * len(key.same)
    win, tie, loss = (_mean([fmean(v == value for v in values) for values in filled]) for value in (1, 0, -1))
    difference = mean_of_datasets([[fmean(values) for values in filled]], (-1.0, 1.0))
    unfilled = len(items) * len(annotators) - sum(map(len, judged))
    return Outcome(win, tie, loss, difference, _mean(alike), unfilled)


def _mean(shares: Sequence[float]) -> MeanEstimate:
    return mean_of_datasets([shares], (0.0, 1.0))


def to_json(key: Key, annotators: Sequence[Verdicts], found: Mapping[str, Outcome]) -> dict[str, Any]:
    """The tally, and the verdicts of each item (null: not filled), one for each annotator."""
    verdicts = [
        {"item": item, "idx": shown.idx, "query": shown.query}
        | {name: [_said(one.get((item, name))) for one in annotators] for name in ASKED}
        for item, shown in enumerate(key.items, 1)
    ]
    about: dict[str, Any] = {"sheet": key.sheet, "a": key.a, "b": key.b, "annotators": len(annotators)}
    about |= {"items": len(key.items), "same": len(key.same), "method": METHOD}
    return about | {"b_against_a": {name: one.to_json() for name, one in found.items()}, "verdicts": verdicts}


def _said(value: int | None) -> str | None:
    return None if value is None else _OUTCOMES[value]
