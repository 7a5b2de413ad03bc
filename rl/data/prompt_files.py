"""Documents and questions -> the prompt files that OpenRLHF reads: rendered, cut to the budget, counted."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

from longreward import rows as data
from longreward.errors import ConfigError, InputError
from longreward.files import jsonlines
from longreward.rows.criteria import criteria_of
from longreward.schema import Criterion
from rl.data.chat_template import around_turn, words_of
from rl.data.prompts import SEPARATOR, Label, as_label, document_hash
from rl.data.words import words

_LISTED = 4  # lines of one id that are named


@dataclass
class FileReport:
    """What became of a file's rows, kept beside the file that was made of them."""

    broken: list[str] = field(default_factory=list)
    """Rows passed over, each as `file:line: why`."""

    @staticmethod
    def path(out: Path) -> Path:
        """Where the report of the file `out` is kept."""
        return out.with_suffix(".report.json")

    @classmethod
    def read(cls, out: Path) -> Self | None:
        """The report of a file made before; None where there is none, or not all of it."""
        data = jsonlines.read_json(cls.path(out)) if out.is_file() else None
        return None if data is None else cls(**data)

    def write(self, out: Path) -> None:
        """Beside the file `out`, once all its rows are there."""
        jsonlines.write_json(self.path(out), asdict(self))


@dataclass
class PromptReport(FileReport):
    """What became of the rows of one file that prompts are made of."""

    kept: int = 0
    cut: int = 0
    """Prompts over the budget, cut in the middle of the context (head and tail kept, as in the paper's evaluation)."""
    longest: int = 0
    """Tokens of the longest prompt, after cutting."""
    longest_uncut: int = 0
    """The same before cutting."""
    shared: list[str] = field(default_factory=list)
    """Ids that stand for several documents, and what these are called instead."""

    def sentence(self) -> str:
        ids = f"; {len(self.shared)} ids stand for several documents ({self.shared[0]})" if self.shared else ""
        cut = f", {self.cut} cut in the middle of the context" if self.cut else ""
        broken = f", {len(self.broken)} unreadable rows skipped ({self.broken[0]})" if self.broken else ""
        return f"{self.kept} prompts, longest {self.longest} tokens{cut}{broken}{ids}"


class Row(NamedTuple):
    """A document, a question about it, the supervised answer where there is one, and reference answers and criteria
    where they are asked for."""

    id: str
    context: str
    query: str
    reference: tuple[str, ...] = ()
    line: int = 0
    criteria: tuple[Criterion, ...] = ()
    answer: str = ""


class DocumentsById:
    """The documents that stand under each id of a file: two files put together may have an id twice."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[int, int]] = {}

    def add(self, row: Row) -> tuple[str, int]:
        """Enter a row; what is returned is for `name_of`."""
        document = hash(row.context)
        self._lines.setdefault(row.id, {}).setdefault(document, row.line)
        return row.id, document

    def name_of(self, identity: str, document: int) -> str:
        """A row's id; where other documents have it too, with the line that its document is in first."""
        lines = self._lines[identity]
        return identity if len(lines) == 1 else f"{identity}@{lines[document]}"

    def shared(self) -> list[str]:
        """A sentence for each id that stands for several documents."""
        return [
            f"idx {identity} for those in lines {_listed(lines)}, called {_listed([f'{identity}@{n}' for n in lines])}"
            for identity, found in self._lines.items()
            if len(lines := list(found.values())) > 1
        ]


def rows(source: Path, broken: list[str], reference: str | None = None, *, criteria: bool = False) -> Iterator[Row]:
    """Each usable row; the others go to `broken`, each as `file:line: why`. `reference` is the field that reference
    answers are in; None: they do not matter. `criteria`: each row needs some."""
    for number, row in data.read(source, broken):
        wrong = next(
            (f"{name} must be text" for name in ("context", "query") if not isinstance(row.get(name), str)), None
        )
        try:
            if wrong:
                raise ValueError(wrong)
            references = references_of(row, reference) if reference else ()
            wanted = criteria_of(row) if criteria else ()
            answer = text if isinstance(text := row.get("answer"), str) else ""
            usable = Row(data.row_id(row, number), row["context"], row["query"], references, number, wanted, answer)
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")
        else:
            yield usable


def count(source: Path, at_most: int, reference: str | None, *, criteria: bool = False) -> int:
    """The usable rows of a file, or `at_most` where there are more. InputError where it cannot be read."""
    return sum(1 for _ in islice(rows(source, [], reference, criteria=criteria), at_most))


def references_of(row: dict[str, Any], field: str) -> tuple[str, ...]:
    """The reference answers of a row, those that hold a word: nothing agrees with another, or everything.

    ValueError with a sentence where the field holds none.
    """
    found, action = row.get(field), "add one, or set reward.reference.field"
    if found is None:
        raise ValueError(f"there is no reference answer in {field!r}; {action}")
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{field!r} is {_shown(found)}; it must be a reference answer or a list of them")
    usable = tuple(text for text in texts if words(text))
    if not usable:
        raise ValueError(f"{field!r} is {_shown(found)}, which holds no reference answer with a word in it; {action}")
    return usable


