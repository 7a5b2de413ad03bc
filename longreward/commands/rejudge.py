"""`longreward rejudge`: the answers of a run or of a file of scores, scored with another judge, other prompts, weights
or rules. Only what changed is asked."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from longreward import store
from longreward.commands.accounts import table
from longreward.commands.options import SETTINGS, add_concurrency, add_contexts, add_judge, scored_rows, server_config
from longreward.commands.score import Way, print_run, score_samples
from longreward.commands.scored_answers import Answers, Light
from longreward.config import RewardConfig
from longreward.config_file import load_yaml, validate
from longreward.errors import ConfigError, InputError
from longreward.evaluation.changes import Changes
from longreward.files import jsonlines
from longreward.fingerprint import fingerprint, of_dimensions, of_record
from longreward.judge.own_server.local import served
from longreward.report.reading import sources
from longreward.report.reading.gather import OpenFiles
from longreward.report.reading.sources import Source
from longreward.reward import total_of
from longreward.schema import VERSION, Dimension, Reward, Sample, ScoredAnswer, Usage
from longreward.text.chunking import TokenSpans
from longreward.text.copying import Copying
from longreward.text.thoughts import without_thoughts
from longreward.tokenizer import token_spans

_MOVED = 5  # answers that are named
_FREE = {"source": "cache"}
"""What is left of a call whose verdict stands: it costs nothing now."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Score the answers of a run, or of a file of scores, with other settings: those of the run, changed by "
        "section.key=value, or those of --config. A dimension whose judge, prompts and settings are the same keeps its "
        "scores and is not asked about; other weights, gates and losses cost no call. A run that is started again "
        "continues where it stopped."
    )
    command.epilog = SETTINGS
    command.add_argument("path", type=Path, metavar="RUN", help="a run directory, or a file of scores")
    command.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help="where the scores go")
    was = "what a file of scores was scored with; a run has its own"
    command.add_argument("--was", type=Path, metavar="YAML", help=was)
    rows = "the rows that were scored: a file of scores does not hold their documents"
    command.add_argument("--input", type=Path, metavar="IN.jsonl", help=rows)
    add_contexts(command)
    add_judge(command)
    add_concurrency(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Score answers again. Returns 0, or 1 where lines held no scored answer, or the spend cap ended the run.

    InputError where there is nothing to score, nothing changes, or a document is needed that is not at hand;
    ConfigError for settings that are wrong; and as `score_samples` raises.
    """
    source, console = sources.opened(options.path), Console(stderr=True, soft_wrap=True)
    was, base = _was(source, options.was)
    now = server_config(options, overrides, base).reward
    if fingerprint(was) == fingerprint(now):
        raise InputError(f"nothing changes: {source.path} was scored with these settings; give others")
    _check_out(options.out, fingerprint(now))
    old, new = of_dimensions(was), of_dimensions(now)
    asked: list[Dimension] = [name for name in now.needed if old.get(name) != new[name]]
    if "helpfulness" in asked:
        now.refuse_ranking("longreward rejudge")
    with OpenFiles() as files:
        answers = Answers(source, files, scored_rows(options), options.out.parent)
        again = Again(answers, now, asked, copies=bool(now.copying.loss) and was.copying != now.copying)
        whole = True
        if asked:
            whole = _ask(again, options, console, _spans(source, now, console))
        else:
            again.by_rules(options.out)
    _print(Console(soft_wrap=True), again, options.out)
    for problem in answers.broken[:_MOVED]:
        console.print(f"skipped {problem}", style="red", markup=False, highlight=False)
    return int(bool(answers.broken) or not whole)


@dataclass
class Again:
    """How an answer is scored again."""

    answers: Answers
    now: RewardConfig
    asked: list[Dimension]
    """Dimensions that the judge is asked about; the others keep their scores."""
    copies: bool
    """Whether what is copied has to be found out anew."""
    changes: Changes = field(default_factory=Changes)

    @cached_property
    def config(self) -> RewardConfig:
        """What the judge is asked."""
        rules = {"weights": dict.fromkeys(self.asked, 1.0), "gates": {}, "truncated_loss": 0.0}
        return self.now.model_copy(update=rules | {"copying": self.now.copying.model_copy(update={"loss": 0.0})})

    def compare(
        self, row: dict[str, Any], key: str, before: Mapping[str, float | None], after: Mapping[str, float | None]
    ) -> None:
        """Note how the scores of an answer have changed."""
        group = row.get("split", ""), row["id"], row.get("query", "")
        self.changes.add(group, f"{row['id']} ({row.get('rollout') or key})", before, after)

    def by_rules(self, out: Path) -> None:
        """Write all answers to `out` without a judge."""
        ours = of_record(self.now)
        try:
            with jsonlines.replacing(out) as file:
                for key in self.answers.places:
                    row = self.answers.row(key)
                    before = _scores(row)
                    self._finish(row, key, ours, row["dimensions"])
                    self.compare(row, key, before, _scores(row))
                    file.write(jsonlines.encoded(store.for_people(row, Usage())) + b"\n")
        except OSError as error:
            raise InputError(f"{out} cannot be written: {error.strerror}; choose another --out") from None

    def samples(self) -> Iterator[tuple[str, Sample]]:
        """The answers as they are asked about. Siblings share the text of their document."""
        texts: dict[str, str] = {}
        for key in self.answers.places:
            row = self.answers.row(key)
            text = self.answers.document(row)
            yield (
                key,
                Sample(
                    id=row["id"],
                    context=texts.setdefault(text, text),
                    query=row.get("query", ""),
                    answer=row.get("answer", ""),
                    criteria=tuple(self.answers.criteria(row)) if self.config.uses_criteria else (),
                    truncated=bool(row.get("truncated")),
                ),
            )

    def record(self, sample: Sample, reward: Reward, **about: Any) -> ScoredAnswer:
        """As `ScoredAnswer.of`: with the dimensions that were not asked about."""
        row = self.answers.row(about["key"])
        asked = {name: score.model_dump(mode="json") for name, score in reward.dimensions.items()}
        self._finish(row, about["key"], {}, row["dimensions"] | asked, set(asked), sample)
        return ScoredAnswer.model_validate(row | about)

    def _finish(
        self,
        row: dict[str, Any],
        key: str,
        ours: dict[str, str],
        dimensions: dict[Any, Any],
        asked: set[str] | None = None,
        sample: Sample | None = None,
    ) -> None:
        """Make of a record the one by the new rules."""
        dimensions = {name: dimensions.get(name, {"score": None, "status": "unknown"}) for name in self.now.needed}
        for name, dimension in dimensions.items():
            if name not in (asked or ()):
                _make_free(dimension)
        scores: dict[Dimension, float | None] = {name: dimensions[name].get("score") for name in self.now.needed}
        if self.copies:
            text = sample.context if sample else self.answers.document(row)
            answer = row.get("answer", "")
            answer = without_thoughts(answer) if self.now.strip_thoughts else answer
            row["copied"] = Copying(text, self.now.copying.row).share(answer)
        copied = row.get("copied", 0.0) if self.now.copying.loss else 0.0
        total, kept = total_of(scores, self.now, copied, truncated=bool(row.get("truncated")))
        for name in ("asked", "earlier_usage"):
            row.pop(name, None)
        row |= {"version": VERSION, "key": key, "total": total, "kept": kept, "copied": copied} | ours
        row["dimensions"] = dimensions


def _ask(again: Again, options: argparse.Namespace, console: Console, spans: TokenSpans | None) -> bool:
    """Whether the spend cap left it whole."""
    with served(again.config) as asked:
        way = Way(asked, again.record, spans)
        now = again.now.model_copy(update={"judge": asked.judge})
        samples = dict(again.samples())
        scoring = asyncio.run(score_samples(samples, options.out, now, options.concurrency, console, way))
    scoring.keep()
    print_run(console, scoring)
    # What earlier runs of the same command have scored counts too.
    for row in scoring.rows:
        old = again.answers.row(row.key)
        after = {name: row.score_of(name) for name in (*row.dimensions, "total")}
        again.compare(old, row.key, _scores(old), after)
    return not scoring.stopped


def _scores(row: dict[str, Any]) -> dict[str, float | None]:
    """`total` and each dimension of a record."""
    return {name: found.get("score") for name, found in row["dimensions"].items()} | {"total": row.get("total")}


def _check_out(out: Path, ours: str) -> None:
    """InputError where --out cannot be written, or holds what this command did not write, before anything is done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        there = out.exists() and out.stat().st_size > 0
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    if there and {record.config for _, _, record in store.read(out, [], Light)} != {ours}:
        raise InputError(f"{out} exists and was not written by this command with these settings; choose another --out")


def _was(source: Source, given: Path | None) -> tuple[RewardConfig, dict[str, Any]]:
    """What the answers were scored with, and its sections."""
    if given is not None:
        return _reward(load_yaml(given), given)
    if not source.is_run:
        raise ConfigError(
            f"{source.path} does not say what it was scored with; give the configuration as --was YAML (docs/score.md)"
        )
    section = source.setting("reward")
    section = section if isinstance(section, dict) else {}
    if (name := section.get("name", "longreward")) != "longreward":
        raise InputError(f"the reward of {source.path} is {name}; rejudge knows longreward's dimensions alone")
    return _reward(section, source.path / "config.yaml")


def _reward(sections: dict[str, Any], path: Path) -> tuple[RewardConfig, dict[str, Any]]:
    """The reward's settings among the sections of a file, and these sections."""
    known = {key: value for key, value in sections.items() if key in RewardConfig.model_fields}
    return validate(RewardConfig, known, str(path)), known


def _spans(source: Source, now: RewardConfig, console: Console) -> TokenSpans | None:
    """In what the sizes of chunks are counted: as a run did it, in its policy's tokens, where the folder is still
    there. None: as the settings say."""
    model = source.setting("openrlhf", "actor.model_name_or_path")
    if now.chunking.tokenizer is not None or not source.is_run or not isinstance(model, str):
        return None
    if Path(model, "tokenizer.json").is_file():
        return token_spans(Path(model), "openrlhf.actor.model_name_or_path")
    console.print(f"{model} has no tokenizer.json here: chunks are counted in words, not in the policy's tokens")
    return None


def _make_free(dimension: dict[str, Any]) -> None:
    for part in (*dimension.get("calls", ()), *(statement["call"] for statement in dimension.get("statements", ()))):
        for name in ("usage", "attempts", "seconds"):
            part.pop(name, None)
        if part.get("source", "judge") == "judge":
            part |= _FREE


def _print(console: Console, again: Again, out: Path) -> None:
    changes = again.changes
    what = f"asked again: {', '.join(again.asked)}" if again.asked else "nothing is asked: 0 judge calls"
    shown = table(f"{len(again.answers.places):,} answers; {what}", "part", ["before", "after", "change", "void"])
    for part in changes.parts():
        means = ["-" if mean is None else f"{mean:.2f}" for mean in (part.before, part.after)]
        mean, low, high, _ = part.change or (None, None, None, 0)
        change = "-" if mean is None else f"{mean:+.2f}" + (f" ({low:+.2f} to {high:+.2f})" if low is not None else "")
        void = "" if part.void == (0, 0) else f"{part.void[0]:,} -> {part.void[1]:,}"
        shown.add_row(part.part, *means, change, void, style="bold" if part.part == "total" else None)
    console.print(shown)
    if found := changes.rank_correlation():
        tau, groups = found
        console.print(f"order within {groups:,} groups: Kendall's tau {tau:.3f}", highlight=False)
    for name, before, after in changes.moved_most(_MOVED):
        console.print(f"moved most: {name} {before:.2f} -> {after:.2f}", highlight=False, markup=False)
    side = f"longreward report {again.answers.source.path} {out}"
    console.print(f"scores: {out}; side by side: {side}", highlight=False, markup=False)
