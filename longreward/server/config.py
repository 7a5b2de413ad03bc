"""The settings of `longreward serve`, in the section `serve:` beside those of the reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from longreward.config import RewardConfig, Section

CLIENT_TIMEOUT_S = 180
"""After so many seconds OpenRLHF takes a request for failed."""


class ServeConfig(Section):
    void: Literal["neutral", "null"] = "neutral"
    """What a void reward is in the reply. `neutral`: the mean of its valid siblings. `null`: null, for trainers that
    can take it; OpenRLHF cannot."""
    group_size: int | None = Field(None, ge=2)
    """Answers to each prompt (OpenRLHF's rollout.n_samples_per_prompt): a void one is then held until all are scored,
    so that its advantage is exactly 0. Null: it gets the mean of those scored so far."""
    tokenizer: Path | None = None
    """The policy's folder, whose tokenizer.json counts chunk sizes and says which special tokens to take out of
    answers, as in training with rl/. Null: chunks are counted in words, well-known end-of-text marks at an answer's end
    are taken off."""
    deadline_s: float = Field(150, gt=0, lt=CLIENT_TIMEOUT_S)
    """Seconds after which what is not scored is void; below the 180 s after which OpenRLHF gives up a request."""
    max_body_mb: float = Field(64, gt=0)
    """Largest request in MiB; four times that may be on its way into a process at once."""
    body_timeout_s: float = Field(30, gt=0)
    """Seconds in which a request's body must have come."""
    max_items: int = Field(256, ge=1)
    """Most answers in a request."""
    max_chars: int = Field(2_000_000, ge=1)
    """Longest query, prompt or label, in characters."""
    queue: int = Field(4096, ge=1)
    """Most answers accepted and not yet answered, per process. OpenRLHF sends a whole rollout batch at once and tries a
    refused request only five times in as many seconds: leave room for rollout.batch_size x n_samples_per_prompt."""
    token_env: str = Field("LONGREWARD_SERVER_TOKEN", min_length=1)
    """Name of the environment variable that holds the token which clients must know; needed off loopback."""

    @field_validator("void", mode="before")
    @classmethod
    def _null_is_a_word(cls, value: Any) -> Any:
        return "null" if value is None else value  # as YAML reads it without quotes

    @model_validator(mode="after")
    def _a_request_fits(self) -> ServeConfig:
        if self.max_items > self.queue:
            raise ValueError(f"max_items={self.max_items} is more than the queue of {self.queue} can ever take")
        return self


class ServerConfig(RewardConfig):
    serve: ServeConfig = ServeConfig()
    """The server's own settings; other commands pass over them."""

    @property
    def reward(self) -> RewardConfig:
        """The settings of the reward alone."""
        return RewardConfig.model_validate(self.model_dump(exclude={"serve"}))
