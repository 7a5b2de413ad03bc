"""Short conversations beside the long ones: their preference pairs mixed in, their answers compared by the judge."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from longreward import jsonlines
from longreward.errors import InputError
from longreward.evaluation import compare as ask_about
from longreward.evaluation import load, summarise_pairs
from rl.data.prompt_files import PromptReport, renderer
from rl.monitor.live_view import Screen
from rl.offline import pairs as preferences
from rl.offline.config import DpoConfig, ShortSection
from rl.offline.pair_answers import ended
from rl.offline.pairs import Fits
from rl.rollout import evaluation_answers
from rl.rollout.engines import Engines


def mix(long: Path, section: ShortSection, out: Path, tokenizer: Any, fits: Fits, seed: int) -> str:
    """Write the long pairs and so many short ones that they are `section.share` of all. Returns what came of it.

    InputError where no short pair can be used.
    """
    assert section.train is not None
    broken: list[str] = []
    usable = pairs(section.train, tokenizer, broken)
    short = [row for row in usable if fits(row["prompt"], row["chosen"]) and fits(row["prompt"], row["rejected"])]
    if not short:
        first = f"; first problem: {broken[0]}" if broken else ""
        raise InputError(f"short.train {section.train} holds no pair that can be used{first}")
    count = sum(1 for _ in jsonlines.read(long))
    wanted = round(count * section.share / (1 - section.share))
    taken = random.Random(seed).sample(short, min(wanted, len(short)))
    jsonlines.rewrite(out, chain((row for _, row in jsonlines.read(long)), taken))
    unread = f"; {len(broken)} unreadable rows skipped ({broken[0]})" if broken else ""
    few = f" (short.share wants {wanted})" if wanted > len(taken) else ""
    return f"{count} long and {len(taken)} short pairs{few} in {out}{unread}"


def pairs(source: Path, tokenizer: Any, broken: list[str]) -> Iterator[dict[str, Any]]:
    """Preference pairs without a document: prompt (or query), chosen and rejected as text or as chat messages."""
    render = _turn(tokenizer)
    for number, row in jsonlines.read(source, broken):
        try:
            prompt = row["prompt"] if "prompt" in row else row.get("query")
            texts = {name: _said(row.get(name), name) for name in ("chosen", "rejected")}
            if texts["chosen"] == texts["rejected"]:
                raise ValueError("chosen and rejected are the same")
            json.dumps([prompt, texts], ensure_ascii=False).encode()  # no tokenizer takes half a surrogate pair
            written = [text for each in texts.values() if (text := ended(each, tokenizer.eos_token)) is not None]
            if len(written) < 2:
                raise ValueError(f"an answer holds the end-of-text mark {tokenizer.eos_token}")
            yield preferences.row(f"short-{number}", render(prompt), written)
        except (ValueError, TemplateError) as error:
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


def _turn(tokenizer: Any) -> Callable[[Any], str]:
    """A prompt as text or as chat messages -> rendered."""
    render = renderer(tokenizer, 10**9, "short", PromptReport())

    def rendered(prompt: Any) -> str:
        if isinstance(prompt, str):
            return str(render("", "", prompt)["input"])
        if isinstance(prompt, list) and prompt and all(isinstance(message, dict) for message in prompt):
            if all(isinstance(message.get(key), str) for message in prompt for key in ("role", "content")):
                return str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
            raise ValueError("each chat message of prompt (or query) must have role and content as text")
        raise ValueError(f"prompt (or query) must be text or chat messages, found {type(prompt).__name__}")

    return rendered


def _said(value: Any, name: str) -> str:
    """An answer as text or as chat messages, the last of which is the assistant's."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be text or chat messages, found {type(value).__name__}")
    return value
