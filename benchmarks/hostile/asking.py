"""Hostile replies given to the parsers, and hostile responses sent to the real client over a socket: what comes out."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import warnings
from collections.abc import Iterable
from typing import Any

from hostile.replies import Reply
from hostile.responses import DOUBT, SURE, Response
from longreward.errors import JudgeError, VerdictError
from longreward.judge.protocol.client import EndpointClient
from longreward.model_config import EndpointConfig

GOOD = ("right", "asked again")
AT_ONCE = 16


def outcome(reply: Reply) -> str:
    """`right`, `asked again` (an error), or what is wrong with the parser."""
    try:
        value = reply.parse(reply.text)
    except VerdictError:
        return "unread" if reply.plain else "asked again"
    except Exception as error:
        return f"raised {type(error).__name__}"
    return "right" if value == reply.value and value is not None else "wrong value"


async def outcomes(responses: Iterable[Response]) -> list[tuple[str, Response]]:
    """Each response with `right`, `asked again`, or what is wrong with the client; what asyncio or aiohttp warn of is
    wrong too."""
    sent: list[Response] = []
    heard = _Heard()
    loop, given = asyncio.get_running_loop(), iter(responses)
    loop.set_exception_handler(
        lambda _, context: heard.told.append(str(context.get("exception") or context["message"]))
    )
    server = await asyncio.start_server(lambda reader, writer: _serve(reader, writer, sent), "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    client = EndpointClient(EndpointConfig(base_url=address, max_in_flight=AT_ONCE), 60)
    found: list[tuple[str, Response]] = []

    async def ask() -> None:
        for response in given:
            sent.append(response)
            result = await _outcome(client, len(sent) - 1, response)
            if heard.told:
                result = f"warned: {heard.told.pop()}"
            if result in GOOD:
                response.wire = b""  # some are large
            found.append((result, response))

    gc.collect()  # what others have left unclosed would warn in the midst of it
    with warnings.catch_warnings():
        warnings.showwarning = heard.warned  # type: ignore[assignment]
        warnings.simplefilter("always")
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        await client.aclose()
        server.close()
    heard.close()
    return found


async def _outcome(client: EndpointClient, number: int, response: Response) -> str:
    try:
        reply = await client.complete({"messages": [{"role": "user", "content": str(number)}]}, "helpfulness")
        value = response.parse(reply.texts[0])
    except (JudgeError, VerdictError) as error:
        shown = str(error)
        wait = error.retry_after if isinstance(error, JudgeError) else None
        if "\n" in shown or len(shown) > 1000 or not (wait is None or 0 < wait < math.inf):
            return "unreadable error"
        return "unread" if response.certain == SURE else "asked again"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    usage = reply.usage
    if any(
        type(n) is not int or not 0 <= n < 10**9
        for n in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    ):
        return "wrong usage"
    return "right" if response.certain in (SURE, DOUBT) and value == response.value else "wrong value"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: list[Response]) -> None:
    """Answers the requests of one connection: each names the response that it wants."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            response = sent[int(json.loads(body)["messages"][0]["content"])]
            writer.write(response.wire)
            await writer.drain()
            if response.closes:
                break
    except (asyncio.IncompleteReadError, ConnectionError):  # the client has closed it
        pass
    writer.close()


class _Heard(logging.Handler):
    """What was warned of meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []
        for name in ("asyncio", "aiohttp"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())

    def warned(self, message: Any, *_: Any, **__: Any) -> None:
        self.told.append(str(message))

    def close(self) -> None:
        for name in ("asyncio", "aiohttp"):
            logging.getLogger(name).removeHandler(self)
        super().close()
