"""An evaluation that was killed goes on: what is there is neither sampled nor judged again, and stays whose it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from longreward.errors import ConfigError
from longreward.files.jsonlines import Appender
from rl import evaluate
from rl.config import RunConfig, load
from rl.data import prompt_files
from rl.data.prompts import Label
from rl.errors import SpendCapReachedError
from rl.rollout import evaluation_answers, heldout_scores
from rl.rollout.engines import Engines
from rl.rollout.reward_client import Rollout
from rl.run import evaluation_plan, planning, policy_evaluation, run_directory
from rl.run.evaluation_plan import Policy

ROOT = Path(__file__).parents[3]
SETS = ROOT / "tests" / "data" / "evaluation"
POLICY = ROOT / "rl" / "toy" / "policy"
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write one.", "And again."], "reference": ["-"]},
    {"question_id": 101, "category": "reasoning", "turns": ["What is next?"]},
    {"question_id": 141, "category": "stem", "turns": ["Why?"]},
    {"question_id": 161, "category": "new", "turns": ["Who?"]},
]
INSTRUCTIONS = [{"instruction": "Say hello.", "dataset": "vicuna"}, {"instruction": "Say goodbye."}]


class KilledError(Exception):
    pass


class World:
    """Engines and a judge worker that only take notes, and the directory that a run has."""

    def __init__(self, folder: Path, judge: Any) -> None:
        self.folder, self.judge = folder, judge
        self.sampled: list[tuple[str, str, tuple[int, ...] | None, float]] = []
        self.asked: list[tuple[str, str]] = []
        self.judged_again: list[str] = []
        self.starts: list[str] = []
        self.prompts: dict[str, str] = {}
        self.lives = 10**6
        """Answers after which the evaluation is killed."""
        self.void: set[str] = set()
        """Rollouts for which the judge fails."""
        self.model = ""
        self.max_len = 640

    def config(self, *overrides: str) -> RunConfig:
        words = [f"run.dir={self.folder}", "run.device=cpu", "evaluation.max_prompts=2", "run.name=x-evaluation"]
        words += ["evaluation.n_samples_per_prompt=2", "evaluation.judge.kind=openai", "evaluation.judge.model=gpt-4o"]
        return load(ROOT / "configs/grpo_cpu.yaml", [*words, f"evaluation.judge.base_url={self.judge.url}", *overrides])

    def generate(self, prompt: str, label: str, num_samples: int, sampling_params: float, **_: Any) -> list[Any]:
        found = Label.from_json(label)
        made = []
        for place in range(num_samples):
            if self.lives <= 0:
                raise KilledError
            self.lives -= 1
            made.append({"prompt": prompt, "label": label, "answer": f" {self.model} on {found.id}. "})
            if found.scored:
                self.store(Rollout.of(found, place, None).id, found, prompt)
        self.asked.append((self.model, prompt))
        self.sampled.append((self.model, found.id, found.rollouts, sampling_params))
        self.prompts[found.id] = prompt
        return made

    def store(self, rollout: str, label: Label, prompt: str, **fields: Any) -> None:
        supports = (1.0, 0.5) if self.model == "policy" else (1.0,)
        statements = [{"text": "s", "support": s, "call": {"kind": "verify"}} for s in supports]
        total = None if rollout in self.void else 6.0
        dimensions = {"faithfulness": {"score": total, "statements": statements}}
        record = {"id": label.id, "split": label.split, "rollout": rollout, "tokens": 3, "truncated": False}
        record |= {"time": 1.0, "query": prompt[slice(*label.query)], "answer": "a", "total": total} | fields
        with Appender[dict[str, Any]](self.folder / "x-evaluation" / "store" / "answers-0.jsonl") as file:
            file.append(record | {"dimensions": dimensions})

    def score(self, prompt: str, label: Label, answer: str, about: dict[str, Any]) -> None:
        self.judged_again.append(about["rollout"])
        self.store(about["rollout"], label, prompt, time=about["time"])

    def evaluate(self, config: RunConfig, policies: list[Policy]) -> dict[str, Any]:
        self.starts.clear()
        self.sampled.clear()
        self.asked.clear()
        self.judged_again.clear()
        self.judge.calls.clear()
        flags = SimpleNamespace(train_seed=42, prompt_tokens=576, data_max_len=self.max_len, rollout_max_new_tokens=64)
        workers = SimpleNamespace(
            for_document=lambda _: SimpleNamespace(score=SimpleNamespace(remote=self.score)), actors=[]
        )
        about = {"workers": workers, "say": lambda text: None, "console": Console(quiet=True)}
        plan = SimpleNamespace(config=config, flags=flags)
        run = SimpleNamespace(plan=plan, config=config, flags=flags, **about)
        run_directory.write_config(config.directory, config)
        policy_evaluation.evaluate_policies(run, policies, evaluation_plan.load_sets(config))  # type: ignore
        return json.loads((config.directory / "summary.json").read_text())

    @contextmanager
    def engines(self, config: RunConfig, model: str, flags: Any) -> Any:
        self.starts.append(model)
        self.model = Path(model).name
        tokenizer = prompt_files.load_tokenizer(str(POLICY))
        actor = SimpleNamespace(generate_responses=SimpleNamespace(remote=self.generate))
        yield Engines([actor], tokenizer, None, 640, 64)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge_server: Any) -> World:
    monkeypatch.chdir(ROOT)
    made = World(tmp_path, judge_server)
    one_by_one = lambda calls, at_once: (call() for call in calls)  # noqa: E731
    monkeypatch.setattr(Engines, "sampling", lambda self, temperature: temperature)
    monkeypatch.setattr(heldout_scores, "ray", SimpleNamespace(put=lambda value: value))
    for module in (heldout_scores, evaluation_answers):
        monkeypatch.setattr(module, "in_flight", one_by_one)
    monkeypatch.setattr("rl.rollout.engines.in_flight", one_by_one)
    monkeypatch.setattr(policy_evaluation, "rollout_engines", made.engines)
    monkeypatch.setattr(policy_evaluation.online_training, "watched", lambda run: nullcontext())
    tokenizer = prompt_files.load_tokenizer(str(POLICY))
    monkeypatch.setattr(policy_evaluation, "load_tokenizer", lambda *_, **__: tokenizer)
    monkeypatch.setattr(prompt_files, "load_tokenizer", lambda *_, **__: tokenizer)
    return made


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Settings of all evaluations."""
    for name, rows in (("questions", QUESTIONS), ("instructions", INSTRUCTIONS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"evaluation.{name}={SETS}/{name}.json" for name in ("longbench", "longbench_chat")]
    words += [f"evaluation.short={SETS}/short.jsonl", f"evaluation.mt_bench={tmp_path}/questions.jsonl"]
    return [*words, f"evaluation.alpaca_eval={tmp_path}/instructions.jsonl"]


def policies(config: RunConfig) -> list[Policy]:
    return [
        Policy(name, f"models/{name}", config.directory, name, place, 2) for place, name in enumerate(("policy", "new"))
    ]


def test_everything_is_evaluated_and_written(world: World, files: list[str]) -> None:
    config = world.config(*files)
    summary = world.evaluate(config, policies(config))
    assert summary["before"]["answers"] == summary["after"]["answers"] == 4
    # Two prompts x two answers each; the first policy makes two statements, one of them supported in part.
    assert summary["facts"]["policy"]["facts"]["mean"] == 2 and summary["facts"]["policy"]["factscore"]["mean"] == 50
    assert summary["facts_change"]["factscore"]["mean"] == 50
    assert set(summary["paper"]["new"]) == {
        *("longbench_chat", "single_doc_qa", "multi_doc_qa", "summarization", "average")
    }
    assert (
        summary["paper"]["new"]["longbench_chat"]["mean"]
        == 10 * summary["longbench_chat"]["policies"]["new"]["average"]["mean"]
    )
    assert {summary[kind]["judge"] for kind in ("longbench", "longbench_chat", "short")} == {"gpt-4o"}
    assert {body["model"] for body in world.judge.bodies} == {"gpt-4o"}
    page = (config.directory / "evaluation.md").read_text()
    assert "Judge of the held-out answers: offline." in page and "Judge: gpt-4o." in page
    assert "| facts | policy | new | change |" in page and "| The paper's table, 0 to 100 |" in page


def test_fastchat_and_alpaca_eval_get_their_formats(world: World, files: list[str]) -> None:
    config = world.config(*files)
    world.evaluate(config, policies(config))
    folder = config.directory / "answers"
    rows = [json.loads(line) for line in (folder / "mt_bench-new.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"question_id", "answer_id", "model_id", "choices", "tstamp"}] * 4
    assert [row["question_id"] for row in rows] == [81, 101, 141, 161] and {row["model_id"] for row in rows} == {"new"}
    assert rows[0]["choices"] == [{"index": 0, "turns": ["new on 81/1.", "new on 81/2."]}]
    # The second turn comes behind the first one's answer; each category has FastChat's temperature.
    assert "Write one." in world.prompts["81/2"] and "new on 81/1." in world.prompts["81/2"]
    assert world.prompts["81/2"].index("new on 81/1.") < world.prompts["81/2"].index("And again.")
    heat = {identity: temperature for name, identity, _, temperature in world.sampled if name == "new"}
    assert [heat[key] for key in ("81/1", "81/2", "101/1", "141/1", "161/1")] == [0.7, 0.7, 0.0, 0.1, 0.7]
    assert json.loads((folder / "alpaca_eval-policy.json").read_text()) == [
        {"instruction": "Say hello.", "dataset": "vicuna", "output": "policy on 1/1.", "generator": "policy"},
        {"instruction": "Say goodbye.", "output": "policy on 2/1.", "generator": "policy"},
    ]


@pytest.mark.parametrize("lives", [1, 7, 20, 33, 50])
def test_an_evaluation_that_was_killed_samples_the_rest_alone(world: World, files: list[str], lives: int) -> None:
    config, begun = world.config(*files), world.lives
    whole = world.evaluate(config, policies(config))
    answers = begun - world.lives
    config.directory.rename(world.folder / "whole")
    world.lives = lives
    with pytest.raises(KilledError):
        world.evaluate(config, policies(config))
    first = set(world.asked)
    times = [row["begun"] for row in evaluation_plan.begun(config.directory)]
    world.lives = begun
    summary = world.evaluate(config, policies(config))
    # The engine has one call under way, which may bring two held-out answers.
    assert answers - lives <= begun - world.lives <= answers - lives + 1
    assert not set(world.asked) & first
    assert [row["begun"] for row in evaluation_plan.begun(config.directory)][: len(times)] == times
    for kind in ("before", "after", "facts", "paper"):
        assert summary[kind] == whole[kind], kind


def test_what_is_complete_starts_no_engine_and_asks_no_judge(world: World, files: list[str]) -> None:
    config = world.config(*files)
    whole = world.evaluate(config, policies(config))
    assert world.judge.calls.total() > 0
    assert world.evaluate(config, policies(config)) == whole
    assert (world.starts, world.sampled, world.judge.calls.total()) == ([], [], 0)


def test_verdicts_that_were_given_before_a_kill_come_from_the_cache(world: World, files: list[str]) -> None:
    config = world.config(*files)
    world.evaluate(config, policies(config))
    for path in (config.directory / "answers").glob("*"):
        path.unlink()
    world.evaluate(config, policies(config))
    assert world.judge.calls.total() == 0


def test_void_held_out_answers_are_judged_again_as_they_stand(world: World) -> None:
    config = world.config()
    world.void = {"heldout-00000/0", "heldout-00001/3"}
    summary = world.evaluate(config, policies(config))
    assert (summary["before"]["void"], summary["after"]["void"]) == (1, 1)
    assert summary["facts"]["policy"]["void"] == 1
    world.void.clear()
    summary = world.evaluate(config, policies(config))
    assert world.judged_again == ["heldout-00000/0", "heldout-00001/3"] and world.starts == []
    assert (summary["before"]["void"], summary["after"]["void"]) == (0, 0)


def test_void_verdicts_are_asked_for_again_and_no_others(world: World, files: list[str]) -> None:
    config = world.config(*files, "evaluation.judge.parse_attempts=1")
    world.judge.script["evaluate_chat"] = lambda prompt, number: "?" if number == 1 else "[[8]]"
    summary = world.evaluate(config, policies(config))
    assert summary["longbench_chat"]["policies"]["policy"]["void"] == {"parse_error": 1}
    world.judge.script.clear()
    summary = world.evaluate(config, policies(config))
    assert world.judge.calls == {"evaluate_chat": 1}
    assert summary["longbench_chat"]["policies"]["policy"]["void"] == {}


def test_at_the_spend_cap_the_evaluation_ends_and_goes_on_with_a_higher_one(world: World, files: list[str]) -> None:
    low, high = "evaluation.judge.spend.max_tokens=6000", "evaluation.judge.spend.max_tokens=200000"
    config = world.config(*files, low)
    with pytest.raises(SpendCapReachedError, match="resume=true"):
        world.evaluate(config, policies(config))
    paid = world.judge.calls.total()
    assert paid and not (config.directory / "summary.json").exists()
    spent = json.loads((config.directory / "evaluation_judge" / "spend.json").read_text())
    assert spent["used"]["tokens"] == 110 * paid
    world.evaluate(world.config(*files, high), policies(config))
    assert world.starts == []
    spent = json.loads((config.directory / "evaluation_judge" / "spend.json").read_text())
    assert spent["used"]["tokens"] == 110 * (paid + world.judge.calls.total())


def test_an_earlier_evaluation_stands_for_its_policy(world: World, files: list[str]) -> None:
    config = world.config(*files)
    whole = world.evaluate(config, policies(config))
    earlier = config.directory.rename(world.folder / "earlier")
    made = [
        Policy("old", "models/new", earlier, "new", 1, 2),
        Policy("policy", "m/policy", config.directory, "policy", 0, 2),
    ]
    summary = world.evaluate(config, made)
    assert world.starts == ["m/policy"]
    assert summary["before"] == whole["after"] and summary["paper"]["old"] == whole["paper"]["new"]
    assert summary["short"]["items"] == 6 and set(summary["facts"]) == {"old", "policy"}


def test_void_items_of_an_earlier_evaluation_are_taken_as_they_are(world: World, files: list[str]) -> None:
    config = world.config(*files, "evaluation.judge.parse_attempts=1")
    world.judge.script["evaluate_chat"] = lambda prompt, number: "?" if number == 1 else "[[8]]"
    world.evaluate(config, policies(config)[:1])
    earlier = config.directory.rename(world.folder / "earlier")
    world.judge.script["evaluate_chat"] = lambda prompt, number: "[[8]]"
    old, new = Policy("old", "m/policy", earlier, "policy", 0, 2), policies(config)[1]
    summary = world.evaluate(config, [old, Policy("new", new.model, config.directory, "new", 0, 2)])
    assert summary["longbench_chat"]["policies"]["old"]["void"] == {"parse_error": 1}
    assert summary["longbench_chat"]["policies"]["new"]["void"] == {}
    assert world.judge.calls["evaluate_chat"] == 5  # of the new policy's


def test_answers_and_verdicts_belong_to_their_questions(world: World, files: list[str], tmp_path: Path) -> None:
    rows = json.loads((SETS / "longbench.json").read_text())
    path, questions = tmp_path / "longbench.json", tmp_path / "questions.jsonl"
    path.write_text(json.dumps(rows))
    config = world.config(*files, f"evaluation.longbench={path}", "data.heldout=null")
    world.evaluate(config, policies(config))
    # Under the same names: another question, another reference, and another first turn.
    rows[0]["query"], rows[1]["answer"] = "Something else?", ["Another answer."]
    path.write_text(json.dumps(rows))
    questions.write_text(questions.read_text().replace("Write one.", "Write two."))
    world.evaluate(config, policies(config))
    asked = [rows[0]["idx"], "81/1", "81/2"]
    assert [(name, key) for name, key, *_ in world.sampled] == [
        (name, str(key)) for name in ("policy", "new") for key in asked
    ]
    assert "Something else?" in world.prompts[str(asked[0])] and "Write two." in world.prompts["81/2"]
    again = {json.loads(line)["idx"] for line in policies(config)[0].judged("longbench").read_text().splitlines()}
    assert again == {str(row["idx"]) for row in rows} and 0 < world.judge.calls.total() <= 4
    world.evaluate(config, policies(config))
    assert (world.starts, world.judge.calls.total()) == ([], 0)


def test_what_was_kept_before_questions_were_checked_still_counts(world: World, files: list[str]) -> None:
    config = world.config(*files)
    world.evaluate(config, policies(config))
    for path in [*(config.directory / "sampled").iterdir(), *(config.directory / "answers").glob("*.jsonl")]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "crc"}) + "\n" for row in lines))
    world.evaluate(config, policies(config))
    assert (world.starts, world.judge.calls.total()) == ([], 0)


