"""A dry run refuses what the run would refuse: one sentence, exit code 2, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from longreward.errors import ConfigError
from rl import dpo, sft, train
from rl.config import load_as
from rl.offline.config import STAGES, DpoConfig
from rl.offline.planning import plan_dpo
from rl.plan import RunPlan
from rl.run import planning

ROOT = Path(__file__).parents[3]
MAIN = {"grpo": train.main, "dpo": dpo.main, "sft": sft.main}


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Runs a command dry on the CPU configuration of a kind, with changes: the sentence that refuses it."""
    monkeypatch.chdir(ROOT)

    def run(kind: str, *overrides: str, stages: tuple[str, ...] = ()) -> str:
        words = ["--config", f"configs/{kind}_cpu.yaml", "--dry-run", f"run.dir={tmp_path}/runs", "run.device=cpu"]
        code = MAIN[kind]([*words, *(word for stage in stages for word in ("--stage", stage)), *overrides])
        error = capfd.readouterr().err
        assert code == 2 and len(error.splitlines()) == 1, error
        assert not (tmp_path / "runs").exists()
        return error

    return run


@pytest.fixture
def write(tmp_path):
    """Writes rows of JSON lines, and gives the file's path."""

    def make(*rows: dict, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return make


DOCUMENT = {"idx": 1, "context": "Mara sold copper to Otto .", "query": "What did Mara sell ?"}


@pytest.mark.parametrize("kind", MAIN)
def test_data_that_are_not_there(refused, kind):
    assert "data.train none.jsonl does not exist" in refused(kind, "data.train=none.jsonl")


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("grpo", ["openrlhf.train.async_enable=true"], "train.async_enable is true"),
        ("dpo", [], "rl/dpo.py has no steps"),
    ],
)
def test_late_answers_where_no_step_waits_for_them(refused, kind, words, said):
    assert said in refused(kind, "reward.late.share=0.05", *words)


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("grpo", ["n_samples_per_prompt=17"], "2 to 16 answers to a prompt, and openrlhf.rollout.n_samples_per_prompt"),
        ("grpo", ["n_samples_per_prompt=1"], "n_samples_per_prompt is 1; change that, or set reward.helpfulness.way"),
        ("dpo", ["n_samples_per_prompt=17"], "n_samples_per_prompt is 17"),
    ],
)
def test_too_few_or_too_many_answers_to_rank(refused, kind, words, said):
    flags = [f"openrlhf.rollout.{word}" for word in words]
    assert said in refused(kind, "reward.helpfulness.way=ranking", *flags)


def test_answers_that_were_ranked_among_others(refused, tmp_path):
    words = ["reward.helpfulness.way=ranking", f"collect.stores=[{tmp_path}]"]
    assert "collect.stores holds answers of other groups" in refused("dpo", *words)


@pytest.mark.parametrize("kind", MAIN)
def test_data_without_a_row_that_can_be_used(refused, write, kind):
    data = write({"idx": 1, "context": 3})
    sentence = refused(kind, f"data.train={data}")
    assert f"{data} holds no row with context" in sentence and f"first problem: {data}:1:" in sentence


@pytest.mark.parametrize("kind", MAIN)
def test_a_model_folder_without_weights(refused, tmp_path, kind):
    shutil.copytree(ROOT / "rl/toy/policy", tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    assert "holds no weights" in refused(kind, f"openrlhf.actor.model_name_or_path={tmp_path}/model")
    (tmp_path / "model" / "config.json").unlink()
    assert "holds no model (no config.json)" in refused(kind, f"openrlhf.actor.model_name_or_path={tmp_path}/model")


@pytest.mark.parametrize("kind", MAIN)
def test_a_chat_template_that_makes_no_prompt(refused, tmp_path, kind):
    model = shutil.copytree(ROOT / "rl/toy/policy", tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ raise_exception('A system turn, please') }}")
    sentence = refused(kind, f"openrlhf.actor.model_name_or_path={model}")
    assert f"the tokenizer of {model} makes no prompt" in sentence and "A system turn, please" in sentence


