"""A policy's answers to the items of an evaluation and to conversations, by the run's engines, each kept as soon as it
is there; and the judge that longreward/evaluation scores them with."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from longreward.errors import ConfigError
from longreward.evaluation import EvaluationItem
from longreward.files import jsonlines
from longreward.judge import Judge, make_judge
from longreward.judge.cache import VerdictCache
from longreward.text.thoughts import begins_thought, without_thoughts
from rl.config import RunConfig
from rl.data.chat_template import rendered
from rl.data.prompt_files import PromptReport, count_tokens, renderer
from rl.data.prompts import Label
from rl.rollout.engines import Engines, in_flight
from rl.rollout.spend_ledger import SpendLedger
from rl.trainer.openrlhf_flags import Flags

_AT_ONCE = 512


@asynccontextmanager
async def opened_judge(config: RunConfig) -> AsyncIterator[Judge]:
    """The judge of evaluations in this process, with the run's cache. It spends apart from the judge workers, under one
    cap for all parts of a run that is continued."""
    if not config.grader.asks_endpoints:
        yield make_judge(config.grader)
        return
    folder = config.directory / "evaluation_judge"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = SpendLedger(config.grader, folder, pauses=False)
    cache = VerdictCache.of(config.reward.cache, config.directory)
    judge = make_judge(config.grader.model_copy(update={"routes": {}}), cache, spend=ledger.spend)
    ledger.begin()
    try:
        yield judge
    finally:
        await judge.aclose()
        await ledger.end()


def judge_name(config: RunConfig) -> str:
    """The judge of evaluations as tables name it."""
    return config.grader.model or config.grader.kind


def check_of(*texts: str) -> int:
    """A CRC that tells texts from others."""
    return zlib.crc32(jsonlines.encoded(texts))


def kept(path: Path, asked: Sequence[EvaluationItem] | Sequence[Conversation]) -> dict[str, str]:
    """The answers to what is asked in a file that `answers` or `conversations` has written, whole or not. A line that a
    kill has cut is passed over, and so is the answer to a question that had the same id. Files of before do not tell
    what the question was."""
    if not path.is_file():
        return {}
    checks = _checks(asked)
    rows = (row for _, row in jsonlines.read(path, []) if row["idx"] in checks)
    return {row["idx"]: row["answer"] for row in rows if row.get("crc") in (None, checks[row["idx"]])}


def answers(
    items: Sequence[EvaluationItem], engines: Engines, temperature: float, file: Path | None = None
) -> tuple[dict[str, str], PromptReport]:
    """One answer to each item, by id, and what became of the prompts: documents over the budget are cut in the middle.

    Those in `file` are not asked for again; the others are appended to it as they come. ConfigError for a question that
    alone exceeds the budget.
    """
    report, found, checks = PromptReport(), kept(file, items) if file else {}, _checks(items)
    render = renderer(engines.tokenizer, engines.max_len - engines.max_new_tokens, "evaluation", report)
    rows = []
    for item in items:
        if item.id not in found:
            row = render(item.id, item.context, "" if item.query_in_context else item.query)
            rows.append(row | {"label": replace(Label.from_json(row["label"]), scored=False).to_json()})
    report.kept = len(rows)
    with _appended(file) as keep:
        for (rollout,) in engines.rollouts(rows, temperature, 1):
            identity = Label.from_json(rollout["label"]).id
            found[identity] = rollout["answer"]
            keep({"idx": identity, "answer": rollout["answer"], "crc": checks[identity]})
            _sign_of_life(len(found), len(items))
    return found, report


@dataclass(frozen=True)
class Conversation:
    """What a user says, turn after turn."""

    id: str
    """Unique in its file."""
    turns: tuple[str, ...]
    temperature: float
    row: dict[str, Any]
    """As the file has it."""

    def key(self, turn: int) -> str:
        """Under which the answer to a turn is kept."""
        return f"{self.id}/{turn + 1}"


def conversations(
    asked: Sequence[Conversation], engines: Engines, file: Path, *, strip_thoughts: bool = True
) -> dict[str, str]:
    """The answers to all turns, by `Conversation.key`. Each turn is asked with the answers before it in the prompt,
    without their thoughts if `strip_thoughts`. Kept in `file` as by `answers`. `check_length` comes before.
    """
    found, checks = kept(file, asked), _checks(asked)
    whole = sum(len(one.turns) for one in asked)
    with _appended(file) as keep:
        for turn in range(max(len(one.turns) for one in asked)):
            todo = [one for one in asked if len(one.turns) > turn and one.key(turn) not in found]
            calls = (partial(_ask, place, one, turn, found, engines) for place, one in enumerate(todo))
            for (rollout,) in in_flight(calls, _AT_ONCE * len(engines.actors)):
                key, answer = Label.from_json(rollout["label"]).id, rollout["answer"]
                if strip_thoughts:
                    answer = without_thoughts(answer, thinking=begins_thought(rollout["prompt"]))
                found[key] = answer.strip()
                keep({"idx": key, "answer": found[key], "crc": checks[key]})
                _sign_of_life(len(found), whole)
    return found


def _ask(place: int, one: Conversation, turn: int, found: dict[str, str], engines: Engines) -> Any:
    prompt = _prompt(one, [found[one.key(n)] for n in range(turn)], engines.tokenizer)
    label = Label(one.key(turn), "evaluation", (0, 0), (0, 0), scored=False)
    row = {"input": prompt, "label": label.to_json()}
    return engines.generate(place, row, engines.sampling(one.temperature), 1)


def _prompt(one: Conversation, answered: Sequence[str], tokenizer: Any) -> str:
    messages = [{"role": "user", "content": one.turns[0]}]
    for answer, turn in zip(answered, one.turns[1:], strict=False):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    try:
        return rendered(tokenizer, messages)
    except ValueError as error:
        raise ConfigError(f"conversation {one.id}: {error}; use an instruction model") from None


def check_length(asked: Sequence[Conversation], tokenizer: Any, flags: Flags) -> None:
    """ConfigError where a conversation may take more than the `max_len` of `flags`, or where the chat template takes
    none."""
    answer = flags.rollout_max_new_tokens
    for one in asked:
        later = len(one.turns) - 1
        most = count_tokens(tokenizer, _prompt(one, ["-"] * later, tokenizer)) + (later + 1) * answer
        if most > flags.data_max_len:
            raise ConfigError(
                f"conversation {one.id} may take {most} tokens with its answers, and openrlhf.data.max_len is "
                f"{flags.data_max_len}; raise it, or lower openrlhf.rollout.max_new_tokens"
            )


@contextmanager
def _appended(file: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Keeps an answer, where there is a file."""
    if file is None:
        yield lambda row: None
        return
    with jsonlines.Appender[dict[str, Any]](file) as rows:
        yield rows.append


def _checks(asked: Sequence[EvaluationItem] | Sequence[Conversation]) -> dict[str, int]:
    """Of each answer's name, the `check_of` what the user said until then."""
    found: dict[str, int] = {}
    for one in asked:
        if isinstance(one, EvaluationItem):
            found[one.id] = check_of(one.turn)
        else:
            found |= {one.key(turn): check_of(*one.turns[: turn + 1]) for turn in range(len(one.turns))}
    return found


def _sign_of_life(count: int, of: int) -> None:
    # To the log: the watchdog takes it for the sign of life that unscored answers do not give otherwise.
    print(f"evaluation: {count} of {of} answers", flush=True)
