"""A template or a tokenizer that cannot make prompts is one sentence with its name and what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longreward.errors import ConfigError
from rl.data import chat_template, prompt_files
from rl.run.checks import policy_tokenizer

ROOT = Path(__file__).parents[3]
POLICY = ROOT / "rl" / "toy" / "policy"
TURN = "{{ messages[0]['content'] }}"
BROKEN = {
    "it wants a system turn": (
        "{% if messages[0]['role'] != 'system' %}{{ raise_exception('A system turn, please') }}{% endif %}" + TURN,
        "refuses it: A system turn, please",
    ),
    "it is not valid": ("{% if %}" + TURN, "Expected an expression"),
    "it names what is not there": ("{{ messages[1]['content'] }}", "has no element 1"),
    "it adds text to a number": ("{{ messages | length + 'x' }}", "unsupported operand"),
    "it ends in nothing": ("{{ messages[0]['content'] ", "unexpected end"),
    "several, none the default": (
        [{"name": "rag", "template": TURN}, {"name": "tools", "template": TURN}],
        "multiple chat templates",
    ),
    "it prints the turn twice": (f"<user>{TURN}</user><again>{TURN}</again>", "prints the user's turn more than once"),
    "it drops the turn": ("<user></user>", "drops or changes the user's turn"),
    "it changes the turn": ("<user>{{ messages[0]['content'] | upper }}</user>", "drops or changes the user's turn"),
    "there is none": (None, "has no chat template"),
}


def policy(folder: Path, template: Any) -> Path:
    """The toy's policy with another template."""
    model = Path(shutil.copytree(POLICY, folder / "model"))
    (model / "chat_template.jinja").unlink(missing_ok=True)
    told = json.loads((model / "tokenizer_config.json").read_text())
    told = {key: value for key, value in told.items() if key != "chat_template"}
    (model / "tokenizer_config.json").write_text(json.dumps(told | ({"chat_template": template} if template else {})))
    return model


@pytest.mark.parametrize("kind", BROKEN)
def test_a_template_that_makes_no_prompt(tmp_path: Path, kind: str) -> None:
    template, why = BROKEN[kind]
    model = policy(tmp_path, template)
    with pytest.raises(ConfigError, match=re.escape(why)) as raised:
        chat_template.around_turn(prompt_files.load_tokenizer(str(model)))
    assert str(model) in str(raised.value) and "\n" not in str(raised.value)
    (finding,) = policy_tokenizer.findings(SimpleNamespace(policy=str(model)))
    assert finding.sentence == str(raised.value)


def test_the_commands_say_it_in_one_sentence(tmp_path: Path) -> None:
    model = policy(tmp_path, BROKEN["it wants a system turn"][0])
    (tmp_path / "in.jsonl").write_text('{"idx": 1, "context": "Mara sold copper .", "query": "What ?"}\n')
    prepare = ["rl/prepare_data.py", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--max-prompt-tokens", "90"]
    doctor = ["rl/doctor.py", "--config", "configs/grpo_cpu.yaml", f"run.dir={tmp_path}"]
    train = ["rl/train.py", "--config", "configs/grpo_cpu.yaml", f"run.dir={tmp_path}", "--dry-run"]
    setting = f"openrlhf.actor.model_name_or_path={model}"
    for words, code in (([*prepare, "--model", model], 2), ([*train, setting], 2), ([*doctor, setting], 1)):
        done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
        told = done.stdout + done.stderr
        assert done.returncode == code and "Traceback" not in told and "A system turn, please" in told, told
        assert str(model) in re.sub(r"\s+", "", told)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("", ""),
        ("<|user|>\n", ""),
        ("[gMASK]<sop><|user|>\n", ""),
        ("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n", ""),
        ("### Human: ", ""),
        ("<|im_start|>system\nYou are Ada.<|im_end|>\n<|im_start|>user\n", "system You are Ada. user"),
        ("Today Date: 26 Jul 2024\n\n", "Today Date: 26 Jul 2024"),
    ],
)
def test_words_of_the_templates_own_are_told(tmp_path: Path, before: str, words: str) -> None:
    model = policy(tmp_path, before + TURN + "\n<|assistant|>\n")
    tokenizer = prompt_files.load_tokenizer(str(model))
    assert chat_template.added_words(tokenizer) == words
    found = list(policy_tokenizer.findings(SimpleNamespace(policy=str(model))))
    assert [words in finding.sentence for finding in found] == ([True] if words else [])


class Slow:
    """A tokenizer of Python alone, as some models bring: it counts, but tells no offsets."""

    name_or_path, chat_template, is_fast = "some/model", TURN, False

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return messages[0]["content"]

    def __call__(self, text: str, *, return_offsets_mapping: bool = False, **_: Any) -> dict[str, list[int]]:
        if return_offsets_mapping:
            raise NotImplementedError("use a fast tokenizer")
        if "§" in text:
            raise KeyError("§")
        return {"input_ids": [0] * len(text.split())}


def test_a_slow_tokenizer_renders_but_cannot_cut() -> None:
    render = prompt_files.renderer(Slow(), 10, "train", prompt_files.PromptReport())
    assert render("1", "Mara sold copper.", "What?")["input"] == "Mara sold copper.\n\nWhat?"
    with pytest.raises(ConfigError, match=r"tokenizer of some/model is a slow one.*raise openrlhf.data.max_len"):
        render("2", "copper " * 20, "What?")


def test_a_tokenizer_that_fails_on_a_text_is_named_with_it() -> None:
    render = prompt_files.renderer(Slow(), 10, "train", prompt_files.PromptReport())
    with pytest.raises(ConfigError, match=r"tokenizer of some/model fails \('§'\) on the text 'See § 3"):
        render("1", "See § 3.", "What?")


@pytest.mark.parametrize(
    "damage", ["{", '{"version": "1.0", "model": {"type": "none"}}', ""], ids=["cut", "odd", "empty"]
)
def test_a_tokenizer_that_cannot_be_loaded(tmp_path: Path, damage: str) -> None:
    model = policy(tmp_path, TURN)
    (model / "tokenizer.json").write_text(damage)
    with pytest.raises(ConfigError, match=f"no tokenizer at {model}: ") as raised:
        prompt_files.load_tokenizer(str(model))
    assert "\n" not in str(raised.value)


def test_the_toy_needs_no_note() -> None:
    assert list(policy_tokenizer.findings(SimpleNamespace(policy=str(POLICY)))) == []
