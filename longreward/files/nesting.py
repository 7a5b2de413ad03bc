"""JSON and YAML that others wrote, read to a bounded depth.

Readers in Python raise RecursionError at a depth that depends on where they are called, and what they just let pass
fails later, where it is written again. No real data is nested as deeply as what is refused here.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

MOST_LEVELS = 100
_WHY = f"too deeply nested: more than {MOST_LEVELS} levels"


def from_json(text: str | bytes | bytearray) -> Any:
    """The data. ValueError where the text is not JSON, or too deeply nested."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError(_WHY) from None
    if may_be_deep(text):
        check_depth(data)
    return data


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML's own reader takes the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands there twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def from_yaml(text: str) -> Any:
    """The data. yaml.YAMLError where the text is not YAML or a mapping has a key twice; ValueError where it is too
    deeply nested or holds itself."""
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 (it is a safe one)
    except RecursionError:
        raise ValueError(_WHY) from None
    check_depth(data)
    return data


def may_be_deep(text: str | bytes | bytearray) -> bool:
    """Whether JSON has enough brackets to be nested too deeply. Most has not, and this takes no time."""
    found = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    return found > MOST_LEVELS


def check_depth(data: Any) -> None:
    """ValueError where lists and mappings are nested more than `MOST_LEVELS` levels deep."""
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(MOST_LEVELS):
        inside = (child for one in level for child in (one.values() if isinstance(one, dict) else one))
        # YAML can name one thing in many places: it is looked at once.
        level = list({id(child): child for child in inside if isinstance(child, dict | list)}.values())
        if not level:
            return
    raise ValueError(_WHY)
