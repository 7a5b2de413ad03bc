"""Short conversations beside the long ones: their preference pairs mixed in, their answers compared by the judge."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from longreward import rows
from longreward.errors import InputError
from longreward.evaluation import compare as ask_about
from longreward.evaluation import load, summarise_pairs
from longreward.files import jsonlines
from rl.data.chat_template import Messages, answer_lead, messages, rendered
from rl.data.prompt_files import PromptReport, renderer
from rl.monitor.live_view import Screen
from rl.offline import pairs as preferences
from rl.offline.config import DpoConfig, ShortSection
from rl.offline.pair_answers import ended
from rl.offline.pairs import Fits
from rl.rollout import evaluation_answers
from rl.rollout.engines import Engines


def mix(long: Path, section: ShortSection, out: Path, tokenizer: Any, fits: Fits, seed: int) -> str:
    """Write the long pairs and so many short ones that they are `section.share` of all; with 1 short ones alone, as
    many as there are long ones. Returns what came of it.

    InputError where no short pair can be used.
    """
    assert section.train is not None
    broken: list[str] = []
    usable = pairs(section.train, tokenizer, broken)
    short = [row for row in usable if fits(row["prompt"], row["chosen"]) and fits(row["prompt"], row["rejected"])]
    if not short:
        first = f"; first problem: {broken[0]}" if broken else ""
        raise InputError(f"short.train {section.train} holds no pair that can be used{first}")
    count = wanted = sum(1 for _ in jsonlines.read(long))
    if section.share == 1:
        count = 0
    else:
        wanted = round(count * section.share / (1 - section.share))
    kept = islice((row for _, row in jsonlines.read(long)), count)
    taken = random.Random(seed).sample(short, min(wanted, len(short)))
    jsonlines.rewrite(out, chain(kept, taken))
    unread = f"; {len(broken)} unreadable rows skipped ({broken[0]})" if broken else ""
    few = f" (short.share wants {wanted})" if wanted > len(taken) else ""
    return f"{count} long and {len(taken)} short pairs{few} in {out}{unread}"


def pairs(source: Path, tokenizer: Any, broken: list[str]) -> Iterator[dict[str, Any]]:
    """Preference pairs without a document: prompt (or query), chosen and rejected as text or as chat messages. Of
    messages the assistant's last turn is the answer, and all before it the prompt."""
    render, written = _turn(tokenizer), partial(ended, eos=tokenizer.eos_token, lead=answer_lead(tokenizer))
    for number, row in rows.read(source, broken):
        try:
            chosen, rejected = (_said(row.get(name), name) for name in ("chosen", "rejected"))
            prompt = _prompt(row["prompt"] if "prompt" in row else row.get("query"), chosen[0], rejected[0])
            if chosen[1] == rejected[1]:
                raise ValueError("chosen and rejected are the same")
            texts = [text for _, each in (chosen, rejected) if (text := written(each)) is not None]
            if len(texts) < 2:
                raise ValueError(f"an answer holds the end-of-text mark {tokenizer.eos_token}")
            yield preferences.row(f"short-{number}", render(prompt), texts)
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")


def compare(screen: Screen, config: DpoConfig, engines: Engines) -> dict[str, Any]:
    """The share of short instructions on which the judge prefers the trained policy, ties as half. For summary.json."""
    assert config.short.heldout is not None
    items = load(config.short.heldout, "short", [])
    first = jsonlines.read_json(first_answers_path(config))
    last, _ = evaluation_answers.answers(items, engines, config.evaluation.temperature)

    async def judged() -> Any:
        async with evaluation_answers.opened_judge(config) as judge:
            return await ask_about(items, first, last, judge)

    result = summarise_pairs("before", "after", asyncio.run(judged()), evaluation_answers.judge_name(config))
    screen.console.print(result.markdown(), highlight=False, markup=False, soft_wrap=True)
    return result.to_json()


def take_first_answers(config: DpoConfig, engines: Engines) -> None:
    """The first policy's answers to the short instructions, kept for `compare`."""
    assert config.short.heldout is not None
    found, _ = evaluation_answers.answers(
        load(config.short.heldout, "short", []), engines, config.evaluation.temperature
    )
    jsonlines.write_json(first_answers_path(config), found)


def first_answers_path(config: DpoConfig) -> Path:
    """Where the first policy's short answers are kept."""
    return config.directory / "short_before.json"


def _turn(tokenizer: Any) -> Callable[[str | Messages], str]:
    """A prompt as text or as chat messages -> rendered."""
    render = renderer(tokenizer, 10**9, "short", PromptReport())

    def as_prompt(prompt: str | Messages) -> str:
        return str(render("", "", prompt)["input"]) if isinstance(prompt, str) else rendered(tokenizer, prompt)

    return as_prompt


def _prompt(given: Any, chosen: Messages, rejected: Messages) -> str | Messages:
    """The prompt of two answers, from the row's own and from the messages that stand before each answer. ValueError
    where they are not answers to the same."""
    if chosen != rejected:
        raise ValueError("chosen and rejected are not answers to the same conversation: their earlier turns differ")
    if given is None and chosen:
        return chosen
    if not isinstance(given, str):
        given = messages(given, "prompt (or query)")
        if not chosen or given[-len(chosen) :] == chosen:
            return given
        return chosen if chosen[: len(given)] == given else _joined(given, chosen)
    if not chosen:
        return given
    if any(message["role"] == "user" and message["content"].strip() == given.strip() for message in chosen):
        return chosen
    return _joined([{"role": "user", "content": given}], chosen)


def _joined(prompt: Messages, turns: Messages) -> Messages:
    """The prompt and the turns that follow it. ValueError where they do not follow."""
    if turns[0]["role"] != "assistant" or prompt[-1]["role"] == "assistant":
        raise ValueError("prompt (or query) is not in the conversation that chosen and rejected end")
    return [*prompt, *turns]


def _said(value: Any, name: str) -> tuple[Messages, str]:
    """What was said before an answer, and the answer: text, or the last of chat messages, which is the assistant's."""
    before: Messages = []
    if isinstance(value, list):
        *before, last = messages(value, name)
        if last["role"] != "assistant":
            raise ValueError(f"{name} ends with a turn of {last['role']!r}; it must end with the assistant's")
        value = last["content"]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be text or chat messages, found {type(value).__name__}")
    return before, value
