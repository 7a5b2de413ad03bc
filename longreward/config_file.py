"""Reading a configuration: YAML, overrides, and a sentence for each thing that is wrong in it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from longreward.base_url import url_without_password, without_password
from longreward.errors import ConfigError
from longreward.files.nesting import from_yaml

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def validate(model: type[ConfigT], data: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Build `model` from `data`. ConfigError names each wrong key with its value, and a similar key if there is one.

    `where` begins the message: the file or the place that `data` comes from.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_sentence(model, e) for e in error.errors())) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping. ConfigError if it is missing, unreadable, or holds something else."""
    try:
        data = from_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist; give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ConfigError(f"config file {path} is {error}; write it without so many lists in lists") from None
    if not isinstance(data, dict):
        raise ConfigError(f"config file {path} must hold `key: value` pairs, found {type(data).__name__}")
    return data


def apply_overrides(
    data: dict[str, Any], overrides: list[str], begin: Mapping[str, Mapping[Any, Any]] | None = None
) -> dict[str, Any]:
    """Set `section.key=value` pairs in the nested `data`, which is changed and returned. Values are read as YAML. A
    section that `begin` names and `data` does not have begins with what it says there.

    ConfigError for a word that is not of this form, or a key inside something that is not a section.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key or any(not part for part in key.split(".")):
            raise ConfigError(f"{override!r} is not a setting; write section.key=value")
        node = data
        *parents, last = key.split(".")
        for depth, parent in enumerate(parents, 1):
            child = node.get(parent)
            if child is None:
                child = node[parent] = dict((begin or {}).get(".".join(parents[:depth]), {}))
            if not isinstance(child, dict):
                raise ConfigError(f"{override!r}: {parent!r} holds {child!r}, not a section")
            node = child
        try:
            node[last] = from_yaml(text)
        except yaml.YAMLError:
            node[last] = text
        except ValueError as error:
            raise ConfigError(f"the value of {key} is {error}; write it without so many lists in lists") from None
    return data


def _sentence(model: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path) or "the file"
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    if isinstance(value, str):
        value = url_without_password(value)
    shown = "" if isinstance(value, dict | list | BaseModel) else f" (got {value!r})"
    return without_password(f"{key}: {message}{shown}")


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    parts = iter(path)
    for part in parts:
        if part.isdigit():
            continue  # an index into a list; the list's field was handled one step before
        field = model.model_fields.get(part)
        kinds = [field.annotation, *get_args(field.annotation)] if field is not None else []
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
        if field is not None and get_origin(field.annotation) is dict:
            next(parts, None)  # a name of the user's
    return sorted(model.model_fields)
