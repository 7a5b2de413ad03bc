"""Rewards of answers by a reward model (a sequence classifier with one output) behind vLLM's /classify.

vllm serve Skywork/Skywork-Reward-Llama-3.1-8B-v0.2 --port 8001
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from longreward.base_url import tidy
from longreward.config import NO_KEY, PAPER_FORM, JudgeConfig, ModelConfig, ReplyForm
from longreward.errors import ConfigError
from longreward.judge.base import Verdict
from longreward.judge.constrained import Shape
from longreward.judge.engine.call import Call
from longreward.judge.engine.caller import WITHOUT_REPLY, Caller
from longreward.judge.engine.spend_cap import Amount, Spend
from longreward.judge.protocol.address import from_environment
from longreward.judge.protocol.client import CLASSIFY, Api
from longreward.judge.requests import JudgeRequest
from longreward.prompts import OURS, Prompts
from longreward.schema import Sample

Reads = Literal["prompt", "query"]
"""What the model reads with the answer: document and question, or the question alone."""
KEY = "LONGREWARD_REWARD_MODEL_KEY"
"""The variable that holds the server's key, where it wants one. The judge's key is not sent there."""


@dataclass(frozen=True, slots=True)
class RateByModel(JudgeRequest[float]):
    """How good is the answer? A number on the model's own scale; the model's own chat template makes a text of it."""

    kind: ClassVar[str] = "reward_model"
    turn: str
    answer: str

    def text(self, prompts: Prompts = OURS, form: ReplyForm = PAPER_FORM) -> str:
        return f"{self.turn}\n\n{self.answer}"

    def shape(self, form: ReplyForm) -> Shape[float]:
        raise TypeError("a reward is no verdict: nothing can be constrained")

    def parse(self, text: str) -> float:
        return float(text)


class _Caller(Caller):
    def api_of(self, config: ModelConfig) -> Api:
        return CLASSIFY

    def material(self, request: JudgeRequest[Any], prompt: str) -> dict[str, Any]:
        assert isinstance(request, RateByModel)
        turns = [{"role": "user", "content": request.turn}, {"role": "assistant", "content": request.answer}]
        return {"messages": turns, "use_activation": False}  # the logit: a sigmoid makes high rewards equal


class RewardModel:
    """Asks the model by the judge's rules, with its deadlines and attempts; nothing is counted as spent. Use it on one
    event loop and `aclose` it there."""

    def __init__(self, url: str, reads: Reads, judge: JudgeConfig) -> None:
        """`url`: the server's, with /v1 or /classify at its end or without. ConfigError where it is none."""
        try:
            base_url = tidy(url)
        except ValueError as error:
            raise ConfigError(f"--reward-model: {error}") from None
        self._reads = reads
        self._caller = _Caller(_call_settings(base_url, judge), Spend(Amount.unlimited()))

    async def rate(self, sample: Sample) -> Verdict[float]:
        """The reward of an answer, any number; None where it could not be had."""
        turn = sample.query
        if self._reads == "prompt":
            turn = f"{sample.context}\n\n{sample.query}"
        request = RateByModel("en", turn, sample.answer)
        return await Call(self._caller, request, request.text(), sample.query).verdict()

    async def aclose(self) -> None:
        await self._caller.aclose()


def _call_settings(base_url: str, judge: JudgeConfig) -> JudgeConfig:
    own: dict[str, Any] = {
        "base_url": base_url,
        "endpoints": [],
        "model": None,
        "api_key_env": KEY if from_environment(KEY) else NO_KEY,
        **{"api_key_header": None, "requests_per_minute": None, "tokens_per_minute": None},
        "price": JudgeConfig().price,
        **WITHOUT_REPLY,
    }
    return judge.model_copy(update=own)
