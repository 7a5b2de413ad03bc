"""Show what a run has spent on its judge, and raise the cap of a run that is paused because it has reached it.

python rl/spend.py runs/NAME                                # show
python rl/spend.py runs/NAME max_cost=50 [max_tokens=1e9]   # raise the cap; a paused run goes on within a second
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from longreward.errors import InputError, LongRewardError
from longreward.files import jsonlines
from longreward.files.nesting import from_json
from rl.rollout.spend_ledger import CAP, SPENT

_NAMES = {"max_cost": "cost", "max_tokens": "tokens"}


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 2 for a user's error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("caps", nargs="*", metavar="max_cost=X", help="new caps, for the whole run from its start")
    options = parser.parse_args(argv)
    try:
        state = _state(options.run)
        if options.caps:
            state["cap"] |= dict(_cap(text, state) for text in options.caps)
            jsonlines.write_json(options.run / CAP, state["cap"])
        print(_sentence(options.run, state))
    except LongRewardError as error:
        print(f"spend: {error}", file=sys.stderr)
        return 2
    return 0


def _state(run: Path) -> dict[str, Any]:
    path = run / SPENT
    try:
        state = from_json(path.read_text(encoding="utf-8"))
        return {"used": dict(state["used"]), "cap": dict(state["cap"]), "paused": bool(state["paused"])}
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist; give the directory of a run that asks a judge over the network"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _cap(text: str, state: dict[str, Any]) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in _NAMES:
        raise InputError(f"{text!r} is not a cap; write max_cost=50 or max_tokens=1000000")
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"{text!r}: {value!r} is not a number") from None
    used = state["used"][_NAMES[name]]
    if not number > used:
        raise InputError(f"{text!r} is not more than the {used:g} already spent; a cap counts from the run's start")
    return _NAMES[name], number


def _sentence(run: Path, state: dict[str, Any]) -> str:
    used, cap = state["used"], state["cap"]
    parts = [
        f"{used[name]:,.{digits}f} {label}" + (f" of {cap[name]:,.{digits}f}" if cap[name] is not None else "")
        for name, label, digits in (("cost", "spent", 2), ("tokens", "tokens", 0))
    ]
    return f"{run}: {', '.join(parts)}"


if __name__ == "__main__":
    sys.exit(main())
