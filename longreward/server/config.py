"""The settings of `longreward serve`: the section `serve:`, beside the sections of the reward."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from longreward.config import RewardConfig, Section
from longreward.text.chunking import TokenSpans
from longreward.tokenizer import chunk_spans, token_spans

CLIENT_TIMEOUT_S = 180
"""OpenRLHF gives up a request after this many seconds."""


class ServeConfig(Section):
    protocols: list[str] | None = Field(None, min_length=1)
    """Whose requests are answered: `openrlhf` (/get_reward), `slime` (/slime), `score` (/v1/score), `nemo_gym`
    (/verify). Null: all."""
    group_size: int | None = Field(None, ge=2)
    """Number of answers to each prompt (OpenRLHF's rollout.n_samples_per_prompt). The reply to a void answer then waits
    until all siblings are scored, so that its advantage is exactly 0. Null: it gets the mean of those scored so far."""
    tokenizer: Path | None = None
    """The policy's folder. Its special tokens are removed from answers, and its tokenizer.json counts chunk sizes, as
    in training with rl/, unless `chunking.tokenizer` is set. Null: only well-known end-of-text marks at the end of an
    answer are removed."""
    deadline_s: float = Field(150, gt=0, lt=CLIENT_TIMEOUT_S)
    """Answers that are not scored after this many seconds are void. OpenRLHF gives up a request after 180 s."""
    max_body_mb: float = Field(64, gt=0)
    """Largest request in MiB. At most four times this may be arriving at once."""
    body_timeout_s: float = Field(30, gt=0)
    """Seconds within which the head of a request must arrive, then its body; and within which a client must take the
    reply."""
    max_items: int = Field(256, ge=1)
    """The most answers in one request."""
    max_chars: int = Field(2_000_000, ge=1)
    """Longest query, prompt or label, in characters."""
    queue: int = Field(4096, ge=1)
    """The most answers accepted and not yet replied to. OpenRLHF sends a whole rollout batch at once, and tries a
    refused request only five times within five seconds: set it above rollout.batch_size x n_samples_per_prompt."""
    token_env: str = Field("LONGREWARD_SERVER_TOKEN", min_length=1)
    """Name of the environment variable that holds the token which clients must send. Needed on any address but
    loopback."""

    @model_validator(mode="after")
    def _a_request_fits(self) -> ServeConfig:
        if self.max_items > self.queue:
            raise ValueError(f"max_items={self.max_items} is more than the queue of {self.queue} can ever hold")
        return self


class ServerConfig(RewardConfig):
    serve: ServeConfig = ServeConfig()
    """The server's own settings. Other commands ignore them."""

    @property
    def token_spans(self) -> TokenSpans:
        """What a server counts chunk sizes in. ConfigError where a tokenizer cannot be read."""
        if self.chunking.tokenizer is not None:
            return chunk_spans(self)
        return token_spans(self.serve.tokenizer, "serve.tokenizer")

    @property
    def reward(self) -> RewardConfig:
        """The settings of the reward alone."""
        return RewardConfig.model_validate(self.model_dump(exclude={"serve"}))
