"""A judge of fixed latency on 127.0.0.1, in a process of its own so that it does not share the client's event loop."""

from __future__ import annotations

import argparse
import asyncio

from aiohttp import web


def reply(prompt: str, statements: int) -> str:
    """A valid verdict for each of the six prompts, told apart by their fences."""
    if "\n<extractions>\n" in prompt:
        return "[[8]]"
    if "\n<passage>\n" in prompt:
        return "Mara sold copper."
    if "\n<evidence>\n" in prompt:
        return "[[Fully supported]]"
    if "<statement>" in prompt:
        return "\n".join(f"<statement>Mara sold {i} crates of copper.</statement>" for i in range(statements))
    return "[[8]]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True, help="seconds per call")
    parser.add_argument("--statements", type=int, default=10)
    options = parser.parse_args()

    async def complete(request: web.Request) -> web.Response:
        prompt = (await request.json())["messages"][-1]["content"]
        await asyncio.sleep(options.latency)
        message = {"role": "assistant", "content": reply(prompt, options.statements)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 10, "total_tokens": len(prompt) // 4 + 10}
        return web.json_response({"choices": [choice], "usage": usage})

    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/chat/completions", complete)
    web.run_app(application, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
