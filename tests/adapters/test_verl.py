"""LongReward as verl's custom reward function; the second half is verl 0.9.1's own loader, managers and advantages."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from longreward import DIMENSIONS, ConfigError, InputError
from longreward.adapters.verl import VoidRewardError, compute_score, compute_score_sync, compute_scores


def arguments(row, **more):
    """As verl 0.9.1's reward managers call: keywords, and further entries in extra_info."""
    extra = {"index": row["idx"], "context": row["context"], "query": row["query"], "num_turns": 2}
    given = {"data_source": "long", "solution_str": row["answer"], "ground_truth": "", "extra_info": extra}
    return given | {"config": {}} | more


def batch(rows, **more):
    names = {"data_source": "data_sources", "solution_str": "solution_strs", "ground_truth": "ground_truths"}
    names |= {"extra_info": "extra_infos"}
    return {theirs: [arguments(row)[ours] for row in rows] for ours, theirs in names.items()} | {"config": {}} | more


@pytest.fixture
def failing(judge_server):
    """A judge that gives no verdict on completeness where the answer speaks of silver."""
    judge_server.script["completeness"] = lambda prompt, _: "no idea" if "silver" in prompt else "[[6]]"
    judge_server.script["helpfulness"] = lambda prompt, _: "[[2]]" if "very interesting question" in prompt else "[[8]]"
    return {"judge": {"kind": "openai", "base_url": judge_server.url, "model": "judge", "retry_base_s": 0}}


def test_all_forms_give_the_same_scores(rows):
    expected = [asyncio.run(compute_score(**arguments(row))) for row in rows]
    assert [compute_score_sync(**arguments(row)) for row in rows] == expected
    assert compute_scores(**batch(rows)) == expected
    for scores in expected:
        assert list(scores) == ["score", *DIMENSIONS, "void"], "verl wants the same keys for every answer"
        assert scores["score"] == pytest.approx(sum(scores[name] for name in DIMENSIONS) / 4)
    assert expected[0]["score"] > expected[1]["score"] > expected[2]["score"]


def test_a_void_reward_is_an_exception_that_names_its_reason(failing, rows):
    assert compute_score_sync(**arguments(rows[0], config=failing))["completeness"] == 6.0
    with pytest.raises(VoidRewardError, match=r"answer 1 \(completeness: parse_error\)"):
        asyncio.run(compute_score(**arguments(rows[1], config=failing)))
    with pytest.raises(VoidRewardError):
        compute_score_sync(**arguments(rows[1], config=failing))


def test_in_a_batch_a_void_answer_gets_the_mean_of_its_siblings(failing, rows):
    first, void, last = compute_scores(**batch(rows, config=failing))
    assert (first["void"], void["void"], last["void"]) == (0.0, 1.0, 0.0)
    for name in ("score", *DIMENSIONS):
        assert void[name] == pytest.approx((first[name] + last[name]) / 2)
    with pytest.raises(VoidRewardError):
        compute_scores(**batch(rows[1:2], config=failing))
    with pytest.raises(VoidRewardError):  # the other answer is to another question
        compute_scores(**batch([rows[0] | {"query": "Who?"}, rows[1]], config=failing))


def test_the_configuration_is_a_file_or_that_of_the_environment(monkeypatch, tmp_path, rows):
    file = tmp_path / "reward.yaml"
    file.write_text("weights: {faithfulness: 1}\n")
    by_path = compute_score_sync(**arguments(rows[0], config=str(file)))
    assert list(by_path) == ["score", "faithfulness", "void"]
    with pytest.raises(ConfigError, match="LONGREWARD_CONFIG"):
        compute_score_sync(**arguments(rows[0], config=None))
    monkeypatch.setenv("LONGREWARD_CONFIG", str(file))
    assert compute_score_sync(**arguments(rows[0], config=None)) == by_path


def test_a_row_without_document_names_what_is_missing(rows):
    with pytest.raises(InputError, match=r"extra_info\['context'\] is None.*there: index, query"):
        compute_score_sync(**arguments(rows[0], extra_info={"index": 0, "query": "Who?"}))
    about = {"document": rows[0]["context"], "question": rows[0]["query"]}
    keys = {"context_key": "document", "query_key": "question"}
    renamed = compute_score_sync(**arguments(rows[0], extra_info=about, **keys))
    assert renamed == compute_score_sync(**arguments(rows[0]))


def test_criteria_are_read_where_they_have_a_weight(rows):
    def extra(row, **more):
        return {"index": row["idx"], "context": row["context"], "query": row["query"], **more}

    config = {"weights": {"criteria": 1}}
    wanted = ["Mara sold copper to Otto in Lisbon.", {"text": "Mara sold silver.", "weight": -1}]
    given = [arguments(row, config=config, extra_info=extra(row, rubric=wanted)) for row in rows]
    found = [compute_score_sync(**one, criteria_key="rubric") for one in given]
    assert list(found[0]) == ["score", "criteria", "void"]
    assert found[0]["score"] > found[1]["score"] >= found[2]["score"] == 0
    with pytest.raises(InputError, match=r"answer 0: extra_info\['criteria'\] is NoneType, not a list"):
        compute_score_sync(**given[0])


