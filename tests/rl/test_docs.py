"""What docs/rewards.md tells to write and to type does what it says."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest
import yaml

from longreward.config_file import validate
from longreward.text.chunking import word_spans
from rl import config
from rl.data.prompts import Label
from rl.reward_functions import registry

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    found = re.findall(r"^    (python rl/(?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    return [shlex.split(text.replace("\\\n", " ")) for text in found]


def test_your_own_reward_takes_ten_lines_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "my_reward.py").write_text(code)
    (words,) = [words for words in commands() if "reward.name=python" in words]
    root = Path.cwd()
    monkeypatch.chdir(tmp_path)
    loaded = config.load(root / words[words.index("--config") + 1], words[words.index("--config") + 2 :])
    prompt, label = Label.of_text("1", "train", "Mara sold 12 crates.", "How many?")
    function = registry.make(loaded.reward, word_spans)
    good, bad = (
        asyncio.run(function.score(label.sample(prompt, answer, tokens=tokens)))
        for answer, tokens in (("12 crates", 6), ("many crates", 60))
    )
    assert good.scores == {"total": pytest.approx(9.5), "quoted": 10.0, "brief": pytest.approx(9.0)}
    assert bad.total == 0.0
    assert registry.dimensions(loaded.reward) == ["quoted", "brief"]


def test_every_command_and_configuration_of_the_page_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reward.py").write_text("def reward(sample): return 1")
    monkeypatch.setenv("REWARD_TOKEN", "secret")
    root = Path.cwd()
    monkeypatch.chdir(tmp_path)
    found = commands()
    assert len(found) == 3
    for words in found:
        loaded = config.load(root / words[words.index("--config") + 1], words[words.index("--config") + 2 :])
        registry.check(loaded.reward)
    sections = blocks("yaml")
    assert len(sections) == 4
    for text in sections:
        registry.check(validate(config.RewardSection, yaml.safe_load(text)["reward"]))


def test_the_page_names_every_function() -> None:
    assert all(f"| `{name}` |" in PAGE for name in registry.OURS)
