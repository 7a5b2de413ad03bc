"""A file held by one process at a time."""

from __future__ import annotations

import fcntl
import os
from io import FileIO
from pathlib import Path

from longreward.files.jsonlines import PRIVATE


def lock(path: Path) -> FileIO:
    """The file, made if need be and held until it is closed, here and in each process that was given it.

    BlockingIOError where another holds it; OSError where it cannot be opened."""
    file = FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, PRIVATE))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
