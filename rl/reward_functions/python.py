"""`reward.name: python`: a function of the user's own file. It runs code, so it must be allowed in so many words."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from longreward.config import Section
from longreward.errors import ConfigError, JudgeError, Reason
from rl.data.prompts import TrainingSample
from rl.reward_functions.base import RewardWithoutJudge, Scale, on_scale

THREADS = 32
"""Calls of a plain `def` that run at once in a judge worker."""
Function = Callable[..., Any]
"""(sample, **options) -> a number; or a mapping of numbers, `total` and parts of it; or None for void. May be async."""


class PythonSection(Section):
    function: str | None = None
    """`path/to/file.py:function`. It is called with a `rl.data.prompts.TrainingSample` and the options."""
    allow: bool = False
    """Must be true, because the file's code runs in the workers that score and where the run is started."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""
    range: Scale = (0.0, 10.0)
    """Lowest and highest reward that the function returns, mapped to 0..10. A reward outside is void."""

    @field_validator("function")
    @classmethod
    def _file_is_absolute(cls, value: str | None) -> str | None:
        # Workers may have another working directory.
        file, colon, name = (value or "").rpartition(":")
        return f"{Path(file).absolute()}:{name}" if colon and file else value


class PythonReward(RewardWithoutJudge):
    """A function of the user's, sync (called in a thread) or async."""

    def __init__(self, name: str, function: Function, options: Mapping[str, Any], scale: Scale) -> None:
        super().__init__(name)
        self._function, self._options, self._scale = function, dict(options), scale
        self._parts = set(parts(function, name))
        # Threads of its own: functions that hang must not stop what else is done in threads.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=name)

    async def scores(self, sample: TrainingSample) -> dict[str, float]:
        if inspect.iscoroutinefunction(self._function):
            found = await self._function(sample, **self._options)
        else:
            call = asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._function(sample, **self._options)
            )
            found = await call
            if inspect.isawaitable(found):
                found = await found
        if found is None:
            raise JudgeError(Reason.BAD_RESPONSE, f"{self.name} gave no reward")
        if not isinstance(found, Mapping):
            found = {"total": found} | ({self.name: found} if self._parts == {self.name} else {})
        elif "total" not in found:
            raise JudgeError(Reason.BAD_RESPONSE, f"{self.name} gave {sorted(map(str, found))} without a total")
        given = set(found) - {"total"} or {self.name}
        if given != self._parts:
            raise JudgeError(
                Reason.BAD_RESPONSE,
                f"{self.name} gave the parts {sorted(map(str, given))}, but its attribute `dimensions` says "
                f"{sorted(self._parts)}; the same parts for every answer",
            )
        return {str(name): on_scale(value, self._scale, f"{self.name}: {name}") for name, value in found.items()}

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@cache
def load(path: Path, name: str) -> Function:
    """The function of that name in a file, which is run once in a process. ConfigError where it cannot be loaded."""
    # A name of its own in sys.modules, where pickling and dataclasses look for it.
    module_name = f"longreward_python_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"reward.python.function: {path} is not a Python file; write path/to/file.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"reward.python.function: {path} cannot be loaded: {what}") from error
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"reward.python.function: {path} has no function {name!r}")
    return function


def split(section: PythonSection) -> tuple[Path, str]:
    """The file and the function's name. ConfigError where there is none, or it is not allowed."""
    if section.function is None:
        raise ConfigError("reward.python.function is not set; write path/to/file.py:function")
    if not section.allow:
        raise ConfigError(
            f"reward.python.function {section.function} is code that would run in the judge workers; set "
            "reward.python.allow=true if you trust it"
        )
    file, colon, name = section.function.rpartition(":")
    if not colon or not name.isidentifier():
        raise ConfigError(f"reward.python.function {section.function!r}: write path/to/file.py:function")
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"reward.python.function: {path} does not exist")
    return path, name


def parts(function: Any, name: str) -> list[str]:
    """The names of the parts that a function says it gives beside `total`, in its attribute `dimensions`."""
    return list(getattr(function, "dimensions", (name,)))
