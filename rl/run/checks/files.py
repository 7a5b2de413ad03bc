"""The files that a run reads: are they there, and do they hold a row that can be used?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from longreward.errors import InputError
from longreward.preflight.finding import Finding
from rl.config import RunConfig
from rl.data import prompt_files
from rl.monitor import canaries
from rl.trainer.model_folder import missing_model
from rl.trainer.openrlhf_flags import Flags


def findings(config: RunConfig, flags: Flags, *, documents: bool = True) -> list[Finding]:
    """Problems with data, canaries and the policy; one finding that says so where all are well.

    `documents`: data.train holds documents with questions. SFT has rows of its own.
    """
    found, reference = [], config.reward.reference_field
    wanted = "context and query as text" + (f" and a reference answer in {reference!r}" if reference else "")
    if config.watch.canaries is not None:
        try:
            canaries.load(config.watch.canaries, reference)
        except InputError as error:
            found.append(Finding.problem("files", f"watch.canaries: {error}"))
    for key, path in (("data.train", config.data.train), ("data.heldout", config.data.heldout)):
        if path is not None and (documents or key != "data.train"):
            found += unusable(key, path, partial(prompt_files.rows, reference=reference), wanted)
        elif path is not None and not path.is_file():
            action = "give a JSON-lines file with idx, context, query, answer"
            found.append(Finding.problem("files", f"{key} {path} does not exist", action))
    found += missing_model("openrlhf.actor.model_name_or_path", flags.policy)
    return found or [Finding.ok("files", "data and model are there")]


def unusable(
    setting: str, path: Path, read: Callable[[Path, list[str]], Iterable[Any]], rows: str
) -> Iterator[Finding]:
    """A problem where the file is not there or none of its rows can be used. Reads up to the first one that can."""
    broken: list[str] = []
    if not path.exists():
        yield Finding.problem("files", f"{setting} {path} does not exist", f"give a JSON-lines file with {rows}")
        return
    try:
        usable = any(True for _ in read(path, broken))
    except InputError as error:
        yield Finding.problem("files", f"{setting}: {error}")
        return
    if not usable:
        first = f"; first problem: {broken[0]}" if broken else ""
        yield Finding.problem("files", f"{setting} {path} holds no row with {rows}{first}")
