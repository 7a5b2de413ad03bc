"""Chunk sizes counted in a model's own tokens, without the model."""

from __future__ import annotations

from pathlib import Path

from longreward.errors import ConfigError
from longreward.text.chunking import TokenSpans, word_spans


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
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(f"{setting}: {path} does not exist; give the policy's folder")
    try:
        core = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more exact
        raise ConfigError(f"{setting}: {path} is no tokenizer ({error}); give the policy's folder") from None
    core.no_truncation()  # a file may have been saved with one
    return lambda text: core.encode(text, add_special_tokens=False).offsets
