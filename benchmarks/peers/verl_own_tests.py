"""verl's own tests of its reward managers and of its trainer's replay buffer, as a pytest plugin and a table.

    git archive v0.9.0 tests | tar x -C FOLDER
    cd FOLDER && HOME=HOME python -m pytest -p verl_own_tests --longreward $ARGUMENTS $TESTS

The tests are of the release before the installed one: 0.9.1 has none of them in its source package. The plugin starts
Ray with enough CPUs for TransferQueue's actors. With --longreward it puts `compute_score`, asked through a judge on
127.0.0.1, in the place of the reward functions of the tests, whose files stay as they are.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

REPOSITORY, TAG, ARCHIVED = "https://github.com/verl-project/verl", "v0.9.0", ("tests",)
INSTALLED = "verl==0.9.1"
PACKAGES = ("pytest-asyncio==1.5.0", "TransferQueue==0.1.11")
"""What the tests need beyond the project's own packages; both without their dependencies, which are there."""
TOKENIZER = "models/Qwen/Qwen2.5-0.5B-Instruct"
"""Where the tests look for a tokenizer below HOME. Any one does that gives words back as they were: MiniLM's."""
ARGUMENTS = ("-o", "python_files=*_on_cpu.py", "--asyncio-mode=auto", "-p", "no:xdist", "-p", "no:cacheprovider")
TESTS = (
    "tests/experimental/reward_loop",
    "tests/workers/reward_manager",
    "tests/trainer/ppo/v1",
    "tests/trainer/test_multi_trajectories_advantage_on_cpu.py",
)
LEFT_OUT = {
    "tests/trainer/ppo/v1/test_reissue_inflight_on_cpu.py": "of a private function that 0.9.1 no longer has "
    "(_tq_supports_checkpoint); about checkpoints, not rewards",
    "tests/experimental/reward_loop/test_agent_reward_loop_colocate.py": "needs GPUs: a rollout engine, a reward model",
    "tests/experimental/reward_loop/test_agent_reward_loop_standalone.py": "needs 8 GPUs, a reward model and GSM8K",
    "tests/experimental/reward_loop/test_math_verify.py": "needs 8 GPUs and MATH",
    "tests/experimental/reward_loop/test_reward_model_disrm.py": "needs GPUs: a reward model",
    "tests/experimental/reward_loop/test_reward_model_genrm.py": "needs GPUs: a reward model",
    "tests/experimental/reward_loop/run_determinism_e2e_with_rm.py": "no pytest file; needs GPUs",
}
"""File -> why it is not run. Those for GPUs are not collected: their names do not end in _on_cpu.py."""
NOT_OURS = {
    "test_error_handling": "expects the text of its own exception",
    "test_dict_result_format": "expects its own keys in the result",
    "test_extra_info_handling": "looks into its own function",
}
"""Test -> why its reward function stays its own with --longreward. So do all that take no reward function."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--longreward", action="store_true", help="LongReward in the place of verl's reward functions")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if any(collection_path.as_posix().endswith(path) for path in LEFT_OUT) else None


@pytest.fixture(scope="session", autouse=True)
def _ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=8, include_dashboard=False, object_store_memory=120_000_000, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session", autouse=True)
def _judge(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where it is, is in an environment variable: verl's tests hand no configuration over."""
    with Judge(("127.0.0.1", 0), Rating) as judge:
        thread = threading.Thread(target=judge.serve_forever)
        thread.start()
        os.environ["PEER_JUDGE"] = f"http://127.0.0.1:{judge.server_port}/v1"
        yield
        judge.shutdown()
        thread.join()
    assert not request.config.option.longreward or judge.asked, "no test has asked the judge"


@pytest.fixture(autouse=True)
def _ours(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.config.option.longreward:
        for name, function in FUNCTIONS.items():
            if hasattr(request.module, name):
                monkeypatch.setattr(request.module, name, function(getattr(request.module, "api_counter", None)))


class Judge(ThreadingHTTPServer):
    request_queue_size = 512
    asked = 0


class Rating(BaseHTTPRequestHandler):
    """Rates 1 for the answer that the question names, 0 for another one, 0.5 where it asks for that."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question, answer = (
            re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", body["messages"][-1]["content"], re.DOTALL)[-1]
            for tag in ("question", "answer")
        )
        if question == "slow":
            time.sleep(3)
        rating = 0.5 if question == "half" else int(question == answer)
        choice = {"index": 0, "message": {"role": "assistant", "content": f"[[{rating}]]"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "x", "object": "chat.completion", "created": 0, "model": "judge"}
        reply = json.dumps(head | {"choices": [choice], "usage": usage}).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)
        except OSError:
            self.close_connection = True  # the caller's time was up

    def log_message(self, format: str, *args: Any) -> None:
        pass


def asked(query: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments for `compute_score`; verl's tests have neither document nor question."""
    about = {"context": "No document.", "query": query or given["ground_truth"]}
    judge = {"kind": "openai", "base_url": os.environ["PEER_JUDGE"], "model": "judge"}
    config = {"judge": judge, "weights": {"helpfulness": 1}}
    return given | {"extra_info": about, "config": config}


def waiting(query: str | None) -> Any:
    def made(counter: Any) -> Any:
        from longreward.adapters.verl import compute_score

        async def function(**given: Any) -> Any:
            if counter is not None:
                await counter.record_call()
            return await compute_score(**asked(query, given))

        return function

    return made


def blocking(query: str | None) -> Any:
    def made(_: Any) -> Any:
        from longreward.adapters.verl import compute_score_sync

        return lambda **given: compute_score_sync(**asked(query, given))

    return made


FUNCTIONS = {
    "mock_async_reward_function": waiting(None),
    "mock_sync_reward_function": blocking(None),
    "mock_slow_api_function": waiting("slow"),
    "_constant_compute_score": blocking("half"),
}
"""Reward function of a test module -> what stands for it."""
