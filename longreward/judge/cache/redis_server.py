"""`cache.url`: a Redis or Valkey server that any number of machines share."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from longreward.base_url import AROUND
from longreward.config import CacheConfig
from longreward.errors import ConfigError
from longreward.judge.cache.backend import Backend, Row, Trouble, reason, sealed, unsealed
from longreward.redaction import keep_secret
from longreward.text.amounts import file_size

ANSWER_S = 1.0
"""Seconds that the server has for an answer: lookups wait for it."""


class RedisServer(Backend):
    """Each verdict is a string under `PREFIX + key in hex`, with its digest before it."""

    def __init__(self, config: CacheConfig) -> None:
        """Asks nothing yet. ConfigError where `cache.password_env` names a variable that is not set."""
        assert config.url is not None
        self.name = config.url
        self._prefix = config.prefix.encode()
        self._expire_s = None if config.expire_days is None else max(1, round(config.expire_days * 86400))
        self._client = redis.Redis.from_url(
            config.url,
            password=_password(config) or None,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            # Once more, on a new connection: the old one may have been cut while nothing was asked.
            retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
            client_name="longreward",
        )

    def read(self, keys: list[bytes]) -> tuple[dict[bytes, bytes], int]:
        kept: Any = self._client.mget([self._name(key) for key in keys])
        given = {key: value for key, value in zip(keys, kept, strict=True) if value is not None}
        found = {key: data for key, value in given.items() if (data := unsealed(key, value)) is not None}
        return found, len(given) - len(found)

    def write(self, batch: list[Row]) -> None:
        rows = {self._name(key): sealed(key, data) for key, data in batch}
        if self._expire_s is None:
            self._client.mset(rows)
            return
        with self._client.pipeline(transaction=False) as pipeline:
            for name, value in rows.items():
                pipeline.set(name, value, ex=self._expire_s)
            pipeline.execute()

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    def holds(self) -> str:
        about: Any = self._client.info()
        size: Any = self._client.dbsize()
        most = about.get("maxmemory", 0)
        used = f"{file_size(about['used_memory'])} used"
        if most:
            used += f" of {file_size(most)}, {about.get('maxmemory_policy')} when it is full"
        return f"{about.get('server_name', 'redis')} {about['redis_version']}: {size:,} keys, {used}"

    def _name(self, key: bytes) -> bytes:
        return self._prefix + key.hex().encode()

    def _explain(self, error: Exception) -> Trouble:
        said = reason(error).rstrip(".")
        address = urlsplit(self.name)
        match error:
            case exceptions.AuthenticationError() | exceptions.NoPermissionError():
                advice = "Export the right password where the run starts, see cache.password_env"
                return Trouble(f"it refuses us ({said})", advice)
            case exceptions.OutOfMemoryError():
                advice = "Raise its maxmemory, or set its maxmemory-policy to allkeys-lru"
                return Trouble(f"it is full ({said})", advice, usable=True)
            case exceptions.BusyLoadingError():
                return Trouble("it is still reading its file", "It is tried again", usable=True)
            case exceptions.TimeoutError():
                advice = f"See what keeps it busy, and whether {address.hostname}:{address.port or 6379} can be reached"
                return Trouble(f"it has not answered within {ANSWER_S:g} s", advice)
            case exceptions.ConnectionError() if "CERTIFICATE_VERIFY_FAILED" in said:
                return Trouble(f"its certificate is not trusted ({said})", "Add ?ssl_ca_certs=FILE to cache.url")
            case exceptions.ConnectionError():
                return Trouble(f"it cannot be reached ({said})", "Start it, or correct cache.url; it is tried again")
            case _:
                return Trouble(f"it refuses what it is asked ({said})", "Check cache.url and the server's settings")


def _password(config: CacheConfig) -> str:
    """From the environment; empty where none is set. From now on no error shows it."""
    found = os.environ.get(config.password_variable or "", "").strip(AROUND)
    if config.password_env and not found:
        raise ConfigError(f"cache.password_env names {config.password_env}, which is not set; export it first")
    keep_secret(found)
    return found
