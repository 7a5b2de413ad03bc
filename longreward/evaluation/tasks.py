"""The items of the published evaluations, read from files that the user gives.

`longbench`: LongBench (arXiv 2308.14508), as the LongReward repository aggregates it (evaluation/LongBench: idx,
dataset, context, query, answer) or raw (_id, dataset, context, input, answers). `longbench_chat`: LongBench-Chat
(arXiv 2401.18058) with its few_shots.json. `short`: short requests without a document, for comparing two policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from longreward import rows
from longreward.errors import InputError
from longreward.files.nesting import from_json
from longreward.text.sentences import says_nothing

Kind = Literal["longbench", "longbench_chat", "short"]

CLASSES = {
    "single_doc_qa": ("narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh"),
    "multi_doc_qa": ("hotpotqa", "2wikimqa", "musique", "dureader"),
    "summarization": ("gov_report", "qmsum", "multi_news", "vcsum"),
}
"""LongBench's classes and their datasets: those that the LongReward repository evaluates."""
DATASETS = tuple(dataset for datasets in CLASSES.values() for dataset in datasets)
CHAT: Final = "longbench_chat"
SHORT: Final = "short"
"""The `dataset` of the items of the other two evaluations."""
SEPARATOR = "\n\n"
"""Between context and query in the user's turn, as published."""

_CHINESE_SUMMARIES = "vcsum"


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One question of an evaluation. `id` is unique in its file: answers are matched by it."""

    id: str
    dataset: str
    context: str
    """The document; empty for short requests."""
    query: str
    """The question, as the judge is shown it."""
    references: tuple[str, ...]
    """Answers known to be good, never blank: at least one; for short requests at most one."""
    examples: tuple[tuple[str, float], ...] = ()
    """Other answers, each with its score in 1..10."""
    query_in_context: bool = False
    """The context is the user's whole turn: nothing is to be asked after it."""

    @property
    def turn(self) -> str:
        """The user's whole turn."""
        if self.query_in_context:
            return self.context
        return f"{self.context}{SEPARATOR}{self.query}" if self.context else self.query


def load(
    path: Path, kind: Kind, broken: list[str] | None = None, *, few_shots: Path | None = None
) -> list[EvaluationItem]:
    """The items of a file that `longreward.rows` reads, in its order; for `longbench` also of a folder of raw
    `<dataset>.jsonl` files. `few_shots` is for `longbench_chat` only: few_shots.json beside `path` if None.

    A row that cannot be used goes to `broken` as `file:line: why`; without `broken` it raises InputError. That too
    where a file cannot be read or nothing in it can be used.
    """
    if kind not in get_args(Kind):
        raise InputError(f"no evaluation {kind!r}; known: {', '.join(get_args(Kind))}")
    if few_shots is not None and kind != CHAT:
        raise InputError(f"few_shots are for {CHAT} only, not for {kind}")
    problems: list[str] = [] if broken is None else broken
    already = len(problems)
    shots = _read_list(few_shots or path.with_name("few_shots.json")) if kind == CHAT else []
    items: dict[str, EvaluationItem] = {}
    for where, row in _rows(path, kind, problems):
        try:
            item = _chat(row, shots) if kind == CHAT else _short(row) if kind == SHORT else _longbench(row)
            if item.id in items:
                raise InputError(f"another row has the id {item.id} already")
        except InputError as error:
            problems.append(f"{where}: {error}")
        else:
            items[item.id] = item
    if broken is None and problems:
        raise InputError(problems[0])
    if not items:
        first = f"; first problem: {problems[already]}" if len(problems) > already else ""
        raise InputError(f"{path} holds no usable row for {kind}{first}")
    return list(items.values())


