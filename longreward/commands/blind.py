"""`longreward blind`: people compare two policies' answers without knowing whose is whose. It makes the sheet that they
fill in, and tallies what they saved."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from longreward.commands.accounts import table
from longreward.commands.agree.output import check_writable
from longreward.commands.options import positive
from longreward.commands.rows import report_broken
from longreward.errors import ConfigError, InputError
from longreward.evaluation.intervals import MeanEstimate
from longreward.evaluation.people import blind
from longreward.evaluation.people.blind import Key, Outcome, Verdicts
from longreward.files import jsonlines
from longreward.report import sheet
from longreward.rows import exists
from longreward.rows.matching import Match, Matched, Questions, matched, with_documents

_SEEDS = 2**31
_NOTE = "win, tie, loss: % of the items, with 95% intervals; +-: wins less losses, in points"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Make a sheet, one HTML file that opens from disk, on which a person compares two policies' answers to each "
        "question, without knowing whose is whose: in each dimension and in all, Answer 1, a tie, or Answer 2. The key "
        "to it goes to a file beside it. With --tally: how often the answers of B win, tie and lose against those of A."
    )
    answers = "answers of the policy to compare with (A), and of the other one (B): what `longreward score --out` or "
    answers += "rl/evaluate.py left, or rows with idx (or id), query, answer; matched by id and question"
    command.add_argument("answers", type=Path, nargs="*", metavar="A.jsonl B.jsonl", help=answers)
    key = "the sheet; the key goes to SHEET.key.json"
    command.add_argument("--out", type=Path, metavar="SHEET.html", help=key)
    documents = "rows with the documents (context), and the questions where A and B have none"
    command.add_argument("--input", type=Path, metavar="IN.jsonl", help=documents)
    seed = "draws whose answer comes first (default: another one each time, kept in the key)"
    command.add_argument("--seed", type=int, metavar="N", help=seed)
    most = "at most so many questions, chosen by the seed (default: all)"
    command.add_argument("--most", type=positive, metavar="N", help=most)
    tally = "what people saved from the sheet, a file for each of them"
    command.add_argument("--tally", type=Path, nargs="+", metavar="VERDICTS.csv", help=tally)
    command.add_argument("--key", type=Path, metavar="SHEET.key.json", help="the key to the sheet, for --tally")
    command.add_argument("--json", type=Path, metavar="FILE", help="the tally, and each item's verdicts, as JSON")


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Make a sheet, or tally verdicts. Returns 0, or 1 where rows were unreadable.

    ConfigError where the options belong to neither use; InputError where a file cannot be read or written, the two
    files share no question, or verdicts are not of the key's sheet.
    """
    if overrides:
        raise ConfigError(f"blind takes no settings, found {' '.join(overrides)}; leave them out")
    if options.tally is not None:
        _only(options, "to tally", "--key SHEET.key.json", ("answers", "out", "input", "seed", "most"))
        return _tally(options)
    _only(options, "to make a sheet", "--out SHEET.html", ("key", "json"))
    if len(options.answers) != 2:
        raise ConfigError(f"a sheet is made of two files of answers, A.jsonl and B.jsonl, found {len(options.answers)}")
    return _make(options)


def _only(options: argparse.Namespace, use: str, needed: str, foreign: Sequence[str]) -> None:
    def given(name: str) -> bool:
        return getattr(options, name) not in (None, [])

    option = needed.split()[0]
    if not given(option.strip("-")):
        raise ConfigError(f"{option} is missing; {use}, give {needed}")
    answers = " ".join(map(str, options.answers))
    if wrong := [answers if name == "answers" else f"--{name}" for name in foreign if given(name)]:
        other = "tally, give --tally VERDICTS.csv" if options.tally is None else "make a sheet, leave --tally out"
        raise ConfigError(f"{use}, leave out {' and '.join(wrong)}; to {other}")


def _make(options: argparse.Namespace) -> int:
    a, b = options.answers
    if options.input is not None and not exists(options.input):
        raise InputError(f"--input {options.input} does not exist; give the file with the documents, or leave it out")
    found = matched(a, b, Questions(options.input))
    if not found.matches:
        first = f"; first problem: {found.broken[0]}" if found.broken else ""
        for path, answers in zip((a, b), found.alone, strict=True):
            if not answers:
                raise InputError(f"{path} holds no row with an answer{first}")
        raise InputError(f"{a} and {b} answer no question in common: ids and questions must be the same{first}")
    seed = secrets.randbelow(_SEEDS) if options.seed is None else options.seed
    sources = [a, b, *([] if options.input is None else [options.input])]
    matches = with_documents(blind.chosen(found.matches, seed, options.most), sources)
    key, items = blind.sheet(matches, str(a), str(b), seed)
    if not items:
        raise InputError(f"{a} and {b} give the same answer to each question: there is nothing to compare")
    where = _place_of_key(options, key)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        sheet.write(options.out, key.sheet, items)
        jsonlines.write_json(where, msgspec.to_builtins(key))
    except OSError as error:
        raise InputError(
            f"{error.filename or options.out} cannot be written: {error.strerror}; choose another --out"
        ) from None
    console = Console(soft_wrap=True)
    for line in _about(found, matches, key):
        console.print(line, highlight=False, markup=False)
    console.print(f"sheet: {options.out}", highlight=False, markup=False)
    console.print(f"key: {where}; keep it from those who fill in the sheet", highlight=False, markup=False)
    report_broken(found.broken, Console(stderr=True, soft_wrap=True))
    return 1 if found.broken else 0