@pytest.fixture
def manager():
    """verl's reward manager of that name, with the function of that name, by verl's own loader."""
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import load_reward_manager

    def load(config, manager="naive", function="compute_score"):
        custom = {"path": "pkg://longreward.adapters.verl", "name": function, "reward_kwargs": {"config": config}}
        named = {"source": "register", "name": manager}
        settings = {"reward": {"reward_manager": named, "custom_reward_function": custom, "max_concurrent": 4}}
        settings["trainer"] = {"experiment_name": "test"}
        return lambda rows: asyncio.run(run(OmegaConf.create(settings), rows))

    async def run(settings, rows):
        manager = load_reward_manager(settings, Tokenizer())
        answers = [manager.run_single(data(rows[i : i + 1])) for i in range(len(rows))]
        return await asyncio.gather(*answers, return_exceptions=True)

    return load


class Tokenizer:
    """A token is a character's number."""

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids.tolist()))


def data(rows):
    """Answers as verl's rollout hands them to a reward manager."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    width = max(len(row["answer"]) for row in rows)
    responses = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width + 1, dtype=torch.int64)
    for place, row in enumerate(rows):
        responses[place, : len(row["answer"])] = torch.tensor([ord(letter) for letter in row["answer"]])
        mask[place, : len(row["answer"]) + 1] = 1
    prompts = torch.ones(len(rows), 1, dtype=torch.int64)
    tensors = TensorDict({"prompts": prompts, "responses": responses, "attention_mask": mask}, batch_size=len(rows))
    others = {
        "data_source": np.array(["long"] * len(rows), dtype=object),
        "reward_model": np.array([{"ground_truth": ""} for _ in rows], dtype=object),
        "extra_info": np.array([arguments(row)["extra_info"] for row in rows], dtype=object),
    }
    return DataProto(batch=tensors, non_tensor_batch=others)


@pytest.mark.parametrize("name", ["naive", "dapo", "gdpo", "rate_limited"])
def test_verls_managers_pass_the_scores_on(manager, rows, name):
    for row, outcome in zip(rows, manager({}, name)(rows), strict=True):
        scores = compute_score_sync(**arguments(row))
        assert outcome == {"reward_score": scores["score"], "reward_extra_info": scores}
    (sync, *_) = manager({}, name, "compute_score_sync")(rows)
    assert sync["reward_score"] == compute_score_sync(**arguments(rows[0]))["score"]


@pytest.mark.parametrize("name", ["naive", "dapo", "gdpo"])
def test_verls_managers_let_a_void_out_as_an_exception(manager, failing, rows, name):
    first, void, last = manager(failing, name)(rows)
    assert isinstance(void, VoidRewardError)
    assert first["reward_score"] > 0 and last["reward_score"] > 0


def test_verls_rate_limited_manager_makes_a_void_zero_as_we_warn(manager, failing, rows):
    _, void, _ = manager(failing, "rate_limited")(rows)
    assert void["reward_score"] == 0.0


def test_verls_batch_manager_and_advantage_leave_a_void_out(failing, rows):
    import numpy as np
    import torch
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
    from verl.workers.reward_manager.batch import BatchRewardManager

    manager = BatchRewardManager(Tokenizer(), 0, compute_scores, config=failing)
    scored = manager(data(rows), return_dict=True)
    assert scored["reward_extra_info"]["void"] == [0.0, 1.0, 0.0]
    mask = torch.ones_like(scored["reward_tensor"])
    same_group = np.array(["group"] * len(rows))
    for by_deviation in (True, False):
        advantages, _ = compute_grpo_outcome_advantage(
            scored["reward_tensor"], mask, same_group, norm_adv_by_std_in_grpo=by_deviation
        )
        assert advantages[1] == pytest.approx(torch.zeros(mask.shape[1]), abs=1e-5)
        assert advantages[0, 0] > 0 > advantages[2, 0] and torch.isfinite(advantages).all()


def test_verls_advantage_of_an_answer_without_siblings_is_its_plain_score_as_we_warn():
    import numpy as np
    import torch
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    left, _ = compute_grpo_outcome_advantage(torch.tensor([[0.0, 7.0]]), torch.ones(1, 2), np.array(["group"]))
    assert left.tolist() == [[pytest.approx(7.0), pytest.approx(7.0)]]


def test_verl_takes_the_documented_command_line(tmp_path, rows):
    from hydra import compose, initialize_config_module
    from verl.trainer.ppo.reward import get_custom_reward_fn

    file = tmp_path / "reward.yaml"
    file.write_text("weights: {faithfulness: 1}\n")
    (command,) = re.findall(r"main_ppo (.*?)```", Path("docs/adapters.md").read_text(encoding="utf-8"), re.DOTALL)
    words = shlex.split(command.replace("\\\n", " ").replace("/absolute/path/reward.yaml", str(file)))
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=[word for word in words if word != "..."])
    assert config.trainer.use_v1, "what a void does there rests on it"
    given = arguments(rows[0])
    del given["config"]
    scores = asyncio.run(get_custom_reward_fn(config)(**given))
    assert list(scores) == ["score", "faithfulness", "void"]
