"""vLLM engines outside of OpenRLHF's training loop, with the same agent: held-out scores, collecting, evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from longreward.errors import ConfigError
from rl.config import RunConfig
from rl.data.prompt_files import load_tokenizer
from rl.trainer.openrlhf_flags import AGENT, Flags
from rl.trainer.seams import remote_code

_ANSWERS_AT_ONCE = 1024  # answers that an engine is given at once: more than it works on, so that it never waits


@dataclass(frozen=True)
class Engines:
    """Rollout actors that hold one policy; each has `generate_responses`, as OpenRLHF's has."""

    actors: list[Any]
    tokenizer: Any
    shared_tokenizer: Any
    """The same in Ray's object store, once for all calls."""
    max_len: int
    """Tokens of a prompt and its answer."""
    max_new_tokens: int

    def sampling(self, temperature: float) -> Any:
        """vLLM's parameters for plain sampling."""
        from vllm import SamplingParams

        return SamplingParams(
            temperature=temperature,
            top_p=1.0,
            max_tokens=self.max_new_tokens,
            skip_special_tokens=False,
            seed=None,
        )

    def generate(self, number: int, row: Mapping[str, str], sampling: Any, answers: int) -> Any:
        """A reference to the rollouts of one prepared prompt; `number` spreads prompts over the engines."""
        return self.actors[number % len(self.actors)].generate_responses.remote(
            prompt=row["input"],
            label=row["label"],
            sampling_params=sampling,
            max_length=self.max_len,
            hf_tokenizer=self.shared_tokenizer,
            num_samples=answers,
        )

    def rollouts(
        self, rows: Iterable[Mapping[str, str]], temperature: float, answers: int
    ) -> Iterator[list[dict[str, Any]]]:
        """The rollouts of each prepared prompt, so many to each, in the order in which they are done."""
        sampling = self.sampling(temperature)
        calls = (partial(self.generate, number, row, sampling, answers) for number, row in enumerate(rows))
        return in_flight(calls, max(1, _ANSWERS_AT_ONCE * len(self.actors) // answers))


def engines_of(actors: list[Any], model: str, flags: Flags) -> Engines:
    """Actors with the tokenizer of `model`."""
    tokenizer = load_tokenizer(model, trust_remote_code=remote_code.allowed())
    return Engines(actors, tokenizer, ray.put(tokenizer), flags.data_max_len, flags.rollout_max_new_tokens)


@contextmanager
def rollout_engines(config: RunConfig, model: str, flags: Flags) -> Iterator[Engines]:
    """Start engines with `model`, and stop them at the end. Needs a connected Ray and
    running judge workers.

    ConfigError where Ray does not place them within `run.deadline_start_s`.
    """
    from openrlhf.trainer.ray.vllm_engine import create_vllm_engines

    count, parallel = flags.vllm_num_engines, flags.vllm_tensor_parallel_size
    group = ray.util.placement_group([{"GPU": 1, "CPU": 1}] * (count * parallel), strategy="PACK")
    actors: list[Any] = []
    try:
        if not group.wait(config.run.deadline_start_s):
            raise ConfigError(
                f"Ray did not place {count * parallel} vLLM engines within {config.run.deadline_start_s:.0f} s; "
                "see `ray status` for what holds its GPUs"
            )
        actors = create_vllm_engines(
            count,
            parallel,
            model,
            flags.train_seed,
            flags.train_full_determinism_enable,
            flags.vllm_enable_prefix_caching,
            flags.vllm_enforce_eager,
            flags.data_max_len,
            group,  # ours, so that it can be given back: OpenRLHF keeps its own for good
            flags.vllm_gpu_memory_utilization,
            agent_func_path=str(AGENT),
        )
        yield engines_of(actors, model, flags)
    finally:
        for actor in actors:
            ray.kill(actor)
        ray.util.remove_placement_group(group)


def in_flight(calls: Iterable[Callable[[], Any]], at_once: int) -> Iterator[Any]:
    """Make Ray calls, at most so many at once, and yield their results as they come. A call's error is raised."""
    pending: list[Any] = []
    for call in calls:
        if len(pending) >= at_once:
            done, pending = ray.wait(pending)
            yield from ray.get(done)
        pending.append(call())
    while pending:
        done, pending = ray.wait(pending)
        yield from ray.get(done)
