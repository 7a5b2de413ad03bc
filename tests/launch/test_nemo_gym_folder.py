"""launch/nemo_gym: what NeMo Gym finds in the folder, and that its launcher becomes the server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("fastapi")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "launch/nemo_gym/resources_servers/longreward"


def request(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def rows():
    given = yaml.safe_load((FOLDER / "configs/longreward.yaml").read_text())
    agent = given["longreward_simple_agent"]["responses_api_agents"]["simple_agent"]
    (dataset,) = agent["datasets"]
    return [json.loads(line) for line in (FOLDER.parents[1] / dataset["jsonl_fpath"]).read_text().splitlines()]


def test_the_example_rows_are_routed_to_the_agent_and_have_the_prompts_document_and_question():
    assert len(rows()) == 5 and (FOLDER / "requirements.txt").exists()
    for row in rows():
        assert row["agent_ref"] == {"type": "responses_api_agents", "name": "longreward_simple_agent"}
        (prompt,) = row["responses_create_params"]["input"]
        assert prompt["content"] == f"{row['context']}\n\n{row['query']}"


@pytest.fixture
def start_as_gym_does(tmp_path):
    """Starts app.py with the settings in the environment, as Gym does: `start(port, reward, command) -> Popen`."""
    pytest.importorskip("omegaconf")

    def start(port, reward, command, **more):
        given = yaml.safe_load((FOLDER / "configs/longreward.yaml").read_text()) | more
        server = given["longreward"]["resources_servers"]["longreward"]
        server |= {"port": port, "reward": "${reward_file}", "command": str(command)}
        given["reward_file"] = str(reward)
        environment = {"NEMO_GYM_CONFIG_DICT": yaml.safe_dump(given), "NEMO_GYM_CONFIG_PATH": "longreward"}
        return subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=FOLDER,
            env={**os.environ, **environment, "PYTHONPATH": str(FOLDER)},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_gyms_launcher_becomes_the_server_on_gyms_port(start_as_gym_does, tmp_path):
    reward, command = tmp_path / "reward.yaml", tmp_path / "longreward"
    reward.write_text("judge: {kind: offline}\n")
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m longreward "$@"\n')
    command.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start_as_gym_does(port, reward, command)
    try:
        while True:
            assert process.poll() is None, process.stderr.read()
            try:  # Gym takes any reply to GET / for a server that is up
                request(port, "GET", "/")
                break
            except ConnectionError:
                time.sleep(0.05)
        for row in rows():
            said = {"type": "message", "role": "assistant", "content": row["context"]}
            status, reply = request(port, "POST", "/verify", json.dumps(row | {"response": {"output": [said]}}))
            assert status == 200 and reply["reward"] > 0 and not reply["mask_sample"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 0


def test_gyms_launcher_names_the_setting_where_the_reward_is_not_installed(start_as_gym_does, tmp_path):
    process = start_as_gym_does(1, tmp_path / "reward.yaml", tmp_path / "nothing")
    _, error = process.communicate()
    assert process.returncode == 1 and "longreward.resources_servers.longreward.command" in error
    assert str(tmp_path / "nothing") in error


def test_gyms_dry_run_starts_nothing(start_as_gym_does, tmp_path):
    process = start_as_gym_does(1, tmp_path / "reward.yaml", tmp_path / "nothing", dry_run=True)
    assert process.communicate()[1] == "" and process.returncode == 0
