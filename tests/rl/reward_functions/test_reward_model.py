"""A reward model of OpenRLHF's: what it makes of answers, what is refused, and what it takes of the cluster."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longreward.errors import ConfigError
from rl import config
from rl.data import prompt_files
from rl.data.prompts import Label, TrainingSample
from rl.offline import stages
from rl.plan import Resources
from rl.reward_functions import reward_model
from rl.reward_functions.reward_model import RewardModel, RewardModelSection
from rl.rollout import judge_workers
from rl.rollout.judge_workers import Workers
from rl.run import planning

ROOT = Path(__file__).parents[3]
POLICY = ROOT / "rl/toy/policy"
CPU = ROOT / "configs/grpo_cpu.yaml"
CONTEXT, QUERY = "Mara sold copper to Otto in Lisbon.", "What did Mara do?"
ANSWERS = ["Mara sold copper.", "Otto", "Mara sold copper to Otto in Lisbon, and Otto sold it again."]

# OpenRLHF changes the process that imports it: all models are made and loaded in one of their own. Its last line holds
# the heads' output without our code between, and what became of each case: rewards, or a ConfigError's sentence.
LOADED = """
import asyncio, json, shutil, sys
from pathlib import Path
from rl.trainer import cpu_backend
cpu_backend.apply()
import torch
from openrlhf.models import get_llm_for_sequence_regression
from transformers import AutoTokenizer
from longreward.errors import ConfigError
from rl.data.prompts import Label
from rl.reward_functions.reward_model import RewardModel, RewardModelSection
policy, folder = sys.argv[1], Path(sys.argv[2])
context, query, answers, cases = json.loads(sys.argv[3])
tokenizer, end = AutoTokenizer.from_pretrained(policy), "<|end|>"
torch.manual_seed(1)
model = get_llm_for_sequence_regression(
    policy, "reward", init_value_head=True, attn_implementation="sdpa", param_dtype="fp16"
).eval()
model.score.weight.data *= 100  # rewards that differ
model.save_pretrained(folder / "plain")
model.config.mean, model.config.std = 0.25, 0.5
model.save_pretrained(folder / "normalized")
for name in ("plain", "normalized"):
    tokenizer.save_pretrained(folder / name)
shutil.copytree(folder / "plain", folder / "torn")
weights = folder / "torn" / "model.safetensors"
weights.write_bytes(weights.read_bytes()[:5000])
for name in ("no_end", "no_template"):
    other = AutoTokenizer.from_pretrained(policy)
    if name == "no_end":
        other.eos_token = None
    else:
        other.chat_template = None
    other.save_pretrained(folder / name)

