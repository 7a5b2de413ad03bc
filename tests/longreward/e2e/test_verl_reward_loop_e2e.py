"""verl's own reward loop, agent loop, replay buffer and advantages, on a real Ray, with LongReward as the reward.

What is not there is what needs a GPU: the engine that would write the answers, which are given, and the actor's update.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from aiohttp import web

from longreward import DIMENSIONS, LongReward, Sample
from longreward.adapters.config import resolve

pytest.importorskip("transfer_queue", reason="verl's trainer needs it; pip install --no-deps TransferQueue==0.1.11")
pytestmark = pytest.mark.e2e

POLICY = str(Path("rl/toy/policy").resolve())
CONTEXT = "Ada shipped tea to Karl in Riga. " * 12
RATINGS = {"copper": 9, "wool": 5, "silk": 2}
ANSWERS = {
    "Mara": ["copper", "silver", "wool", "silk"],
    "Otto": ["silver", "wool", "silver", "copper"],
    "Lena": ["copper", "silver", "silver", "silver"],
    "Hugo": ["silver", "silver", "silver", "silver"],
}
"""Who is asked about -> what each answer says was sold. The judge has no verdict on silver."""


def answer(who: str, goods: str) -> str:
    return f"{who} sold {goods} to Otto in Lisbon."


def query(who: str) -> str:
    return f"What did {who} do?"


def rate(prompt: str, _: int) -> str:
    rating = next((RATINGS[goods] for goods in RATINGS if f"sold {goods}" in prompt), None)
    return f"[[{rating}]]" if rating else "I do not know."


@pytest.fixture(scope="module")
def judge(module_judge):
    module_judge.script["helpfulness"] = rate
    return module_judge


@pytest.fixture(scope="module")
def reward_file(judge, tmp_path_factory):
    settings = {"kind": "openai", "base_url": judge.url, "model": "judge", "retry_base_s": 0, "max_attempts": 2}
    file = tmp_path_factory.mktemp("reward") / "reward.yaml"
    file.write_text(yaml.safe_dump({"judge": settings | {"parse_attempts": 1}}), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def expected(judge, reward_file):
    """LongReward's own scores of each answer, as verl's extra keys name them; None: void."""

    async def score():
        samples = [
            Sample(id="", context=CONTEXT, query=query(who), answer=answer(who, goods))
            for who, said in ANSWERS.items()
            for goods in dict.fromkeys(said)
        ]
        reward = LongReward(resolve(reward_file))
        try:
            return {sample.answer: one for sample, one in zip(samples, await reward.score_many(samples), strict=True)}
        finally:
            await reward.aclose()

    def named(reward):
        if reward.scores is None:
            return None
        return {"score": reward.total} | {name: reward.scores[name] for name in DIMENSIONS} | {"void": 0.0}

    found = {text: named(reward) for text, reward in asyncio.run(score()).items()}
    assert len({scores["score"] for scores in found.values() if scores}) == len(RATINGS)
    return found


@pytest.fixture(scope="module")
def ray_and_queue():
    import ray
    import transfer_queue
    from omegaconf import OmegaConf

    ray.init(address="local", num_cpus=8, include_dashboard=False, object_store_memory=120_000_000, log_to_driver=False)
    transfer_queue.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield
    transfer_queue.close()
    ray.shutdown()


@pytest.fixture(scope="module")
def trainer(ray_and_queue, reward_file, tmp_path_factory):
    import ray
    import transfer_queue

    made = make_trainer(reward_file, tmp_path_factory.mktemp("verl"))
    yield made
    for actor in made.reward_loop_manager.reward_loop_workers + made.agent_loop_manager.agent_loop_workers:
        ray.kill(actor)
    while any(name.startswith("reward_loop_worker") for name in ray.util.list_named_actors()):
        time.sleep(0.1)  # the next one's have the same names
    for partition, keys in transfer_queue.kv_list().items():
        if keys:  # of the training that ended early
            transfer_queue.kv_clear(partition_id=partition, keys=list(keys))


def make_trainer(reward_file: Path, folder: Path):
    """verl's synchronous trainer as its TaskRunner sets it up, less what needs a GPU."""
    from verl.experimental.reward_loop import RewardLoopManager
    from verl.trainer.ppo.v1 import AgentLoopManagerTQ, PPOTrainerSync

    class TrainerWithoutEngine(PPOTrainerSync):
        def on_sample_end(self):
            pass

        def _update_actor(self, batch, metrics):
            return batch

    config = configuration(reward_file, write_prompts(folder))
    trainer = TrainerWithoutEngine(config)
    trainer._init_tokenizer()
    trainer._init_dataloader()
    trainer.actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": [0]})
    trainer.reward_loop_manager = RewardLoopManager(config)
    trainer.agent_loop_manager = AgentLoopManagerTQ.create(
        config=config, llm_client=writer(), reward_loop_worker_handles=trainer.get_reward_handles()
    )
    trainer.global_steps = 1
    return trainer


