"""What would end a run is told before it begins, in one sentence with what to do."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from longreward.errors import ConfigError
from longreward.judge.requests import REQUESTS
from longreward.preflight import asking as judge_asking
from longreward.preflight import judge_checks
from longreward.preflight.finding import Finding, Severity
from longreward.text.amounts import file_size
from rl import config
from rl.plan import Resources
from rl.reward_functions import reward_model
from rl.run import cluster, planning, session
from rl.run.checks import services
from rl.trainer import model_folder
from rl.trainer.seams import advantages

ROOT = Path(__file__).parents[3]
AWAY = SimpleNamespace(url="http://127.0.0.1:9/v1")
LABELS = {request.kind: request.label for request in REQUESTS}
SIX = {"helpfulness", "logicality", "statements", "verify", "extract", "completeness"}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """The quickstart's configuration with changes."""
    monkeypatch.chdir(ROOT)
    return lambda *overrides: config.load(
        ROOT / "configs/grpo_cpu.yaml", [f"run.dir={tmp_path}", "run.device=cpu", *overrides]
    )


@pytest.fixture
def judge(module_judge, monkeypatch):
    monkeypatch.setattr(judge_asking, "_MOMENT_S", 0.02)
    monkeypatch.setattr(judge_asking, "_WHEN_BUSY_S", 0.02)
    module_judge.script, module_judge.latency, module_judge.most_in_flight = {}, 0.0, 0
    module_judge.calls.clear()
    module_judge.keys.clear()
    return module_judge


@pytest.fixture
def asking(load):
    """A configuration that asks these judges."""

    def make(*servers, **judge):
        made = load("reward.judge.kind=openai", f"reward.judge.base_url={servers[0].url}", "reward.judge.model=m")
        endpoints = [{"base_url": server.url} for server in servers]
        data = made.reward.judge.model_dump() | {"base_url": None, "endpoints": endpoints} | judge
        made.reward.judge = type(made.reward.judge).model_validate(data)
        return made

    return make


def sentence(made) -> str:
    (found,) = services.findings(made)
    assert found.severity is Severity.PROBLEM and "\n" not in found.text
    return found.text


def test_each_endpoint_is_asked_each_kind_of_question_once_and_all_at_once(asking, judge, start_judge):
    judge.latency = 1.0
    with start_judge() as other:
        other.latency = 1.0
        assert services.findings(asking(judge, other)) == []
        # Of extraction there is one more, of full size.
        assert dict(judge.calls) == dict(other.calls) == dict.fromkeys(SIX, 1) | {"extract": 2}
        assert judge.most_in_flight == other.most_in_flight == 7


@pytest.mark.parametrize("kind", sorted(SIX - {"extract"}))
def test_a_kind_that_cannot_be_read_is_named_with_its_endpoint_and_reply(asking, judge, start_judge, kind):
    with start_judge() as good:
        judge.script = {kind: "I would rather not say"}
        text = sentence(asking(good, judge))
    assert f"the judge m at {judge.url} did not answer: parse_error ({LABELS[kind]}: " in text
    assert "'I would rather not say'" in text and good.url not in text
    assert judge.calls[kind] == 2, "a reply that cannot be read is asked for again"


@pytest.mark.parametrize("read", [2048, 0], ids=["reported", "not reported"])
def test_a_judge_that_reads_only_the_end_of_long_prompts_is_told(asking, judge, read):
    usage = {"prompt_tokens": read, "completion_tokens": 5}

    def cut(prompt: str, _: int):
        text = "The third ship of Mara is called Orrery." if "Orrery" in prompt else "Something relevant."
        told = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        return web.json_response(told | ({"usage": usage} if "Orrery" in prompt else {}))

    judge.script = {"extract": cut}
    made = asking(judge)
    made.reward.chunking.extraction_tokens = 4096  # the quickstart's are short
    text = sentence(made)
    assert "an extraction of full size" in text if read else "the fact at its beginning and middle" in text
    assert "context" in text


def test_a_judge_that_is_away_is_told_without_waiting_for_an_outage_to_end(asking):
    text = sentence(asking(AWAY, max_outage_s=600.0))
    assert "did not answer: unreachable (every kind of question: " in text


