"""What keeps verdicts: a file of this machine, the files of a run, a Redis server. And the form of a verdict in it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple

LONGEST = 4 << 20
"""Bytes of a value that is read: no judge's reply is longer."""

Row = tuple[bytes, bytes]
"""Key and value (JSON)."""


class CacheError(Exception):
    """Trouble that no library sees: what it is, and what to do about it."""


class Trouble(NamedTuple):
    what: str
    advice: str
    usable: bool = False
    """Whether what is open is still good for the next attempt."""


class Backend(ABC):
    """One place where verdicts are kept. All methods but `holds` are called in one thread; each may raise anything,
    which `explain` puts in words."""

    name: str
    """As warnings call it."""

    @abstractmethod
    def read(self, keys: list[bytes]) -> tuple[dict[bytes, bytes], int]:
        """The sound values among `keys`, and the number of damaged ones. Opens what is not open."""

    @abstractmethod
    def write(self, batch: list[Row]) -> None:
        """Keep all of them. Opens what is not open."""

    def refresh(self) -> bool:
        """Take in a part of what others have written, where `read` does not see it by itself. True while there is
        more."""
        return False

    def explain(self, error: Exception) -> Trouble:
        """What an error of the other methods means, and what to do about it."""
        if isinstance(error, CacheError):
            what, advice = error.args
            return Trouble(what, advice, usable=True)
        return self._explain(error)

    @abstractmethod
    def _explain(self, error: Exception) -> Trouble: ...

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the next call opens it again."""

    @abstractmethod
    def holds(self) -> str:
        """What is kept there now, in words. Changes nothing. Raises as the others do."""


def reason(error: Exception) -> str:
    """What an error says of itself, in a few words."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def digest(key: bytes, data: bytes) -> bytes:
    """Covers key and value, so that a damaged verdict is found."""
    return hashlib.blake2b(key + data, digest_size=16).digest()


def sealed(key: bytes, data: bytes) -> bytes:
    """A value with its digest: `DIGEST JSON`."""
    return digest(key, data).hex().encode() + b" " + data


def unsealed(key: bytes, seal: bytes) -> bytes | None:
    """The value; None where it is damaged."""
    given, _, data = seal.partition(b" ")
    return data if given == digest(key, data).hex().encode() and len(data) <= LONGEST else None