def configuration(reward_file: Path, prompts: Path):
    """What `python -m verl.trainer.main_ppo` composes from the documented command line."""
    from hydra import compose, initialize_config_module

    overrides = [
        "algorithm.adv_estimator=grpo",
        "+algorithm.gdpo_reward_keys=[helpfulness,faithfulness]",
        "algorithm.rollout_correction.bypass_mode=true",  # the engine's probabilities, not those of an actor
        f"data.train_files={prompts}",
        f"data.val_files={prompts}",
        f"data.train_batch_size={len(ANSWERS)}",
        "data.max_prompt_length=512",
        "data.max_response_length=32",
        "data.dataloader_num_workers=0",
        f"actor_rollout_ref.model.path={POLICY}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={len(ANSWERS)}",
        "actor_rollout_ref.rollout.name=vllm",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.val_kwargs.n=4",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "reward.num_workers=2",
        "reward.custom_reward_function.path=pkg://longreward.adapters.verl",
        "reward.custom_reward_function.name=compute_score",
        f"+reward.custom_reward_function.reward_kwargs.config={reward_file}",
        "+reward.custom_reward_function.reward_kwargs.processes=${reward.num_workers}",
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=overrides)


def write_prompts(folder: Path) -> Path:
    import pandas

    rows = [
        {
            "data_source": "long",
            "prompt": [{"role": "user", "content": f"{CONTEXT}\n\n{query(who)}"}],
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": place, "context": CONTEXT, "query": query(who)},
        }
        for place, who in enumerate(ANSWERS)
    ]
    pandas.DataFrame(rows).to_parquet(folder / "prompts.parquet")
    return folder / "prompts.parquet"


def writer():
    """Stands for the engine: writes the answers of `ANSWERS`, in turn."""
    texts = {who: [answer(who, goods) for goods in said] for who, said in ANSWERS.items()}

    class Writer:  # a local class travels to Ray's workers whole
        def __init__(self):
            self.written = Counter()

        async def generate(self, prompt_ids, **_):
            from transformers import AutoTokenizer
            from verl.workers.rollout.replica import TokenOutput

            tokenizer = AutoTokenizer.from_pretrained(POLICY)
            prompt = tokenizer.decode(prompt_ids)
            (who,) = [name for name in texts if f"did {name} do" in prompt]
            text = texts[who][self.written[who] % len(texts[who])]
            self.written[who] += 1
            ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            return TokenOutput(token_ids=ids, log_probs=[0.0] * len(ids))

    return Writer()


def read(trainer, batch):
    """What verl keeps of a batch, per answer: its text -> rewards of its tokens, extra keys, advantages."""
    import transfer_queue

    wanted = ["responses", "rm_scores", "advantages", "extra_fields"]
    real = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding")]
    data = transfer_queue.kv_batch_get(keys=real, partition_id=batch.partition_id, select_fields=wanted)
    found = {}
    for place, fields in enumerate(list(data["extra_fields"])):
        text = trainer.tokenizer.decode(data["responses"][place], skip_special_tokens=True)
        rewards, advantages = data["rm_scores"][place].tolist(), data["advantages"][place].tolist()
        found[text] = (rewards, fields["reward_extra_info"], advantages)
    assert len(found) == len(real), "no answer twice"
    return found


@pytest.fixture(scope="module")
def trained(trainer):
    """One step of verl's trainer: what it trains on."""
    import transfer_queue

    batch = trainer.step({}, {})
    found = read(trainer, batch)
    transfer_queue.kv_clear(keys=batch.keys, partition_id=batch.partition_id)
    return found


def test_the_scores_are_longrewards_and_at_the_last_token(trained, expected):
    for text, (rewards, extra, _) in trained.items():
        assert rewards == [0.0] * (len(rewards) - 1) + [pytest.approx(expected[text]["score"], rel=1e-6)]
        assert extra == expected[text]


