"""Rows of Parquet and Arrow files, saved data sets, and data sets of the hub. Their libraries are there for training;
the library alone has them with its extra `files`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from longreward.errors import InputError

_PARQUET, _ARROW_FILE, _ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_BATCH = 64  # rows held at once, as documents are long
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_table(file: BinaryIO) -> bool:
    """Whether an open file is Parquet or Arrow. It is left at its beginning."""
    head = file.read(6)
    file.seek(0)
    return head.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM))


def table_rows(source: Path, file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows of an open Parquet or Arrow file. InputError without pyarrow, or where it is damaged."""
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError:
        raise _needs("pyarrow", f"{source} is a parquet or arrow file") from None
    head = file.read(6)
    file.seek(0)
    try:
        if head.startswith(_PARQUET):
            batches = parquet.ParquetFile(file).iter_batches(_BATCH)
        elif head.startswith(_ARROW_FILE):
            opened = ipc.open_file(file)
            batches = map(opened.get_batch, range(opened.num_record_batches))
        else:
            batches = iter(ipc.open_stream(file))
        for batch in batches:
            for begin in range(0, batch.num_rows, _BATCH):
                yield from batch.slice(begin, _BATCH).to_pylist()
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        form = "a parquet" if head.startswith(_PARQUET) else "an arrow"
        raise InputError(f"{source} is {form} file that cannot be read ({_line(error)}); write it again") from None


def split_of(source: Path) -> tuple[str, str | None, str] | None:
    """(name or folder, configuration, split) where `source` is NAME:SPLIT or NAME:CONFIGURATION:SPLIT; else None."""
    name, *parts = str(source).split(":")
    if len(parts) not in (1, 2) or not all(re.fullmatch(r"[\w.-]+", part) for part in parts) or source.exists():
        return None
    if not _HUB_NAME.fullmatch(name) and not Path(name).is_dir():
        return None
    return name, parts[0] if len(parts) == 2 else None, parts[-1]


def is_data_set(source: Path) -> bool:
    return source.is_dir() or split_of(source) is not None


def data_set_rows(source: Path) -> Iterator[dict[str, Any]]:
    """The rows of a saved data set's folder, or of NAME:SPLIT. InputError where it cannot be loaded."""
    parts = split_of(source)
    folder = Path(parts[0]) if parts else source
    if parts is None:
        _check_saved(folder)
    try:
        import datasets
    except ImportError:
        raise _needs("datasets", f"{source} is a data set, not a file") from None
    try:
        if parts is None:
            found = datasets.load_from_disk(str(folder))
        elif (folder / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(str(folder))[parts[2]]
        else:
            found = datasets.load_dataset(parts[0], parts[1], split=parts[2])
        rows = iter(found)
    except Exception as error:  # the library and the hub fail in many ways
        action = "check its name, its split and the network, or download it and give one of its files"
        raise InputError(f"the data set {source} cannot be loaded ({_line(error)}); {action}") from None
    yield from rows


def _check_saved(folder: Path) -> None:
    if (folder / "state.json").is_file():
        return
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        which = f"give one of them: {', '.join(f'{folder}/{split}' for split in splits)}"
        raise InputError(f"{folder} is a data set of {len(splits)} splits; {which}")
    action = f"give a file, or {folder}:SPLIT if it is a data set that was downloaded"
    raise InputError(f"{folder} cannot be read: it is a folder without a saved data set (no state.json); {action}")


def _needs(package: str, what: str) -> InputError:
    return InputError(f"{what}, which needs {package}; pip install 'longreward[files]', or write it as JSON lines")


def _line(error: BaseException) -> str:
    words = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