def logit(text):
    ids = tokenizer(text + end, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        return model(ids["input_ids"], attention_mask=ids["attention_mask"]).item()

async def scored(settings):
    settings["model_name_or_path"] = str(folder / settings["model_name_or_path"])
    function = RewardModel(RewardModelSection(param_dtype="fp16", **settings))
    prompt, label = Label.of_text("1", "train", context, query)
    found = await asyncio.gather(*(function.score(label.sample(prompt, answer)) for answer in answers))
    await function.aclose()
    return [reward.total for reward in found]

prompt, _ = Label.of_text("1", "train", context, query)
found = {"logits": [logit(prompt + answer) for answer in answers]}
found["logits of query"] = [logit(f"<|user|>\\n{query}<|end|>\\n<|assistant|>\\n{answer}") for answer in answers]
for name, settings in cases.items():
    try:
        found[name] = asyncio.run(scored(settings))
    except ConfigError as error:
        found[name] = str(error)
print(json.dumps(found))
"""
CASES: dict[str, dict[str, Any]] = {
    "plain": {"model_name_or_path": "plain"},
    "range": {"model_name_or_path": "plain", "range": [-50, 50]},
    "query": {"model_name_or_path": "plain", "reads": "query"},
    "normalized": {"model_name_or_path": "normalized", "normalize": True},
    "nothing to normalize by": {"model_name_or_path": "plain", "normalize": True},
    "another head": {"model_name_or_path": "plain", "value_head_prefix": "v_head"},
    "no head": {"model_name_or_path": str(POLICY)},
    "no folder": {"model_name_or_path": "nowhere"},
    "torn": {"model_name_or_path": "torn"},
    "no end": {"model_name_or_path": "no_end"},
    "no template": {"model_name_or_path": "no_template", "reads": "query"},
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of the cases."""
    given = json.dumps([CONTEXT, QUERY, ANSWERS, CASES])
    words = [sys.executable, "-c", LOADED, str(POLICY), str(tmp_path_factory.mktemp("reward_models")), given]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def logistic(logit: float) -> float:
    return 10 / (1 + math.exp(-logit))


@pytest.mark.e2e
def test_the_output_of_openrlhfs_model_is_brought_to_the_scale(loaded: dict[str, Any]) -> None:
    logits = loaded["logits"]
    assert max(logits) - min(logits) > 0.2
    assert loaded["plain"] == pytest.approx([logistic(x) for x in logits], abs=0.05)
    assert loaded["range"] == pytest.approx([(x + 50) / 10 for x in logits], abs=0.01)


@pytest.mark.e2e
def test_the_question_alone_stands_in_the_models_own_template(loaded: dict[str, Any]) -> None:
    assert loaded["query"] == pytest.approx([logistic(x) for x in loaded["logits of query"]], abs=0.05)
    assert loaded["query"] != pytest.approx(loaded["plain"], abs=0.05)


@pytest.mark.e2e
def test_mean_and_deviation_are_those_of_the_models_config(loaded: dict[str, Any]) -> None:
    assert loaded["normalized"] == pytest.approx([logistic((x - 0.25) / 0.5) for x in loaded["logits"]], abs=0.05)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("nothing to normalize by", ["reward.openrlhf.normalize is true", "plain/config.json has no mean and std"]),
        ("another head", ["reward.openrlhf.value_head_prefix", "no head 'v_head'", "random"]),
        ("no head", ["no head 'score'", "random"]),
        ("no folder", ["no tokenizer at", "nowhere"]),
        ("torn", ["reward.openrlhf.model_name_or_path", "torn cannot be loaded"]),
        ("no end", ["no_end has no eos_token"]),
        ("no template", ["reads is query", "no chat template"]),
    ],
)
def test_a_model_whose_rewards_would_mean_nothing_is_refused(
    loaded: dict[str, Any], case: str, words: list[str]
) -> None:
    assert isinstance(loaded[case], str) and "\n" not in loaded[case]
    assert all(word in loaded[case] for word in words), loaded[case]


# --- without a model


def sample(answer: str) -> TrainingSample:
    prompt, label = Label.of_text("11", "train", CONTEXT, QUERY)
    return label.sample(prompt, answer)


