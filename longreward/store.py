"""Scored answers on disk: JSON lines, appended and flushed one by one, readable after a kill at any moment."""

from __future__ import annotations

from longreward.jsonlines import Appender


class Store(Appender):
    """Appends scored answers to a file. One process writes a file; any number may read it."""
