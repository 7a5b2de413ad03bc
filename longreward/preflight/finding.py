"""What a check found out: one fact, how bad it is, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

_SETTING = re.compile(r"(?<![\w./])(judge\.(?=[a-z])|cache\.(?=path|url|password_env))")

_OF_JUDGE = re.compile(r"(?<![\w./])judge\.(?!spend|routes)(?=[a-z])")


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """Checked, and as it should be."""
    NOTE = "note"
    """It works, and there is something to know."""
    PROBLEM = "problem"
    """It will not work, or not for long."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found out."""

    severity: Severity
    about: str
    """What was looked at, in a word: judge, keys, limits, ..."""
    sentence: str
    action: str = ""
    """What to do about it; empty where there is nothing to do."""

    @classmethod
    def ok(cls, about: str, sentence: str) -> Finding:
        return cls(Severity.OK, about, sentence)

    @classmethod
    def note(cls, about: str, sentence: str, action: str = "") -> Finding:
        return cls(Severity.NOTE, about, sentence, action)

    @classmethod
    def problem(cls, about: str, sentence: str, action: str = "") -> Finding:
        return cls(Severity.PROBLEM, about, sentence, action)

    @property
    def text(self) -> str:
        """Sentence and action as one."""
        return f"{self.sentence}; {self.action}" if self.action else self.sentence

    def of_route(self, name: str | None) -> Finding:
        """The same finding, with the judge's settings named as those of a route; itself for None."""
        if name is None:
            return self
        sentence, action = (_OF_JUDGE.sub(f"judge.routes.{name}.", text) for text in (self.sentence, self.action))
        return replace(self, sentence=sentence, action=action)

    def within(self, section: str) -> Finding:
        """The same finding, with the settings of judge and cache named as in a configuration that holds them in
        `section` ("reward." in a training run's, "" where the judge's section is at the top)."""
        sentence, action = (_SETTING.sub(rf"{section}\1", text) for text in (self.sentence, self.action))
        return replace(self, sentence=sentence, action=action)


def listed(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c". ValueError where there is no word."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
