"""Shared by the tests of all trainers: servers that they ask, started when they are needed and kept for a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from serve import serving
from trainers import TRAINERS
from trainers.trainer import Trainer


@pytest.fixture(scope="module")
def start_trainer() -> Iterator[Callable[..., Trainer]]:
    """Makes a trainer by its name in TRAINERS, with a configuration of the reward and the settings of a server."""
    with ExitStack() as servers:
        urls: dict[str, str] = {}

        def start(name: str, config: dict[str, Any], **serve: Any) -> Trainer:
            way = TRAINERS[name]
            whole = config | {"serve": serve}
            key = json.dumps(whole, sort_keys=True)
            if way.served and key not in urls:
                urls[key] = servers.enter_context(serving(whole)).url
            return way.trainer(whole, urls.get(key))

        yield start
