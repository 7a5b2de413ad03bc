"""A user's mistakes: one clear sentence within seconds, exit code 2, no traceback, nothing left running."""

from __future__ import annotations

import pytest

from longreward.errors import ConfigError
from rl import evaluate
from rl.plan import Resources
from rl.run import cluster

MISTAKES = {
    "no config": ([], "none.yaml", "config file none.yaml does not exist"),
    "unknown key": (["run.nam=x"], None, "unknown key 'run.nam'; did you mean 'name'?"),
    "wrong value": (["reward.workers=none"], None, "reward.workers"),
    "unknown flag": (["openrlhf.actor.adam.lrr=1"], None, "did you mean 'actor.adam.lr'?"),
    "no data": (["data.train=none.jsonl"], None, "data.train none.jsonl does not exist"),
    "no model": (["openrlhf.actor.model_name_or_path=./none"], None, "./none holds no model"),
    "unknown reward": (["reward.name=nice"], None, "reward.name 'nice' is unknown; known: longreward"),
    "judge away": (
        ["reward.judge.kind=openai", "reward.judge.base_url=http://127.0.0.1:9/v1", "reward.judge.model=m"],
        None,
        "the judge m at http://127.0.0.1:9/v1 did not answer: unreachable",
    ),
    "key not set": (
        [
            "reward.judge.kind=openai",
            "reward.judge.base_url=http://127.0.0.1:9/v1",
            "reward.judge.model=m",
            "reward.judge.api_key_env=NO_SUCH_KEY",
        ],
        None,
        "NO_SUCH_KEY, which is not set",
    ),
    "no wandb key": (["wandb.mode=online"], None, "WANDB_API_KEY is not set; export it, or set wandb.mode=offline"),
    "no cluster": (["ray.address=127.0.0.1:1"], None, "no Ray cluster answers at 127.0.0.1:1"),
    "option": (["--verbos"], None, "unrecognized arguments: --verbos"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(launcher, mistake):
    overrides, config, sentence = MISTAKES[mistake]
    code, output = launcher.train(
        *overrides, **({"config": config} if config else {}), timeout=600, HOME=str(launcher.directory)
    )
    assert code == 2, output
    assert sentence in output
    assert "Traceback" not in output and len(output.strip().splitlines()) == 1, output
    assert launcher.descendants() == {}


def test_a_hanging_judge_is_given_up(launcher, judge_server):
    judge_server.latency = 100
    settings = ["reward.judge.kind=openai", f"reward.judge.base_url={judge_server.url}", "reward.judge.model=m"]
    code, output = launcher.train(*settings)
    assert code == 2 and "did not answer: timeout" in output


def test_a_failed_preflight_leaves_an_earlier_run_alone(launcher):
    earlier = launcher.directory / "runs" / "grpo_cpu"
    earlier.mkdir(parents=True)
    (earlier / "summary.json").write_text("{}")
    code, _ = launcher.train("data.train=none.jsonl")
    assert code == 2
    assert [path.name for path in earlier.parent.iterdir()] == ["grpo_cpu"]


def test_too_few_cpus_are_told_apart_from_too_few_gpus():
    need = Resources(gpus=3, cpus=4, parts="1 learners + 1 reference + 1 vLLM engines")
    with pytest.raises(ConfigError, match=r"needs 3 GPUs \(1 learners .*\) and Ray has 2; .*--num-gpus"):
        cluster._compare(need, {"GPU": 2, "CPU": 16})
    with pytest.raises(ConfigError, match=r"needs 3 CPUs .*and Ray has 2; .*--num-cpus"):
        cluster._compare(need, {"GPU": 4, "CPU": 2})


@pytest.mark.parametrize("words", [["--model", "./none"], ["--model", "rl/toy/policy", "--against", "./none"]])
def test_a_policy_that_is_not_there_is_not_evaluated(capfd, words):
    assert evaluate.main(["--config", "configs/grpo_cpu.yaml", *words]) == 2
    assert "./none holds no model" in capfd.readouterr().err
