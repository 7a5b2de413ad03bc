"""Write docs/config.md from the configuration's models: `python docs/make_config.py`. A test keeps it up to date."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from longreward.config import Section
from longreward.server.config import ServeConfig
from rl.config import RunConfig
from rl.offline.config import DpoConfig, SftConfig

OUT = Path(__file__).with_name("config.md")
HEAD = """# Configuration reference

Written by `docs/make_config.py` from the models that read the files. An unknown key is refused; the message names a
similar key.

A configuration is a YAML file (`--config FILE`). Every key can also be given on the command line as
`section.key=value`, which wins over the file. Durations are in seconds, scores from 0 to 10. **required** means that
there is no default.

`longreward score`, `agree`, `estimate`, `doctor` and `serve` read a file with the library's sections at its top:
`judge`, `cache`, `retrieval`, `chunking`, `faithfulness`, `weights` and `gates`. So `reward.judge.model` of a training
run is `judge.model` there.
"""
_BASES = {int: "whole number", float: "number", str: "text", Path: "path", bool: "`true`, `false`", Any: "anything"}
_BOUNDS = ((annotated_types.Gt, "gt", ">"), (annotated_types.Ge, "ge", "≥"), (annotated_types.Lt, "lt", "<"))
_BOUNDS += ((annotated_types.Le, "le", "≤"),)


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Training: `rl/train.py`, `rl/evaluate.py`, `rl/doctor.py`\n", *sections(RunConfig, "")]
    parts += ["## Offline DPO: `rl/dpo.py`\n\nAll of the above, and:\n", *sections(DpoConfig, "", less=RunConfig)]
    parts += ["## Supervised start: `rl/sft.py`\n\nThose of training, and:\n", *sections(SftConfig, "", less=RunConfig)]
    parts += ["## The server: `longreward serve`\n\nThe library's sections, and:\n", *sections(ServeConfig, "serve")]
    return "\n".join(parts)


def sections(
    model: type[Section],
    path: str,
    about: str = "",
    less: type[Section] | None = None,
    shown: dict[type[Section], str] | None = None,
) -> Iterator[str]:
    """A table of the model's own keys, then one for each section in it. One that stands elsewhere already (`shown`) is
    named."""
    shown = {} if shown is None else shown
    known = less.model_fields if less else {}
    fields = {
        name: field
        for name, field in model.model_fields.items()
        if name not in known or field.description != known[name].description
    }
    own, inner = [], []
    for name, field in fields.items():
        full = f"{path}.{name}".lstrip(".")
        found, place = section_in(field.annotation, full)
        # A section that may be left out has a default to show.
        (inner if found else own).append((full, place, field, found))
    if path:
        yield f"### `{path}`\n"
    if about:
        yield f"{one_line(about)}\n"
    if own:
        yield "| key | takes | default | |\n|---|---|---|---|"
        for full, _, field, _ in own:
            yield f"| `{full}` | {takes(field)} | {default(field)} | {cell(field.description or '')} |"
        yield ""
    for _, place, field, found in inner:
        assert found is not None
        if found in shown:
            yield f"### `{place}`\n\n{one_line(field.description or '')} Its keys are those of `{shown[found]}`.\n"
            continue
        about = field.description or ""
        like, common = next(((each, base) for each in shown if (base := common_base(found, each))), (None, None))
        if like is not None:
            about += f" All other keys are those of `{shown[like]}`."
        shown[found] = place
        yield from sections(found, place, about, common, shown)


def common_base(one: type[Section], other: type[Section]) -> type[Section] | None:
    """The section that both extend."""
    bases = (base for base in one.__mro__ if issubclass(base, Section) and base is not Section)
    return next((base for base in bases if issubclass(other, base)), None)


def section_in(annotation: Any, path: str) -> tuple[type[Section] | None, str]:
    """The section that a key holds, and how its own keys are written."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, path
    suffix = {list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, Section):
            return argument, path + suffix
    return None, path


def takes(field: FieldInfo) -> str:
    """The values that a key may have."""
    bounds = " and ".join(
        f"{sign} {getattr(each, name):g}"
        for kind, name, sign in _BOUNDS
        for each in field.metadata
        if type(each) is kind
    )
    return kind_of(field.annotation, f" {bounds}" * bool(bounds))


def kind_of(annotation: Any, bounds: str = "") -> str:
    """In words; `bounds` are those of its numbers."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(arguments[0], bounds)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("`null`" if each is types.NoneType else kind_of(each, bounds) for each in arguments)
    if origin is list:
        return f"list of {kind_of(arguments[0])}s"
    if origin is tuple:
        return f"[{', '.join(kind_of(each) for each in arguments)}]"
    return "mapping" if origin is dict else _BASES[annotation] + bounds


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{name}: {each:g}' for name, each in value.items())}}}`"
    if isinstance(value, bool) or value is None:
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{each:g}' for each in value)}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")


def one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    OUT.write_text(page(), encoding="utf-8")