def _place_of_key(options: argparse.Namespace, key: Key) -> Path:
    """InputError where the sheet or its key would take the place of something else."""
    read = [*options.answers, *([] if options.input is None else [options.input])]
    if options.out.is_dir() or options.out.resolve() in [path.resolve() for path in read]:
        raise InputError(f"--out {options.out} is a directory or one of the files to read; choose another --out")
    where: Path = options.out.with_suffix(".key.json")
    # Without its key nobody could tally what people say on a sheet that they have already.
    if where.exists() and _key_at(where) != key:
        raise InputError(f"{where} is there already, of another sheet; choose another --out, or delete it")
    return where


def _key_at(path: Path) -> Key | None:
    try:
        return blind.read_key(path)
    except InputError:
        return None


def _about(found: Matched, matches: Sequence[Match], key: Key) -> Iterator[str]:
    yield f"{len(key.items):,} items of {len(found.matches):,} questions that both answer; seed {key.seed}"
    if key.same:
        yield f"the same answer: {len(key.same):,}; nobody is asked about them, and each counts as a tie"
    if any(found.alone):
        yield f"left out: answered only in A {found.alone[0]:,}, only in B {found.alone[1]:,}"
    if found.unanswered:
        yield f"left out: rows without an answer {found.unanswered:,}"
    if without := sum(match.document is None for match in matches):
        yield f"without a document: {without:,}; --input gives those that A and B do not hold"


def _tally(options: argparse.Namespace) -> int:
    key = blind.read_key(options.key)
    if len({path.resolve() for path in options.tally}) < len(options.tally):
        raise InputError("--tally names a file twice; give each person's verdicts once")
    annotators = [blind.read_verdicts(path, key) for path in options.tally]
    if options.json is not None:
        check_writable(options.json, [*options.tally, options.key])
    found = blind.tally(key, annotators)
    console = Console()
    _print(console, key, annotators, found)
    if options.json is not None:
        jsonlines.write_json(options.json, blind.to_json(key, annotators, found))
        console.print(f"tally as JSON: {options.json}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _print(console: Console, key: Key, annotators: Sequence[Verdicts], found: dict[str, Outcome]) -> None:
    about = f"{len(key.items) + len(key.same):,} items, {len(annotators):,} annotator{'s' * (len(annotators) != 1)}"
    console.print(f"A: {key.a}\nB: {key.b}", highlight=False, markup=False, soft_wrap=True)
    headings = ["B wins", "tie", "B loses", "+-", *(["alike"] if len(annotators) > 1 else [])]
    result = table(f"B against A: {about}", "", headings)
    for name, one in found.items():
        cells = [*map(_percent, (one.win, one.tie, one.loss)), _percent(one.difference, "+")]
        alike = [_percent(MeanEstimate(one.agreement.mean, None, one.agreement.n))] if len(annotators) > 1 else []
        result.add_row(name, *cells, *alike, style="bold" if name == blind.ASKED[-1] else None)
    console.print(result)
    for line in _notes(key, annotators, found):
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _notes(key: Key, annotators: Sequence[Verdicts], found: dict[str, Outcome]) -> Iterator[str]:
    yield _NOTE
    if len(annotators) > 1:
        yield "alike: % of equal verdicts of two annotators of an item; all annotators of an item are averaged first"
    if key.same:
        yield f"the same answer by both: {len(key.same):,}, each a tie; nobody was asked about them"
    if unfilled := {name: one.unfilled for name, one in found.items() if one.unfilled}:
        cells = ", ".join(f"{name} {count:,}" for name, count in unfilled.items())
        yield f"cells left empty: {cells}; they count nowhere"


def _percent(estimate: MeanEstimate, sign: str = "") -> str:
    """ "54 (40-66)", and with + where it can be below 0: "+46 (+28 to +62)"."""
    if estimate.mean is None:
        return "-"
    between = " to " if sign else "-"
    ends = [] if estimate.interval is None else [f"{100 * end:{sign}.0f}" for end in estimate.interval]
    return f"{100 * estimate.mean:{sign}.0f}" + f" ({between.join(ends)})" * bool(ends)
