"""Rows of supervised data -> the examples that OpenRLHF's train_sft reads: prompts and answers in turn."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from longreward.errors import ConfigError, InputError
from longreward.files import jsonlines
from longreward.schema import Sample
from rl.data.chat_template import Messages, answer_lead, around_answers, end_mark, rendered
from rl.data.prompt_files import PromptReport, count_tokens, load_tokenizer, renderer
from rl.offline import pairs, published_files
from rl.offline.config import SftConfig
from rl.offline.pair_answers import ended
from rl.offline.published_files import Conversation
from rl.trainer.openrlhf_flags import Flags
from rl.trainer.seams import remote_code

_SEED = 42
_JOIN = 64  # characters before an answer that its tokens may depend on
_ROLES = ("prompt", "assistant")
_MARK = re.compile(r"<[|\uff5c][^<>\s]*[|\uff5c]>")  # <|user|>, say
_ANSWER = "\ue000"  # stands for an answer; a private-use character
_CHAT: Messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER}]


def prepare(config: SftConfig, flags: Flags) -> str:
    """Write the `pieces` of each usable row into `config.examples`: what stands before an answer and the answer, in
    turn. Returns what became of the rows; InputError where none is usable."""
    tokenizer = tokenizer_of(config, flags, trust_remote_code=remote_code.allowed())
    pairs.require(tokenizer.eos_token)
    report = PromptReport()
    make = _examples(tokenizer, flags, report)
    conversations = too_long = 0

    def written() -> Iterator[dict[str, Any]]:
        nonlocal conversations, too_long
        for source, (line, row) in _rows(config, report.broken):
            try:
                pieces = make(row)
                for piece in pieces:
                    _check_join(tokenizer, *piece)
            except ValueError as error:
                report.broken.append(f"{source}:{line}: {error}")
                continue
            text = "".join(part for piece in pieces for part in piece)
            # OpenRLHF may put a space and the first tokenizer's end of text behind it.
            if count_tokens(tokenizer, text) + 2 > flags.data_max_len:
                too_long += 1
                continue
            report.kept += 1
            conversations += isinstance(row, Conversation)
            both = ((role, text) for piece in pieces for role, text in zip(_ROLES, piece, strict=True))
            yield {"pieces": [{"role": role, "content": text} for role, text in both]}

    config.examples.parent.mkdir(parents=True, exist_ok=True)
    jsonlines.rewrite(config.examples, written())
    if not report.kept:
        first = f"; first problem: {report.broken[0]}" if report.broken else ""
        raise InputError(f"{config.data.train} holds no row with context, query and answer that fits{first}")
    chats = f", {conversations} of them conversations" if conversations else ""
    left_out = (
        f", {too_long} left out that do not fit into openrlhf.data.max_len with their answers" if too_long else ""
    )
    return f"train: {report.sentence()}{chats}{left_out}"


def tokenizer_of(config: SftConfig, flags: Flags, *, trust_remote_code: bool) -> Any:
    """The policy's tokenizer, with the template of `data.chat_template` where one is set; the end of a turn is then its
    end of text. ConfigError where there is none, or one of another vocabulary."""
    tokenizer, source = load_tokenizer(flags.policy, trust_remote_code=trust_remote_code), config.data.chat_template
    if source is None:
        return tokenizer
    if Path(source).is_file():
        tokenizer.chat_template = Path(source).read_text(encoding="utf-8")
    else:
        tokenizer.chat_template = load_tokenizer(source, trust_remote_code=trust_remote_code).chat_template
    if not tokenizer.chat_template:
        raise ConfigError(f"data.chat_template: the tokenizer of {source} has none; name a model that has one")
    try:
        text = rendered(tokenizer, _CHAT, prompt=False)
    except ValueError as error:
        raise ConfigError(f"data.chat_template {source}: {error}") from None
    if unknown := sorted(set(_MARK.findall(text)) - tokenizer.get_vocab().keys()):
        raise ConfigError(
            f"data.chat_template: {source} writes {unknown[0]}, which is no token of {flags.policy}; name a model of "
            "the same family"
        )
    if end := end_mark(tokenizer, text.partition(_ANSWER)[2]).strip():
        tokenizer.eos_token = end
    return tokenizer


def keep_tokenizer(config: SftConfig, flags: Flags) -> None:
    """Put the tokenizer of the examples into the trained model's folder, where OpenRLHF has left its own, and have
    generation end at the marks that end the assistant's turns."""
    tokenizer, model = tokenizer_of(config, flags, trust_remote_code=remote_code.allowed()), config.directory / "model"
    tokenizer.model_max_length = tokenizer.init_kwargs.get("model_max_length", tokenizer.model_max_length)
    tokenizer.save_pretrained(model)
    generation = jsonlines.read_json(model / "generation_config.json") or {}
    ends = generation.get("eos_token_id", [])
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    turns = [*_CHAT, *_CHAT]
    try:
        marks = [tokenizer.eos_token, end_mark(tokenizer, rendered(tokenizer, turns).split(_ANSWER)[1]).strip()]
    except ValueError:  # a template of one turn alone
        marks = [tokenizer.eos_token]
    found = [tokenizer.convert_tokens_to_ids(mark) for mark in marks if mark]
    generation["eos_token_id"] = list(dict.fromkeys([*ends, *found]))
    jsonlines.write_json(model / "generation_config.json", generation)


