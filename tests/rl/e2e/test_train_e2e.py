"""The real loop: Ray, vLLM, DeepSpeed and OpenRLHF as installed, started the way a user starts them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import yaml

from longreward.evaluation import second_scores
from longreward.report import heldout
from longreward.report.reading.gather import OpenFiles, gather
from longreward.report.reading.sources import opened
from longreward.report.steps import place_all

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]
DIMENSIONS = {"helpfulness", "logicality", "faithfulness", "completeness"}
SECRETS = ("sk-very-secret", "wandb-very-secret", "ray-very-secret")  # set where the cluster is started


def records(run: Path) -> list[dict]:
    return [json.loads(line) for path in (run / "store").glob("*.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def submitted(cluster, tiny, module_judge):
    """`ray job submit -- python rl/train.py`, PPO with a critic, evaluated while training, W&B offline, a judge that
    fails now and then."""
    launcher, _ = cluster
    module_judge.script = {
        # Every seventh rating is unreadable: void, and the run goes on.
        "helpfulness": lambda _, number: "no verdict" if number % 7 == 0 else f"[[{number % 5 + 3}]]",
    }
    overrides = [
        f"run.dir={launcher.directory}/runs",
        "run.name=submitted",
        "wandb.mode=offline",
        "evaluation.every=1",
        "openrlhf.critic.freezing_steps=-1",
        "reward.judge.kind=openai",
        f"reward.judge.base_url={module_judge.url}",
        "reward.judge.model=judge",
        "reward.judge.max_attempts=1",
        "watch.noise_share=0.25",
        "watch.shadow.share=0.5",
        f"watch.shadow.judge={{kind: openai, base_url: '{module_judge.url}', model: another}}",
        *tiny,
    ]
    ray = str(Path(sys.executable).with_name("ray"))
    # The job runs in the head node's environment, where `python` may be another one.
    train = [sys.executable, "rl/train.py", "--config", "configs/ppo_cpu.yaml", *overrides]
    code, output = launcher.run(*[ray, "job", "submit", f"--address={launcher.dashboard}", "--", *train])
    return code, output, launcher.directory / "runs" / "submitted"


def test_a_submitted_job_trains_to_the_end(submitted):
    code, output, run = submitted
    assert code == 0, output
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["kind"], summary["steps"]) == ("ppo", 2)
    assert {"n", "total", *DIMENSIONS} <= summary["before"].keys() == summary["after"].keys()
    assert summary["before"]["n"] == 4
    assert len(summary["gain"]["interval"]) == 2
    assert "held-out reward" in output and str(run) in output


def test_the_policy_was_really_trained_and_can_be_loaded(submitted):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, _, run = submitted
    before = AutoModelForCausalLM.from_pretrained(ROOT / "rl/toy/policy").state_dict()
    after = AutoModelForCausalLM.from_pretrained(run / "model").state_dict()
    assert before.keys() == after.keys()
    assert all(torch.isfinite(weights).all() for weights in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(run / "model").chat_template


def test_every_answer_is_in_the_store_with_its_verdicts(submitted):
    _, _, run = submitted
    stored = records(run)
    train = [record for record in stored if record["split"] == "train"]
    # Two steps of 4 prompts x 4 answers; 4 held-out prompts x 2 answers before, after and at each step.
    assert (len(train), len(stored) - len(train)) == (32, 32)
    per_prompt = {record["id"]: 0 for record in train}
    for record in train:
        per_prompt[record["id"]] += 1
    assert set(per_prompt.values()) == {4}
    void = [record for record in stored if record.get("total") is None]
    assert void and all(record["dimensions"]["helpfulness"]["status"] == "parse_error" for record in void)
    assert any("no verdict" in record["dimensions"]["helpfulness"]["calls"][0]["text"] for record in void)
    rate = json.loads((run / "summary.json").read_text())["void_rate"]
    assert rate == pytest.approx(len(void) / len(stored), abs=1e-3)


def test_the_judge_saw_the_documents_and_the_questions(submitted, module_judge):
    rows = [json.loads(line) for line in (ROOT / "rl/toy/data/train.jsonl").read_text().splitlines()]
    queries = {row["query"] for row in rows}
    asked = [prompt for kind, prompt in module_judge.prompts if kind == "extract"]
    assert asked and any(query in prompt for prompt in asked for query in queries)
    assert all("<|user|>" not in prompt and "<|assistant|>" not in prompt for _, prompt in module_judge.prompts)


def test_a_share_of_the_groups_is_scored_twice_by_the_judge_and_by_its_shadow(submitted, module_judge, curves):
    _, _, run = submitted
    twice = list(second_scores.read(run))
    rewards = {record["rollout"]: record.get("total") for record in records(run) if record["split"] == "train"}
    assert all(one.first["total"] == rewards[one.rollout] for one in twice)
    groups = {kind: {one.group for one in twice if one.kind == kind} for kind in ("repeat", "shadow")}
    assert {kind: len(names) for kind, names in groups.items()} == {"repeat": 2, "shadow": 4}  # of eight
    assert any(body["model"] == "another" for body in module_judge.bodies)
    watched = curves(run / "tensorboard" / f"{run.name}-watch")
    assert {"watch/shadow_total", "watch/shadowed_total", "watch/shadow_void"} <= watched.keys()


@pytest.fixture(scope="module")
def trained(submitted, curves):
    _, _, run = submitted
    return curves(run / "tensorboard" / run.name)


def test_void_answers_leave_no_nan_and_the_critic_and_the_evaluations_have_curves(trained):
    assert not [tag for tag, by_step in trained.items() if not all(map(math.isfinite, by_step.values()))]
    assert max(trained["train/longreward/void_parse_error"].values()) > 0
    assert trained["train/critic_loss"]
    evaluated = list(trained["eval/eval_default_pass1"].values())
    assert len(evaluated) == 2 and 0 < evaluated[0] <= 10


def test_tensorboard_has_each_dimension_void_rate_and_judge_latency(submitted, trained):
    _, _, run = submitted
    for name in ["total", *DIMENSIONS, "void", "judge_seconds", "statements"]:
        assert list(trained[f"train/longreward/{name}"]) == [1, 2], name
    stored = [record for record in records(run) if record["split"] == "train"]
    voids = sum(record.get("total") is None for record in stored)
    assert sum(trained["train/longreward/void"].values()) * 16 == pytest.approx(voids, abs=0.1)
    assert set(trained["train/longreward/faithfulness"].values()) == {10}


def wandb_records(path: Path):
    """The records of an offline run file: W&B's header, then LevelDB's log format (blocks of 32 KiB).

    wandb itself reads the file only in order to upload it.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def test_wandb_offline_has_the_same_metrics(submitted):
    _, _, run = submitted
    (path,) = (path for path in run.glob("wandb/offline-run-*/*.wandb") if not path.parent.name.endswith("-watch"))
    seen: dict[str, list] = {}
    for record in wandb_records(path):
        for item in record.history.item:
            seen.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    for name in ["total", *DIMENSIONS, "void", "judge_seconds"]:
        assert len(seen[f"train/longreward/{name}"]) == 2, sorted(seen)


