"""NeMo Gym's resources server: a task's row and the policy's response in, the same with its reward out.

A void answer is told as Gym's own servers tell that their judge failed: Gym puts such a row aside, NeMo RL masks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic_core import to_json

from longreward.server.protocols.nemo_gym_routes import beside, with_rollout_id
from longreward.server.protocols.protocol import Asked, Outcome, Protocol, parsed, validated
from longreward.server.protocols.samples import Question, item

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
        request = validated(VerifyRequest, parsed(body))
        given = request.model_dump(exclude_unset=True)
        places = [given[name] for name in _CONTAINERS if isinstance(given.get(name), dict)] + [given]
        question = validated(Question, {name: value for place in places for name, value in place.items()})
        said = [one for one in request.response.output if one.get("role") == "assistant"]
        said = [one for one in said if one.get("type", "message") == "message"]
        content = validated(_Message, said[-1], "response.output: ").content if said else ""
        answer = content if isinstance(content, str) else "".join(part.text for part in content)
        self.check_texts("", context=question.context, query=question.query, answer=answer)
        prompt = to_json(request.responses_create_params.input).decode()
        # Gym sends all replies of a run at once to /aggregate_metrics: documents would make that too large.
        for place in places:
            place.pop("context", None)
        # A row that was void before may say so.
        back = {name: value for name, value in given.items() if not name.startswith("_ng_failure")}
        return Asked([item(self, "", question, answer, prompt)], back)

    def reply(self, asked: Asked, outcomes: Sequence[Outcome], judge: Mapping[str, float]) -> dict[str, Any]:
        (outcome,) = outcomes
        reward, why = outcome.reward, None if outcome.reward.total is not None else outcome.status[:2000]
        told: dict[str, Any] = {
            "reward": outcome.number,
            "mask_sample": why is not None,
            "failure_kind": None,
            "failure_reason": why,
        }
        if why is not None:
            config = asked.body.get("instance_config")
            told |= {"failure_kind": _FAILED, "_ng_failure_class": _FAILED, "_ng_failure_judge_error": why}
            told |= {"instance_config": {**(config if isinstance(config, dict) else {}), "mask_sample": True}}
            told |= {"_ng_failure_message": why}  # what Gym prints
        figures = {name: dimension.score for name, dimension in reward.dimensions.items()}
        figures |= {"void": float(why is not None), "judge_calls": reward.usage.calls, "judge_cost": reward.usage.cost}
        return {**asked.body, **told, **{f"longreward/{name}": figure for name, figure in figures.items()}}
