"""The sources of a report: run directories, and files of scored answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import yaml

from longreward import store
from longreward.errors import InputError
from longreward.evaluation import second_scores
from longreward.evaluation.second_scores import SecondScore
from longreward.files import jsonlines
from longreward.files.nesting import from_json, from_yaml
from longreward.report.reading.stored import StoredAnswer

_SIGNS = ("config.yaml", "store", "tensorboard", "summary.json", "command.txt")
"""One of these makes a directory a run directory."""
POLICIES = "policies.json"
"""The file of a run directory in which several policies were evaluated one after the other: the name of each, and the
earliest time at which an answer of it can have been scored."""
REPRODUCTION = "reproduction.json"
"""The file of a folder of runs in which rl/reproduce.py left its table: title, heads, rows, notes, and the names of the
runs."""
_RUNNING_S = 600.0
"""A run that wrote something within this time (seconds) counts as running: the log gets a line for each answer, and the
slowest known steps take some minutes."""
_LOG_LINES, _LOG_BYTES = 40, 64_000  # of the end of logs/train.log
_LINE_CHARACTERS = 400
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # of a terminal's colours
_SHOWN_BROKEN = 20


@dataclass
class Source:
    """A run directory (`is_run`) or a scored file."""

    path: Path
    is_run: bool
    name: str
    broken: list[str] = field(default_factory=list)
    """The first lines that hold no scored answer, each as `file:line: why`."""
    broken_lines: int = 0
    """The number of such lines. The last line of a file that is being written may be one of them."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; empty where there is none that can be read."""
        try:
            found = from_yaml(self.config_text)
        except (yaml.YAMLError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def config_text(self) -> str:
        return self._bytes("config.yaml").decode("utf-8", "replace")

    @cached_property
    def command(self) -> str:
        return self._bytes("command.txt").decode("utf-8", "replace")

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """What the run wrote at its end; None before that."""
        return self.json("summary.json")

    @cached_property
    def policies(self) -> list[tuple[str, float]]:
        """Name and begin (seconds since 1970) of each policy that was evaluated; empty where a policy was trained."""
        found = (self.json(POLICIES) or {}).get("policies")
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        return [
            (str(row.get("name")), float(row["begun"])) for row in rows if isinstance(row.get("begun"), int | float)
        ]

    @cached_property
    def canary_rounds(self) -> list[dict[str, Any]]:
        """The rounds of a run's canaries in which any was scored. Canaries are answers of known quality, which the run
        scores again and again to see its judge drift."""
        try:
            rows = jsonlines.read(self.path / "canaries.jsonl", broken=[])
            return [row for _, row in rows if isinstance(row.get("drift"), int | float)]
        except InputError:
            return []

    @cached_property
    def second_scores(self) -> list[SecondScore]:
        """Answers of a run that were scored twice."""
        return list(second_scores.read(self.path)) if self.is_run else []

    def setting(self, *keys: str) -> Any:
        """A value of the configuration; None if it is not set."""
        found: Any = self.config
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run directory; None where it is missing or unreadable."""
        try:
            found = from_json(self._bytes(name))
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def files(self) -> list[Path]:
        """The files with the scored answers."""
        return store.files(self.path / "store") if self.is_run else [self.path]

    def answers(self, path: Path) -> Iterator[tuple[int, StoredAnswer]]:
        """Yield (offset in bytes, scored answer) of each line in a file. Lines without one, half-written lines too, are
        counted. A file that has disappeared since it was listed has no answers."""
        broken: list[str] = []
        try:
            for _, offset, answer in store.read(path, broken, StoredAnswer):
                yield offset, answer
                self._count(broken)
        except InputError as error:
            broken.append(str(error))
        self._count(broken)

    def prompt_files(self) -> list[Path]:
        """The files with the documents: the rendered prompts of a run."""
        return sorted((self.path / "data").glob("*.jsonl")) if self.is_run else []

    def state(self, now: float) -> dict[str, Any]:
        """`running`, `finished`, `ended` (no summary, nothing written lately), or `file`; with the time of the last
        sign of life (seconds since 1970) and the end of the log where the run ended without a summary."""
        if not self.is_run:
            return {"state": "file", "at": _changed([self.path])}
        parts = [*self.files(), *(self.path / "logs").glob("*"), *(self.path / "tensorboard").glob("*/events*")]
        at = _changed(parts or [self.path])
        if self.summary is not None:
            return {"state": "finished", "at": at}
        if now - at <= _RUNNING_S:
            return {"state": "running", "at": at}
        return {"state": "ended", "at": at, "log": self._log_end()}

    def _count(self, broken: list[str]) -> None:
        if broken:
            self.broken_lines += len(broken)
            self.broken += broken[: _SHOWN_BROKEN - len(self.broken)]
            broken.clear()

    def _bytes(self, name: str) -> bytes:
        """A file of the run directory; empty if it cannot be read."""
        try:
            return (self.path / name).read_bytes() if self.is_run else b""
        except OSError:
            return b""

    def _log_end(self) -> str:
        try:
            with (self.path / "logs" / "train.log").open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - _LOG_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        lines = _ESCAPES.sub("", text).splitlines()[-_LOG_LINES:]
        return "\n".join(line[:_LINE_CHARACTERS] for line in lines)


class Reproduction(msgspec.Struct):
    """The table of rl/reproduce.py, ready to be shown."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    notes: list[str]
    runs: list[str]


def reproduction(path: Path) -> Reproduction | None:
    """The table in a folder of runs; None where there is none. InputError where it cannot be read."""
    file = path / REPRODUCTION
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Reproduction)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}); run rl/reproduce.py again, which writes it") from None


def opened(path: Path) -> Source:
    """The source at `path`. InputError if there is neither a run directory nor a file."""
    if path.is_dir():
        if any((path / sign).exists() for sign in _SIGNS):
            return Source(path, True, path.resolve().name)
        inside = sorted(p.name for p in path.iterdir() if p.is_dir() and any((p / sign).exists() for sign in _SIGNS))
        if inside:
            named = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
            raise InputError(f"{path} is not a run directory but contains some ({named}); give one of them")
        what = "has no config.yaml, store/ or tensorboard/" if any(path.iterdir()) else "is empty"
        raise InputError(f"{path} {what}; give a run directory, or a file that `longreward score --out` wrote")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a run directory, or a file that `longreward score --out` wrote")
    return Source(path, False, path.stem)


def named_apart(sources: list[Source]) -> list[Source]:
    """The same sources with names that differ: each gets as many parts of its path as that takes."""
    for length in range(2, 8):
        if len({source.name for source in sources}) == len(sources):
            break
        for source in sources:
            source.name = "/".join(source.path.resolve().parts[-length:])
    return sources


def _changed(paths: list[Path]) -> float:
    """When one of the files was last written."""
    times = []
    for path in paths:
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=time.time())