def _longbench(row: dict[str, Any]) -> EvaluationItem:
    raw = "input" in row
    dataset = _text(row, "dataset")
    if dataset not in DATASETS:
        raise InputError(f"dataset {dataset!r} is not among those judged: {', '.join(DATASETS)}")
    query = _text(row, "input" if raw else "query", blank=dataset in CLASSES["summarization"]).strip()
    if not query:
        # The raw data leaves it out; the published templates, whose words these are not, ask for one page too.
        chinese = dataset == _CHINESE_SUMMARIES
        query = "请用一段话概括以上内容。" if chinese else "Summarise the text above on about one page."
    return EvaluationItem(
        _identity(row), dataset, _text(row, "context"), query, _references(row, "answers" if raw else "answer")
    )


def _chat(row: dict[str, Any], shots: list[Any]) -> EvaluationItem:
    identity = _identity(row)
    number = int(identity) if identity.isdecimal() else 0
    if not 1 <= number <= len(shots):
        raise InputError(f"idx must be the number of its entry in few_shots (1 to {len(shots)}), found {identity!r}")
    prompt, query = _text(row, "prompt"), _text(row, "query").strip()
    head, asked_last, rest = prompt.rpartition(query)
    whole = not asked_last or bool(rest.strip())
    context = prompt if whole else head.rstrip()
    examples = _examples(shots[number - 1], f"few_shots entry {number}")
    return EvaluationItem(str(number), CHAT, context, query, _references(row, "answer"), examples, whole)


def _short(row: dict[str, Any]) -> EvaluationItem:
    references = (_text(row, "reference"),) if row.get("reference") is not None else ()
    query = _text(row, "query" if "query" in row else "prompt")
    return EvaluationItem(_identity(row), SHORT, "", query, references)


def _identity(row: dict[str, Any]) -> str:
    try:
        return rows.row_id(row, None, ("idx", "_id", "id"))
    except ValueError as error:
        raise InputError(str(error)) from None


def _text(row: dict[str, Any], name: str, *, blank: bool = False) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} must be text, found {type(value).__name__}")
    if not blank and not value.strip():
        raise InputError(f"{name} is empty")
    return value


def _references(row: dict[str, Any], name: str) -> tuple[str, ...]:
    """Each once; nothing can be judged against a blank one."""
    value = row.get(name)
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise InputError(f"{name} must be a text or a list of texts, found {type(value).__name__}")
    usable = tuple(dict.fromkeys(text for text in given if not says_nothing(text)))
    if not usable:
        raise InputError(f"{name} holds no reference")
    return usable


def _examples(entry: Any, where: str) -> tuple[tuple[str, float], ...]:
    if not isinstance(entry, list) or not all(isinstance(one, dict) for one in entry):
        raise InputError(f"{where} must be a list of objects with answer and score")
    return tuple((_text(one, "answer"), _score(one.get("score"), where)) for one in entry)


def _score(value: Any, where: str) -> float:
    try:
        score = float(value) if _is_number(value) or isinstance(value, str) else None
    except ValueError:
        score = None
    if score is None or not 1 <= score <= 10:
        raise InputError(f"{where}: score must be a number from 1 to 10, found {value!r}")
    return score


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(path: Path, kind: Kind, broken: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where a row stands, for a message, and the row."""
    files = [path]
    if path.is_dir():
        files = [file for name in DATASETS if (file := path / f"{name}.jsonl").is_file()] if kind == "longbench" else []
        if not files and (path / "state.json").is_file():
            files = [path]  # a saved data set
        if not files:
            raise InputError(f"{path} is a folder without files of {kind}; give the path of a file")
    for file in files:
        yield from ((f"{file}:{number}", row) for number, row in rows.read(file, broken))


def _read_list(path: Path) -> list[Any]:
    try:
        value = from_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a JSON file") from None
    except ValueError as error:  # JSON and UTF-8 errors are ValueErrors too
        raise InputError(f"{path} is not a JSON list ({error})") from None
    if not isinstance(value, list):
        raise InputError(f"{path} must hold a JSON list, found {type(value).__name__}")
    return value
