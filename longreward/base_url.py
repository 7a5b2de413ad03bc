"""The base URL of an OpenAI-compatible endpoint, and a header's name: as people write them, and as they are kept."""

from __future__ import annotations

import re
from string import whitespace
from typing import Annotated
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import AfterValidator

AROUND = whitespace + "\u200b\ufeff"
"""What copied text and mounted files have around a value and nobody means: white space, a byte-order mark."""


_CHAT, _EMBEDDINGS, _CLASSIFY = "/chat/completions", "/embeddings", "/classify"


def _header_name(value: str) -> str:
    name = value.strip(AROUND)
    if not re.fullmatch(r"[A-Za-z0-9_!#$%&'*+.^`|~-]+", name):
        raise ValueError(f"{value!r} cannot name an HTTP header; write the name alone, such as api-key")
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]
"""The name of an HTTP header."""


def tidy(value: str) -> str:
    """The URL without white space around it and without `/chat/completions`, `/embeddings` or `/` at its
    end. A query stays.

    ValueError where no request can go there; no password is in its message.
    """
    url = value.strip(AROUND)
    shown = repr(url_without_password(url))
    parts = _split(url, "http", "https")
    if parts is None:
        raise ValueError(f"{shown} is not a URL; write it as http://host:port/v1, an IPv6 address in brackets")
    if "@" in parts.netloc:
        raise ValueError(
            f"{shown} holds a password, which logs would show; write it without, and export the value of the "
            "Authorization header ('Basic ...') as the variable that api_key_env beside it names"
        )
    if parts.fragment:
        raise ValueError(f"{shown} ends in #{parts.fragment}, which is never sent; remove it, or write # as %23")
    path = parts.path.rstrip("/").removesuffix(_CHAT).removesuffix(_EMBEDDINGS).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def redis_url(value: str) -> str:
    """The URL of a Redis server, without white space around it. ValueError where it is none; no password is in its
    message."""
    url = value.strip(AROUND)
    shown = repr(url_without_password(url.partition("?")[0]))
    parts = _split(url, "redis", "rediss")
    if parts is None:
        raise ValueError(
            f"{shown} is not the URL of a Redis server; write it as redis://host:6379/0, or rediss:// for TLS"
        )
    if parts.password is not None or "password=" in parts.query:
        raise ValueError(
            f"{shown} holds a password, which logs would show; write it without, and export the password as "
            "REDIS_PASSWORD, or as the variable that password_env names"
        )
    return url


def _split(url: str, *schemes: str) -> SplitResult | None:
    """Its parts; None where nothing can be reached there."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    # urlsplit drops line breaks and tabs without a word.
    return parts if usable and not re.search(r"[\s\x00-\x1f\x7f]", url) else None


def chat_url(base_url: str) -> str:
    """Where chat completions are asked for, given a tidy base URL."""
    return _beneath(base_url, _CHAT)


def embeddings_url(base_url: str) -> str:
    """Where embeddings are asked for, given a tidy base URL."""
    return _beneath(base_url, _EMBEDDINGS)


def score_url(base_url: str) -> str:
    """Where vLLM's cross-encoders are asked, given a tidy base URL."""
    return _beneath(base_url, "/score")


def classify_url(base_url: str) -> str:
    """Where vLLM's server is asked for a reward, given a tidy base URL: beside /v1, not beneath it."""
    parts = urlsplit(base_url)
    path = parts.path.removesuffix(_CLASSIFY).removesuffix("/v1")
    return urlunsplit(parts._replace(path=path + _CLASSIFY))


def _beneath(base_url: str, path: str) -> str:
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path + path))


def without_password(text: str) -> str:
    """The text with *** in place of the user and the password of each URL in it, also of one without a scheme."""
    return re.sub(r"[^\s'\"]+", lambda word: url_without_password(word[0]), text)


def url_without_password(url: str) -> str:
    """A URL, or what was meant as one, with *** in place of whatever stands before its last @."""
    before, _, host = url.rpartition("@")
    scheme, slashes, _ = before.partition("//")
    if slashes:
        return f"{scheme}//***@{host}"
    return f"***@{host}" if ":" in before else url
