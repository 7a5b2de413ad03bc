"""Read all sources once: figures into a table, texts into files on disk, where they are found again by prompt.

Large sources are read by several processes. Each makes a shard: some of the files of answers, its own file of texts.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from longreward import store
from longreward.commands.rows import Rows
from longreward.report import processes
from longreward.report.sources import Source
from longreward.report.table import MOST_DIMENSIONS, Builder, Material, Place, Prompt, Table
from longreward.schema import JudgeCall, Sample, ScoredAnswer, Statement

_LARGE = 100_000_000
"""Bytes of records from which several processes read them."""
_SHARD_BITS = 44  # of a place in the spool are that in its file

Identity = tuple[int, str, str, str, str]
"""Run, split, prompt, question and rollout: records that share it are of one answer."""
Documents = dict[tuple[str, str], Place]
"""By id and question of the prompt."""


class Spool:
    """Texts on disk: what was read is not held in memory. The last of its files is for the texts of `inputs`."""

    def __init__(self, folder: Path, files: int) -> None:
        self._files = [tempfile.TemporaryFile(dir=folder) for _ in range(files)]  # noqa: SIM115
        self._ends = [0] * files

    def put(self, data: Any, shard: int = -1) -> tuple[int, int]:
        """Where it is now, and how long it is there."""
        raw, shard = pickle.dumps(data, protocol=5), shard % len(self._files)
        self._files[shard].write(raw)
        self._ends[shard] += len(raw)
        return (shard << _SHARD_BITS) + self._ends[shard] - len(raw), len(raw)

    def get(self, offset: int, size: int) -> Any:
        shard, offset = offset >> _SHARD_BITS, offset & ((1 << _SHARD_BITS) - 1)
        # At its place, whoever else reads: processes share the files.
        return pickle.loads(os.pread(self._files[shard].fileno(), size, offset))

    def shard_of(self, offset: int) -> int:
        return offset >> _SHARD_BITS

    def flush(self) -> None:
        """Before anything is read."""
        for file in self._files:
            file.flush()

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(os.fstat(file.fileno()).st_size for file in self._files)

    def close(self) -> None:
        for file in self._files:
            file.close()


@dataclass
class Gathered:
    """All answers of the sources, each once."""

    sources: Sequence[Source]
    table: Table
    prompts: list[Prompt]
    spool: Spool
    repeated: int
    """Records of answers that were scored again; `store.rank` tells which one counts."""

    def document(self, material: Material) -> str | None:
        """The document that answers to a prompt were judged by; None where it is not known."""
        if material.document is None:
            return None
        path, offset, size = material.document
        if path is None:
            found: str = self.spool.get(offset, size)
            return found
        try:
            with path.open("rb") as file:
                file.seek(offset)
                prompt, label = _prompt(file.read(size))
            return prompt[slice(*label["context"])]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # replaced since it was listed


def gather(sources: Sequence[Source], inputs: Path | None, folder: Path) -> Gathered:
    """Read the sources. `inputs` holds the documents, questions and answers that scored files are about; `folder` is
    where the temporary files of texts lie. InputError where `inputs` cannot be read."""
    files = [(run, path) for run, source in enumerate(sources) for path in source.files()]
    sizes = [path.stat().st_size if path.exists() else 0 for _, path in files]
    count = processes.available() if sum(sizes) >= _LARGE else 1
    spool = Spool(folder, count + 1)
    try:
        samples = {}
        if inputs is not None:
            samples = {key: spool.put(sample) for key, sample, _ in Rows(inputs).samples()}
        spool.flush()
        documents = [dict(_documents(source)) for source in sources]
        shards = [_Shard(number, sources, spool, documents, samples) for number in range(count)]
        # The largest files first, each to the shard that has least to do.
        load = [0] * count
        for size, (run, path) in sorted(zip(sizes, files, strict=True), key=lambda item: -item[0]):
            least = load.index(min(load))
            load[least] += size
            shards[least].files.append((run, path))
        read = [each for _, each in processes.each(shards, _read, range(count))]
    except BaseException:
        spool.close()
        raise
    return _joined(sources, read, spool)


def _read(shards: list[_Shard], number: int) -> _Read:
    return shards[number].read()


@dataclass
class _Read:
    """What a shard has found."""

    builder: Builder
    prompts: list[Prompt]
    identities: list[Identity | None]
    broken: list[tuple[int, list[str]]]
    """How many lines of each source hold no answer, and the first of them."""


@dataclass
class _Shard:
    """Some of the files of answers, read in order."""

    number: int
    sources: Sequence[Source]
    spool: Spool
    documents: Sequence[Documents]
    samples: dict[str, tuple[int, int]]
    """By key, where the rows of `inputs` are."""
    files: list[tuple[int, Path]] = field(default_factory=list)
    """Each with its run."""

    def read(self) -> _Read:
        self._builder, self._prompts = Builder(), list[Prompt]()
        self._index: dict[tuple[str, str], int] = {}
        identities: list[Identity | None] = []
        for run, path in sorted(self.files):
            source = self.sources[run]
            for number, answer in source.answers(path):
                self._add(answer, run, number, self._completed(answer))
                identity = answer.rollout or answer.key
                key = (run, answer.split, answer.id, answer.query, identity)
                identities.append(key if identity else None)
        self.spool.flush()
        broken = [(source.broken_lines, source.broken) for source in self.sources]
        return _Read(self._builder, self._prompts, identities, broken)

    def _completed(self, answer: ScoredAnswer) -> Sample | None:
        """The row that a row of a scored file is about, which has the document; the answer gets its texts, which are
        not in files of before there were versions."""
        place = self.samples.get(answer.key)
        if place is None:
            return None
        sample: Sample = self.spool.get(*place)
        answer.query, answer.answer = sample.query, sample.answer
        return sample

    def _add(self, answer: ScoredAnswer, run: int, order: int, sample: Sample | None) -> None:
        key = (answer.id, answer.query)
        prompt = self._index.get(key)
        if prompt is None:
            prompt = self._index[key] = len(self._prompts)
            self._prompts.append(Prompt(*key))
        materials = self._prompts[prompt].material
        material = materials.get((self.number, run))
        if material is None:
            document = self.documents[run].get(key)
            if sample is not None:
                document = (None, *self.spool.put(sample.context, self.number))
            material = materials[self.number, run] = Material(document)
        dimensions = [
            (name, d.score, d.status, d.detail, [*map(_call, d.calls)], [self._fact(s, material) for s in d.statements])
            for name, d in islice(answer.dimensions.items(), MOST_DIMENSIONS)
        ]
        offset, size = self.spool.put((answer.answer, dimensions), self.number)
        self._builder.add(answer, run=run, prompt=prompt, offset=offset, size=size, order=order)

    def _fact(self, statement: Statement, material: Material) -> tuple[Any, ...]:
        """A statement, its evidence by number: the texts are kept once for a prompt."""
        numbers = []
        for chunk in statement.evidence:
            key = (chunk.start, chunk.end, hash(chunk.text))
            number = material.chunks.get(key)
            if number is None:
                number = material.chunks[key] = len(material.places)
                material.places.append(self.spool.put((chunk.start, chunk.end, chunk.text), self.number))
            numbers.append(number)
        return statement.text, statement.support, numbers, _call(statement.call)


def _call(call: JudgeCall) -> tuple[Any, ...]:
    """A judge call as pack.py shows it."""
    used = call.usage
    usage = (used.prompt_tokens, used.cached_tokens, used.completion_tokens, used.cost)
    said = call.kind, call.status, call.source, call.text, call.detail
    return *said, call.attempts, call.seconds, call.shrunk, usage


def _joined(sources: Sequence[Source], shards: Sequence[_Read], spool: Spool) -> Gathered:
    """All shards as one, each answer once."""
    index: dict[tuple[str, str], int] = {}
    prompts: list[Prompt] = []
    best: dict[Identity, tuple[tuple[bool, float], int, int]] = {}
    kept: list[list[int]] = [[] for _ in shards]
    numbers: list[list[int]] = []
    for shard, read in enumerate(shards):
        of_shard = []
        for prompt in read.prompts:
            key = (prompt.id, prompt.query)
            if key not in index:
                index[key] = len(prompts)
                prompts.append(Prompt(*key))
            prompts[index[key]].material |= prompt.material
            of_shard.append(index[key])
        numbers.append(of_shard)
        totals, times = read.builder.columns["total"], read.builder.columns["time"]
        for row, identity in enumerate(read.identities):
            if identity is None:
                kept[shard].append(row)
                continue
            rank = store.rank(None if math.isnan(totals[row]) else totals[row], times[row])
            before = best.get(identity)
            if before is None or rank >= before[0]:
                best[identity] = (rank, shard, row)
    for _, shard, row in best.values():
        kept[shard].append(row)
    repeated = sum(len(read.identities) for read in shards) - sum(map(len, kept))
    for run, source in enumerate(sources):
        if len(shards) > 1:  # read by other processes
            source.broken_lines = sum(read.broken[run][0] for read in shards)
            source.broken = [each for read in shards for each in read.broken[run][1]]
    parts = [(read.builder, of, sorted(rows)) for read, of, rows in zip(shards, numbers, kept, strict=True)]
    return Gathered(sources, Table(parts), prompts, spool, repeated)


def _documents(source: Source) -> Iterator[tuple[tuple[str, str], Place]]:
    """(id, question) of each rendered prompt, and where it is."""
    for path in source.prompt_files():
        try:
            with path.open("rb") as file:
                offset = 0
                for line in file:
                    try:
                        prompt, label = _prompt(line)
                        yield (str(label["id"]), prompt[slice(*label["query"])]), (path, offset, len(line))
                    except (ValueError, KeyError, TypeError):
                        pass  # half-written, or another program's
                    offset += len(line)
        except OSError:
            continue


def _prompt(line: bytes) -> tuple[str, dict[str, Any]]:
    row = json.loads(line)
    return row["input"], json.loads(row["label"])