Make = Callable[..., RewardModel]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A reward model whose forward pass is `forward`; the tokenizer is real."""
    tokenizer = prompt_files.load_tokenizer(str(POLICY))
    monkeypatch.setattr(reward_model, "_loaded", lambda *_: (None, tokenizer))

    def made(forward: Callable[[list[list[int]]], list[float]], **settings: Any) -> RewardModel:
        function = RewardModel(RewardModelSection(model_name_or_path="x/y", **settings))
        monkeypatch.setattr(function, "_forward", forward)
        return function

    return made


def scored(function: RewardModel, *answers: str) -> list[Any]:
    async def work() -> list[Any]:
        return list(await asyncio.gather(*(function.score(sample(answer)) for answer in answers)))

    return asyncio.run(work())


def test_a_logit_keeps_its_order_on_the_scale(make: Make) -> None:
    logits = [-800.0, -30.0, -1.0, 0.0, 1.0, 30.0, 800.0]
    totals = [scored(make(lambda rows, x=x: [x]), "a")[0].total for x in logits]
    assert totals == sorted(totals) and len(set(totals[:-1])) == 6
    assert totals[0] == 0 and totals[3] == 5 and totals[-1] == 10 and totals[4] == pytest.approx(7.3106, abs=1e-4)


@pytest.mark.parametrize(
    ("value", "settings"), [(math.nan, {}), (math.inf, {}), (math.nan, {"range": [0, 1]}), (1.5, {"range": [0, 1]})]
)
def test_what_is_no_reward_is_void(make: Make, value: float, settings: dict[str, Any]) -> None:
    (reward,) = scored(make(lambda rows: [value], **settings), "a")
    assert reward.total is None and reward.void_reasons == {"openrlhf": "bad_response"}


def test_an_answer_that_is_too_long_is_void_and_not_cut(make: Make) -> None:
    tokenizer = prompt_files.load_tokenizer(str(POLICY))
    length = len(tokenizer(sample(ANSWERS[0]).prompt + ANSWERS[0], add_special_tokens=False)["input_ids"])
    seen: list[list[int]] = []

    def forward(rows: list[list[int]]) -> list[float]:
        seen.extend(rows)
        return [0.0] * len(rows)

    function = make(forward, max_len=length)
    fits, long = scored(function, ANSWERS[0], ANSWERS[2])
    assert fits.total == 5 and [len(row) for row in seen] == [length + 1]  # and the end of text
    assert long.total is None and long.void_reasons == {"openrlhf": "context_length"}
    assert f"reward.openrlhf.max_len={length}" in long.dimensions["openrlhf"].detail


async def all_wait(function: RewardModel, count: int) -> None:
    """Until so many answers are with it: they are made tokens in threads."""
    for _ in range(1000):
        if len(function._waiting) == count:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{len(function._waiting)} answers wait, not {count}")


def test_an_answer_that_nobody_waits_for_is_not_looked_at(make: Make) -> None:
    begun, go_on, batches = threading.Event(), threading.Event(), []

    def forward(rows: list[list[int]]) -> list[float]:
        batches.append(len(rows))
        begun.set()
        assert go_on.wait(30)
        return [0.0] * len(rows)

    async def work() -> None:
        function = make(forward, batch_size=1)
        first = asyncio.create_task(function.score(sample("first")))
        assert await asyncio.to_thread(begun.wait, 30)
        others = [asyncio.create_task(function.score(sample(text))) for text in ("given up", "wanted")]
        await all_wait(function, 3)
        others[0].cancel()
        go_on.set()
        assert [(await task).total for task in (first, others[1])] == [5, 5]

    asyncio.run(work())
    assert batches == [1, 1]


def test_a_batch_that_fails_is_tried_again_one_by_one(make: Make) -> None:
    tokenizer = prompt_files.load_tokenizer(str(POLICY))
    begun, go_on, batches = threading.Event(), threading.Event(), []

    def forward(rows: list[list[int]]) -> list[float]:
        batches.append(len(rows))
        begun.set()
        assert go_on.wait(30)
        if any("again" in tokenizer.decode(row) for row in rows):
            raise RuntimeError("out of memory")
        return [0.0] * len(rows)

    async def work() -> None:
        function = make(forward)
        first = asyncio.create_task(function.score(sample("first")))
        assert await asyncio.to_thread(begun.wait, 30)
        others = [asyncio.create_task(function.score(sample(answer))) for answer in ANSWERS]
        await all_wait(function, 4)
        go_on.set()
        found = [await task for task in (first, *others)]
        assert [reward.total for reward in found] == [5, 5, 5, None]
        assert found[-1].void_reasons == {"openrlhf": "internal"}
        assert "out of memory" in found[-1].dimensions["openrlhf"].detail

    asyncio.run(work())
    assert batches == [1, 3, 1, 1, 1]


def test_closing_it_leaves_nobody_waiting(make: Make) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def forward(rows: list[list[int]]) -> list[float]:
        begun.set()
        go_on.wait(30)
        return [0.0] * len(rows)

    async def work() -> None:
        function = make(forward)
        waiting = asyncio.create_task(function.score(sample("a")))
        assert await asyncio.to_thread(begun.wait, 30)
        await function.aclose()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 5)
        go_on.set()

    asyncio.run(work())


FLAGS = SimpleNamespace(data_max_len=4096, rollout_max_new_tokens=512)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_len": 2048}, ["max_len=2048", "data.max_len=4096", "reads=query"]),
        ({"reads": "query", "max_len": 512}, ["max_len=512", "max_new_tokens=512", "raise it"]),
        (
            {"model_name_or_path": "/nowhere", "max_len": 4096},
            ["reward.openrlhf.model_name_or_path /nowhere holds no model"],
        ),
    ],
)
def test_what_can_be_known_before_it_is_loaded(settings: dict[str, Any], words: list[str]) -> None:
    (problem,) = reward_model.problems(RewardModelSection(**settings), FLAGS)
    assert all(word in problem.text for word in words), problem


@pytest.mark.parametrize("settings", [{"max_len": 4096}, {"reads": "query", "max_len": 513}])
def test_a_model_that_fits_has_no_problem(settings: dict[str, Any]) -> None:
    assert reward_model.problems(RewardModelSection(model_name_or_path=str(POLICY), **settings), FLAGS) == []


# --- what it takes of the cluster

ON_GPU = ["reward.name=openrlhf", f"reward.openrlhf.model_name_or_path={POLICY}", "reward.openrlhf.gpus=1"]


def test_half_a_gpu_or_another_precision_is_refused() -> None:
    for override in ("reward.openrlhf.gpus=0.5", "reward.openrlhf.param_dtype=fp32"):
        with pytest.raises(ConfigError, match=override.split("=")[0]):
            config.load(CPU, [override])


@pytest.mark.parametrize("kind", ["online", "evaluation"])
def test_judge_workers_take_gpus_of_their_own_and_no_cpus(kind: Any) -> None:
    def needed(*overrides: str) -> Resources:
        return planning.make(config.load(CPU, ["run.device=cpu", *overrides]), kind).resources

    without, with_model = needed(), needed(*ON_GPU, "reward.workers=2")
    assert (with_model.gpus, with_model.cpus) == (without.gpus + 2, without.cpus)
    assert "2 reward models" in with_model.parts and "reward models" not in without.parts


def test_only_the_keys_that_are_needed_leave_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "JUDGE_KEY", "REWARD_TOKEN"):
        monkeypatch.setenv(name, "secret")
    judge = {"kind": "openai", "model": "j", "base_url": "http://localhost:1/v1"}
    remote = {"url": "http://localhost:1", "token_env": "REWARD_TOKEN"}

    def keys(watch: Any = None, **settings: Any) -> set[str]:
        watch = watch or {}
        given = {"judge": judge, "remote": remote, "openrlhf": {"model_name_or_path": "x/y"}, **settings}
        run = {"run": {"name": "keys"}, "data": {"train": "train.jsonl"}, "reward": given, "watch": watch}
        return set(judge_workers.secrets(config.RunConfig.model_validate(run)))

    assert keys() == {"OPENAI_API_KEY"}
    assert keys(judge=judge | {"api_key_env": "JUDGE_KEY"}) == {"JUDGE_KEY"}
    assert keys(judge={"kind": "offline"}) == set()
    assert keys(name="openrlhf") == set()
    assert keys(name="remote") == {"REWARD_TOKEN"}
    shadow = {"shadow": {"judge": judge | {"api_key_env": "JUDGE_KEY"}}}
    assert keys(shadow, name="remote") == {"REWARD_TOKEN", "JUDGE_KEY"}
    assert keys(name="composite", composite={"parts": {"longreward": {}, "remote": {}}}) == {
        "OPENAI_API_KEY",
        "REWARD_TOKEN",
    }


def test_train_dpo_has_the_gpus_while_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    killed, started = [], []

    def start(*words: Any) -> Workers:
        started.append(words)
        return Workers(["new"], ["judge-0"], words[2])

    monkeypatch.setattr(Workers, "kill", lambda self: killed.append(self.names))
    monkeypatch.setattr(judge_workers, "start", start)

    def run(workers: Workers) -> Any:
        return SimpleNamespace(workers=workers, plan=SimpleNamespace(tokenizer="policy"), say=told.append)

    on_cpu: Any = config.load(CPU, [])
    on_gpu: Any = config.load(CPU, ON_GPU)
    for settings, workers in ((on_cpu, Workers(["old"], ["judge-0"], "ab")), (on_gpu, Workers([]))):
        other = run(workers)
        stages.end_reward_models(other, settings)
        stages.start_reward_models(other, settings)
        assert other.workers is workers and not killed and not started
    session = run(Workers(["old"], ["judge-0"], "ab"))
    stages.end_reward_models(session, on_gpu)
    assert killed == [["judge-0"]] and session.workers.actors == [] and len(told) == 1
    stages.start_reward_models(session, on_gpu)
    assert started == [(on_gpu, "policy", "ab")] and session.workers.actors == ["new"]
