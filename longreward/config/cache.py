"""The section about the cache of verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from longreward.base_url import redis_url
from longreward.config.model import Section


class CacheConfig(Section):
    path: Path | None = None
    """SQLite file that keeps good verdicts between runs. All processes of a machine may share it; it must not be on a
    network file system. A file of another user, or one that anyone may write to, is not used. Use another file when the
    model behind `judge.model` changes. Null: `cache.url`; without it a training run keeps its verdicts in its own
    directory, and the commands keep none."""
    url: str | None = None
    """Redis or Valkey server that keeps good verdicts for any number of machines: redis://HOST:6379/0, or rediss://
    with TLS (`?ssl_ca_certs=FILE` names its authority). Whoever can write there can make up verdicts."""
    password_env: str | None = None
    """Name of the environment variable that holds the server's password. Null: REDIS_PASSWORD, if it is set."""
    prefix: str = "longreward:"
    """Begins each key on the server. Use another one when the model behind `judge.model` changes."""
    expire_days: float | None = Field(None, gt=0)
    """Days after which the server forgets a verdict. Null: never; a server with `maxmemory-policy allkeys-lru` drops
    the ones that were not used for long when it is full."""

    @property
    def password_variable(self) -> str | None:
        """The environment variable that holds the server's password; None without a server."""
        return None if self.url is None else self.password_env or "REDIS_PASSWORD"

    @field_validator("url")
    @classmethod
    def _url_is_a_server(cls, value: str | None) -> str | None:
        return value and redis_url(value)

    @model_validator(mode="after")
    def _one_is_used(self) -> Self:
        if self.path is not None and self.url is not None:
            raise ValueError(f"cache.path={self.path} and cache.url={self.url} are both set; take one of them out")
        return self