def test_a_conversation_that_may_not_fit_is_told_before_an_engine_starts(world: World, files: list[str]) -> None:
    config, world.max_len = world.config(*files), 130
    with pytest.raises(ConfigError, match="conversation 81 may take"):
        world.evaluate(config, policies(config))
    assert world.starts == []


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["/runs/sft/model"], ["sft"]),
        (["/runs/sft/model", "/runs/dpo/model"], ["sft", "dpo"]),
        (["/a/sft/model", "/b/sft/model"], ["a-sft", "b-sft"]),
        (["/runs/sft", "/runs/sft/model"], ["sft", "model"]),
        (["/model"], ["model"]),
        (["model"], ["model"]),
        (["org/base", "/runs/sft/model"], ["base", "sft"]),
    ],
)
def test_policies_have_short_names_that_differ(models: list[str], names: list[str]) -> None:
    assert evaluation_plan.names_of(models) == names


def test_a_policy_keeps_the_name_that_it_has_in_an_evaluation_that_has_begun(world: World) -> None:
    config = world.config("data.heldout=null", f"evaluation.longbench={SETS}/longbench.json")
    run_directory.write_config(config.directory, config)
    rows = [{"name": "model", "model": "/runs/sft/model", "begun": 1.0}]
    (config.directory / "policies.json").write_text(json.dumps({"policies": rows}))
    plan: Any = SimpleNamespace(config=config, before=config)
    (policy,) = evaluation_plan.policies_of(plan, ["/runs/sft/model"])
    assert (policy.name, policy.file_name) == ("model", "model")
    # One that is compared with it may have the name that it would be given today.
    (config.directory / "summary.json").write_text("{}")
    other: Any = SimpleNamespace(config=world.config("run.name=y"), before=None)
    found = evaluation_plan.policies_of(other, ["/runs/model/model"], config.directory)
    assert [policy.name for policy in found] == ["x-evaluation-model", "model"]


