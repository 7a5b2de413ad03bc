"""NeMo Gym's resources server: a task's row and the policy's response in, the same with its reward out.

A void answer is told as Gym's own servers tell that their judge failed: Gym puts such a row aside, NeMo RL masks it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from longreward.errors import InputError
from longreward.schema import Sample
from longreward.server.protocols.labels import hashed, wanted
from longreward.server.protocols.nemo_gym_routes import beside, with_rollout_id
from longreward.server.protocols.protocol import Asked, Item, Outcome, Protocol, first_mistake

_EXAMPLE: dict[str, Any] = {
    "responses_create_params": {"input": [{"role": "user", "content": "Ada met Bob. It rained.\n\nWho met Bob?"}]},
    "response": {"output": [{"type": "message", "role": "assistant", "content": "Ada met Bob."}]},
    "context": "Ada met Bob. It rained.",
    "query": "Who met Bob?",
}
_CONTAINERS = ("verifier_metadata", "task_data")
_FAILED = "judge_failed"


class CreateParams(BaseModel):
    model_config = ConfigDict(extra="allow")
    input: str | list[Any]
    """The prompt: answers to the same one are siblings."""


class Response(BaseModel):
    model_config = ConfigDict(extra="allow")
    output: list[dict[str, Any]]
    """The answer is the text of its last message of the assistant, and empty where there is none."""


class VerifyRequest(BaseModel):
    """A row and the policy's response to it. Of the row `context` and `query`, and where they have a weight `criteria`,
    stand beside them, or inside `verifier_metadata` or `task_data`; `id` optional."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_EXAMPLE]})
    responses_create_params: CreateParams
    response: Response


class VerifyReply(BaseModel):
    """The request without the document, and these. `longreward/...` are numbers, null for a void dimension."""

    model_config = ConfigDict(extra="allow")
    reward: float
    """0..10; for a void answer what stands for it."""
    mask_sample: bool
    """Whether the answer is void: `reward` is not its score."""
    failure_kind: str | None
    failure_reason: str | None
    """Why it is void: `dimension: reason; ...`."""


class _Task(BaseModel):
    context: str
    query: str
    criteria: Any = None
    id: str | int = ""


class _Part(BaseModel):
    text: str = Field("", validation_alias=AliasChoices("text", "refusal"))


class _Message(BaseModel):
    content: str | list[_Part]


class NemoGym(Protocol):
    """A NeMo Gym resources server."""

    paths: ClassVar = with_rollout_id("/verify")
    summary: ClassVar = "Score an answer for NeMo Gym"
    request: ClassVar = VerifyRequest
    reply_type: ClassVar = VerifyReply
    beside: ClassVar = beside

    def read(self, body: bytes) -> Asked:
        try:
            request = VerifyRequest.model_validate_json(body)
            given = request.model_dump(exclude_unset=True)
            containers = [given[name] for name in _CONTAINERS if isinstance(given.get(name), dict)]
            task = _Task.model_validate({name: value for part in (*containers, given) for name, value in part.items()})
            output = [item for item in request.response.output if item.get("type", "message") == "message"]
            said = [item for item in output if item.get("role") == "assistant"]
            content = _Message.model_validate(said[-1]).content if said else ""
        except ValidationError as error:
            raise InputError(first_mistake(error)) from None
        answer = content if isinstance(content, str) else "".join(part.text for part in content)
        for name, text in (("context", task.context), ("query", task.query), ("response", answer)):
            self.limits.check_text(0, name, text)
        criteria = wanted(0, task.criteria) if self.config.uses_criteria else ()
        context = sys.intern(task.context)
        sample = Sample(id=task.id, context=context, query=task.query, answer=answer, criteria=criteria)
        # Gym sends all replies of a run at once to /aggregate_metrics: documents would make that too large.
        for part in (*containers, given):
            part.pop("context", None)
        prompt = hashed(to_json(request.responses_create_params.input).decode())
        # A row that was void before may say so.
        return Asked(
            [Item(sample, prompt)], {n: value for n, value in given.items() if not n.startswith("_ng_failure")}
        )

    def reply(self, asked: Asked, outcomes: Sequence[Outcome], judge: Mapping[str, float]) -> dict[str, Any]:
        outcome = outcomes[0]
        reward, void = outcome.reward, outcome.reward.total is None
        assert outcome.scores is not None, "what stands for a void one"
        told: dict[str, Any] = {"reward": float(outcome.scores["total"]), "mask_sample": void}
        told |= {"failure_kind": None, "failure_reason": None}
        if void:
            why = outcome.status[:2000]
            config = asked.body.get("instance_config")
            told |= {"failure_kind": _FAILED, "failure_reason": why}
            told |= {"instance_config": {**(config if isinstance(config, dict) else {}), "mask_sample": True}}
            # The last one is what Gym prints.
            told |= {"_ng_failure_class": _FAILED, "_ng_failure_judge_error": why, "_ng_failure_message": why}
        figures = {name: dimension.score for name, dimension in reward.dimensions.items()}
        figures |= {"void": float(void), "judge_calls": reward.usage.calls, "judge_cost": reward.usage.cost}
        return {**asked.body, **told, **{f"longreward/{name}": figure for name, figure in figures.items()}}
