"""The supervised start for real: a base model, documents and conversations, and the model that comes of them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from rl.data import chat_template
from rl.data.prompt_files import load_tokenizer

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]
POLICY = ROOT / "rl" / "toy" / "policy"


def test_a_base_model_learns_from_documents_and_conversations_and_has_a_template_afterwards(launcher):
    base = Path(shutil.copytree(POLICY, launcher.directory / "base"))
    (base / "chat_template.jinja").unlink()
    long = (ROOT / "rl/toy/data/train.jsonl").read_text().splitlines()[:24]
    (launcher.directory / "long.jsonl").write_text("\n".join(long) + "\n")
    answer = json.loads(long[0])["answer"]
    turns = [("human", "what ?"), ("gpt", answer), ("human", "and ?"), ("gpt", answer)]
    chat = {"conversations": [{"from": name, "value": text} for name, text in turns]}
    (launcher.directory / "chats.json").write_text(json.dumps([chat | {"id": str(n)} for n in range(8)]))
    words = [sys.executable, "rl/sft.py", "--config", "configs/sft_cpu.yaml", f"run.dir={launcher.directory}/runs"]
    words += [f"openrlhf.actor.model_name_or_path={base}", f"data.chat_template={POLICY}/chat_template.jinja"]
    words += [f"data.train={launcher.directory}/long.jsonl", f"data.conversations={launcher.directory}/chats.json"]
    code, output = launcher.run(*words, "train_sft.adam.lr=1.0e-3")
    assert code == 0, output
    assert "train: 32 prompts" in output and "8 of them conversations" in output
    run = launcher.directory / "runs" / "sft_cpu"
    assert json.loads((run / "summary.json").read_text())["steps"] == 4
    trained, was = load_tokenizer(str(run / "model")), load_tokenizer(str(POLICY))
    assert chat_template.around_turn(trained) == chat_template.around_turn(was)
    assert (
        trained.eos_token == was.eos_token
        and json.loads((run / "model" / "tokenizer_config.json").read_text())["model_max_length"] == 1024
    )
    end = json.loads((run / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert end == [was.eos_token_id]
    from transformers import AutoModelForCausalLM

    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (base, run / "model"))
    assert any(not before[name].equal(after[name].to(before[name].dtype)) for name in before)