@pytest.mark.parametrize("kind", ["grpo", "dpo"])
def test_what_a_person_should_know_of_the_rows_is_noted(write, tmp_path, monkeypatch, capfd, kind):
    monkeypatch.chdir(ROOT)
    data = write(
        *({"idx": n % 8, "context": f"{DOCUMENT['context']} {n}", "query": "?"} for n in range(16)), {"idx": 9}
    )
    words = ["--config", f"configs/{kind}_cpu.yaml", "--dry-run", "run.device=cpu", f"run.dir={tmp_path}/runs"]
    assert MAIN[kind]([*words, f"data.train={data}"]) == 0
    told = capfd.readouterr().out
    assert f"note: data.train: 1 unreadable rows are skipped; the first: {data}:17: context must be text" in told
    assert "note: data.train: 8 ids stand for several documents, which are told apart: idx 0 for those in lines" in told


def test_a_list_is_read_and_too_few_prompts_for_a_step_are_noted(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    data = tmp_path / "rows.json"
    data.write_text(json.dumps([DOCUMENT], indent=1))
    words = ["--config", "configs/grpo_cpu.yaml", "--dry-run", "run.device=cpu", f"run.dir={tmp_path}/runs"]
    assert train.main([*words, f"data.train={data}"]) == 0
    assert f"note: data.train {data} holds 1 usable prompts, less than the " in capfd.readouterr().out


def test_data_of_the_hub_are_looked_for(refused, monkeypatch):
    def away(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", away)
    sentence = refused("grpo", "data.train=owner/set:train")
    assert "data.train: the data set owner/set:train cannot be loaded (ConnectionError: no network)" in sentence


@pytest.mark.parametrize("kind", ["grpo", "dpo"])
def test_a_reward_that_does_not_fit_the_data(refused, write, kind):
    data = write(DOCUMENT)
    sentence = refused(kind, f"data.train={data}", "reward.name=reference", "reward.reference.field=gold")
    assert "a reference answer in 'gold'; first problem" in sentence


def test_a_reward_model_that_is_not_there_or_reads_too_little(refused):
    words = ["reward.name=openrlhf", "reward.openrlhf.model_name_or_path=./none"]
    assert "reward.openrlhf.model_name_or_path ./none holds no model" in refused("grpo", *words)
    words[1] = "reward.openrlhf.model_name_or_path=rl/toy/policy"
    assert "reward.openrlhf.max_len=9 is less than" in refused("grpo", *words, "reward.openrlhf.max_len=9")


def test_pairs_that_are_not_there_or_cannot_be_used(refused, write):
    assert "collect.pairs nothere.jsonl does not exist; give" in refused("dpo", "collect.pairs=nothere.jsonl")
    pairs = write(DOCUMENT)
    assert f"collect.pairs {pairs} holds no row with" in refused("dpo", f"collect.pairs={pairs}")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("reference", ["reference.field=query"]),
        ("remote", ["remote.url=http://127.0.0.1:9/get_reward"]),
        ("openrlhf", ["openrlhf.model_name_or_path=rl/toy/policy"]),
    ],
)
def test_responses_that_the_reward_cannot_score(refused, write, name, settings):
    responses = write({"idx": "1-0", "context": "Mara sold copper .", "query": "?", "answer": "copper"})
    words = [f"reward.{word}" for word in (f"name={name}", *settings)]
    sentence = refused("dpo", f"collect.responses={responses}", *words)
    assert re.search(rf"collect.responses cannot be scored by reward {name}, .*leave .* out", sentence)
    assert ("set reward.openrlhf.reads=query" in sentence) == (name == "openrlhf")


@pytest.fixture
def store(tmp_path) -> Path:
    """A run's store with an answer."""
    folder = tmp_path / "other" / "store"
    folder.mkdir(parents=True)
    (folder / "answers-0-1.jsonl").write_text(json.dumps({"id": "1", "rollout": "1/0"}) + "\n")
    return folder


MODEL = ["reward.name=openrlhf", "reward.openrlhf.model_name_or_path=rl/toy/policy"]
QUERY_ONLY = ["reward.openrlhf.reads=query"]
NOTHING_HELD_OUT = ["data.heldout=null", "short.heldout=null"]


def planned(*words: str, stages: tuple[str, ...] = STAGES) -> RunPlan[DpoConfig]:
    """The plan of a DPO run, refused where it has a problem."""
    made = load_as(DpoConfig, ROOT / "configs/dpo_cpu.yaml", ["run.device=cpu", *words])
    plan = plan_dpo(made, stages)
    planning.refuse(plan.findings)
    return plan


