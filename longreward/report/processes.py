"""Work for several processes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


def available() -> int:
    """How many can work at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def each(shared: S, work: Callable[[S, T], R], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
    """`work(shared, task)` of each task, in their order; a single task is done in this process.

    The others are forked: they have `shared`, with its open files, as it is now, and only results are sent.
    """
    if len(tasks) < 2 or available() < 2:
        for task in tasks:
            yield task, work(shared, task)
        return
    fork = get_context("fork")
    with ProcessPoolExecutor(available(), fork, initializer=_inherited.extend, initargs=([shared, work],)) as pool:
        yield from zip(tasks, pool.map(_do, tasks), strict=True)


_inherited: list[Any] = []


def _do(task: Any) -> Any:
    shared, work = _inherited[-2:]
    return work(shared, task)
