"""Work in steps of at most about a millisecond, so that other work can be done in between. See pacing.py."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A generator that does one step between two yields and returns its result."""


def at_once(steps: Steps[T]) -> T:
    """Do all steps now. Returns the result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
