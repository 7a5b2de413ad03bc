"""Answers that are ranked: they go to the judge worker with their siblings, once all of these are there."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import pytest

from longreward.errors import InputError
from longreward.evaluation import second_scores
from longreward.openrlhf_logs import AnswerFigures
from rl.config import RunConfig
from rl.data.prompts import Label
from rl.rollout import reward_client
from rl.rollout.judge_worker import JudgeWorker
from rl.rollout.reward_client import RewardClient, Settings

ANSWERS = ("Worth 3: copper.", "Worth 1: nothing.", "Worth 2: metal.")
PLACES = [10.0, 0.0, 5.0]


def by_worth(prompt: str, _: int) -> str:
    shown = re.findall(r"^(\d+) \| Worth (\d)", prompt.rpartition("<answer>")[2], re.MULTILINE)
    return f"[[{' > '.join(number for number, _ in sorted(shown, key=lambda each: each[1])[::-1])}]]"


@pytest.fixture
def run(tmp_path, judge_server):
    judge_server.script["rank"] = by_worth

    def make(watch: dict[str, Any] | None = None, **reward: Any) -> RunConfig:
        judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge"}
        ours = {"judge": judge, "tokenizer": "words", "weights": {"helpfulness": 1.0}, "copying": {"loss": 0}}
        ours |= {"helpfulness": {"way": "ranking"}} | reward
        sections = {"run": {"name": "run", "dir": str(tmp_path)}, "data": {"train": "train.jsonl"}, "reward": ours}
        return RunConfig.model_validate(sections | {"watch": watch or {}})

    return make


def text(split: str = "train") -> tuple[str, Label]:
    return Label.of_text("p", split, "Mara sold copper.", "What did she sell?")


async def scored(worker: JudgeWorker, split: str = "train", answers=ANSWERS, siblings=ANSWERS) -> list[float | None]:
    prompt, label = text(split)
    await worker.prepare(prompt, label)
    about = {"tokens": 4, "truncated": False}
    calls = (worker.score(prompt, label, one, about | {"rollout": one}, siblings) for one in answers)
    return [(figures.scores or {}).get("helpfulness") for figures in await asyncio.gather(*calls)]


def test_a_worker_that_died_asks_nothing_again_and_gives_the_same_places(run, judge_server):
    async def die_and_begin_again() -> tuple[list[float | None], list[float | None]]:
        first = JudgeWorker(0, run(), None, {})
        before = await scored(first, answers=ANSWERS[:1])
        await first.aclose()
        second = JudgeWorker(0, run(), None, {})  # Ray calls again what has no reply, with all that was handed over
        after = await scored(second)
        await second.aclose()
        return before, after

    assert asyncio.run(die_and_begin_again()) == (PLACES[:1], PLACES)
    assert judge_server.calls == {"rank": 2}


def test_held_out_answers_and_canaries_are_rated(run, judge_server):
    async def both() -> Any:
        worker = JudgeWorker(0, run(), None, {})
        heldout = await scored(worker, "heldout", siblings=())
        prompt, label = text("canary")
        canaries = await worker.score_afresh([label.sample(prompt, ANSWERS[0])], 60)
        await worker.aclose()
        return heldout, canaries

    assert asyncio.run(both()) == ([8.0] * 3, [{"total": 8.0, "helpfulness": 8.0}])
    assert judge_server.calls == {"helpfulness": 4}


def test_a_training_answer_without_siblings_is_refused(run):
    async def alone() -> None:
        worker = JudgeWorker(0, run(), None, {})
        try:
            await scored(worker, siblings=())
        finally:
            await worker.aclose()

    with pytest.raises(InputError, match="not among its siblings"):
        asyncio.run(alone())


def test_a_shadow_and_the_judge_again_rank_the_same_groups(run, judge_server):
    other = {"share": 1.0, "judge": {"kind": "openai", "base_url": judge_server.url, "model": "other"}}
    config = run({"noise_share": 1.0, "shadow": other})

    async def watched() -> None:
        worker = JudgeWorker(0, config, None, {})
        assert await scored(worker) == PLACES
        while len(list(second_scores.read(config.directory))) < 6:  # noqa: ASYNC110 (a file, read by others)
            await asyncio.sleep(0.01)
        await worker.aclose()

    asyncio.run(watched())
    found = list(second_scores.read(config.directory))
    assert {one.kind for one in found} == {"repeat", "shadow"} and all(one.second == one.first for one in found)
    assert judge_server.calls == {"rank": 2 + 2 + 2}


def test_a_shadow_of_a_reward_that_knows_no_siblings_rates(run):
    shadow = {"share": 1.0, "judge": {"kind": "offline"}}
    config = run({"shadow": shadow}, name="reference")
    assert not config.reward.ranks
    assert config.shadow_reward is not None and not config.shadow_reward.ranks
    assert run({"shadow": shadow}).shadow_reward.ranks


class Client:
    """A real client; of its worker and of Ray there is what it calls."""

    def __init__(self, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[str, tuple[str, ...]]] = []
        noted = SimpleNamespace(remote=lambda *_: None)
        worker = SimpleNamespace(score=SimpleNamespace(remote=self._score), prepare=noted, round_ended=noted)
        monkeypatch.setattr(reward_client.ray, "get_actor", lambda _: worker)
        monkeypatch.setattr(reward_client.ray, "put", lambda value: value)
        settings = Settings.of(config, "id", estimator="group_norm", filtering=False, synchronous=True)
        self.client = RewardClient(settings)

    async def _score(self, prompt, label, answer, about, siblings) -> AnswerFigures:
        self.sent.append((answer, siblings))
        return AnswerFigures({"total": 5.0, "helpfulness": 5.0})

    def group(self, label: Label, prompt: str, size: int) -> list[Any]:
        return [self.client.join(prompt, label.to_json()) for _ in range(size)]

    def answered(self, prompt: str, rollout: Any, answer: str | None) -> asyncio.Task[Any]:
        about = {"tokens": 4, "truncated": False}
        none = answer is None
        work = self.client.unanswered(prompt, rollout) if none else self.client.reward(prompt, rollout, answer, about)
        return asyncio.ensure_future(work)


async def _moment() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("answered", [(), ("Worth 7: salt.",)])
@pytest.mark.parametrize("last", [ANSWERS[2], None], ids=["answered", "unanswered"])
def test_no_answer_is_judged_before_all_siblings_are_generated(run, monkeypatch, last, answered):
    async def generate() -> list[Any]:
        prompt, label = text()
        label = Label(**(vars(label) | {"answered": answered}))
        rollouts = engine.group(label, prompt, 3)
        early = [engine.answered(prompt, rollout, text) for rollout, text in zip(rollouts, ANSWERS[:2], strict=False)]
        await _moment()
        assert engine.sent == []
        return await asyncio.gather(*early, engine.answered(prompt, rollouts[2], last))

    engine = Client(run(), monkeypatch)
    found = asyncio.run(generate())
    siblings = (*answered, *filter(None, (*ANSWERS[:2], last)))
    assert sorted(engine.sent) == [(answer, siblings) for answer in sorted(siblings) if answer not in answered]
    assert [one["extra_logs"]["longreward/void"] for one in found] == [0.0, 0.0, float(last is None)]


@pytest.mark.parametrize(("split", "reward"), [("heldout", {}), ("train", {"helpfulness": {"way": "rating"}})])
def test_answers_that_are_rated_wait_for_nobody(run, monkeypatch, split, reward):
    async def generate() -> None:
        prompt, label = text(split)
        first, second = engine.group(label, prompt, 2)
        early = engine.answered(prompt, first, ANSWERS[0])
        await _moment()
        assert engine.sent == [(ANSWERS[0], ())]
        await asyncio.gather(early, engine.answered(prompt, second, ANSWERS[1]))

    engine = Client(run(**reward), monkeypatch)
    asyncio.run(generate())
