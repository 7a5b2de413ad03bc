"""The judge's prompts: one .txt per prompt and language, filled in one pass with neutralised material.

Every text puts its fixed part first, then the document's part, then the question, and the answer or statement last,
so that a judge server's prefix cache serves all calls on one document.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from longreward.config import ModelConfig, ReplyForm, RewardConfig
from longreward.errors import ConfigError
from longreward.files.nesting import from_json
from longreward.prompts.injection_defence import added_tokens_in, neutralise

Language = Literal["en", "zh"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
NAMES = (
    "helpfulness",
    "rank",
    "logicality",
    "statements",
    "verify",
    "verify_many",
    "extract",
    "completeness",
    "points",
    "coverage",
    "criteria",
)
"""The reward's prompts."""
EVALUATION_NAMES = ("evaluate_qa", "evaluate_summary", "evaluate_chat", "evaluate_pair")
"""The prompts of `longreward.evaluation`, which no reward depends on."""
WRITING_NAMES = ("write_questions", "write_answer")
"""The prompts of `longreward instruct`, which no reward depends on either."""
WAYS = ("yes_no", "likelihood")
"""What a statement's evidence stands in where the model is no judge but a checker (`way` of a route)."""
CLOSINGS = ("constrained", "object", "alone", "digit")
"""What stands behind a prompt where the reply's form is not the paper's."""
_REPLACEABLE = (*NAMES, *WAYS, *WRITING_NAMES)
"""Prompts that a user may put other texts in place of."""
_MAY_LACK = frozenset({"document_language"})
"""Placeholders that a user's text may leave out: prompts from elsewhere do not have them."""
_EXAMPLES = re.compile(r"\n\n(?:Example(?: 1)?|示例一?)\n.*?(?=\n\n(?:Now your task|下面是你的任务))", re.DOTALL)
"""From the first worked example of a prompt to the task itself."""
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


class Prompts:
    """A set of prompts: those of this package, some of the reward's replaced by a user's files."""

    def __init__(
        self, folder: Path | None = None, judge_tokenizer: Path | None = None, *, examples: bool = True
    ) -> None:
        """`folder` holds en/NAME.txt and zh/NAME.txt for the prompts it replaces, with the same placeholders as ours
        (`document_language` may be missing). `judge_tokenizer` holds the judge's tokenizer.json, whose added tokens are
        made inert in the material, beside those that are known. Without `examples` the prompts show none.

        ConfigError for a file that cannot be read, names no prompt, or lacks or adds a placeholder.
        """
        self._added = None if judge_tokenizer is None else added_tokens_in(_added_tokens(judge_tokenizer))
        known = {
            f"{language}/{name}.txt" for name in (*_REPLACEABLE, *EVALUATION_NAMES, *CLOSINGS) for language in LANGUAGES
        }
        package = resources.files(__name__)
        self._texts = {file: package.joinpath(file).read_text(encoding="utf-8").strip() for file in sorted(known)}
        if folder is not None:
            self._replace(folder)
        if not examples:
            self._texts = {file: _EXAMPLES.sub("", text) for file, text in self._texts.items()}

    @classmethod
    def of(cls, config: RewardConfig, model: ModelConfig | None = None) -> Prompts:
        """Those that a configuration asks for, for the judge or another model of its routes."""
        model = model or config.judge
        return cls(config.prompts, model.tokenizer, examples=model.examples)

    def _replace(self, folder: Path) -> None:
        found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("*/*.txt"))}
        if not found:
            known = ", ".join(_REPLACEABLE)
            raise ConfigError(f"reward.prompts: {folder} holds no en/NAME.txt or zh/NAME.txt; NAME: {known}")
        for file, path in found.items():
            if path.stem not in _REPLACEABLE or file not in self._texts:
                known = ", ".join(_REPLACEABLE)
                raise ConfigError(f"reward.prompts: {path} is no prompt of the reward; use {known}")
            try:
                text = path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"reward.prompts: {path} cannot be read: {error}") from None
            ours, found_here = _placeholders(self._texts[file]), _placeholders(text)
            _check(f"reward.prompts: {path}", wanted=ours, found=found_here | (ours & _MAY_LACK))
            self._texts[file] = text

    def render(self, name: str, language: Language, /, **fields: str) -> str:
        """Fill a prompt with neutralised fields, all in one pass: a field's value is never searched for placeholders.

        ValueError for an unknown prompt or language and for missing or unknown fields, naming them.
        """
        text = self._texts.get(f"{language}/{name}.txt")
        if text is None:
            known = ", ".join((*_REPLACEABLE, *EVALUATION_NAMES))
            raise ValueError(f"no prompt {name!r} in {language!r}; prompts: {known} in {', '.join(LANGUAGES)}")
        _check(f"prompt {name!r}", wanted=_placeholders(text) | (_MAY_LACK & fields.keys()), found=fields.keys())
        return _PLACEHOLDER.sub(lambda match: neutralise(fields[match[1]], self._added), text)

    def inert(self, text: str) -> str:
        """A text that is sent without a prompt around it, made inert as a field is."""
        return neutralise(text, self._added)

    def closings(self, language: Language, form: ReplyForm, wanted: str, digit: bool) -> Iterator[str]:
        """What stands behind a prompt for a reply of this form. `wanted` is the JSON that is asked for, or its schema;
        `digit` says whether its verdict is a digit that stands for 0..10."""
        for name in closings(form):
            if name != "digit" or digit:
                material = {"constrained": {"schema": wanted}, "object": {"object": wanted}}.get(name, {})
                yield self.render(name, language, **material)

    def version(self, names: Sequence[str] = NAMES) -> str:
        """Changes with any text of these prompts; part of what a score was made with."""
        texts = (f"{name}.{lang}\0{self._texts[f'{lang}/{name}.txt']}\0" for name in names for lang in LANGUAGES)
        return hashlib.sha256("".join(texts).encode()).hexdigest()[:12]


def closings(form: ReplyForm) -> tuple[str, ...]:
    """The names of the closings that a form of the reply takes, or of the prompt that stands in place of a question's
    own."""
    if form.way != "chat":
        return (form.way,) if form.way in WAYS else ()
    if form.verdict == "written":
        return () if form.analysis else ("alone",)
    if form.verdict == "constrained":
        return ("constrained",) if form.analysis else ("object",)
    return ("object", "digit")


def _added_tokens(folder: Path) -> list[str]:
    path = folder / "tokenizer.json"
    try:
        return [token["content"] for token in from_json(path.read_bytes())["added_tokens"]]
    except OSError as error:
        raise ConfigError(f"judge.tokenizer: {path} cannot be read ({error}); give the judge's folder") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"judge.tokenizer: {path} is no tokenizer ({error!r}); give the judge's folder") from None


@cache
def _placeholders(text: str) -> frozenset[str]:
    return frozenset(_PLACEHOLDER.findall(text))


def _check(what: str, wanted: Collection[str], found: Collection[str]) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        wrong = [f"{kind} {', '.join(names)}" for kind, names in (("missing", missing), ("unknown", unknown)) if names]
        raise ConfigError(f"{what} needs the fields {', '.join(sorted(wanted))}: {'; '.join(wrong)}")


OURS = Prompts()
"""The prompts of this package."""
EVALUATION_VERSION: str = OURS.version(EVALUATION_NAMES)
"""Changes with any text of the evaluations' prompts."""