def test_a_reward_model_that_reads_the_question_scores_responses(write, monkeypatch):
    monkeypatch.chdir(ROOT)
    responses = write({"idx": "1-0", "context": "Mara sold copper .", "query": "?", "answer": "copper"})
    planned(f"collect.responses={responses}", *MODEL, *QUERY_ONLY)


@pytest.mark.parametrize("more", [["reward.openrlhf.max_len=640"], QUERY_ONLY, ["reward.name=reference"]], ids=str)
def test_any_reward_scores_the_answers_of_another_run(store, monkeypatch, more):
    monkeypatch.chdir(ROOT)
    planned(f"collect.responses={store}", *MODEL, "reward.reference.field=answer", *more)


def test_a_store_that_cannot_be_scored_anew(refused, tmp_path):
    own = tmp_path / "runs" / "dpo_cpu" / "store"
    assert f"collect.responses {own} is the store of this very run; give" in refused("dpo", f"collect.responses={own}")
    (tmp_path / "run" / "store").mkdir(parents=True)
    for folder in ("run", "run/store"):
        said = refused("dpo", f"collect.responses={tmp_path}/{folder}")
        assert f"{folder} holds no answers (no answers-*.jsonl); give a file of responses, or the store/" in said


@pytest.mark.parametrize(
    ("stages", "words", "gpus", "parts"),
    [
        (STAGES, [], 1, "1 vLLM engines"),
        (("collect",), [], 1, "1 vLLM engines"),
        (("evaluate",), [], 1, "1 vLLM engines"),
        (("pair", "train"), [], 0, "nothing of Ray"),
        (("evaluate",), NOTHING_HELD_OUT, 0, "nothing of Ray"),
        (STAGES, ["responses"], 1, "1 vLLM engines"),  # for the held-out prompts
        (STAGES, ["responses", *NOTHING_HELD_OUT], 0, "nothing on GPUs"),
        (STAGES, ["responses", *NOTHING_HELD_OUT, *MODEL, *QUERY_ONLY, "reward.openrlhf.gpus=1"], 1, "1 reward models"),
        (STAGES, ["collect.pairs=x.jsonl", *NOTHING_HELD_OUT], 0, "nothing of Ray"),
        (STAGES, ["collect.served={base_url: 'http://h/v1', model: m}", *NOTHING_HELD_OUT], 0, "nothing on GPUs"),
    ],
)
def test_only_what_the_stages_start_is_asked_of_ray(store, monkeypatch, stages, words, gpus, parts):
    monkeypatch.chdir(ROOT)
    words = [f"collect.responses={store}" if word == "responses" else word for word in words]
    made = load_as(DpoConfig, ROOT / "configs/dpo_cpu.yaml", ["run.device=cpu", *words])
    resources = plan_dpo(made, stages).resources
    assert (resources.gpus, resources.parts) == (gpus, parts)


@pytest.mark.parametrize(("workers", "noted"), [(4, True), (1, False)])
def test_more_gpus_than_the_learners_machine_has_are_noted(tmp_path, monkeypatch, capfd, workers, noted):
    monkeypatch.chdir(ROOT)
    words = ["--config", "configs/dpo_cpu.yaml", "--dry-run", "run.device=gpu", f"run.dir={tmp_path}", "processes=8"]
    words += [*MODEL, *QUERY_ONLY, "reward.openrlhf.gpus=1", f"reward.workers={workers}", "short.heldout=null"]
    words += [f"openrlhf.vllm.num_engines={8 if noted else 7}", "train_dpo.train.micro_batch_size=1"]
    assert dpo.main(words) == 0, capfd.readouterr().err
    told = capfd.readouterr().out
    sentence = (
        "note: collecting takes 12 GPUs at once (8 vLLM engines + 4 reward models), and training 8 of one machine"
    )
    assert (sentence in told) == noted