def prepare(
    source: Path,
    out: Path | None,
    tokenizer: Any,
    max_prompt_tokens: int,
    split: str,
    max_rows: int | None = None,
    reference: str | None = None,
    *,
    criteria: bool = False,
) -> PromptReport:
    """Write `out` from `source`, with reference answers out of the field `reference` if one is named, and with the
    rows' `criteria` if they are asked for. Without `out` nothing is written or held. InputError for a file without a
    usable row, ConfigError for a hopeless budget."""
    report, documents = PromptReport(), DocumentsById()
    render = renderer(tokenizer, max_prompt_tokens, split, report)
    prompts = []
    for row in islice(rows(source, report.broken, reference, criteria=criteria), max_rows):
        report.kept += 1
        key = documents.add(row)
        prompt = render(row.id, row.context, row.query)
        if out is not None:
            prompts.append((key, row, prompt))
    report.shared = documents.shared()
    if not report.kept:
        first = f"; first problem: {report.broken[0]}" if report.broken else ""
        wanted = f" and a reference answer in {reference!r}" if reference else ""
        wanted += " and criteria" if criteria else ""
        raise InputError(f"{source} holds no row with context and query as text{wanted}{first}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        named = ((prompt, documents.name_of(*key), row) for key, row, prompt in prompts)
        jsonlines.rewrite(out, (_labelled(*each) for each in named))
        report.write(out)
    return report


def _labelled(prompt: dict[str, Any], identity: str, row: Row) -> dict[str, Any]:
    label = replace(
        Label.from_json(prompt["label"]), id=identity, reference=row.reference, criteria=as_label(row.criteria)
    )
    return prompt | {"label": label.to_json()}


def renderer(
    tokenizer: Any, max_prompt_tokens: int, split: str, report: PromptReport
) -> Callable[[str, str, str], dict[str, Any]]:
    """(identity, context, query) -> `input` and `label` of a prompt, its length and cut entered into `report`. Without
    a context or a query the other is the whole of the user's turn.

    ConfigError for a tokenizer without a usable chat template; then for a question that alone exceeds the budget.
    """
    # The template is rendered once; text is put in as it is, never stripped.
    before, after = around_turn(tokenizer)

    def render(identity: str, context: str, query: str) -> dict[str, Any]:
        between = SEPARATOR if context and query else ""
        prompt = before + context + between + query + after
        tokens = count_tokens(tokenizer, prompt)
        report.longest_uncut = max(report.longest_uncut, tokens)
        document = document_hash(context)
        if tokens > max_prompt_tokens:
            tokens_at = _spans(tokenizer, context)
            keep = len(tokens_at) - (tokens - max_prompt_tokens)
            while tokens > max_prompt_tokens:
                if keep < 2:
                    raise ConfigError(
                        f"row {identity}: question and template alone take more than the {max_prompt_tokens} tokens of "
                        "the prompt; raise openrlhf.data.max_len or lower openrlhf.rollout.max_new_tokens"
                    )
                head, tail = tokens_at[: (keep + 1) // 2], tokens_at[len(tokens_at) - keep // 2 :]
                cut = context[: head[-1][1]] + "\n" + context[tail[0][0] :]
                prompt = before + cut + between + query + after
                tokens = count_tokens(tokenizer, prompt)
                keep -= max(1, tokens - max_prompt_tokens)
            context = cut
            report.cut += 1
        report.longest = max(report.longest, tokens)
        start = len(before)
        question = start + len(context) + len(between)
        spans = (start, start + len(context)), (question, question + len(query))
        label = Label(identity, split, *spans, document=document)
        return {"input": prompt, "label": label.to_json()}

    return render


def count_tokens(tokenizer: Any, text: str) -> int:
    """ConfigError where the tokenizer raises."""
    return len(_tokenized(tokenizer, text)["input_ids"])


def _spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """The characters of each token. ConfigError where the tokenizer cannot tell."""
    if not tokenizer.is_fast:
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path} is a slow one, which tells no character offsets: a prompt over "
            "the budget cannot be cut; save it with a tokenizer.json, or raise openrlhf.data.max_len so that all fit"
        )
    return list(_tokenized(tokenizer, text, return_offsets_mapping=True)["offset_mapping"])


def _tokenized(tokenizer: Any, text: str, **options: Any) -> Any:
    try:
        return tokenizer(text, add_special_tokens=False, **options)
    except Exception as error:  # a tokenizer may be a program of other people
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path} fails ({words_of(error)}) on the text {_shown(text)}; leave "
            "that row out, or use another tokenizer"
        ) from None


def _listed(items: Sequence[Any]) -> str:
    more = len(items) - _LISTED
    *first, last = [*map(str, items[:_LISTED]), f"{more:,} more"] if more > 0 else map(str, items)
    return f"{', '.join(first)} and {last}"


def _shown(value: Any) -> str:
    return textwrap.shorten(repr(value), 60, placeholder="...")


def load_tokenizer(model: str, *, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer, a fast one where it has one; ConfigError where it cannot be loaded. Code that comes with
    the model runs only with `trust_remote_code`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code, use_fast=True)
    except Exception as error:  # the library fails in many ways over damaged files and missing packages
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise ConfigError(
                f"the tokenizer of {model} is Python code of its own, which was not run; read it, then set "
                "run.trust_remote_code=true if you trust it (prepare_data: --trust-remote-code), or use another model"
            ) from None
        raise ConfigError(f"no tokenizer at {model}: {words_of(error)}") from None
    # Only the model has a longest length; preparing measures prompts before they are cut to it.
    tokenizer.model_max_length = sys.maxsize
    return tokenizer
