"""TRL's own AsyncGRPOTrainer without a GPU: its worker process, a real vLLM server, and LongReward as the reward.

Three things of the trainer need CUDA. TRL lets its weight transfer be replaced (`weight_transfer=`), and transformers
an attention; the third is the name of the GPU.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pytest

from longreward.adapters.trl import longreward_rewards

pytest.importorskip("trl", reason="TRL is not installed; pip install trl==1.16.0 --no-deps")
pytestmark = pytest.mark.e2e

SHARES = {"helpfulness": 0.25, "completeness": 0.75}
# What AsyncGRPOTrainer needs with a chat template that TRL does not know: how to read an answer.
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>\n",
    "fields": {"content": {"close_pattern": r"<\|end\|>\s*", "content": "text"}},
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """The toy policy, where training may write."""
    return Path(shutil.copytree("rl/toy/policy", tmp_path_factory.mktemp("policy") / "policy"))


@pytest.fixture(scope="module")
def vllm(policy):
    """The URL of a vLLM server of that policy."""
    from rl.trainer.cpu_backend import environment

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = ["--model", str(policy), "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    words += ["--dtype", "float32", "--max-model-len", "512"]
    log = policy.parent / "vllm.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words],
            # With development mode it can be paused and told to load new weights.
            env=os.environ | environment() | {"VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while "Application startup complete" not in log.read_text():
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.fixture
def tokenizer(policy):
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(policy)
    made.response_template = RESPONSE
    return made


@pytest.fixture
def dataset():
    from datasets import Dataset

    with Path("rl/toy/data/train.jsonl").open() as lines:
        rows = [json.loads(line) for line in islice(lines, 8)]
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": f"{row['context']}\n\n{row['query']}"}],
                "context": row["context"],
                "query": row["query"],
            }
            for row in rows
        ]
    )


@pytest.fixture
def rewards(judge_server):
    """Of two dimensions, with a judge that says nothing on one of them for every third answer."""
    grades = iter(range(1, 10**6))
    judge_server.script["helpfulness"] = lambda _, number: "no idea" if number % 3 == 1 else f"[[{next(grades) % 9}]]"
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "retry_base_s": 0, "parse_attempts": 1}
    config = {"judge": judge, "weights": SHARES}
    return longreward_rewards(config, per_dimension=True, weighted=True, max_void_rate=0.9, void_window=8)


class ByFile:
    """TRL's WeightTransferProtocol over the policy's folder, instead of NCCL."""

    def __init__(self, url: str, policy: Path) -> None:
        self.url, self.policy, self.sent = url, policy, 0

    def post(self, path, **more):
        import requests

        requests.post(self.url + path, timeout=600, **more).raise_for_status()

    def init_weight_transfer(self):
        pass

    def pause(self):
        self.post("/pause", params={"mode": "keep"})

    def send_weights(self, iterator):
        from safetensors.torch import save_file

        save_file({name: weight.clone() for name, weight in iterator}, self.policy / "model.safetensors")
        self.post("/collective_rpc", json={"method": "reload_weights"})
        self.sent += 1

    def resume(self):
        self.post("/resume")

    def destroy(self):
        pass


def attention(module, query, key, value, mask, *, tree_kv_index, tree_cu_seqlens_q, tree_cu_seqlens_k, **more):
    """TRL's packed attention without flash attention: every piece of the row sees the keys of its own path."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    pieces = []
    for place in range(len(tree_cu_seqlens_q) - 1):
        asks = query[:, :, tree_cu_seqlens_q[place] : tree_cu_seqlens_q[place + 1]]
        path = tree_kv_index[tree_cu_seqlens_k[place] : tree_cu_seqlens_k[place + 1]]
        before = len(path) - asks.shape[2]
        sees = torch.ones(asks.shape[2], len(path), dtype=torch.bool).tril(before)
        pieces.append(scaled_dot_product_attention(asks, key[:, :, path], value[:, :, path], sees))
    return torch.cat(pieces, 2).transpose(1, 2), None


def test_it_trains_on_the_scores_and_a_void_is_none_of_them(
    policy, vllm, tokenizer, dataset, rewards, tmp_path, monkeypatch
):
    import torch
    from safetensors.torch import load_file
    from transformers import AttentionInterface
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "none")
    arguments = AsyncGRPOConfig(
        str(tmp_path),
        max_steps=2,
        num_generations=4,
        per_device_train_batch_size=8,
        token_budget=0,  # batches of 8 answers
        queue_maxsize=8,  # a worker whose queue holds more is not ended in order
        max_completion_length=32,
        # An empty answer has 0 by right: the policy's own ones are none where it hardly varies and hardly changes.
        temperature=0.3,
        learning_rate=1e-5,
        vllm_server_base_url=vllm,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    transfer = ByFile(vllm, policy)
    before = load_file(policy / "model.safetensors")
    trainer = AsyncGRPOTrainer(
        str(policy), rewards, arguments, dataset, processing_class=tokenizer, weight_transfer=transfer
    )
    AttentionInterface.register("tree_fa3", attention)
    trainer.train()
    assert trainer.state.global_step == 2 and transfer.sent == 3
    after = load_file(policy / "model.safetensors")
    assert all(torch.isfinite(weights).all() for weights in after.values())
    assert any(not torch.equal(before[name].float(), after[name]) for name in before)
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(steps) == 2
    for step in steps:
        parts = [step[f"rewards/longreward_{name}"] for name in SHARES]
        assert step["reward"] == pytest.approx(sum(parts))
        assert parts[1] == 0.75 * 8, "of the judge's 8, and no void has pulled the mean down"


def test_the_worker_gives_a_void_no_advantage_and_ends_training_where_the_judge_fails(
    vllm, policy, tokenizer, dataset, rewards, judge_server
):
    from accelerate import PartialState
    from trl.experimental.async_grpo.async_rollout_worker import AsyncRolloutWorker

    PartialState()
    worker = AsyncRolloutWorker(
        model_name=str(policy),
        dataset=dataset,
        reward_funcs=rewards,
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        num_generations=4,
        max_inflight_tasks=8,
        queue_maxsize=4,
        vllm_server_url=vllm,
    )
    worker.start()
    try:
        groups = defaultdict(list)
        for _ in range(32):
            sample = worker.rollout_buffer.get(timeout=300)
            groups[sample.group_id].append((sample.metrics["reward"], sample.advantage))
        assert [len(group) for group in groups.values()] == [4] * 8
        scored = [[reward for reward, _ in group if not math.isnan(reward)] for group in groups.values()]
        assert sum(map(len, scored)) < 32, "every third answer is void"
        for group, valid in zip(groups.values(), scored, strict=True):
            mean = sum(valid) / len(valid)
            deviation = math.sqrt(sum((reward - mean) ** 2 for reward in valid) / len(valid))
            alone = [0.0 if math.isnan(reward) else (reward - mean) / (deviation + 1e-8) for reward, _ in group]
            assert [advantage for _, advantage in group] == pytest.approx(alone)
        judge_server.script["helpfulness"] = "no idea"
        with pytest.raises(RuntimeError) as failed:  # as the trainer asks whenever it waits for answers
            while True:
                worker.check_health(stale_after_s=300)
                while worker.rollout_buffer.qsize():
                    worker.rollout_buffer.get()
                time.sleep(0.1)
        assert "TooManyVoidsError: 100% of the last 8 rewards are void" in str(failed.value.__cause__)
    finally:
        worker._process.terminate()  # worker.stop() of TRL 1.16.0 never returns after the worker has failed
        worker._process.join()
