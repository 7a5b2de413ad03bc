"""What docs/adapters.md and docs/serve.md give to paste works. TRL's example runs in tests/rl/e2e, verl's command in
tests/longreward/e2e."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from serve import serving

ROOT = Path(__file__).parents[2]
SERVE = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
ADAPTERS = (ROOT / "docs/adapters.md").read_text(encoding="utf-8")
# A command, and the reply below it.
ASKED = re.findall(r"^ {4}(curl -s http://127\.0\.0\.1:8400.*?\}')\n\n {4}(.*?)\n\n", SERVE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def server():
    with serving({}) as started:
        yield started


def test_every_way_to_ask_has_a_command():
    paths = [re.search(r"8400(\S+)", command)[1] for command, _ in ASKED]
    assert paths == ["/get_reward", "/slime", "/v1/score"]


@pytest.mark.parametrize(("command", "reply"), ASKED)
def test_the_commands_get_the_replies_that_are_shown(server, command, reply):
    done = subprocess.run(
        ["bash", "-c", command.replace("http://127.0.0.1:8400", server.url)], capture_output=True, text=True, timeout=60
    )
    found = json.loads(done.stdout)
    if isinstance(found, float):
        assert 0 <= found <= 10 and float(reply) >= 0
        return
    shown = set(re.findall(r'"(\w+)": ', reply))
    assert shown and shown - set(re.findall(r'"(\w+)":', done.stdout)) == set()


def test_verifiers_takes_the_settings(tmp_path, monkeypatch):
    vf = pytest.importorskip("verifiers.v1")
    from verifiers.v1.utils.loaders import load_judge, load_taskset

    reward = tmp_path / "reward.yaml"
    reward.write_text("weights: {faithfulness: 1}\n")
    monkeypatch.setenv("LONGREWARD_CONFIG", str(reward))
    monkeypatch.chdir(ROOT)
    judges, taskset = (
        tomllib.loads(block)["env"]["taskset"] for block in re.findall(r"```toml\n(.*?)```", ADAPTERS, re.S)
    )
    (judge,) = judges["task"]["judges"]
    judge = load_judge(vf.TaskConfig.model_validate({"judges": [judge | {"config": str(reward)}]}).judges[0])
    first = next(iter(load_taskset(vf.taskset_config_type(taskset["id"]).model_validate(taskset))))
    assert first.data.context and first.data.query in first.data.prompt
    assert judge.reward_name == "longreward"
    asyncio.run(asyncio.to_thread(judge.config.reward().close))


def test_nemo_gyms_command_sets_what_its_configuration_has():
    (command,) = re.findall(r"gym env start .*?\n(?! {8})", SERVE, re.DOTALL)
    folder = ROOT / "launch/nemo_gym/resources_servers/longreward"
    config = yaml.safe_load((folder / "configs/longreward.yaml").read_text())
    given = dict(re.findall(r"\+\+(\S+?)=(\S+)", command))
    assert set(given) == {f"longreward.resources_servers.longreward.{name}" for name in ("reward", "command")}
    assert {"reward", "command"} <= config["longreward"]["resources_servers"]["longreward"].keys()
    assert f"--agent {next(name for name in config if name.endswith('simple_agent'))} " in SERVE
    assert len((folder / "data/example.jsonl").read_text().splitlines()) == 5
