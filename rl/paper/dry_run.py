"""The dry run of a reproduction: that of each command, with a stand-in for what other rows have still to make."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rl.paper.steps import POLICY, PROGRAMS, Step

_STAND_INS = {"collect.stores": "[]", "collect.responses": "null"}


def dry_run(todo: Sequence[Step]) -> int:
    """The dry run of each step that is not done; of evaluations that differ in nothing but the policy, the first.
    Returns 0, or the first exit code that is not."""
    seen = set()
    for step in todo:
        words = runnable(step)
        settings = (step.program, *(word for word in words if not word.startswith("run.name=")))
        if step.is_done or settings in seen:
            continue
        seen.add(settings)
        print(f"reproduce: {step.name}: python rl/{step.program} {' '.join(words)} --dry-run", flush=True)
        if code := subprocess.run([sys.executable, str(PROGRAMS / step.program), *words, "--dry-run"]).returncode:
            return code
    return 0


def runnable(step: Step) -> list[str]:
    """The step's words: with the first policy in the place of one that is not there yet, and with no answers of another
    row where these are not there: then all stages are looked at."""
    words = []
    for word in step.words:
        name, _, path = word.partition("=")
        if name not in (f"openrlhf.{POLICY}", *_STAND_INS) or not _is_missing(path.strip("[]'")):
            words.append(word)
        elif name in _STAND_INS:
            words = [one for i, one in enumerate(words) if "--stage" not in (one, words[i - 1])]
            words.append(f"{name}={_STAND_INS[name]}")
        else:
            words.append(f"{name}={step.begins_with}")
    if "--model" in words and _is_missing(words[place := words.index("--model") + 1]):
        words[place] = step.begins_with
    if "--against" in words and _is_missing(f"{words[(place := words.index('--against')) + 1]}/summary.json"):
        del words[place : place + 2]
    return words


def _is_missing(path: str) -> bool:
    """A name on the hub is not looked up."""
    return Path(path).is_absolute() and not Path(path).exists()