def test_a_judge_that_hangs_is_given_up(asking, judge, monkeypatch):
    monkeypatch.setattr(services, "REPLY_S", 3)
    judge.latency = 30
    assert "did not answer: timeout (every kind of question: no complete reply" in sentence(asking(judge))


def test_a_passing_fault_is_no_reason_not_to_begin(asking, judge):
    judge.script = {"verify": lambda _, n: web.Response(status=503) if n == 1 else "[[No support]]"}
    assert services.findings(asking(judge)) == []
    assert judge.calls["verify"] == 2


def test_questions_that_limits_hold_back_are_no_reason_not_to_begin(asking, judge, monkeypatch):
    monkeypatch.setattr(services, "REPLY_S", 2)
    assert services.findings(asking(judge, requests_per_minute=10)) == []
    assert judge.calls.total() == 1
    refused = web.json_response
    judge.script = {"logicality": lambda *_: refused({"error": {"message": "slow down"}}, status=429)}
    assert services.findings(asking(judge)) == []


def test_a_refused_key_is_told_but_not_shown(asking, judge, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    refusal = {"error": {"message": "wrong key sk-very-secret"}}
    judge.script = dict.fromkeys(SIX, lambda *_: web.json_response(refusal, status=401))
    text = sentence(asking(judge))
    assert "unauthorized" in text and "secret" not in text
    assert judge.calls.total() <= 7


# 3 steps of 8 prompts x 8 answers: 16 batches of 4 for 8 learners.
MANY = {
    "train.colocate_all": True,
    "train.batch_size": 64,
    "train.micro_batch_size": 2,
    "actor.num_gpus_per_node": 8,
    "ref.num_gpus_per_node": 8,
    "vllm.num_engines": 8,
    "rollout.batch_size": 8,
    "rollout.n_samples_per_prompt": 8,
    "rollout.micro_batch_size": 4,
    "data.max_samples": 24,
}


def many(load, **changes):
    """A run on eight learners."""
    words = {**MANY, **{name.replace("__", "."): value for name, value in changes.items()}}
    return load(*(f"openrlhf.{name}={value}" for name, value in words.items()))


def problems(made, kind="online"):
    """What a run is refused for, each in one sentence."""
    return [each.text for each in planning.make(made, kind).findings if each.severity == "problem"]


def test_a_run_on_eight_learners_that_fits_has_no_problem(load):
    assert problems(many(load)) == []


PROBLEMS = {
    "tiny train batch": (
        {"train__batch_size": 8},
        "train.batch_size=8 is not a multiple of train.micro_batch_size=2 x 8",
    ),
    "train batch": ({"train__batch_size": 40}, "train.batch_size=40 is not a multiple of train.micro_batch_size=2 x 8"),
    "too few answers": (
        {"rollout__micro_batch_size": 16},
        "are too few batches of rollout.micro_batch_size=16 for 8 learners",
    ),
    "uneven": ({"rollout__micro_batch_size": 6}, "unevenly, 12 to one and 0 to another"),
    "never trained on": ({"train__micro_batch_size": 16, "train__batch_size": 128}, "it drops them all"),
    "one answer": ({"rollout__n_samples_per_prompt": 1}, "group_norm requires n_samples_per_prompt > 1"),
    "last step too short": (
        {"data__max_samples": 25},
        "the last step of an episode: 1 prompts x 8 answers are too few",
    ),
    "engines": ({"vllm__num_engines": 4}, "engines on the actor's 8 GPUs, but they take 4"),
    "reference": ({"ref__num_gpus_per_node": 4}, "puts ref on the actor's GPUs, but their num_nodes"),
    "groups": ({"ds__tensor_parallel_size": 3}, "8 GPUs of openrlhf.actor cannot be divided into groups of 3"),
    "division": ({"logger__logging_steps": 0}, "openrlhf.logger.logging_steps is 0"),
    "asynchronous": ({"rollout__vllm_generate_batch_size": 16}, "works only in asynchronous training"),
    "heads": ({"vllm__tensor_parallel_size": 8, "vllm__num_engines": 1}, "4 attention heads, which vllm.tensor"),
    "length": ({"data__max_len": 2000}, "reads 1,024 tokens at most and openrlhf.data.max_len is 2,000"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_would_break_a_run_is_told(load, name):
    changes, words = PROBLEMS[name]
    found = problems(many(load, **changes))
    assert words in found[0] and "\n" not in found[0]


@pytest.mark.parametrize("estimator", ["dr_grpo", "rloo", "reinforce_baseline", "reinforce", "flash_reinforce", "gae"])
def test_dimensions_are_normalised_only_where_groups_are(load, estimator):
    words = [f"openrlhf.algo.advantage.estimator={estimator}", "reward.advantage=per_dimension"]
    found = problems(load(*words))
    wanted = f"which {estimator} does not; set openrlhf.algo.advantage.estimator=group_norm"
    assert any(wanted in text and "\n" not in text for text in found)
    assert problems(load("reward.advantage=per_dimension")) == []


def test_the_trainer_learns_what_the_dimensions_weigh(load):
    made = load("reward.advantage=per_dimension", "reward.weights={faithfulness: 2, helpfulness: 1}")
    variables = planning.make(made, "online").environment
    assert json.loads(variables[advantages.VARIABLE])["weights"] == {"helpfulness": 1.0, "faithfulness": 2.0}
    assert advantages.VARIABLE not in planning.make(load(), "online").environment


def test_a_count_of_none_is_a_users_error(load):
    with pytest.raises(ConfigError, match=r"openrlhf.rollout.micro_batch_size is 0; set it to 1 at least"):
        problems(many(load, rollout__micro_batch_size=0))


def test_a_short_last_step_is_fine_where_all_learners_get_the_same(load):
    assert problems(many(load, data__max_samples=26, rollout__micro_batch_size=1)) == []


def test_a_last_step_that_would_hang_is_found_by_counting_the_prompts(load, tmp_path):
    """3 prompts x 8 answers in pieces of 2 are 12 for 8 learners: six would get two and two none."""
    rows = [{"idx": i, "context": "c", "query": "q"} for i in range(19)]
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no row\n")
    made = many(load, rollout__micro_batch_size=2)
    made.data.train = data
    (problem,) = problems(made)
    assert "the last step of an episode: 3 prompts x 8 answers are dealt to 8 learners (actor) unevenly" in problem
    assert "openrlhf.data.max_samples" in problem
    made.openrlhf["data.max_samples"] = 16
    assert problems(made) == []


def test_answers_that_are_dropped_are_noted_and_no_problem(load):
    plan = planning.make(many(load, train__micro_batch_size=3, train__batch_size=48), "online")
    (note,) = [finding for finding in plan.findings if "never trained on" in finding.sentence]
    # 64 answers, 8 to a learner, two batches of 3 each.
    assert note.severity == "note" and "16 of the answers" in note.sentence
    planning.refuse(plan.findings)


def test_an_evaluation_is_not_held_up_by_what_only_training_needs(load):
    assert problems(many(load, train__batch_size=40), "evaluation") == []


Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """Sets the free disk space."""
    return lambda number: monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**15, 0, number))


def test_too_small_a_disk_is_told_with_the_arithmetic(load, free):
    made = load("openrlhf.ckpt.save_steps=1", "openrlhf.ckpt.max_num=2")
    # Two checkpoints of 14 bytes a parameter and the model of 2.
    free(30 * 519_040 - 1)
    (problem,) = problems(made)
    assert "too little room for 2 checkpoints of 7.27 MB" in problem and "and the model, 1.04 MB" in problem
    free(30 * 519_040)
    assert problems(made) == []


def test_a_short_run_needs_no_room_for_checkpoints_that_it_never_saves(load, free):
    made = load("openrlhf.ckpt.save_steps=20", "openrlhf.data.max_samples=8")
    free(2 * 519_040)
    assert problems(made) == []
    free(2 * 519_040 - 1)
    assert len(problems(made)) == 1


def test_a_resumed_run_counts_its_own_checkpoints_as_room(load, free):
    made = load("resume=true", "openrlhf.ckpt.save_steps=1", "openrlhf.ckpt.max_num=2")
    made.checkpoints.joinpath("_actor").mkdir(parents=True)
    free(24 * 519_040)
    assert problems(made)
    made.checkpoints.joinpath("_actor", "state").write_bytes(bytes(6 * 519_040))
    assert problems(made) == []


def test_a_single_checkpoint_is_refused_because_it_is_deleted_before_the_next_is_written(load):
    made = load("openrlhf.ckpt.max_num=1")
    (problem,) = problems(made)
    assert "openrlhf.ckpt.max_num=1" in problem and "set it to 2 at least" in problem


def test_parameters_are_counted_with_and_without_weights(tmp_path):
    policy = ROOT / "rl/toy/policy"
    exact = model_folder.count_parameters(policy)
    assert exact == 519_040
    shutil.copy(policy / "config.json", tmp_path)
    assert model_folder.count_parameters(tmp_path) == pytest.approx(exact, rel=0.01)
    assert model_folder.count_parameters(Path("meta-llama/Llama-3.1-8B-Instruct")) is None
    llama = {"hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 128256, "num_attention_heads": 32}
    llama |= {"num_key_value_heads": 8, "intermediate_size": 14336}
    (tmp_path / "config.json").write_text(json.dumps(llama))
    assert model_folder.count_parameters(tmp_path) == 8_030_261_248


def test_the_sizes_that_are_told_are_short():
    assert [file_size(n) for n in (900, 7_266_560, 112e9, 1.12e12)] == ["0.9 kB", "7.27 MB", "112 GB", "1.12 TB"]
    assert re.fullmatch(r"[\d.]+ GB", file_size(5e10))


def test_what_the_reward_cannot_do_in_this_run_is_told(load, monkeypatch, tmp_path):
    canary = tmp_path / "canaries.jsonl"
    canary.write_text(json.dumps({"idx": 1, "context": "c", "query": "q", "answer": "a"}))
    model = ["reward.openrlhf.model_name_or_path=rl/toy/policy", "reward.openrlhf.gpus=1"]
    made = load("reward.name=openrlhf", *model, f"watch.canaries={canary}")

    def asked(section, flags):
        return [Finding(Severity.PROBLEM, "reward", f"{section.gpus:g} of {flags.data_max_len}")]

    monkeypatch.setattr(reward_model, "problems", asked)
    about_model, about_canaries = problems(made, "evaluation")
    assert about_model == f"1 of {planning.make(made, 'evaluation').flags.data_max_len}"
    assert about_canaries.startswith("watch.canaries has no GPU")
    assert problems(load(*model), "evaluation") == []


REFERENCE = ["reward.name=reference", "reward.reference.field=query"]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [([], True), (REFERENCE, False), ([*REFERENCE, "evaluation.short=x.jsonl"], True)],
)
def test_the_judge_is_asked_before_a_run_that_needs_one(load, monkeypatch, settings, asked):
    class AskedError(Exception):
        pass

    async def ask(*_, **__):
        raise AskedError

    def go_on():
        raise KeyboardInterrupt

    monkeypatch.setattr(judge_checks, "ask", ask)
    monkeypatch.setattr(session.cpu_backend, "apply", go_on)
    away = [f"reward.judge.{word}" for word in ("kind=openai", f"base_url={AWAY.url}", "model=m")]
    plan = planning.make(load(*settings, *away), "evaluation")
    with pytest.raises(AskedError if asked else KeyboardInterrupt), session.open_session(plan, verbose=False):
        pass


def test_the_judge_of_evaluations_is_asked_in_the_rewards_place(load, judge):
    def found(url: str) -> list[str]:
        away = f"reward.judge={{kind: openai, base_url: '{AWAY.url}', model: m}}"
        own = f"evaluation.judge={{kind: openai, base_url: '{url}', model: gpt-4o}}"
        return [one.text for one in services.findings(load(*REFERENCE, "evaluation.short=x.jsonl", away, own))]

    assert found(judge.url) == [] and set(judge.calls) == {"helpfulness"}
    (problem,) = found(AWAY.url)
    assert "the judge gpt-4o at" in problem and "check evaluation.judge.base_url, evaluation.judge.model" in problem


def test_ray_that_does_not_start_is_told_in_one_sentence(asking, judge, monkeypatch):
    import ray

    def fails(**_: object) -> None:
        raise Exception("Traceback of Ray's\nThe current node timed out during startup.")

    monkeypatch.setattr(ray, "init", fails)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match=r"Ray did not start on this machine: The current node timed out .* again"):
        cluster.connect(asking(judge), Resources(1, 1, ""), "cpu", {})
