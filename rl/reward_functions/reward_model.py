"""`reward.name: openrlhf`: a reward model as OpenRLHF trains and loads it, the paper's short-context baseline."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from longreward.config import Section
from longreward.errors import ConfigError, JudgeError, Reason
from longreward.preflight.finding import Finding
from rl.data.prompts import TrainingSample
from rl.reward_functions.base import RewardWithoutJudge, Scale, on_scale
from rl.trainer.cpu_backend import DEVICE_VARIABLE
from rl.trainer.model_folder import missing_model
from rl.trainer.openrlhf_flags import Flags
from rl.trainer.seams import remote_code


class RewardModelSection(Section):
    model_name_or_path: str | None = None
    """The reward model's folder or hub name."""
    value_head_prefix: str = "score"
    """Name of the model's value head, if its config.json does not say it (OpenRLHF's `ds.value_head_prefix`)."""
    param_dtype: Literal["bf16", "fp16"] = "bf16"
    """Precision in which the model is loaded. OpenRLHF supports no other."""
    normalize: bool = False
    """Subtract the mean and divide by the standard deviation that OpenRLHF stored in the model's config.json."""
    reads: Literal["prompt", "query"] = "prompt"
    """What the model reads with the answer. `prompt`: the policy's prompt with the document. `query`: only the
    question, in the model's own chat template, for a model without a long context."""
    max_len: int = Field(2048, ge=1)
    """The most tokens of prompt and answer together. A longer one is not cut; its reward is void (context_length)."""
    batch_size: int = Field(8, ge=1)
    """Number of answers that the model reads at once."""
    gpus: Literal[0, 1] = 0
    """1: each worker that scores has its own GPU for the model. 0: the model runs on the CPU."""
    range: Scale | None = None
    """Lowest and highest reward that the model gives, mapped to 0..10. A reward outside is void. Null: its output x, a
    logit, becomes 10 / (1 + exp(-x)), which keeps the order; far from 0 differences get small."""

    @model_validator(mode="after")
    def _folder_is_absolute(self) -> RewardModelSection:
        if self.model_name_or_path and Path(self.model_name_or_path).is_dir():
            self.model_name_or_path = str(Path(self.model_name_or_path).absolute())
        return self


class RewardModel(RewardWithoutJudge):
    """Loads the model when it is made. Answers that come while it is at work are looked at together afterwards."""

    def __init__(self, section: RewardModelSection) -> None:
        """ConfigError where the model cannot be loaded."""
        super().__init__("openrlhf")
        if section.model_name_or_path is None:
            raise ConfigError("reward.name is openrlhf but reward.openrlhf.model_name_or_path is not set")
        self._section, self._path = section, section.model_name_or_path
        self._device = "cuda" if section.gpus and os.environ.get(DEVICE_VARIABLE) != "cpu" else "cpu"
        self._model, self._tokenizer = _loaded(section, self._path, self._device)
        self._waiting: list[tuple[list[int], asyncio.Future[float]]] = []
        self._work: asyncio.Task[None] | None = None

    async def scores(self, sample: TrainingSample) -> dict[str, float]:
        tokens = await asyncio.to_thread(self._tokens, sample)
        length = len(tokens) - 1  # without the end of text
        if length > self._section.max_len:
            raise JudgeError(
                Reason.CONTEXT_LENGTH,
                f"prompt and answer of {sample.id} have {length} tokens, more than "
                f"reward.openrlhf.max_len={self._section.max_len}",
            )
        value: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, value))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._batches())
        scale: Scale | None = self._section.range
        found = await value
        return {"total": _logistic(found, self._path) if scale is None else on_scale(found, scale, self._path)}

    async def aclose(self) -> None:
        """Calls that wait for a score are cancelled."""
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work
        for _, value in self._waiting:
            value.cancel()

    def _tokens(self, sample: TrainingSample) -> list[int]:
        prompt = sample.prompt
        if self._section.reads == "query":
            turn = [{"role": "user", "content": sample.query}]
            prompt = self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        # The head reads the last token: the end of text, as in training reward models.
        found: list[int] = self._tokenizer(prompt + sample.answer, add_special_tokens=False)["input_ids"]
        return [*found, self._tokenizer.eos_token_id]

    async def _batches(self) -> None:
        while True:
            # Without those that are answered or cancelled.
            self._waiting = [each for each in self._waiting if not each[1].done()]
            if not self._waiting:
                return
            await self._answer(self._waiting[: self._section.batch_size])

    async def _answer(self, batch: list[tuple[list[int], asyncio.Future[float]]]) -> None:
        """Every future of the batch is done afterwards."""
        failure = None
        try:
            values = await asyncio.to_thread(self._forward, [tokens for tokens, _ in batch])
        except Exception as error:
            failure = str(error)  # the error itself would hold the memory that the batch took
        if failure is None:
            for (_, future), value in zip(batch, values, strict=True):
                if not future.done():
                    future.set_result(value)
        elif len(batch) > 1:
            # One that is too long for the memory must not take the others with it.
            for each in batch:
                if not each[1].done():
                    await self._answer([each])
        elif not batch[0][1].done():
            batch[0][1].set_exception(JudgeError(Reason.INTERNAL, f"{self._path}: {failure}"))

    def _forward(self, rows: list[list[int]]) -> list[float]:
        import torch

        longest = max(map(len, rows))
        padding = self._tokenizer.pad_token_id or self._tokenizer.eos_token_id
        ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self._device)
        with torch.no_grad():
            found: list[float] = self._model(ids, attention_mask=mask).float().tolist()
        return found


