"""The configuration of a reproduction: the rows of the table, and what each is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from longreward import config_file
from longreward.config import Section

Published = Literal["Llama-3.1-8B", "GLM-4-9B"]


class RowSection(Section):
    model: str | None = None
    """A policy that is there: its folder, or its name on the Hugging Face hub. Nothing is trained."""
    config: Path | None = None
    """What trains the policy: a configuration of rl/sft.py, rl/dpo.py or rl/train.py."""
    settings: list[str] = Field(default_factory=list)
    """Settings of that configuration as on the command line: `section.key=value`."""
    start: str | None = None
    """The row whose policy is trained further. Null: what `config` says."""
    answers: str | None = None
    """For rl/dpo.py: the row whose answers are paired. Nothing is generated or judged."""
    rescored: str | None = None
    """For rl/dpo.py: the row whose answers are scored by this configuration's reward, then paired. Nothing is
    generated."""

    @property
    def needs(self) -> list[str]:
        """The rows that must be there before."""
        return [row for row in (self.start, self.answers, self.rescored) if row is not None]

    @model_validator(mode="after")
    def _is_made_of_one_thing(self) -> Self:
        if (self.model is None) == (self.config is None):
            raise ValueError("a row has either a model or a config")
        if self.model is not None and (self.needs or self.settings):
            raise ValueError("a row with a model is not trained; take start, answers, rescored and settings out")
        if self.answers is not None and self.rescored is not None:
            raise ValueError("answers and rescored exclude each other; take one out")
        return self


class ReproductionConfig(Section):
    name: str
    """Name of the reproduction. Its directory is `dir`/`name`, with a run for each row in it."""
    dir: Path = Path("runs")
    """Folder of all runs."""
    published: Published | None = None
    """The model of the paper whose figures stand beside. Null: none do."""
    evaluation: Path
    """How each row's policy is evaluated: a configuration of rl/evaluate.py, the same for all rows."""
    against: str = "sft"
    """The row with which the others are compared."""
    settings: list[str] = Field(default_factory=list)
    """Settings of all rows' runs and evaluations, such as the judge's: `section.key=value`."""
    rows: dict[str, RowSection] = Field(min_length=1)
    """The rows of the table, by name. One may build on those before it."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        return folder_name(value)

    @model_validator(mode="after")
    def _rows_build_on_rows_before(self) -> Self:
        before: list[str] = []
        for name, row in self.rows.items():
            if not re.fullmatch(r"\w[\w-]*", name) or name.endswith("-evaluation"):
                raise ValueError(f"rows.{name}: it names a folder; write letters, digits, _ and -, and no -evaluation")
            _refuse_own(f"rows.{name}.settings", row.settings)
            for needed in row.needs:
                if needed not in before:
                    known = ", ".join(before) or "none"
                    raise ValueError(f"rows.{name} builds on {needed!r}, which is no row before it; known: {known}")
            before.append(name)
        _refuse_own("settings", self.settings)
        if self.against not in self.rows:
            raise ValueError(f"against is {self.against!r}, which is no row; known: {', '.join(self.rows)}")
        return self

    @property
    def directory(self) -> Path:
        return (self.dir / self.name).absolute()


_OURS = ("run.name=", "run.dir=", "resume=", "data.heldout=", "short.heldout=", "openrlhf.actor.model_name_or_path=")


def _refuse_own(name: str, settings: list[str]) -> None:
    """ValueError for a setting that the reproduction gives itself."""
    for setting in settings:
        if setting.startswith(_OURS):
            raise ValueError(
                f"{name}: {setting} is not to be set here: name, dir, start and evaluation say it for all rows"
            )


def folder_name(value: str) -> str:
    """ValueError for a name that names no folder."""
    if not re.fullmatch(r"[\w.-]+", value) or not value.strip("."):
        raise ValueError(f"{value!r} names a folder; write letters, digits, _, - and dots, not dots alone")
    return value


def load(path: Path, overrides: list[str]) -> ReproductionConfig:
    """ConfigError says what is wrong and where."""
    data = config_file.apply_overrides(config_file.load_yaml(path), overrides)
    return config_file.validate(ReproductionConfig, data, str(path))
