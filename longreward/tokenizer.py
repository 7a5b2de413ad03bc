"""Chunk sizes counted in a model's own tokens, without the model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from longreward.config import RewardConfig
from longreward.errors import ConfigError
from longreward.text.chunking import TokenSpans, word_spans

_CHUNKS = "chunking.tokenizer"


def chunk_spans(config: RewardConfig) -> TokenSpans:
    """What the configuration counts chunk sizes in. ConfigError as in `token_spans`."""
    return token_spans(config.chunking.tokenizer, _CHUNKS)


def token_spans(folder: Path | None, setting: str) -> TokenSpans:
    """Character spans of a text's tokens by the tokenizer.json in `folder`; by words for None.

    ConfigError, naming `setting`, where there is no such file or the package `tokenizers` is not installed.
    """
    if folder is None:
        return word_spans
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ConfigError(f"{setting} needs the package tokenizers; pip install 'longreward[serve]'") from None
    path = _file(folder, setting)
    try:
        core = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more exact
        raise ConfigError(f"{setting}: {path} is no tokenizer ({error}); give the folder of a model") from None
    core.no_truncation()  # a file may have been saved with one
    return lambda text: core.encode(text, add_special_tokens=False).offsets


def content_hash(folder: Path) -> str:
    """A hash of the tokenizer.json in `folder`, wherever it lies. ConfigError where there is none."""
    return hashlib.sha256(_file(folder, _CHUNKS).read_bytes()).hexdigest()[:12]


def _file(folder: Path, setting: str) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(f"{setting}: {path} does not exist; give its folder")
    return path
