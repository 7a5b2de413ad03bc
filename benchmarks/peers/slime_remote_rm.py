"""slime's own `remote_rm` and group normalisation, at `longreward serve`. Run by benchmarks/peers/run.py.

slime has no test of `remote_rm`. Its trainer needs SGLang and Megatron, which need GPUs.
"""

from __future__ import annotations

import ast
import asyncio
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import judge_server
import pytest
import slime
import torch
from serve import serving
from slime.rollout import rm_hub
from slime.rollout.rm_hub import async_rm, batched_async_rm, remote_rm
from slime.utils.types import Sample

from longreward import LongReward
from longreward import Sample as Answer

CONTEXT, QUERY = "Mara sold copper to Otto in Lisbon. Lena bought 40 apples.", "What did Mara sell?"
PROMPT = f"<user>{CONTEXT}\n\n{QUERY}<assistant>"
ANSWERS = ["Mara sold copper to Otto.", "Mara sold silver.", "马拉卖铜 🙂", ""]


@pytest.fixture(autouse=True)
def _new_session() -> None:
    rm_hub._shared_session = None  # it is bound to an event loop


def post_process() -> Any:
    """`RolloutManager._post_process_rewards`. Its module cannot be imported without SGLang; this method needs none."""
    path = Path(slime.__file__ or next(iter(slime.__path__))).parent / "ray/rollout.py"
    method = next(
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "_post_process_rewards"
    )
    found: dict[str, Any] = {"torch": torch, "Sample": Sample}
    exec(compile(ast.Module([method], []), str(path), "exec"), found)
    return found["_post_process_rewards"]


def args(url: str, **more: Any) -> Namespace:
    return Namespace(rm_url=f"{url}/slime", rm_type="remote_rm", custom_rm_path=None, reward_key=None, **more)


def samples(answers: list[str] = ANSWERS) -> list[Sample]:
    label = json.dumps({"context": CONTEXT, "query": QUERY})
    return [Sample(index=i, prompt=PROMPT, response=answer, label=label) for i, answer in enumerate(answers)]


def library() -> list[float | None]:
    async def run() -> list[float | None]:
        reward = LongReward.from_config({})
        found = await reward.score_many(Answer(context=CONTEXT, query=QUERY, answer=answer) for answer in ANSWERS)
        return [one.total for one in found]

    return asyncio.run(run())


def test_async_rm_and_batched_async_rm_read_the_librarys_scores() -> None:
    async def run(url: str) -> tuple[list[float], list[float]]:
        alone = [await async_rm(args(url), sample) for sample in samples()]
        return alone, await batched_async_rm(args(url), samples())

    with serving({}) as server:
        alone, batched = asyncio.run(run(server.url))
    assert alone == batched == pytest.approx(library(), abs=1e-6)


def test_a_void_answer_has_the_advantage_zero_by_slimes_own_normalisation() -> None:
    texts = [f"Answer {number}." for number in range(7)]
    judge = {"kind": "openai", "model": "judge", "max_attempts": 1, "parse_attempts": 1, "attempt_timeout_s": 2}

    async def run(server: str, judge: str) -> list[float]:
        rewards = await batched_async_rm(args(server), samples(texts))
        judge_server.stats(judge, faults=1.0)
        return [*rewards, await async_rm(args(server), samples(["The judge is broken now."])[0])]

    with judge_server.running(latency=0.0) as url:
        config = {"judge": judge | {"base_url": url}, "weights": {"helpfulness": 1}, "serve": {"group_size": 8}}
        with serving(config) as server:
            rewards = asyncio.run(run(server.url, url))
    assert rewards[7] == pytest.approx(sum(rewards[:7]) / 7) and len(set(rewards[:7])) > 1
    advantages, alone = normalised(rewards), normalised(rewards[:7])
    assert advantages[7] == pytest.approx(0.0, abs=1e-5)
    factors = [mine / its for mine, its in zip(advantages[:7], alone, strict=True) if abs(its) > 1e-3]
    assert factors == pytest.approx([(7 / 6) ** 0.5] * len(factors), rel=1e-3), "the table in docs/serve.md"


def normalised(rewards: list[float]) -> list[float]:
    settings = {"advantage_estimator": "grpo", "rewards_normalization": True, "grpo_std_normalization": True}
    settings |= {"n_samples_per_prompt": len(rewards), "rollout_batch_size": 1, "reward_key": None}
    group = samples([str(reward) for reward in rewards])
    for sample, reward in zip(group, rewards, strict=True):
        sample.reward = reward
    manager = Namespace(args=Namespace(**settings), custom_reward_post_process_func=None)
    found: list[float] = post_process()(manager, group)[1]
    return found


def test_a_server_that_is_gone_ends_in_an_error_not_in_a_score() -> None:
    with serving({}) as server:
        pass
    with pytest.raises(Exception, match="Cannot connect"):
        asyncio.run(remote_rm(args(server.url), samples()[0], max_retries=2))
