"""A share of the answers is scored a second time, by the judge again and by a shadow, and nothing waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aiohttp import web

from longreward.errors import ConfigError
from longreward.evaluation import second_scores
from rl.config import RunConfig, load
from rl.data.prompts import Label
from rl.rollout.judge_worker import JudgeWorker

GROUPS, SIBLINGS = 20, 4


@pytest.fixture
def run(tmp_path, judge_server):
    def make(watch, **reward):
        judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge"}
        return RunConfig.model_validate(
            {
                "run": {"name": "run", "dir": str(tmp_path)},
                "data": {"train": "train.jsonl"},
                "reward": {"judge": judge, "tokenizer": "words"} | reward,
                "watch": watch,
            }
        )

    return make


def score(config, *, groups=GROUPS, split="train"):
    """Groups of answers as the engines send them. Returns the last answer's figures."""

    async def main():
        worker = JudgeWorker(0, config, None, {})
        for number in range(groups):
            prompt, label = Label.of_text(
                f"p{number}", split, f"Document {number}. Mara sold copper.", "What did she do?"
            )
            await worker.prepare(prompt, label)
            answers = [
                worker.score(
                    prompt,
                    label,
                    f"In document {number} Mara sold {place} tons.",
                    {"rollout": f"p{number}/{place}", "tokens": 4, "truncated": False},
                )
                for place in range(SIBLINGS)
            ]
            figures = (await asyncio.gather(*answers))[-1]
            if config.watch.noise_share and split == "train":
                while len(found(config)) < SIBLINGS * (number + 1):  # noqa: ASYNC110 (a file, read by others)
                    await asyncio.sleep(0.01)
        await worker.aclose()
        return figures, await worker.spend()

    return asyncio.run(main())


def found(config):
    return list(second_scores.read(config.directory))


@pytest.mark.parametrize("share", [0.1, 0.05, 0.25])
def test_a_shadow_scores_its_share_of_the_groups_whole_and_no_more(run, judge_server, share):
    config = run(
        {"shadow": {"share": share, "judge": {"kind": "openai", "base_url": judge_server.url, "model": "other"}}}
    )
    score(config)
    calls = Counter(body["model"] for body in judge_server.bodies)
    assert calls["other"] == pytest.approx(share * calls["judge"])
    groups = second_scores.groups(found(config))
    assert len(groups) == share * GROUPS
    assert all(len(members) == SIBLINGS and members[0].kind == "shadow" for members in groups.values())
    assert groups.popitem()[1][0].second["total"] == pytest.approx(8.5)


def test_a_judge_scores_again_past_the_cache_and_its_noise_is_known(run, judge_server):
    judge_server.script["helpfulness"] = lambda prompt, number: f"[[{1 + number % 5}]]"
    config = run({"noise_share": 1.0})
    figures, _ = score(config, groups=3)
    assert figures.noise["helpfulness"] > 0 and figures.noise["logicality"] == 0
    assert figures.noise["total"] == pytest.approx(figures.noise["helpfulness"] / 4)
    # Siblings say the same of a document, so they share what is extracted, the second time as the first.
    assert judge_server.calls["extract"] == 2 * 3


def test_what_is_scored_again_counts_under_the_runs_spend_cap(run, judge_server):
    watch = {
        "noise_share": 1.0,
        "shadow": {"share": 1.0, "judge": {"kind": "openai", "base_url": judge_server.url, "model": "other"}},
    }
    _, spent = score(run(watch), groups=2)
    assert spent["used"]["tokens"] == 110 * sum(judge_server.calls.values())


def test_a_shadow_that_fails_is_void_and_the_answers_keep_their_rewards(run, judge_server):
    judge_server.script["helpfulness"] = lambda prompt, number: web.Response(status=401)
    shadow = {"judge": {"kind": "offline"}, "share": 1.0}
    broken = {"judge": {"kind": "openai", "base_url": judge_server.url, "model": "other"}, "share": 1.0}
    figures, _ = score(run({"shadow": broken}, judge={"kind": "offline"}), groups=2)
    assert figures.scores is not None
    assert {one.status for one in found(run({}))} == {"unauthorized"} and len(found(run({}))) == 2 * SIBLINGS
    # The other way round: where the run's own reward is void there is nothing to compare.
    figures, _ = score(run({"shadow": shadow}), groups=2)
    assert figures.scores is None and len(found(run({}))) == 2 * SIBLINGS


def test_held_out_answers_are_scored_once(run, judge_server):
    config = run({"noise_share": 1.0})
    score(config, groups=2, split="heldout")
    assert found(config) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["watch.noise_share=0.1"], "asks no judge over the network.*set watch.noise_share=0"),
        (["reward.min_group_spread=auto"], "which is not measured; set watch.noise_share"),
        (["watch.shadow.judge.kind=vllm", "watch.shadow.judge.model=x"], "serves no second judge; start it with"),
        (["watch.shadow.judge.spend.max_tokens=5"], "one cap, reward.judge.spend"),
        (["watch.shadow.share=0"], "watch.shadow.share"),
        (["watch.shadow.share=0.1"], "watch.shadow.judge"),
    ],
)
def test_what_cannot_be_watched_is_one_sentence(words, said):
    from pathlib import Path

    with pytest.raises(ConfigError, match=said):
        load(Path("configs/grpo_cpu.yaml"), words)
