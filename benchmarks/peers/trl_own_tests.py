"""A pytest plugin that runs TRL's own tests of reward functions through longreward.adapters.trl, without the hub.

In a folder with the `tests` of TRL's repository:

    LONGREWARD_ROWS=scored python -m pytest -p trl_own_tests tests/test_grpo_trainer.py -k "reward_func and not env"

Each trainer gets LongReward beside the test's own reward functions, which become `others`. `LONGREWARD_ROWS`: `scored`
gives each row a document and a question, so that LongReward (with the offline judge) scores every answer; `none` gives
it neither, so that all of the test's own numbers must come out unchanged; `off` leaves LongReward out, for comparison.

What the tests load from the hub is made here, under the same name: a two-layer model with random weights, and a data
set of our own sentences.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longreward.adapters.trl import longreward_rewards

POLICY = Path(__file__).parents[2] / "rl/toy/policy"
ROWS = os.environ.get("LONGREWARD_ROWS", "none")
CONFIG = {"judge": {"kind": "offline"}}
HUB = Path("trl-internal-testing")
"""Found as a folder below the working directory before anything is asked of the hub."""


def pytest_configure() -> None:
    if ROWS not in ("scored", "none", "off"):
        raise ValueError(f"LONGREWARD_ROWS={ROWS!r} is not known: set it to scored, none or off")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_CACHE"] = str((HUB / f"cache-{ROWS}").absolute())  # it goes by the name alone
    _make_model(HUB / "tiny-Qwen2ForCausalLM-2.5")
    _make_dataset(HUB / "zen")
    _names_of_before()
    if ROWS != "off":
        _beside_longreward()


def _make_model(folder: Path) -> None:
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _make_dataset(folder: Path) -> None:
    words = "E1 v2 O3 .|E4 v5 O6 .|E7 v8 O9 .".split("|")
    document = " ".join(words)
    column = (document, words[0]) if ROWS == "scored" else (None, None)
    rows: dict[str, list[dict[str, Any]]] = {"standard_prompt_only": [], "conversational_prompt_only": []}
    for number in range(17):
        text = words[number % len(words)]
        beside = dict(zip(("context", "query"), column, strict=True))
        rows["standard_prompt_only"].append({"prompt": text, **beside})
        rows["conversational_prompt_only"].append({"prompt": [{"role": "user", "content": text}], **beside})
    head = ["---", "configs:"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        head += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {name}.jsonl"]
        head += ["  - split: test", f"    path: {name}.jsonl"]
    (folder / "README.md").write_text("\n".join([*head, "---", ""]))


def _beside_longreward() -> None:
    from trl import GRPOTrainer, RLOOTrainer
    from trl.experimental.async_grpo.async_rollout_worker import _AsyncRolloutLoop

    for trainer in (GRPOTrainer, RLOOTrainer):
        trainer.__init__ = _with_longreward(trainer.__init__)
    _AsyncRolloutLoop._score_group = _scoring_with_longreward(_AsyncRolloutLoop._score_group)


def _names_of_before() -> None:
    """What the repository's tests, which are older than the registry's TRL, import though they need it nowhere here."""
    import trl.experimental.async_grpo.async_grpo_trainer as learner
    import trl.import_utils as found

    found.is_joblib_available = getattr(found, "is_joblib_available", lambda: False)
    learner._balance_by_squared_length = getattr(learner, "_balance_by_squared_length", None)


def _with_longreward(made: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(made)
    def make(self: Any, *words: Any, **given: Any) -> None:
        functions = given.get("reward_funcs", [])
        functions = list(functions) if isinstance(functions, list) else [functions]
        arguments = given.get("args")
        if functions and all(callable(function) and not hasattr(function, "config") for function in functions):
            weights = arguments.reward_weights if arguments is not None else None
            rewards = longreward_rewards(CONFIG, others=functions, other_weights=weights)
            given["reward_funcs"] = rewards
            if weights is not None:
                arguments.reward_weights = rewards.reward_weights
        made(self, *words, **given)

    return make


def _scoring_with_longreward(score: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(score)
    async def scored(self: Any, group: Any) -> Any:
        rewards = longreward_rewards(CONFIG, others=self.reward_funcs, weighted=True)
        self.reward_funcs, self.reward_func_names = rewards, [function.__name__ for function in rewards]
        nothing = [None] * len(group.completions)
        group.reward_kwargs = {"context": nothing, "query": nothing, **group.reward_kwargs}
        return await score(self, group)

    return scored
