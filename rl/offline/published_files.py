"""LongReward's published files, read as they are: supervised data, sampled responses, preference pairs.

A broken row is told with file and line, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from longreward import rows
from longreward.errors import InputError
from longreward.rows.contexts import Contexts, text_in
from longreward.rows.criteria import criteria_of
from longreward.schema import Sample
from rl.data.chat_template import Messages, answer_lead, messages
from rl.data.prompt_files import PromptReport, count_tokens, renderer
from rl.offline import pairs as preferences
from rl.offline.pair_answers import crc, ended
from rl.offline.pair_report import PairReport
from rl.offline.pairs import Fits

T = TypeVar("T")
_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
_ROLES |= dict.fromkeys(("chatgpt", "bing", "bard"), "assistant")  # as ShareGPT's users have shared them


@dataclass(frozen=True)
class Response:
    """A sampled response. `sample.id` is the document's, so that all responses to it form a group."""

    rollout: str
    """The row's own idx, such as 11-7: sample 7 of document 11. No other response has it."""
    sample: Sample


@dataclass(frozen=True)
class Conversation:
    """Turns of user and assistant, perhaps a system turn first; the assistant's is the last."""

    id: str
    turns: Messages


def sft(source: Path, broken: list[str]) -> Iterator[tuple[int, Sample | Conversation]]:
    """Line number and content of rows with idx, context, query, answer, or with the turns of a conversation: messages
    (role, content), or ShareGPT's conversations (from, value). A row without idx (or id) has its line number for one.
    """

    def read(row: dict[str, Any], number: int) -> tuple[int, Sample | Conversation]:
        identity = rows.row_id(row, number)
        if all(row.get(name) is None for name in ("messages", "conversations")):
            return number, _sample(row, identity, "context")
        return number, Conversation(identity, _turns(row))

    return _usable(source, broken, read)


def responses(
    source: Path, broken: list[str], sft: Path | None = None, *, criteria: bool = False
) -> Iterator[Response]:
    """Rows with idx, query, answer, and the context of the row in `sft` whose idx stands before the last dash; a
    model's name may stand before that, as in llama-11-7.

    A row may have its own context instead; its idx then needs no sample number. With `criteria` a row has some, or the
    row in `sft` does whose question is the same.
    """
    contexts = Contexts(sft, broken)
    rollouts: set[str] = set()
    documents: dict[str, int] = {}

    def response(row: dict[str, Any], _line: int) -> Response:
        whole = rows.row_id(row, None)
        document, joined = contexts.joined(row)
        sample = _sample(joined, document, "context")
        if criteria:
            sample = sample.model_copy(update={"criteria": criteria_of(joined)})
        if whole in rollouts:
            raise ValueError(f"there is a response {whole!r} before; give each an idx of its own")
        check = crc(sample.context)
        if documents.setdefault(sample.id, check) != check:
            raise ValueError(f"document {sample.id!r} had another context before; idx is document-sample")
        rollouts.add(whole)
        return Response(whole, sample)

    return _usable(source, broken, response)


def pairs(source: Path, broken: list[str]) -> Iterator[dict[str, str]]:
    """Rows with idx, context, query, win_response, lose_response, these and no other fields."""
    return _usable(source, broken, _pair)


def from_published(
    source: Path, out: Path, tokenizer: Any, max_prompt_tokens: int, eos: str, fits: Fits | None
) -> PairReport:
    """Published pairs -> the preference file that `make_pairs` writes, its scores null, and the report beside it.

    Prompts are rendered as those of a run, the longer ones cut in the middle of the context. InputError where no row
    can be used.
    """
    preferences.require(eos)
    lead = answer_lead(tokenizer)
    report, rendering = PairReport(), PromptReport()
    render = renderer(tokenizer, max_prompt_tokens, "train", rendering)

    def rendered(row: dict[str, Any], number: int) -> tuple[dict[str, str], str]:
        pair = _pair(row, number)
        return pair, render(pair["idx"], pair["context"], pair["query"])["input"]

    def preferred() -> Iterator[dict[str, Any]]:
        for pair, prompt in _usable(source, report.broken, rendered):
            report.answers += 2
            win, lose = (ended(pair[name], eos, lead) for name in ("win_response", "lose_response"))
            report.unwritable += (win is None) + (lose is None)
            if win is None or lose is None or win == lose:
                report.settle(0, "unusable")
            elif fits is not None and not (fits(prompt, win) and fits(prompt, lose)):
                report.pairs_too_long += 1
                report.settle(0, "too_long")
            else:
                report.enter((count_tokens(tokenizer, win), count_tokens(tokenizer, lose)))
                report.settle(1, "")
                yield preferences.row(pair["idx"], prompt, (win, lose))
        report.shortened = rendering.cut
        if not report.prompts:
            first = f"; first problem: {report.broken[0]}" if report.broken else ""
            raise InputError(f"{source} holds no row with context, query, win_response and lose_response{first}")

    return preferences.write(out, preferred(), report)


def _usable(source: Path, broken: list[str], make: Callable[[dict[str, Any], int], T]) -> Iterator[T]:
    """What `make` makes of each row and its line number. A row for which it raises ValueError goes to `broken`."""
    for number, _, row in rows.read_with_offsets(source, broken):
        try:
            made = make(row, number)
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")
        else:
            yield made


def _turns(row: dict[str, Any]) -> Messages:
    """A conversation as it is trained on: nothing of the assistant's before the first question, as of a conversation
    that was cut into pieces, and nothing behind its last turn. ValueError where none is left."""
    turns: Any = row.get("messages")
    if turns is not None:
        turns = messages(turns, "messages")
    else:
        turns = row["conversations"]
        said = isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns)
        turns = [{"role": turn.get("from"), "content": turn.get("value")} for turn in turns] if said else turns
        turns = messages(turns, "conversations")
    for turn in turns:
        role = _ROLES.get(turn["role"].lower())
        if role is None:
            raise ValueError(f"a turn is of {turn['role']!r}; known are {', '.join(_ROLES)}")
        turn["role"] = role
        if role != "system" and not turn["content"].strip():
            raise ValueError(f"a turn of the {role} is empty")
    roles = [turn["role"] for turn in turns]
    if "assistant" not in roles or "user" not in roles:
        raise ValueError("the conversation has no turn of the user, or none of the assistant")
    first, last = roles.index("user"), len(roles) - roles[::-1].index("assistant")
    if last <= first:
        raise ValueError("no turn of the assistant follows a turn of the user")
    return [turn for turn in turns[:first] if turn["role"] == "system"] + turns[first:last]


def _sample(row: dict[str, Any], identity: str, *names: str) -> Sample:
    """A sample of the row's query, its answer, and its texts of these names."""
    return Sample(id=identity, **{name: text_in(row, name) for name in (*names, "query", "answer")})


def _pair(row: dict[str, Any], number: int) -> dict[str, str]:
    names = ("context", "query", "win_response", "lose_response")
    return {"idx": rows.row_id(row, number)} | {name: text_in(row, name) for name in names}