def problems(section: RewardModelSection, flags: Flags) -> list[Finding]:
    """What would end the run or leave its longest answers without a reward, as far as that can be told without loading
    the model."""
    found, longest, new = [], flags.data_max_len, flags.rollout_max_new_tokens
    if section.model_name_or_path is not None:
        found += missing_model("reward.openrlhf.model_name_or_path", section.model_name_or_path)
    if section.reads == "prompt" and section.max_len < longest:
        sentence = (
            f"reward.openrlhf.max_len={section.max_len} is less than openrlhf.data.max_len={longest}, so that longer "
            "answers would have no reward"
        )
        action = "raise it, or leave the document out with reward.openrlhf.reads=query"
        found.append(Finding.problem("reward", sentence, action))
    if section.reads == "query" and section.max_len <= new:
        sentence = (
            f"reward.openrlhf.max_len={section.max_len} leaves no room for a question beside an answer of "
            f"openrlhf.rollout.max_new_tokens={new}"
        )
        found.append(Finding.problem("reward", sentence, "raise it"))
    return found


def _logistic(logit: float, whose: str) -> float:
    """A logit on the scale 0..10."""
    if not math.isfinite(logit):
        raise JudgeError(Reason.BAD_RESPONSE, f"{whose} gave {logit}, which is not a finite number")
    small = math.exp(-abs(logit))  # exp of a large number overflows
    return 10 / (1 + small) if logit >= 0 else 10 * small / (1 + small)


def _loaded(section: RewardModelSection, path: str, device: str) -> tuple[Any, Any]:
    """The model by OpenRLHF's own loader, and its tokenizer. ConfigError where one cannot be used."""
    from openrlhf.models import get_llm_for_sequence_regression
    from safetensors import SafetensorError

    from rl.data.prompt_files import load_tokenizer

    tokenizer = load_tokenizer(path, trust_remote_code=remote_code.allowed())
    if tokenizer.eos_token is None:
        raise ConfigError(f"the tokenizer of {path} has no eos_token; set it in its tokenizer_config.json")
    if section.reads == "query" and not tokenizer.chat_template:
        raise ConfigError(
            f"reward.openrlhf.reads is query but the tokenizer of {path} has no chat template; add its "
            "chat_template.jinja, or set reads=prompt"
        )
    try:
        model = get_llm_for_sequence_regression(
            path,
            "reward",
            param_dtype=section.param_dtype,
            normalize_reward=section.normalize,
            value_head_prefix=section.value_head_prefix,
            attn_implementation="flash_attention_2" if device == "cuda" else "sdpa",
        )
        _check_head(model, path)
        if section.normalize:
            _set_mean_and_deviation(model, path)
        return model.to(device).eval(), tokenizer
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        why = " ".join(str(error).split())[:300]
        raise ConfigError(f"reward.openrlhf.model_name_or_path {path} cannot be loaded: {why}") from None


def _check_head(model: Any, path: str) -> None:
    # Transformers marks the weights that it has read; the others it draws at random, with no more than a warning.
    if not getattr(getattr(model, model.value_head_prefix).weight, "_is_hf_initialized", False):
        in_config = getattr(model.config, "value_head_prefix", None)  # it goes before the setting
        action = f"correct value_head_prefix in {path}/config.json" if in_config else "give the name of the one it has"
        raise ConfigError(
            f"reward.openrlhf.value_head_prefix: {path} holds no head {model.value_head_prefix!r}, so that its rewards "
            f"would be random; {action}, or take a model that OpenRLHF's train_rm has trained"
        )


def _set_mean_and_deviation(model: Any, path: str) -> None:
    """OpenRLHF sets them when it makes the model; loading the weights then leaves any memory in their place."""
    mean, deviation = (getattr(model.config, name, None) for name in ("mean", "std"))
    if mean is None or deviation is None:
        raise ConfigError(
            f"reward.openrlhf.normalize is true but {path}/config.json has no mean and std; set it to false"
        )
    model.mean.fill_(float(mean))
    model.std.fill_(float(deviation))
