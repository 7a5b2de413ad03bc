"""A policy that is served elsewhere, in the place of rollout engines: answers by HTTP, the same scoring.

One Ray actor. It takes the calls that OpenRLHF's engines take (`generate_responses`) and returns what the agent does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import ray

from longreward.errors import ConfigError
from longreward.judge.protocol.address import DEFAULT_KEY, secret_from_environment
from longreward.redaction import keep_secret, redacted
from rl.data.prompt_files import count_tokens
from rl.data.prompts import Label
from rl.errors import RunFailedError
from rl.offline.config import ServedPolicySection
from rl.rollout.engines import Engines, engines_of
from rl.rollout.reward_client import RewardClient, Rollout
from rl.trainer.openrlhf_flags import Flags

_ATTEMPTS = 8


class PolicyDownError(RunFailedError):
    """The endpoint of a served policy does not answer."""


class ServedPolicy:
    """Answers of an OpenAI-compatible endpoint, each scored as it comes."""

    def __init__(self, config: ServedPolicySection, key: str) -> None:
        self._config = config
        keep_secret(key)
        # Its retries obey Retry-After; here a failure costs nothing but time. Its own client would take key and prompt
        # wherever a redirect points.
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=key,
            max_retries=_ATTEMPTS,
            timeout=config.timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )
        self._rewards = RewardClient.from_environment()
        self._free = asyncio.Semaphore(config.max_in_flight)

    async def ready(self) -> str:
        """Asks for one token. Returns what is wrong, empty if nothing is."""
        try:
            await self._client.with_options(max_retries=1, timeout=30).chat.completions.create(
                model=self._config.model, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
            )
        except openai.OpenAIError as error:
            return redacted(f"{type(error).__name__}: {error}")
        return ""

    async def generate_responses(
        self,
        prompt: str,
        label: str,
        sampling_params: Any,
        max_length: int,
        hf_tokenizer: Any,
        num_samples: int = 1,
        images: Any = None,
    ) -> list[dict[str, Any]]:
        """The rollouts of one prompt, as OpenRLHF's engines return them, as far as the reward is concerned."""
        # All of them before the first one waits: they are a group.
        rollouts = [self._rewards.join(prompt, label) for _ in range(num_samples)]
        said = Label.from_json(label)
        message = prompt[said.context[0] : said.query[1]]  # the user's turn; the endpoint has a template of its own
        return await asyncio.gather(
            *(self._execute(prompt, message, rollout, sampling_params, label, hf_tokenizer) for rollout in rollouts)
        )

    async def _execute(
        self, prompt: str, message: str, rollout: Rollout, sampling: Any, label: str, tokenizer: Any
    ) -> dict[str, Any]:
        async with self._free:
            try:
                completion = await self._client.chat.completions.create(
                    model=self._config.model,
                    messages=[{"role": "user", "content": message}],
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_tokens,
                    seed=rollout.seed,
                )
            except openai.OpenAIError as error:
                raise PolicyDownError(
                    f"the policy {self._config.model} at {self._config.base_url} did not answer: "
                    f"{type(error).__name__}: {error}; fix it and continue with resume=true"
                ) from None
        choice = completion.choices[0] if completion.choices else None
        if choice is None or choice.message.content is None or choice.finish_reason not in ("stop", "length"):
            # Filtered, or no text: not an answer. It is not stored, so resume=true asks for it again.
            return {"label": label, **await self._rewards.unanswered(prompt, rollout)}
        answer = choice.message.content
        about = {
            "truncated": choice.finish_reason == "length",
            "tokens": count_tokens(tokenizer, answer),
        }
        return {"label": label, **await self._rewards.reward(prompt, rollout, answer, about)}


@contextmanager
def served_policy(config: ServedPolicySection, flags: Flags, deadline_s: float) -> Iterator[Engines]:
    """The served policy in the form of engines. ConfigError where it does not answer, or its key cannot be sent."""
    key = secret_from_environment(config.api_key_env or DEFAULT_KEY) or "none"
    actor = ray.remote(num_cpus=0)(ServedPolicy).options(max_concurrency=10_000).remote(config, key)
    try:
        if why := ray.get(actor.ready.remote(), timeout=deadline_s):
            raise ConfigError(f"collect.served: {config.model} at {config.base_url} does not answer: {why}")
        yield engines_of([actor], flags.policy, flags)
    finally:
        ray.kill(actor)
