"""A run's checkpoints on disk, as OpenRLHF and DeepSpeed write them: which are complete, and which to continue from.

DeepSpeed writes `latest` when its first rank is done, whatever the others do, and actor and critic are saved one after
the other: after a kill at the wrong moment it points at half a checkpoint. OpenRLHF writes a checkpoint's `metric.json`
after a barrier of all ranks, so that is the sign of a complete one.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_COMPLETE = "metric.json"
_TAG = re.compile(r"(?:best_)?global_step(\d+)")


def last_complete(folder: Path) -> int:
    """The step of the newest complete checkpoint in the run's `checkpoints/`; 0 where there is none."""
    return max(_complete(folder), default=0)


def prepare_resume(folder: Path) -> int:
    """Make the newest complete checkpoint the one that OpenRLHF loads, and remove half-written ones. Returns its step.

    0 where there is none: then nothing is left that OpenRLHF would take for one.
    """
    complete = _complete(folder)
    step = max(complete, default=0)
    for model in _models(folder):
        if not step:
            shutil.rmtree(model)
            continue
        for path in model.iterdir():
            if path.is_dir() and not (path / _COMPLETE).is_file():
                shutil.rmtree(path)
        part = model / "latest.part"
        part.write_text(complete[step], encoding="utf-8")
        part.replace(model / "latest")
    return step


def _models(folder: Path) -> list[Path]:
    """The actor's folder, and the critic's if there is one."""
    return [path for path in (folder / "_actor", folder / "_critic") if path.is_dir()]


def _complete(folder: Path) -> dict[int, str]:
    """Step -> tag of the checkpoints that are complete for every model."""
    steps: list[dict[int, str]] = []
    for model in _models(folder):
        tags = [path.parent.name for path in model.glob(f"*/{_COMPLETE}")]
        found = {int(match[1]): tag for tag in sorted(tags) if (match := _TAG.fullmatch(tag))}
        steps.append(found)
    if not steps:
        return {}
    return {step: tag for step, tag in steps[0].items() if all(other.get(step) == tag for other in steps)}
