"""The files that a run reads: are they there, and do they hold a row that can be used?"""

from __future__ import annotations

from pathlib import Path

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
    found = []
    if config.watch.canaries is not None:
        try:
            canaries.load(config.watch.canaries, config.reward.reference_field)
        except InputError as error:
            found.append(Finding.problem("files", f"watch.canaries: {error}"))
    for key, path in (("data.train", config.data.train), ("data.heldout", config.data.heldout)):
        if path is not None and not path.is_file():
            fields = "idx, context, query" if documents or key != "data.train" else "idx, context, query, answer"
            found.append(
                Finding.problem("files", f"{key} {path} does not exist", f"give a JSON-lines file with {fields}")
            )
        elif path is not None and (documents or key != "data.train"):
            found += _unusable(key, path, config.reward.reference_field)
    found += missing_model("openrlhf.actor.model_name_or_path", flags.policy)
    return found or [Finding.ok("files", "data and model are there")]


def _unusable(key: str, path: Path, reference: str | None) -> list[Finding]:
    """A problem where no row of the file can be used. Reads up to the first one that can."""
    broken: list[str] = []
    try:
        if next(prompt_files.rows(path, broken, reference), None) is not None:
            return []
        return [Finding.problem("files", f"{key}: {prompt_files.no_row(path, broken, reference)}")]
    except InputError as error:
        return [Finding.problem("files", f"{key}: {error}")]