def test_answers_of_one_store_may_have_been_ranked(store, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    ranked = ["reward.helpfulness.way=ranking", f"run.dir={tmp_path}/runs"]
    planned(*ranked, f"collect.stores=[{store}]", stages=("pair", "train"))
    with pytest.raises(ConfigError, match="holds answers of other groups"):
        planned(*ranked, f"collect.stores=[{store}, {store}]", stages=("pair", "train"))


def test_a_contrast_needs_answers_in_the_data(refused, write):
    data = write(DOCUMENT, DOCUMENT | {"idx": 2, "answer": " "})
    words = [f"data.train={data}", "pair={by: contrast}", *NOTHING_HELD_OUT]
    assert "holds no row with context, query and answer, which pair.by=contrast chooses" in refused("dpo", *words)


@pytest.mark.parametrize(
    "word", ["min_answers=3", "min_margin=1", "weights={faithfulness: 1}", "per_prompt=2"], ids=lambda word: word
)
def test_a_contrast_with_a_setting_about_scores(refused, word):
    sentence = refused("dpo", "pair.by=contrast", f"pair.{word}")
    assert f"{word.partition('=')[0]} is " in sentence and "by=contrast looks at no score; leave" in sentence


def test_a_judge_of_its_own_is_in_nobodys_way_where_nothing_is_asked(store, monkeypatch):
    monkeypatch.chdir(ROOT)
    own = ("reward.judge.kind=vllm", "reward.judge.model=owner/judge", "run.device=gpu", "processes=1")
    planned(*own, f"collect.stores=[{store}]", stages=("pair", "train"))


def test_responses_that_a_function_of_the_users_scores_are_fine(write, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    responses = write({"idx": "1-0", "context": "Mara sold copper .", "query": "?", "answer": "copper"})
    function = tmp_path / "mine.py"
    function.write_text("def score(sample):\n    return 5\n")
    words = ["run.device=cpu", "reward.name=python", f"reward.python.function={function}:score"]
    words += ["reward.python.allow=true", f"collect.responses={responses}"]
    planning.refuse(plan_dpo(load_as(DpoConfig, ROOT / "configs/dpo_cpu.yaml", words)).findings)


def test_responses_that_are_not_there_or_cannot_be_used(refused, write):
    words = [f"data.train={write(DOCUMENT)}", "data.heldout=null", "short.heldout=null"]
    assert "collect.responses none.jsonl does not exist" in refused("dpo", "collect.responses=none.jsonl", *words)
    broken = write({"idx": "7-0", "query": "?", "answer": "copper"}, name="broken.jsonl")
    assert "no context for document '7'" in refused("dpo", f"collect.responses={broken}", *words)


def test_stores_without_answers(refused, tmp_path):
    assert "collect.stores nowhere does not exist" in refused("dpo", "collect.stores=[nowhere]")
    (tmp_path / "store").mkdir()
    assert "holds no answers (no answers-*.jsonl)" in refused("dpo", f"collect.stores=[{tmp_path}/store]")


def test_stages_on_a_run_that_is_not_there(refused):
    assert "there is no run in" in refused("dpo", stages=("pair",))


def test_short_conversations_that_are_not_there(refused):
    assert "short.train none.jsonl does not exist" in refused("dpo", "short.train=none.jsonl")


def test_a_batch_that_learners_cannot_divide(refused):
    assert "train_sft.train.batch_size=" in refused("sft", "train_sft.train.micro_batch_size=5")


def test_a_run_that_cannot_be_resumed_as_it_is(refused, tmp_path, monkeypatch, capfd):
    earlier = tmp_path / "earlier" / "sft_cpu"
    monkeypatch.chdir(ROOT)
    words = ["--config", "configs/sft_cpu.yaml", "--dry-run", "run.device=cpu"]
    assert sft.main([*words, f"run.dir={earlier.parent}"]) == 0
    shutil.move(f"{earlier}-dry-run", earlier)
    shutil.copy("rl/toy/data/train.jsonl", tmp_path / "other.jsonl")
    assert sft.main([*words, f"run.dir={earlier.parent}", "resume=true", f"data.train={tmp_path}/other.jsonl"]) == 2
    assert "resume=true: data.train is" in capfd.readouterr().err


def test_a_judge_that_the_run_cannot_serve_is_refused(refused, tmp_path):
    own = ("reward.judge.kind=vllm", f"reward.judge.model={tmp_path}")
    assert f"reward.judge.model {tmp_path} holds no model" in refused("grpo", *own)
    on_gpu = ("reward.judge.kind=vllm", "reward.judge.model=owner/judge", "run.device=gpu")
    assert "its GPUs would not be free for train_dpo; run the stages one by one" in refused("dpo", *on_gpu)
