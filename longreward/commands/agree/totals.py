"""Totals by other weights, made of scores that are there already: nothing is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from longreward import store
from longreward.commands.accounts import Account, used_for
from longreward.commands.score import Run, Way
from longreward.config import RewardConfig
from longreward.errors import InputError
from longreward.fingerprint import fingerprint, of_questions
from longreward.reward import total_of
from longreward.schema import Sample, ScoredAnswer
from longreward.text.copying import Copying
from longreward.text.thoughts import without_thoughts

_FEWEST = 3  # of two dimensions, the one without the other has a row already


def by(row: ScoredAnswer, config: RewardConfig, copied: float) -> ScoredAnswer:
    """A record as the weights, gates and losses of `config` make it. It has a score, or a reason, for all dimensions
    that `config` needs; `copied` is the share of the answer that is copied."""
    dimensions = {str(name): row.dimensions[name] for name in config.needed}
    scores = {name: dimensions[name].score for name in config.needed}
    copied = copied if config.copying.loss else 0.0
    total, kept = total_of(scores, config, copied, truncated=bool(row.truncated))
    return row.model_copy(update={"dimensions": dimensions, "total": total, "kept": kept, "copied": copied})


def ablations(config: RewardConfig) -> dict[str, RewardConfig]:
    """`without NAME` -> the settings with neither weight nor gate for that dimension (the paper's ablation). None where
    fewer than three dimensions have a weight."""
    weighted = [name for name in config.needed if config.weights.get(name)]
    if len(weighted) < _FEWEST:
        return {}
    rules = {
        name: {
            "weights": config.weights | {name: 0.0},
            "gates": {other: gate for other, gate in config.gates.items() if other != name},
        }
        for name in weighted
    }
    return {f"without {name}": config.model_copy(update=rule) for name, rule in rules.items()}


def of_file(samples: Mapping[str, Sample], out: Path | None, config: RewardConfig) -> Run | None:
    """The scoring of `samples` by what is in `out`, where that was scored with other weights, gates or losses and
    otherwise with the same settings; None where it was not.

    InputError where an answer, or a dimension that is needed now, is missing there.
    """
    if out is None or not out.exists():
        return None
    ours, asked = fingerprint(config), of_questions(config)
    run = Run(config, dict(samples), Way(config), out, Account(config))
    for _, _, row in store.read(out, [], ScoredAnswer):
        if row.config == ours or (row.asked or row.config) != asked or not row.key:
            return None
        run.used_before[row.key] = used_for(row, config)
        before = run.known.get(row.key)
        if row.key in samples and (row.total is not None or before is None or before.total is None):
            run.known[row.key] = row
    if not run.used_before:
        return None
    if lacking := len(samples) - len(run.known):
        what = f"{out} was scored with other weights, and lacks {lacking:,} of {len(samples):,} answers"
        action = "run agree once more with the weights that the file was scored with"
        raise InputError(f"{what}; {action}, or choose another --out")
    for key, row in run.known.items():
        if missing := [name for name in config.needed if name not in row.dimensions]:
            raise InputError(f"{out} was scored with other weights, without {missing[0]}; choose another --out")
        run.known[key] = by(row, config, _copied(samples[key], config))
    return run


def about(run: Run) -> Iterator[str]:
    """For people: where the scores are from."""
    yield f"{run.out} was scored with other weights, gates or losses: totals are made of its scores, nothing is asked"
    void = Counter(name for row in run.rows for name in row.void_reasons)
    if void:
        several = ", ".join(f"{name} {count:,}" for name, count in void.items())
        yield f"answers without a score there stay void: {several}; the settings of that file ask again"


def _copied(sample: Sample, config: RewardConfig) -> float:
    if not config.copying.loss:
        return 0.0
    answer = without_thoughts(sample.answer) if config.strip_thoughts else sample.answer
    return Copying(sample.context, config.copying.row).share(answer)
