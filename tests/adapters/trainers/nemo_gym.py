"""NeMo Gym as the conformance suite sees it: what its agents send to /verify, and what the reply tells them."""

from __future__ import annotations

from typing import Any

PATH = "/verify"


def request(row: dict[str, Any]) -> dict[str, Any]:
    """The body for a row with idx, context, query and answer: the row of the data set and the policy's response."""
    prompt = [{"role": "user", "content": f"{row['context']}\n\n{row['query']}"}]
    said = {"type": "output_text", "text": row["answer"], "annotations": []}
    thought = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me see."}]}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [said]}
    response = {
        **{"id": "resp_1", "created_at": 0.0, "model": "policy", "object": "response", "output": [thought, message]},
        **{"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "completed"},
    }
    fields = {name: row[name] for name in ("context", "query", "criteria") if name in row}
    return {"responses_create_params": {"input": prompt}, "id": row.get("idx", ""), **fields, "response": response}


def seen(reply: dict[str, Any]) -> tuple[float, bool]:
    """The reward, 0..10, and whether Gym puts the row aside and NeMo RL masks it."""
    aside = reply.get("_ng_failure_class") is not None
    assert reply["mask_sample"] == aside == bool((reply.get("instance_config") or {}).get("mask_sample"))
    return reply["reward"], aside