def test_exactly_the_void_answers_are_left_out(trained, expected):
    assert trained.keys() == {text for text, scores in expected.items() if scores}


@pytest.mark.parametrize("who", ["Mara", "Otto"])
def test_the_others_have_the_advantages_of_the_group_without_it(trained, expected, who):
    left = [answer(who, goods) for goods in ANSWERS[who] if goods in RATINGS]
    scores = [expected[text]["score"] for text in left]
    for text, score in zip(left, scores, strict=True):
        advantage = (score - statistics.mean(scores)) / statistics.stdev(scores)
        assert trained[text][2] == pytest.approx([advantage] * len(trained[text][2]), rel=1e-4)


def test_an_answer_without_siblings_has_its_plain_score_as_we_warn(trained, expected):
    alone = answer("Lena", "copper")
    assert trained[alone][2][-1] == pytest.approx(expected[alone]["score"], rel=1e-4)


def test_rloo_vectorized_gives_an_answer_without_siblings_no_advantage(trainer, monkeypatch):
    monkeypatch.setitem(trainer.config.algorithm, "adv_estimator", "rloo_vectorized")
    found = read(trainer, trainer.step({}, {}))
    assert set(found[answer("Lena", "copper")][2]) == {0.0}
    assert found[answer("Mara", "copper")][2][-1] > 0 > found[answer("Mara", "silk")][2][-1]


def test_gdpo_does_not_work_in_this_trainer_as_we_warn(trainer, monkeypatch):
    monkeypatch.setitem(trainer.config.algorithm, "adv_estimator", "gdpo")
    with pytest.raises(KeyError, match="prompts"):
        trainer.step({}, {})


def test_validation_counts_no_void(trainer, expected):
    metrics = trainer._validate()
    means = [
        statistics.mean(expected[answer(who, goods)]["score"] for goods in said if goods in RATINGS)
        for who, said in ANSWERS.items()
        if set(said) & set(RATINGS)
    ]
    found = {name.rpartition("@")[2]: value for name, value in metrics.items() if "/reward/mean@" in name}
    assert found == {str(count): pytest.approx(mean) for count, mean in zip([3, 2, 1], means, strict=True)}


def test_a_whole_batch_of_the_reward_loop(trainer, expected):
    """verl scores so beside a reward model that shares the trainer's GPUs."""
    import ray

    texts = [text for text, scores in expected.items() if scores]
    scored = trainer.reward_loop_manager.compute_rm_score(responses(trainer.tokenizer, texts))
    for place, text in enumerate(texts):
        length = len(trainer.tokenizer.encode(text, add_special_tokens=False))
        rewards = scored.batch["rm_scores"][place].tolist()
        assert rewards[length - 1] == pytest.approx(expected[text]["score"], rel=1e-6)
        assert sum(rewards) == rewards[length - 1]
        assert {key: scored.non_tensor_batch[key][place] for key in scored.non_tensor_batch} == expected[text]
    with pytest.raises(ray.exceptions.RayTaskError, match=r"VoidRewardError.*helpfulness: parse_error"):
        trainer.reward_loop_manager.compute_rm_score(responses(trainer.tokenizer, [*texts, answer("Mara", "silver")]))


def responses(tokenizer, texts):
    import numpy as np
    import torch
    from verl import DataProto

    ids = [torch.tensor(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    lengths = torch.tensor([len(each) for each in ids])
    mask = (torch.arange(padded.shape[1] + 1) <= lengths[:, None]).long()
    tensors = {"prompts": torch.ones(len(texts), 1).long(), "responses": padded, "attention_mask": mask}
    extra = [{"context": CONTEXT, "query": query(text.split()[0])} for text in texts]
    others = {
        "data_source": np.array(["long"] * len(texts), dtype=object),
        "reward_model": np.array([{"ground_truth": ""} for _ in texts], dtype=object),
        "extra_info": np.array(extra, dtype=object),
    }
    return DataProto.from_dict(tensors, others)


def test_with_a_dead_judge_nothing_is_trained_on(trainer, judge, monkeypatch):
    for kind in list(judge.calls):
        monkeypatch.setitem(judge.script, kind, lambda *_: web.Response(status=401))
    with pytest.raises(RuntimeError, match="no materializable trajectories"):
        trainer.step({}, {})
