"""The files that a run reads: are they there, and do they hold a row that can be used?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from longreward import rows
from longreward.errors import InputError
from longreward.preflight.finding import Finding
from rl.config import RunConfig
from rl.data import prompt_files
from rl.monitor import canaries
from rl.trainer.model_folder import missing_model
from rl.trainer.openrlhf_flags import Flags
from rl.trainer.seams import remote_code

_HUB = "OWNER/NAME:SPLIT for a data set of the Hugging Face hub"


def findings(config: RunConfig, flags: Flags, *, documents: bool = True) -> list[Finding]:
    """Problems with data, canaries and the policy; one finding that says so where all are well.

    `documents`: data.train holds documents with questions. SFT has rows of its own.
    """
    found, reference, criteria = [], config.reward.reference_field, config.reward.uses_criteria
    wanted = "context and query as text" + (f" and a reference answer in {reference!r}" if reference else "")
    wanted += " and criteria" if criteria else ""
    if config.watch.canaries is not None:
        try:
            canaries.load(config.watch.canaries, reference, criteria=criteria)
        except InputError as error:
            found.append(Finding.problem("files", f"watch.canaries: {error}"))
    for key, path in (("data.train", config.data.train), ("data.heldout", config.data.heldout)):
        if path is not None and (documents or key != "data.train"):
            found += unusable(key, path, partial(prompt_files.rows, reference=reference, criteria=criteria), wanted)
        elif path is not None and not rows.exists(path):
            action = f"give a file with idx, context, query, answer, or {_HUB}"
            found.append(Finding.problem("files", f"{key} {path} does not exist", action))
    found += missing_model("openrlhf.actor.model_name_or_path", flags.policy)
    if not config.run.trust_remote_code:
        found += _own_code(config)
    return found or [Finding.ok("files", "data and model are there")]


def _own_code(config: RunConfig) -> Iterator[Finding]:
    """Models that cannot be loaded without code of their own."""
    name = "model_name_or_path"
    models = {f"openrlhf.{role}.{name}": config.openrlhf.get(f"{role}.{name}") for role in ("actor", "critic")}
    if "openrlhf" in config.reward.parts:
        models[f"reward.openrlhf.{name}"] = config.reward.openrlhf.model_name_or_path
    for setting, model in models.items():
        if model:
            yield from remote_code.problem(setting, str(model))


def notes(config: RunConfig, a_step: int = 0, *, train: bool = True) -> Iterator[Finding]:
    """What a person should know of the rows before anything is generated. Reads all of data.train and data.heldout.

    `a_step`: prompts that a step of training takes. Without `train` data.train does not matter."""
    for key, path in (("data.train", config.data.train if train else None), ("data.heldout", config.data.heldout)):
        if path is None:
            continue
        broken: list[str] = []
        documents, prompts = prompt_files.DocumentsById(), 0
        reward = config.reward
        for row in prompt_files.rows(path, broken, reward.reference_field, criteria=reward.uses_criteria):
            documents.add(row)
            prompts += 1
        if key == "data.train" and prompts < a_step:
            sentence = f"{key} {path} holds {prompts:,} usable prompts, less than the {a_step:,} of a step"
            yield Finding.note("data", sentence, "add prompts, or lower openrlhf.rollout.batch_size")
        yield from about_rows(key, broken, documents.shared())


def about_rows(key: str, broken: list[str], shared: list[str]) -> Iterator[Finding]:
    """Notes on rows that were passed over, and on ids that stand for several documents."""
    if broken:
        sentence = f"{key}: {len(broken):,} unreadable rows are skipped; the first: {broken[0]}"
        yield Finding.note("data", sentence, "fix them if you need them")
    if shared:
        sentence = f"{key}: {len(shared):,} ids stand for several documents, which are told apart: {shared[0]}"
        yield Finding.note("data", sentence, "give each document an idx of its own")


def unusable(
    setting: str, path: Path, read: Callable[[Path, list[str]], Iterable[Any]], wanted: str
) -> Iterator[Finding]:
    """A problem where the file is not there or none of its rows can be used. Reads up to the first one that can."""
    broken: list[str] = []
    if not rows.exists(path):
        yield Finding.problem("files", f"{setting} {path} does not exist", f"give a file with {wanted}, or {_HUB}")
        return
    try:
        usable = any(True for _ in read(path, broken))
    except InputError as error:
        yield Finding.problem("files", f"{setting}: {error}")
        return
    if not usable:
        first = f"; first problem: {broken[0]}" if broken else ""
        yield Finding.problem("files", f"{setting} {path} holds no row with {wanted}{first}")
