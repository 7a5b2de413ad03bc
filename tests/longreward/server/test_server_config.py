"""One file for the server and all other commands."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from longreward.config_file import validate
from longreward.errors import ConfigError
from longreward.server.config import ServerConfig
from longreward.server.protocols import chosen


def test_other_commands_pass_over_the_servers_section_and_score_alike(tmp_path, rows):
    source, config = tmp_path / "in.jsonl", tmp_path / "reward.yaml"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config.write_text("serve: {group_size: 8}\n")
    for out, words in (("with.jsonl", ["--config", str(config)]), ("without.jsonl", [])):
        command = [sys.executable, "-m", "longreward", "score", str(source), "--out", str(tmp_path / out), *words]
        subprocess.run(command, check=True, capture_output=True)
    kept = [[json.loads(line) for line in (tmp_path / out).open()] for out in ("with.jsonl", "without.jsonl")]
    assert [(row["scores"], row["config"]) for row in kept[0]] == [(row["scores"], row["config"]) for row in kept[1]]


@pytest.mark.parametrize(
    "serve, words",
    [
        ({"deadline_s": 200}, "serve.deadline_s: Input should be less than 180"),
        ({"group_size": 1}, "serve.group_size: Input should be greater than or equal to 2"),
        ({"protocols": []}, "serve.protocols: List should have at least 1 item"),
        ({"max_item": 1}, "unknown key 'serve.max_item'; did you mean 'max_items'?"),
        ({"queue": 10}, "max_items=256 is more than the queue of 10 can ever hold"),
    ],
)
def test_a_wrong_setting_is_named(serve, words):
    with pytest.raises(ConfigError) as told:
        validate(ServerConfig, {"serve": serve})
    assert words in str(told.value)


def test_only_the_chosen_protocols_are_spoken(serve, rows):
    with serve({"serve": {"protocols": ["score"]}}) as server:
        assert server.ask(rows[:1])[0] == 404
        item = json.dumps({name: rows[0][name] for name in ("context", "query", "answer")})
        assert server.request("POST", "/v1/score", item, **{"Content-Type": "application/json"})[0] == 200


def test_an_unknown_protocol_is_named():
    config = validate(ServerConfig, {"serve": {"protocols": ["slime", "tcp"]}})
    with pytest.raises(ConfigError, match=r"serve\.protocols: 'tcp' is none; choose among openrlhf, slime"):
        chosen(config)
