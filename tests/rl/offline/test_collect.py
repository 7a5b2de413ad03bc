"""Collecting answers: each is generated once, and judged until it has a score."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from longreward.errors import InputError, TooManyVoidsError
from longreward.files.jsonlines import Appender
from longreward.openrlhf_logs import AnswerFigures
from rl.config import RunConfig
from rl.data.prompts import Label, TrainingSample, rollout_id
from rl.monitor.live_view import Screen
from rl.offline import collect, rescoring
from rl.reward_functions.registry import RESERVED
from rl.rollout.engines import Engines
from rl.rollout.group_barrier import Group, Settled
from rl.rollout.reward_client import RewardClient, Rollout, scores_of

QUERY = "What did Mara do?"
ANSWERS = 3


def record(rollout: str, total: float | None, prompt: str = "a", **fields: Any) -> dict[str, Any]:
    """As a judge worker stores it."""
    about = {"id": prompt, "split": "train", "rollout": rollout, "truncated": False, "tokens": 10}
    return about | {"time": 1.8e9, "query": QUERY, "answer": f"answer {rollout}", "total": total} | fields


@dataclass
class Run:
    """A run's directory with prompts, with an engine and a judge that only take notes."""

    config: RunConfig

    def __post_init__(self) -> None:
        self.said: list[str] = []
        self.generated: list[tuple[str, tuple[int, ...], str]] = []
        self.judged: list[tuple[TrainingSample, dict[str, Any]]] = []
        self.labels: list[Label] = []
        self.console = Console(quiet=True)
        self.screen = Screen(self.console)
        self.workers = SimpleNamespace(
            for_document=lambda _: SimpleNamespace(score=SimpleNamespace(remote=self._score))
        )

    def say(self, text: str) -> None:
        self.said.append(text)

    def _score(
        self, prompt: str, label: Label, answer: str, about: dict[str, Any], siblings: tuple[str, ...]
    ) -> AnswerFigures:
        self.judged.append((label.sample(prompt, answer, siblings=siblings), about))
        return AnswerFigures({"total": 5.0})

    def _generate(self, prompt: str, label: str, num_samples: int, **_: Any) -> list[dict[str, Any]]:
        found = Label.from_json(label)
        assert num_samples == len(found.rollouts or ())
        self.labels.append(found)
        self.generated.append((found.id, found.rollouts or (), prompt[slice(*found.context)]))
        logs = {"longreward/void": 0.0, "longreward/total": 5.0, "longreward/total_spread": 0.0}
        return [{"extra_logs": logs}] * num_samples

    def collect(self, *, seed: int = 42, engines: bool = True, prompts: int | None = None) -> None:
        actor = SimpleNamespace(generate_responses=SimpleNamespace(remote=self._generate))
        made = Engines([actor], None, None, 100, 10) if engines else None
        outstanding = collect.Outstanding.of(self.config, ANSWERS, prompts)
        collect.collect(self, made, outstanding, temperature=1.0, seed=seed, at_once=4)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Three prompts; calls are answered at once, without Ray."""
    monkeypatch.setattr(Engines, "sampling", lambda self, temperature: temperature)
    monkeypatch.setattr(collect, "ray", SimpleNamespace(put=lambda value: value))
    monkeypatch.setattr(collect, "in_flight", lambda calls, at_once: (call() for call in calls))
    config = RunConfig.model_validate(
        {"run": {"name": "x", "dir": tmp_path}, "data": {"train": tmp_path / "train.jsonl"}}
    )
    write_prompts(config, ["a", "b", "c"])
    return Run(config)


def write_prompts(config: RunConfig, ids: list[str], query: str = QUERY) -> None:
    path = config.prompts("train")
    with Appender(path) as file:
        for identity in ids:
            context = f"Document {identity} for {query}"
            prompt = f"<user>{context}\n\n{query}<end>"
            start = prompt.index(f"\n\n{query}") + 2
            label = Label(identity, "train", (6, 6 + len(context)), (start, start + len(query)))
            file.append({"input": prompt, "label": label.to_json()})


def write_store(config: RunConfig, *lines: dict[str, Any] | str, name: str = "answers-0-1.jsonl") -> None:
    path = config.directory / "store" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))


def test_of_an_empty_store_every_answer_is_generated(run: Run) -> None:
    assert collect.Outstanding.of(run.config, ANSWERS).to_generate == 9
    run.collect()
    assert [(identity, numbers) for identity, numbers, _ in run.generated] == [(i, (0, 1, 2)) for i in "abc"]
    assert run.judged == []


def test_what_is_scored_is_neither_generated_nor_judged_again(run: Run) -> None:
    write_store(run.config, *(record(f"a/{n}", 5.0) for n in range(3)), record("b/1", 0.0, "b"))
    assert collect.Outstanding.of(run.config, ANSWERS).to_generate == 5
    run.collect()
    assert [(identity, numbers) for identity, numbers, _ in run.generated] == [("b", (0, 2)), ("c", (0, 1, 2))]
    assert run.judged == []
    assert "4 answers are in the store already" in run.said


def test_an_empty_answer_is_not_generated_again(run: Run) -> None:
    empty = record("a/1", 0.0)
    del empty["answer"]  # as the store leaves it out
    write_store(run.config, record("a/0", 5.0), empty, record("a/2", 5.0))
    assert collect.Outstanding.of(run.config, ANSWERS).to_generate == 6


def test_when_all_is_there_nothing_happens(run: Run) -> None:
    write_store(run.config, *(record(f"{i}/{n}", 5.0, i) for i in "abc" for n in range(3)))
    run.collect()
    assert run.generated == run.judged == []


def test_the_heldout_answers_of_the_store_are_no_training_answers(run: Run) -> None:
    write_store(run.config, record("a/0", 5.0, split="heldout"))
    assert collect.Outstanding.of(run.config, ANSWERS).to_generate == 9


def test_a_void_answer_is_judged_again_as_it_stands(run: Run) -> None:
    lines = [record(f"a/{n}", 5.0) for n in (0, 2)]
    write_store(run.config, *lines, record("a/1", None, tokens=7, truncated=True, status={"x": "timeout"}))
    run.collect(engines=False)
    assert run.generated == []
    ((sample, about),) = run.judged
    assert (sample.context, sample.query) == (f"Document a for {QUERY}", QUERY)
    assert (sample.id, sample.answer) == ("a", "answer a/1")
    assert about == {"rollout": "a/1", "tokens": 7, "truncated": True}


def test_a_void_answer_that_was_scored_later_is_done(run: Run) -> None:
    write_store(run.config, record("a/0", None), record("a/1", 4.0))
    write_store(run.config, record("a/0", 3.0), record("a/2", 4.0), record("a/1", None), name="answers-1-2.jsonl")
    run.collect(engines=False)
    assert run.judged == []
    assert collect.Outstanding.of(run.config, ANSWERS).to_generate == 6


def test_where_answers_are_ranked_each_comes_with_all_answers_to_its_prompt(run: Run) -> None:
    run.config.reward.helpfulness.way = "ranking"
    of_b = [record("b/0", 5.0, "b"), record("b/1", None, "b")]
    write_store(run.config, record("a/0", 5.0), record("a/1", None), record("a/2", None), *of_b)
    run.collect(prompts=2)
    # Nothing is missing of a: its void ones are judged again. Of b the void one is generated with the missing one.
    assert [(sample.answer, sorted(sample.siblings)) for sample, _ in run.judged] == [
        (f"answer a/{number}", ["answer a/0", "answer a/1", "answer a/2"]) for number in (1, 2)
    ]
    assert [(label.id, label.rollouts, label.answered) for label in run.labels] == [("b", (1, 2), ("answer b/0",))]


def test_responses_of_others_are_ranked_by_their_prompts(run: Run, tmp_path: Path) -> None:
    run.config.reward.helpfulness.way = "ranking"
    source = tmp_path / "responses.jsonl"

    def tokenizer(text: str, **_: Any) -> dict[str, list[str]]:
        return {"input_ids": text.split()}

    rows = [{"idx": f"{i}-{n}", "context": f"{i}", "query": QUERY, "answer": f"{i}/{n}"} for i in "ab" for n in (0, 1)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.config.data.train.touch()
    rescoring.score_responses(run, source, tokenizer, 4)  # type: ignore[arg-type]
    assert [(sample.answer, sample.siblings) for sample, _ in run.judged] == [
        (f"{i}/{n}", (f"{i}/0", f"{i}/1")) for i in "ab" for n in (0, 1)
    ]
    source.write_text("".join(json.dumps(rows[0] | {"idx": f"a-{n}", "answer": f"{n}"}) + "\n" for n in range(17)))
    with pytest.raises(InputError, match="17 responses to 'a', and a judge ranks at most 16"):
        rescoring.score_responses(run, source, tokenizer, 4)  # type: ignore[arg-type]


def write_other_store(folder: Path, *lines: dict[str, Any]) -> Path:
    with Appender(folder / "other" / "store" / "answers-0-1.jsonl") as file:
        for line in lines:
            file.append(line)
    return folder / "other" / "store"


def test_the_answers_of_another_run_are_scored_once_under_their_own_ids(run: Run, tmp_path: Path) -> None:
    answers = [record(f"{i}/{n}", 1.0, i, tokens=n, truncated=n == 2) for i in "ab" for n in range(3)]
    again = record("a/1", None, time=1.0), record("a/0", 2.0, split="heldout"), record("x/0", 5.0, "x")
    source = write_other_store(tmp_path, again[0], *answers, *again[1:])
    write_store(run.config, record("a/0", 5.0), record("a/2", None))
    rescoring.score_store(run, source, 2, 4)  # type: ignore[arg-type]
    of_a, of_b = [about for _, about in run.judged[:2]], [about for _, about in run.judged[2:]]
    assert of_a == [{"rollout": f"a/{n}", "tokens": n, "truncated": n == 2} for n in (1, 2)], "a/0 has its score"
    assert of_b == [{"rollout": f"b/{n}", "tokens": n, "truncated": n == 2} for n in range(3)]
    (sample, _), *_ = run.judged
    assert (sample.id, sample.answer, sample.context) == ("a", "answer a/1", f"Document a for {QUERY}")
    assert sample.prompt.startswith("<user>"), "as it was rendered, for rewards that read the prompt"
    assert f"scoring 5 answers of {source}; 1 are scored already" in run.said
    assert "passed over: 1 answers to prompts that are not trained on" in run.said


def test_answers_of_another_run_about_other_documents_are_not_scored(run: Run, tmp_path: Path) -> None:
    source = write_other_store(tmp_path, record("a/0", 5.0, document="another"), record("b/0", 5.0, "b", query="?"))
    with pytest.raises(InputError, match=r"collect.responses .*/store holds no answer to a prompt of .*train.jsonl"):
        rescoring.score_store(run, source, 3, 4)  # type: ignore[arg-type]
    assert run.judged == []


def test_the_answers_of_another_run_are_ranked_by_their_prompts(run: Run, tmp_path: Path) -> None:
    run.config.reward.helpfulness.way = "ranking"
    source = write_other_store(tmp_path, *(record(f"a/{n}", None) for n in range(3)))
    write_store(run.config, record("a/0", 5.0))
    rescoring.score_store(run, source, 3, 4)  # type: ignore[arg-type]
    assert [sample.siblings for sample, _ in run.judged] == [("answer a/0", "answer a/1", "answer a/2")] * 2
    write_other_store(tmp_path, *(record(f"b/{n}", None, "b") for n in range(17)))
    with pytest.raises(InputError, match="17 responses to 'b', and a judge ranks at most 16"):
        rescoring.score_store(run, source, 3, 4)  # type: ignore[arg-type]


def test_a_line_cut_by_a_kill_is_passed_over(run: Run) -> None:
    cut = json.dumps(record("a/1", 5.0))[:-30]
    write_store(run.config, record("a/0", 5.0), cut)
    assert collect.stored(run.config.directory / "store") == ({("a/0", QUERY)}, {})
    run.collect()
    assert run.generated[0][:2] == ("a", (1, 2))


def test_only_so_many_prompts_as_the_run_takes(run: Run) -> None:
    assert collect.Outstanding.of(run.config, ANSWERS, prompts=2).to_generate == 6
    run.collect(prompts=2)
    assert [identity for identity, _, _ in run.generated] == ["a", "b"]


def test_two_questions_about_a_document_of_one_id_are_two_prompts(run: Run) -> None:
    run.config.prompts("train").unlink()
    for query in (QUERY, "And Otto?"):
        write_prompts(run.config, ["a"], query)
    run.collect()
    documents = [document for _, _, document in run.generated]
    assert documents == [f"Document a for {QUERY}", "Document a for And Otto?"]
    write_store(run.config, *(record(f"a/{n}", 5.0) for n in range(3)), record("a/0", None, query="And Otto?"))
    run.generated.clear()
    run.collect()
    assert run.generated == [("a", (1, 2), "Document a for And Otto?")]
    assert [sample.query for sample, _ in run.judged] == ["And Otto?"]


def test_a_prompt_that_stands_there_twice_is_answered_once(run: Run) -> None:
    write_prompts(run.config, ["b", "b"])
    run.collect()
    assert [identity for identity, _, _ in run.generated] == ["a", "b", "c"]


def test_the_engine_is_told_which_answers_and_of_which_run(run: Run) -> None:
    write_store(run.config, record("b/0", 5.0, "b"))
    run.collect(seed=7)
    assert [(label.rollouts, label.seed, label.scored) for label in run.labels] == [
        ((0, 1, 2), 7, True),
        ((1, 2), 7, True),
        ((0, 1, 2), 7, True),
    ]


LABEL = Label("ü/1", "train", (0, 3), (5, 9))


@pytest.mark.parametrize(
    "label", [LABEL, replace(LABEL, rollouts=(2, 5), seed=3), replace(LABEL, rollouts=()), replace(LABEL, scored=False)]
)
def test_a_label_comes_back_as_it_was(label: Label) -> None:
    assert Label.from_json(label.to_json()) == label


def test_a_label_of_before_there_were_numbers_can_be_read() -> None:
    text = json.dumps({"id": "a", "split": "train", "context": [0, 3], "query": [5, 9]})
    assert Label.from_json(text) == Label("a", "train", (0, 3), (5, 9))


def test_an_answer_is_known_by_its_prompt_and_its_number() -> None:
    numbered = replace(LABEL, id="11", rollouts=(4, 7))
    assert [Rollout.of(numbered, place, None).id for place in (0, 1)] == ["11/4", "11/7"]
    assert rollout_id("11", 4) == "11/4"


def test_an_answers_seed_depends_on_nothing_else() -> None:
    def seed(label: Label, place: int) -> int:
        found = Rollout.of(label, place, None).seed
        assert found is not None
        return found

    first = replace(LABEL, id="11", rollouts=(4, 7), seed=42)
    # Number 7, whether others are generated beside it or not.
    assert seed(first, 1) == seed(replace(first, rollouts=(7,), context=(1, 2)), 0)
    others = [replace(first, id="12"), replace(first, split="heldout"), replace(first, seed=43)]
    seeds = {seed(label, place) for label in [first, *others] for place in (0, 1)}
    assert len(seeds) == 8
    many = replace(first, rollouts=tuple(range(2000)))
    drawn = {seed(many, place) for place in range(2000)}
    assert len(drawn) == 2000
    assert all(0 <= one < 2**63 for one in drawn) and max(drawn) > 2**62


def test_the_sampling_parameters_that_all_share_stay_as_they_are() -> None:
    shared = SimpleNamespace(seed=None, temperature=1.0)
    rollout = Rollout.of(replace(LABEL, rollouts=(0,)), 0, None)
    own = rollout.seeded(shared)
    assert (own.seed, own.temperature, shared.seed) == (rollout.seed, 1.0, None)


def test_an_answer_without_a_number_has_no_seed_and_an_id_of_its_own() -> None:
    shared = SimpleNamespace(seed=None)
    first, second = (Rollout.of(LABEL, place, None) for place in (0, 1))
    assert first.id != second.id
    assert first.seed is None and first.seeded(shared) is shared


def test_too_many_voids_are_told_with_their_reason_wherever_it_comes_from(run: Run) -> None:
    run.config.reward.void_window, run.config.reward.max_void_rate = 3, 0.5
    progress = collect.CollectingProgress(run, 9)  # type: ignore[arg-type]
    logs = {"longreward/void": 1.0, "longreward/void_timeout": 1.0, "longreward/void_filtered": 0.0}
    progress.add([{"extra_logs": logs}, AnswerFigures(None, ("filtered",))])
    with pytest.raises(TooManyVoidsError, match="most often: timeout"):
        progress.add([AnswerFigures(None, ("timeout",))])


def test_no_part_of_a_reward_can_be_called_as_what_is_logged_beside_it() -> None:
    client = RewardClient.__new__(RewardClient)
    client._settings = SimpleNamespace(dimensions=["style"], min_spread=None, compared=["style"])  # type: ignore[assignment]
    scores = {"total": 5.0, "style": 5.0}
    group = Group(None, deviations=dict.fromkeys(scores, 0.5))
    logs = client._logs(AnswerFigures(scores), Settled(scores, 5.0, False, group))
    beside = {name.removeprefix("longreward/") for name in logs} - {"style"}
    figures = {name for name in beside if name.endswith("_spread") or name.startswith("min_spread_")}
    assert "min_spread_style" in figures and beside - figures <= RESERVED
    assert scores_of(logs) == scores