def _rows(config: SftConfig, broken: list[str]) -> Iterator[tuple[Path, tuple[int, Sample | Conversation]]]:
    """The rows of one file in their order; of two files both in theirs, mixed evenly by a fixed seed, so that any
    number of the first rows has the same share of each."""
    train, other = config.data.train, config.data.conversations
    if other is None:
        yield from ((train, row) for row in published_files.sft(train, broken))
        return
    order = [path for path in (train, other) for _ in published_files.sft(path, [])]
    random.Random(_SEED).shuffle(order)
    found = {path: published_files.sft(path, broken) for path in (train, other)}
    for path in order:
        yield path, next(found[path])


def _check_join(tokenizer: Any, before: str, answer: str) -> None:
    """ValueError where OpenRLHF, which counts the tokens of the two apart, would train on others than the answer's."""
    end = before[-_JOIN:]
    if count_tokens(tokenizer, end + answer) != count_tokens(tokenizer, end) + count_tokens(tokenizer, answer):
        raise ValueError(
            f"the tokenizer makes other tokens of an answer behind its prompt ({before[-9:]!r}, {answer[:9]!r}) than "
            "of the two apart, and OpenRLHF would train on the wrong ones"
        )


def _examples(
    tokenizer: Any, flags: Flags, report: PromptReport
) -> Callable[[Sample | Conversation], list[tuple[str, str]]]:
    """Row -> prompt and answer of each of the assistant's turns. ValueError where it cannot be trained on."""
    render = renderer(tokenizer, flags.prompt_tokens, "train", report)
    lead, why = answer_lead(tokenizer), ""
    try:
        apart = around_answers(tokenizer)
        apart(_CHAT)
    except ValueError as error:
        why = str(error)  # it concerns conversations alone

    def make(row: Sample | Conversation) -> list[tuple[str, str]]:
        if isinstance(row, Sample):
            # White space before an answer could become one token with the end of the prompt.
            answer = ended(row.answer.strip(), tokenizer.eos_token, lead)
            if answer is None or answer == tokenizer.eos_token:
                holds = "is empty" if answer else f"holds {tokenizer.eos_token} inside"
                raise ValueError(f"answer of {row.id} {holds}")
            return [(str(render(row.id, row.context, row.query)["input"]), answer)]
        if why:
            raise ValueError(why)
        if any(tokenizer.eos_token in turn["content"] for turn in row.turns):
            raise ValueError(f"conversation {row.id} holds {tokenizer.eos_token} inside")
        return apart(row.turns)

    return make
