"""`longreward score`: a file of answers in, a file of scores out, resumable at any kill."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from longreward import prompts, store
from longreward.config import RewardConfig
from longreward.errors import InputError, JudgeError, Reason
from longreward.judge import offline
from longreward.reward import LongReward
from longreward.schema import Reward, Sample, Usage

_HOPELESS_AFTER = 8  # answers all void and none scored: the judge, not the answers, is what is wrong
_PLAIN_PROGRESS_S = 10  # seconds between progress lines where there is no terminal


async def score_file(source: Path, out: Path, config: RewardConfig, concurrency: int) -> int:
    """Score the rows of `source` into `out`. Returns 0, or 1 where rows were unreadable or nothing could be scored.

    InputError where a file cannot be read or `out` was scored with another configuration; JudgeError where the judge
    answers nothing at all.
    """
    console = Console(stderr=True, soft_wrap=True)
    broken: list[str] = []
    samples = read_samples(source, broken)
    if not samples:
        raise InputError(f"{source} holds no readable row with context, query and answer" + _first(broken))
    fingerprint = _fingerprint(config)
    done = _already_scored(out, fingerprint, samples)
    todo = [(key, sample) for key, sample in samples.items() if key not in done]
    if config.judge.kind == "offline":
        console.print(offline.NOTICE, style="yellow")
    if done:
        console.print(f"{len(done)} of {len(samples)} answers are already scored in {out}; {len(todo)} to go")

    reward = LongReward.from_config(config)
    started = time.monotonic()
    try:
        with store.Store(out) as file, _Progress(console, len(todo)) as progress:
            keeper = _Keeper(file, [key for key, _ in todo], fingerprint, done, progress)
            await reward.score_many([s for _, s in todo], concurrency=concurrency, on_result=keeper)
    except BaseExceptionGroup as group:
        raise _leaf(group) from None
    finally:
        await reward.aclose()

    rows = [done[key] for key in samples]
    store.rewrite(out, rows)  # in the order of the input
    _print_summary(rows, keeper.usage, time.monotonic() - started, out)
    for problem in broken[:10]:
        console.print(f"skipped {problem}", style="red", markup=False, highlight=False)
    if broken:
        console.print(f"{len(broken)} rows were skipped; mend them and run the same command again", style="red")
    return 1 if broken or all(row["scores"]["total"] is None for row in rows) else 0


def read_samples(source: Path, broken: list[str]) -> dict[str, Sample]:
    """The rows of a JSON-lines file, by a key made of their content; a row twice in the file is scored once."""
    samples: dict[str, Sample] = {}
    for number, row in store.read(source, broken):
        identity = row.get("idx", row.get("id"))
        fields = {name: row.get(name) for name in ("context", "query", "answer")}
        try:
            sample = Sample.model_validate({"id": str(number) if identity is None else identity, **fields})
        except ValidationError as error:
            wrong = ", ".join(f"{e['loc'][0]} must be text, found {type(e['input']).__name__}" for e in error.errors())
            broken.append(f"{source}:{number}: {wrong}")
        else:
            samples[_key(sample)] = sample
    return samples


class _Keeper:
    """Writes each scored answer down as it is done, and stops a run whose judge answers nothing."""

    def __init__(
        self, file: store.Store, keys: list[str], fingerprint: str, done: dict[str, dict[str, Any]], progress: _Progress
    ) -> None:
        self.usage = Usage()
        self._file, self._keys, self._fingerprint, self._done, self._progress = file, keys, fingerprint, done, progress
        self._void = self._scored = 0

    def __call__(self, position: int, reward: Reward) -> None:
        key = self._keys[position]
        row = _row(key, reward, self._fingerprint)
        self._done[key] = row
        self._file.append(row)
        self.usage += reward.usage
        self._void += reward.total is None
        self._scored += reward.total is not None
        self._progress.advance(self._void)
        if self._void >= _HOPELESS_AFTER and not self._scored:
            name, reason = next(iter(reward.void_reasons.items()))
            detail = f"the first {self._void} answers are all void, {name}: {reason} ({reward.dimensions[name].detail})"
            raise JudgeError(Reason(reason), detail=f"{detail}; check judge.base_url, judge.model and the key")


class _Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._done, self._last = console, total, 0, time.monotonic()
        columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("[red]{task.fields[void]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self._bar = Progress(*columns, *times, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("scoring", total=total, void="")

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, void: int) -> None:
        self._done += 1
        self._bar.update(self._task, advance=1, void=f"{void} void" if void else "")
        if not self._console.is_terminal and time.monotonic() - self._last >= _PLAIN_PROGRESS_S:
            self._last = time.monotonic()
            self._console.print(f"scored {self._done} of {self._total}, {void} void")


def _row(key: str, reward: Reward, fingerprint: str) -> dict[str, Any]:
    return {
        "idx": reward.id,
        "scores": {**{name: d.score for name, d in reward.dimensions.items()}, "total": reward.total},
        "status": {name: d.status for name, d in reward.dimensions.items()},
        "usage": reward.usage.model_dump(),
        "seconds": round(reward.seconds, 3),
        "detail": {name: d.model_dump(exclude_defaults=True) for name, d in reward.dimensions.items()},
        "key": key,
        "config": fingerprint,
    }


def _already_scored(out: Path, fingerprint: str, samples: dict[str, Sample]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run of the same command. Void ones are asked again; a line cut by a kill is not there."""
    if not out.exists():
        return {}
    done = {}
    for number, row in store.read(out, broken=[]):
        if row.get("config") != fingerprint or "key" not in row:
            raise InputError(
                f"{out}:{number} was written with another reward configuration, judge or prompt version; "
                "choose another --out, or remove that file to score again"
            )
        if row["key"] in samples and row["scores"]["total"] is not None:
            done[row["key"]] = row
    if not done and out.stat().st_size and not any(True for _ in store.read(out, broken=[])):
        raise InputError(f"{out} exists and is no file of scores; choose another --out")
    return done


def _fingerprint(config: RewardConfig) -> str:
    """Tells whether two runs score alike: all settings that can change a score, and the prompts."""
    judge = config.judge.model_dump(include={"kind", "model", "temperature", "extra_body"})
    scoring = config.model_dump(mode="json", exclude={"judge", "cache"}) | {"judge": judge, "prompts": prompts.VERSION}
    return hashlib.sha256(json.dumps(scoring, sort_keys=True).encode()).hexdigest()[:12]


def _key(sample: Sample) -> str:
    return hashlib.sha256(json.dumps(sample.model_dump(), sort_keys=True).encode()).hexdigest()[:16]


def _print_summary(rows: list[dict[str, Any]], usage: Usage, seconds: float, out: Path) -> None:
    table = Table(title=f"{len(rows)} answers in {seconds:.2f} s, {usage.calls} judge calls")
    for heading in ("dimension", "mean (0-10)", "void", "why"):
        table.add_column(heading, justify="left" if heading in ("dimension", "why") else "right")
    for name in rows[0]["scores"]:
        values = [row["scores"][name] for row in rows if row["scores"][name] is not None]
        why = Counter(row["status"].get(name) for row in rows if name != "total" and row["scores"][name] is None)
        reasons = ", ".join(f"{reason} {count}" for reason, count in why.most_common())
        mean = f"{sum(values) / len(values):.2f}" if values else "-"
        table.add_row(name, mean, str(len(rows) - len(values)), reasons, style="bold" if name == "total" else None)
    console = Console()
    console.print(table)
    console.print(f"scores: {out}", highlight=False, soft_wrap=True)


def _first(broken: list[str]) -> str:
    return f"; first problem: {broken[0]}" if broken else ""


def _leaf(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
