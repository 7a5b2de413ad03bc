"""The file for OpenRLHF's `--reward.remote_url file.py`, loaded by path as OpenRLHF loads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[3] / "longreward" / "adapters" / "openrlhf_reward.py"
# OpenRLHF's own way: loaded by path, not in sys.modules, called with one answer in a thread of asyncio's pool.
CALLER = """
import asyncio, importlib.util, json, sys, threading

def load():
    spec = importlib.util.spec_from_file_location("reward_func", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reward_func

async def main():
    sent, functions = json.load(sys.stdin), [load(), load()]
    def call(i):
        one = [[sent[name][i]] for name in ("query", "prompts", "labels")]
        return asyncio.to_thread(functions[i % 2], *one)
    replies = await asyncio.gather(*(call(i) for i in range(len(sent["query"]))), return_exceptions=True)
    loops = sum(thread.name == "longreward" for thread in threading.enumerate())
    shown = [reply if isinstance(reply, dict) else repr(reply) for reply in replies]
    print(json.dumps({"replies": shown, "loops": loops, "loaded": "reward_func" in sys.modules}))

asyncio.run(main())
"""


def call(tmp_path, config, sent):
    path = tmp_path / "reward.yaml"
    path.write_text(yaml.safe_dump(config))
    ended = subprocess.run(
        [sys.executable, "-c", CALLER, str(FILE)],
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "LONGREWARD_CONFIG": str(path)},
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_many_threads_share_one_reward_and_one_event_loop(tmp_path, as_sent, rows):
    found = call(tmp_path, {}, as_sent(rows * 20))
    assert found["loops"] == 1 and not found["loaded"]
    rewards = [reply["rewards"] for reply in found["replies"]]
    assert rewards[:3] * 20 == rewards and all(len(reward) == 1 for reward in rewards)
    assert set(found["replies"][0]) == {"rewards", "scores", "extra_logs"}


def test_void_siblings_get_the_mean_and_never_hold_all_threads(tmp_path, as_sent, rows, judge_server):
    judge_server.latency = 0.05
    judge_server.script["helpfulness"] = lambda prompt, number: "No." if "broken" in prompt else "[[7]]"
    config = {
        "judge": {"kind": "openai", "base_url": judge_server.url, "model": "judge", "parse_attempts": 1},
        "weights": {"helpfulness": 1},
        "serve": {"group_size": 64, "deadline_s": 60},
    }
    # Far more void ones than OpenRLHF has threads, in front of those they wait for.
    texts = [f"It is broken, {i}." for i in range(60)] + [f"Answer {i}." for i in range(4)]
    found = call(tmp_path, config, as_sent([{**rows[0], "answer": text} for text in texts]))
    rewards = [reply["rewards"][0] for reply in found["replies"]]
    assert rewards[60:] == [7.0] * 4 and set(rewards) == {5.0, 7.0}
    assert found["replies"][0]["extra_logs"]["longreward/void"] == [1.0]


def test_the_servers_limits_on_requests_do_not_matter(tmp_path, as_sent, rows):
    limited, free = (call(tmp_path, {"serve": serve}, as_sent(rows)) for serve in ({"max_chars": 10}, {}))
    assert [reply["rewards"] for reply in limited["replies"]] == [reply["rewards"] for reply in free["replies"]]


def test_an_item_that_cannot_be_read_raises_and_the_others_are_scored(tmp_path, as_sent, rows):
    sent = as_sent(rows)
    sent["labels"][1] = "{}"
    replies = call(tmp_path, {}, sent)["replies"]
    assert "InputError" in replies[1] and isinstance(replies[0], dict) and isinstance(replies[2], dict)


@pytest.mark.parametrize("environment, words", [({}, "is not set"), ({"LONGREWARD_CONFIG": "/no.yaml"}, "not exist")])
def test_a_wrong_configuration_ends_the_run_when_the_file_is_loaded(environment, words):
    ended = subprocess.run(
        [sys.executable, "-c", CALLER, str(FILE)],
        input="{}",
        capture_output=True,
        text=True,
        timeout=60,
        env={**{k: v for k, v in os.environ.items() if k != "LONGREWARD_CONFIG"}, **environment},
    )
    assert ended.returncode != 0 and words in ended.stderr