def test_no_key_is_in_any_file_of_the_run_or_of_ray(submitted, cluster):
    _, output, run = submitted
    launcher, _ = cluster
    files = [path for folder in (run, launcher.ray_folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for secret in SECRETS:
        assert secret not in output
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_the_judge_got_its_key(submitted, module_judge):
    assert set(module_judge.keys) == {f"Bearer {SECRETS[0]}"}


def test_two_policies_are_evaluated_side_by_side(submitted, cluster, tiny, module_judge, tmp_path):
    _, _, run = submitted
    launcher, address = cluster
    words = [sys.executable, "rl/evaluate.py", "--config", "configs/grpo_cpu.yaml", "--model", str(run / "model")]
    words += ["--against", "rl/toy/policy", f"run.dir={launcher.directory}/runs", "run.name=submitted", *tiny]
    words += ["reward.judge.kind=openai", f"reward.judge.base_url={module_judge.url}", "reward.judge.model=judge"]
    words += [f"evaluation.judge={{kind: openai, base_url: '{module_judge.url}', model: grader}}"]
    sets = ROOT / "tests/data/evaluation"
    words += [f"evaluation.{name}={sets}/{name}.json" for name in ("longbench", "longbench_chat")]
    words += [f"evaluation.short={sets}/short.jsonl"]
    questions = {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]}, {"instruction": "Greet me."}
    for name, row in zip(("mt_bench", "alpaca_eval"), questions, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        words += [f"evaluation.{name}={tmp_path}/{name}.jsonl"]
    code, output = launcher.run(*words, RAY_ADDRESS=address)
    assert code == 0, output
    assert (run / "model" / "config.json").is_file(), "the training run's directory must stay where it is"
    folder = run.with_name("submitted-evaluation")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["before"]["n"] == summary["after"]["n"] == summary["gain"]["n"] == 4
    # This judge gives everything that is no gibberish the same: 2 of 3, 4 of 5, 8 of 10, neither of two.
    assert set(summary["longbench"]["policies"]) == set(summary["models"]) == {"policy", "submitted"}
    assert summary["longbench"]["judge"] == summary["short"]["judge"] == "grader"
    assert len(list((folder / "answers").glob("longbench*.jsonl"))) == 4
    assert summary["short"]["items"] == 6
    columns = ["longbench_chat", "single_doc_qa", "multi_doc_qa", "summarization", "average"]
    assert [list(found) for found in summary["paper"].values()] == [columns] * 2
    # All of its three statements are supported, unless nothing was said.
    assert {name: found["factscore"]["mean"] for name, found in summary["facts"].items()} == {
        "policy": 100,
        "submitted": 100,
    }
    (conversation,) = map(json.loads, (folder / "answers" / "mt_bench-submitted.jsonl").read_text().splitlines())
    assert conversation["question_id"] == 81 and len(conversation["choices"][0]["turns"]) == 2
    assert json.loads((folder / "answers" / "alpaca_eval-policy.json").read_text())[0]["generator"] == "policy"
    assert "┃ policy ┃ submitted ┃ change ┃" in output, output  # of the held-out table: who is compared with whom
    source = opened(folder)
    with OpenFiles() as files:
        gathered = gather([source], (), tmp_path, files)
        place_all(gathered.table, [source], [[]])
        shown = heldout.summary(gathered.table, 0, source)["columns"]
    assert [(column["name"], column["answers"]) for column in shown] == [("policy", 8), ("submitted", 8)]
    page = (folder / "evaluation.md").read_text()
    assert "| **average** |" in page and "held-out reward" in page and f"{summary['gain']['total']:+.2f}" in page
    # Killed before the end, it goes on: what is there is neither sampled nor judged again.
    (folder / "summary.json").unlink()
    graded = {kind: count for kind, count in module_judge.calls.items() if kind.startswith("evaluate_")}
    code, output = launcher.run(*words, "resume=true", RAY_ADDRESS=address)
    assert code == 0 and f"continuing {folder}" in output and "8 answers to sample" not in output, output
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert len(graded) == 4 and {kind: module_judge.calls[kind] for kind in graded} == graded


def test_too_few_gpus_are_told_at_once(submitted, cluster):
    launcher, address = cluster
    code, output = launcher.train(
        *["openrlhf.train.colocate_all=false", "openrlhf.vllm.num_engines=3"], timeout=600, RAY_ADDRESS=address
    )
    assert code == 2
    assert "the run needs 5 GPUs (1 learners + 1 reference + 3 vLLM engines) and Ray has 4" in output
    assert "Traceback" not in output and len(output.strip().splitlines()) == 1, output


def test_a_wrong_token_is_told(submitted, cluster):
    launcher, address = cluster
    code, output = launcher.train(RAY_ADDRESS=address, RAY_AUTH_TOKEN="another")
    assert code == 2
    assert f"train: the Ray cluster at {address} wants another token; export RAY_AUTH_MODE=token" in output
    assert "Traceback" not in output


FREE_AGAIN = """
import sys, time, ray
from ray.util.placement_group import placement_group_table
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + 120
while (free := ray.available_resources().get("GPU", 0)) != 4:
    assert time.monotonic() < deadline, f"{free} of 4 GPUs are free"
    time.sleep(0.5)
assert {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}
"""


def test_the_job_left_nothing_on_the_cluster(submitted, cluster):
    launcher, address = cluster
    code, output = launcher.run(sys.executable, "-c", FREE_AGAIN, address)
    assert code == 0, output


PROGRAMS = {
    "train_dpo": ("dpo", " --module rl.trainer.learner openrlhf.cli.train_dpo "),
    "train_sft": ("sft", " --module rl.trainer.learner openrlhf.cli.train_sft "),
}
ONLINE = ("train", "python -m openrlhf.cli.train_ppo_ray ")


def program(path: Path) -> tuple[str, str]:
    """The script of a configuration, and what it starts."""
    sections = yaml.safe_load(path.read_text())
    if path.stem.endswith("_evaluate"):
        return "evaluate", ONLINE[1]
    return next((PROGRAMS[name] for name in PROGRAMS if name in sections), ONLINE)


def test_dry_run_passes_openrlhfs_own_validation_and_writes_the_plan(launcher):
    # All in one process: OpenRLHF's imports take ten seconds.
    # Those with rows are of rl/reproduce.py, which runs the others.
    paths = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if "\nrows:" not in path.read_text()]
    calls = []
    for path in paths:
        script, _ = program(path)
        words = ["--config", str(path.relative_to(ROOT)), f"run.dir={launcher.directory}/runs", "--dry-run"]
        if not (ROOT / yaml.safe_load(path.read_text())["data"]["train"]).is_file():  # as for all GPU configurations
            words += ["data.train=rl/toy/data/train.jsonl", "data.heldout=null"]
            words += ["data.conversations=rl/toy/data/heldout.jsonl"] * (script == "sft")
            words += ["short={}", "collect={}"] * (script == "dpo")
            words += ["data.heldout=rl/toy/data/heldout.jsonl", "evaluation={}"] * (script == "evaluate")
            words += ["openrlhf.actor.model_name_or_path=o/m"] * (path.parent.name == "paper")  # not trained yet
        calls.append(f"assert rl.{script}.main({words}) == 0, {path.name!r}")
    code, output = launcher.run(
        sys.executable, "-c", "\n".join(["import rl.dpo, rl.evaluate, rl.sft, rl.train", *calls])
    )
    assert code == 0, output
    for path in paths:
        suffix = "-evaluation" * (program(path)[0] == "evaluate")
        name = yaml.safe_load(path.read_text())["run"]["name"]
        run = launcher.directory / "runs" / f"{name}{suffix}-dry-run"
        assert {file.name for file in run.iterdir()} == {"config.yaml", "command.txt"}
        assert program(path)[1] in (run / "command.txt").read_text()


def test_dry_run_shows_what_openrlhf_rejects(launcher):
    code, output = launcher.train("--dry-run", "openrlhf.rollout.n_samples_per_prompt=1")
    assert code == 2
    assert "group_norm requires n_samples_per_prompt > 1" in output
    assert "Traceback" not in output