# What is refused before anything begins.


def test_a_conversation_that_may_not_fit_is_refused_dry(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Say it. " * 2000}) + "\n")
    assert "conversation 1 may take" in refused(f"evaluation.alpaca_eval={path}")


@pytest.fixture
def refused(tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs rl/evaluate.py dry with changes: the sentence that refuses it."""
    monkeypatch.chdir(ROOT)

    def run(*words: str) -> str:
        common = ["--config", "configs/grpo_cpu.yaml", "--dry-run", f"run.dir={tmp_path}/runs", "run.device=cpu"]
        code, error = evaluate.main([*common, *words]), capfd.readouterr().err
        assert code == 2 and len(error.splitlines()) == 1, error
        return error

    return run


def test_files_that_hold_nothing_usable(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question_id": 1, "category": "math", "turns": []}\n')
    assert f"evaluation.mt_bench {path} holds no usable row" in refused(f"evaluation.mt_bench={path}")
    assert "instruction must be text" in refused(f"evaluation.alpaca_eval={path}")
    assert "there is nothing to evaluate on" in refused("data.heldout=null")


def test_a_judge_that_nobody_serves(refused: Callable[..., str]) -> None:
    assert "evaluation.judge: kind is vllm" in refused("evaluation.judge={kind: vllm, model: m}")
    assert "judge.base_url" in refused("evaluation.judge={kind: openai, model: m}")


def test_an_evaluation_that_did_not_end_or_was_another_is_not_compared(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "old-evaluation"
    words = ["--model", "rl/toy/policy", "--against", str(folder)]
    assert f"{folder} holds no model" in refused(*words)
    config = load(ROOT / "configs/grpo_cpu.yaml", ["evaluation.temperature=0.5"])
    run_directory.write_config(folder, planning.make(config, "evaluation").config)
    rows = [{"name": "a", "model": "a", "begun": 1.0}]
    (folder / "policies.json").write_text(json.dumps({"policies": rows}))
    assert "evaluation.temperature was 0.5 there and is 1.0 now" in refused(*words)
    assert "an evaluation that has not ended" in refused(*words, "evaluation.temperature=0.5")
    (folder / "config.yaml").write_text(yaml.safe_dump({"run": 1}))
    assert "run" in refused(*words)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["evaluation.temperature=0.3"], "evaluation.temperature is 0.3 and was 1.0"),
        (["evaluation.judge.model=other"], "evaluation.judge is 'other "),
        (["evaluation.n_samples_per_prompt=9"], "evaluation.n_samples_per_prompt is 9 and was 4"),
        ([f"evaluation.longbench={SETS}/longbench_raw.jsonl"], "evaluation.longbench is"),
        (["reward.weights.logicality=0"], "reward.weights is"),
        (["openrlhf.rollout.max_new_tokens=32"], "openrlhf.rollout.max_new_tokens is 32"),
        (["--model", "configs"], None),
        ([], None),
    ],
    ids=str,
)
def test_what_must_stay_when_an_evaluation_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, change: list[str], told: str | None
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["run.device=cpu", f"run.dir={tmp_path}", f"evaluation.longbench={SETS}/longbench.json"]
    words += ["evaluation.judge={kind: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}"]
    config = load(ROOT / "configs/grpo_cpu.yaml", words)
    config.run.name += "-evaluation"
    run_directory.write_config(config.directory, planning.make(config, "evaluation").config)
    rows = [{"name": "policy", "model": str(POLICY), "begun": 1.0}]
    (config.directory / "policies.json").write_text(json.dumps({"policies": rows}))
    if "--model" in change:
        with pytest.raises(ConfigError, match=f"the policy is {ROOT}/elsewhere and was {POLICY}"):
            config.resume = True
            evaluation_plan.policies_of(planning.make(config, "evaluation"), [str(ROOT / "elsewhere")])
        return
    options = ["--config", "configs/grpo_cpu.yaml", "--dry-run", "resume=true", *words, *change]
    code, said = evaluate.main(options), capfd.readouterr()
    if told is None:
        assert code == 0, said.err
    else:
        assert code == 2 and f"resume=true: {told}" in said.err and len(said.err.splitlines()) == 1


def test_a_finished_evaluation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.chdir(ROOT)
    folder = tmp_path / "grpo_cpu-evaluation"
    folder.mkdir()
    (folder / "summary.json").write_text("{}")
    words = ["--config", "configs/grpo_cpu.yaml", "run.device=cpu", f"run.dir={tmp_path}", "resume=true"]
    assert evaluate.main(words) == 0
    assert f"{folder} is finished" in capfd.readouterr().out


def test_a_finished_evaluation_of_another_policy_does_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["run.device=cpu", f"run.dir={tmp_path}"]
    config = load(ROOT / "configs/grpo_cpu.yaml", words)
    config.run.name += "-evaluation"
    run_directory.write_config(config.directory, planning.make(config, "evaluation").config)
    (config.directory / "summary.json").write_text("{}")
    rows = [{"name": "other", "model": "/other", "begun": 1.0}]
    (config.directory / "policies.json").write_text(json.dumps({"policies": rows}))
    assert evaluate.main(["--config", "configs/grpo_cpu.yaml", *words, "resume=true"]) == 2
    said = capfd.readouterr()
    assert "and was /other when" in said.err and "is finished" not in said.out


def test_a_dry_run_tells_what_would_be_sampled_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["--config", "configs/grpo_cpu.yaml", "--dry-run", "run.device=cpu", f"run.dir={tmp_path}"]
    judge = "kind: openai, base_url: 'http://127.0.0.1:9/v1', model:"
    words += [f"reward.judge={{{judge} glm}}", f"evaluation.judge={{{judge} gpt-4o, price: {{prompt_per_million: 3}}}}"]
    words += [f"evaluation.{name}={SETS}/{name}.json" for name in ("longbench", "longbench_chat")]
    assert evaluate.main(words) == 0
    told = capfd.readouterr().out.splitlines()
    assert f"answers to sample from {POLICY}: held-out: 384, longbench: 8, longbench_chat: 5" in told
    assert any(
        line.startswith("the judge is expected to be asked about ") and "for 384 answers" in line for line in told
    )
    # Each reference of each item, at the most.
    graded = next(line for line in told if line.startswith("gpt-4o is expected to be asked about 16 calls, "))
    assert "cost 0.0" in graded and graded.endswith("for longbench, longbench_chat")
    assert "needs 1 GPUs (1 vLLM engines)" in told
    assert [path.name for path in tmp_path.iterdir()] == ["grpo_cpu-evaluation-dry-run"]
