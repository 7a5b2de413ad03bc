"""Documents and questions -> the prompt files that OpenRLHF reads: rendered, cut to the budget, counted."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

from longreward import jsonlines
from longreward.errors import ConfigError, InputError
from rl.data.prompts import SEPARATOR, Label
from rl.data.words import words

_MARK = "\ue000longreward\ue000"  # stands for the user's turn while the template is rendered; private-use characters


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

    def sentence(self) -> str:
        cut = f", {self.cut} cut in the middle of the context" if self.cut else ""
        broken = f", {len(self.broken)} unreadable rows skipped ({self.broken[0]})" if self.broken else ""
        return f"{self.kept} prompts, longest {self.longest} tokens{cut}{broken}"


class Row(NamedTuple):
    """A document, a question about it, and reference answers where they are asked for."""

    id: str
    context: str
    query: str
    reference: tuple[str, ...] = ()


def rows(source: Path, broken: list[str], reference: str | None = None) -> Iterator[Row]:
    """Each usable row; the others go to `broken`, each as `file:line: why`. `reference` is the field that reference
    answers are in; None: they do not matter."""
    for number, row in jsonlines.read(source, broken):
        wrong = next(
            (f"{name} must be text" for name in ("context", "query") if not isinstance(row.get(name), str)), None
        )
        try:
            if wrong:
                raise ValueError(wrong)
            references = references_of(row, reference) if reference else ()
            usable = Row(jsonlines.row_id(row, number), row["context"], row["query"], references)
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")
        else:
            yield usable


def count(source: Path, at_most: int, reference: str | None) -> int:
    """The usable rows of a file, or `at_most` where there are more. InputError where it cannot be read."""
    return sum(1 for _ in islice(rows(source, [], reference), at_most))


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
) -> PromptReport:
    """Write `out` from `source`, with reference answers out of the field `reference` if one is named. Without `out`
    nothing is written or held. InputError for a file without a usable row, ConfigError for a hopeless budget."""
    report = PromptReport()
    render = renderer(tokenizer, max_prompt_tokens, split, report)
    prompts = []
    for row in islice(rows(source, report.broken, reference), max_rows):
        report.kept += 1
        prompt = render(row.id, row.context, row.query)
        if row.reference:
            prompt["label"] = replace(Label.from_json(prompt["label"]), reference=row.reference).to_json()
        if out is not None:
            prompts.append(prompt)
    if not report.kept:
        first = f"; first problem: {report.broken[0]}" if report.broken else ""
        wanted = f" and a reference answer in {reference!r}" if reference else ""
        raise InputError(f"{source} holds no row with context and query as text{wanted}{first}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        jsonlines.rewrite(out, prompts)
        report.write(out)
    return report


def renderer(
    tokenizer: Any, max_prompt_tokens: int, split: str, report: PromptReport
) -> Callable[[str, str, str], dict[str, Any]]:
    """(identity, context, query) -> `input` and `label` of a prompt, its length and cut entered into `report`. Without
    a context or a query the other is the whole of the user's turn.

    ConfigError for a tokenizer without a usable chat template; then for a question that alone exceeds the budget.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(f"the tokenizer of {tokenizer.name_or_path} has no chat template; use an instruction model")
    turn = [{"role": "user", "content": _MARK}]
    # The template is rendered once; text is put in as it is, never stripped.
    rendered = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    before, mark, after = rendered.partition(_MARK)
    if not mark:
        raise ConfigError(f"the chat template of {tokenizer.name_or_path} drops or changes the user's turn")

    def render(identity: str, context: str, query: str) -> dict[str, Any]:
        between = SEPARATOR if context and query else ""
        prompt = before + context + between + query + after
        tokens = count_tokens(tokenizer, prompt)
        report.longest_uncut = max(report.longest_uncut, tokens)
        if tokens > max_prompt_tokens:
            spans = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            keep = len(spans) - (tokens - max_prompt_tokens)
            while tokens > max_prompt_tokens:
                if keep < 2:
                    raise ConfigError(
                        f"row {identity}: question and template alone take more than the {max_prompt_tokens} tokens of "
                        "the prompt; raise openrlhf.data.max_len or lower openrlhf.rollout.max_new_tokens"
                    )
                head, tail = spans[: (keep + 1) // 2], spans[len(spans) - keep // 2 :]
                cut = context[: head[-1][1]] + "\n" + context[tail[0][0] :]
                prompt = before + cut + between + query + after
                tokens = count_tokens(tokenizer, prompt)
                keep -= max(1, tokens - max_prompt_tokens)
            context = cut
            report.cut += 1
        report.longest = max(report.longest, tokens)
        start = len(before)
        question = start + len(context) + len(between)
        label = Label(identity, split, (start, start + len(context)), (question, question + len(query)))
        return {"input": prompt, "label": label.to_json()}

    return render


def count_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _shown(value: Any) -> str:
    return textwrap.shorten(repr(value), 60, placeholder="...")


def load_tokenizer(model: str) -> Any:
    """The model's fast tokenizer; ConfigError where there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=True, use_fast=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no tokenizer at {model}: {' '.join(str(error).split())[:300]}") from None
    # Only the model has a longest length; preparing measures prompts before they are cut to it.
    tokenizer.model_max_length = sys.maxsize
    return tokenizer
