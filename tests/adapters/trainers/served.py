"""Trainers that ask `longreward serve`: a small class for each protocol and way of asking."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import aiohttp

from trainers.trainer import Row, Seen, Trainer, masked, normalised, numbers


class Served(Trainer):
    """Asks a server."""

    path: ClassVar[str]
    at_once: ClassVar[int] = 1
    """How many answers it puts into a request."""

    def __init__(self, config: dict[str, Any], url: str) -> None:
        super().__init__(config)
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    @abstractmethod
    def request(self, rows: Sequence[Row]) -> Any:
        """The body."""

    @abstractmethod
    def seen(self, reply: Any) -> list[Seen]:
        """What it reads from the reply, in the order of the rows."""

    async def rewards(self, rows: Sequence[Row]) -> list[Seen]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64))
        parts = [rows[start : start + self.at_once] for start in range(0, len(rows), self.at_once)]
        asked = await asyncio.gather(*(self._ask(part) for part in parts))
        return [one for part in asked for one in part]

    async def _ask(self, rows: Sequence[Row]) -> list[Seen]:
        assert self._session is not None
        async with self._session.post(f"{self.url}{self.path}", json=self.request(rows)) as response:
            text = await response.text()
            assert response.status == 200, (response.status, text)
            return self.seen(self.read(text))

    def read(self, text: str) -> Any:
        return json.loads(text)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def prompt_of(row: Row) -> str:
    return f"<|im_start|>user\n{row['context']}\n\n{row['query']}<|im_end|>\n<|im_start|>assistant\n"


def label_of(row: Row) -> str:
    return json.dumps({"id": str(row["idx"]), "context": row["context"], "query": row["query"]})


class OpenRLHF(Served):
    """`--reward.remote_url URL`."""

    path = "/get_reward"
    at_once = 64

    def request(self, rows: Sequence[Row]) -> Any:
        prompts = [prompt_of(row) for row in rows]
        answers = [f"{prompt}{row['answer']}<|im_end|>" for prompt, row in zip(prompts, rows, strict=True)]
        return {"query": answers, "prompts": prompts, "labels": [label_of(row) for row in rows]}

    def seen(self, reply: Any) -> list[Seen]:
        assert reply["scores"] == [reward / 10 for reward in reply["rewards"]]
        void = reply["extra_logs"]["longreward/void"]
        return [Seen(reward, bool(one)) for reward, one in zip(reply["rewards"], void, strict=True)]

    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        return normalised(numbers(seen), epsilon=1e-9)  # OpenRLHF does not read `void`


class Slime(Served):
    """`--rm-type remote_rm --rm-url URL`."""

    path = "/slime"

    def request(self, rows: Sequence[Row]) -> Any:
        (row,) = rows
        return {"prompt": prompt_of(row), "response": row["answer"] + "<|im_end|>", "label": label_of(row)}

    def seen(self, reply: Any) -> list[Seen]:
        return [Seen(reply, False)]

    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        return normalised(numbers(seen))


class SlimeLists(Slime):
    """A reward function of slime's that sends a group at once."""

    at_once = 64

    def request(self, rows: Sequence[Row]) -> Any:
        return [super(SlimeLists, self).request([row]) for row in rows]

    def seen(self, reply: Any) -> list[Seen]:
        return [Seen(reward, False) for reward in reply]


class Score(Served):
    """/v1/score with one answer."""

    path = "/v1/score"

    def request(self, rows: Sequence[Row]) -> Any:
        (row,) = rows
        return {"id": row["idx"]} | {name: row[name] for name in ("context", "query", "answer")}

    def seen(self, reply: Any) -> list[Seen]:
        assert (reply["status"] == "ok") == (reply["reward"] is not None)
        return [Seen(reply["reward"], reply["reward"] is None)]

    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        return masked(seen)


class ScoreMany(Score):
    at_once = 64

    def request(self, rows: Sequence[Row]) -> Any:
        return {"items": [super(ScoreMany, self).request([row]) for row in rows]}

    def seen(self, reply: Any) -> list[Seen]:
        assert [one["index"] for one in reply["results"]] == list(range(len(reply["results"])))
        return [seen for one in reply["results"] for seen in super(ScoreMany, self).seen(one)]


class ScoreStream(ScoreMany):
    def request(self, rows: Sequence[Row]) -> Any:
        return super().request(rows) | {"stream": True}

    def read(self, text: str) -> Any:
        return {"results": sorted(map(json.loads, text.splitlines()), key=lambda one: one["index"])}


class NemoGym(Served):
    """A resources server of NeMo Gym: what its agents send to /verify, and what the reply tells them."""

    path = "/verify"

    def request(self, rows: Sequence[Row]) -> Any:
        (row,) = rows
        prompt = [{"role": "user", "content": f"{row['context']}\n\n{row['query']}"}]
        said = {"type": "output_text", "text": row["answer"], "annotations": []}
        thought = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me see."}]}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [said]}
        response = {
            **{
                "id": "resp_1",
                "created_at": 0.0,
                "model": "policy",
                "object": "response",
                "output": [thought, message],
            },
            **{"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "completed"},
        }
        about = {"id": row["idx"], "context": row["context"], "query": row["query"]}
        return {"responses_create_params": {"input": prompt}, **about, "response": response}

    def seen(self, reply: Any) -> list[Seen]:
        aside = reply.get("_ng_failure_class") is not None
        assert reply["mask_sample"] == aside == bool((reply.get("instance_config") or {}).get("mask_sample"))
        return [Seen(reply["reward"], aside)]

    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        # NeMo RL masks a void answer's loss, but counts its number in the group: its issue 4061.
        found = normalised(numbers(seen))
        return [0.0 if one.void else value for one, value in zip(seen, found, strict=True)]
