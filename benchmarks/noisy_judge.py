"""What is a mean worth to a group? A scripted judge with known noise: one written verdict, votes, the distribution.

    PYTHONPATH=.:benchmarks python benchmarks/noisy_judge.py      # half a minute

400 groups of 8 answers of known quality. The judge sees it with an error of its own (deviation 0.2), which no asking
removes, and spreads its verdicts around that (deviation 1). An analysis settles it on a place nearby (0.3), and leaves
it with a smaller spread (0.6). Printed are Kendall's tau-b to the true order within groups, the groups whose answers
all get one value, and the tokens per answer. Exit code 1 where the distribution or the votes, without an analysis,
order no better than one written verdict, cost more tokens, or leave more than half as many groups without spread.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import statistics
import sys
from typing import Any

from aiohttp import web
from judge_server import free_port

from longreward.config import JudgeConfig
from longreward.evaluation.changes import kendall_tau
from longreward.judge import make_judge
from longreward.judge.requests import RateHelpfulness

GROUPS, SIZE = 400, 8
WITHIN, ERROR = 0.3, 0.2  # deviations: of qualities in a group, of the judge's own error
SETTLED, SPREAD = 0.3, {True: 0.6, False: 1.0}  # of what an analysis settles on; of verdicts with one and without
ANALYSIS_TOKENS, VERDICT_TOKENS = 60, {True: 6, False: 4}  # of a verdict in JSON and in brackets
FORMS: dict[str, dict[str, Any]] = {
    "written": {},
    "written, no analysis": {"analysis": False},
    "8 votes, no analysis": {"analysis": False, "votes": 8, "temperature": 0.7},
    "distribution": {"verdict": "distribution"},
    "distribution, no analysis": {"verdict": "distribution", "analysis": False},
}


async def judge(request: web.Request) -> web.Response:
    """It reads the quality, and its own error, out of the answer."""
    body = await request.json()
    prompt, schema = body["messages"][-1]["content"], body.get("response_format")
    quality, error = map(float, re.findall(r"quality (\S+) error (\S+)\.", prompt)[-1])
    analysed = "analysis" in json.dumps(schema) if schema else "without an analysis" not in prompt
    seen = quality + error + (random.Random(prompt).gauss(0, SETTLED) if analysed else 0)
    seen = min(10.0, max(0.0, seen)) * (0.9 if schema else 1)
    odds = [math.exp(-((step - seen) ** 2) / 2 / SPREAD[analysed] ** 2) for step in range(10 if schema else 11)]
    odds = [each / sum(odds) for each in odds]
    sharper = [each ** (1 / body["temperature"]) for each in odds]
    choices = []
    for step in random.Random(prompt).choices(range(len(odds)), sharper, k=body.get("n", 1)):
        said = json.dumps(({"analysis": ""} if analysed else {}) | {"verdict": step}) if schema else f"[[{step}]]"
        tokens = [said[:-2], str(step), "}"] if schema else [said]
        place = [{"token": str(each), "logprob": math.log(odds[each] or 1e-300)} for each in range(len(odds))]
        told = [{"token": token, "top_logprobs": place if token == str(step) else []} for token in tokens]
        choices.append({"message": {"content": said}, "finish_reason": "stop", "logprobs": {"content": told}})
    written = len(choices) * (ANALYSIS_TOKENS * analysed + VERDICT_TOKENS[bool(schema)])
    usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": written}
    return web.json_response({"choices": choices, "usage": usage})


async def rated(form: dict[str, Any], url: str, groups: list[list[tuple[float, float]]]) -> tuple[list[Any], float]:
    """The values of each group, and the tokens of an answer."""
    asked = make_judge(JudgeConfig(kind="openai", model="judge", base_url=url, **form))
    answers = [
        f"Answer {g}-{i}: quality {q} error {e}." for g, group in enumerate(groups) for i, (q, e) in enumerate(group)
    ]
    verdicts = await asyncio.gather(
        *(asked.ask(RateHelpfulness("en", "How good is it?", answer)) for answer in answers)
    )
    await asked.aclose()
    values = [verdict.value for verdict in verdicts]
    tokens = sum(verdict.call.usage.tokens for verdict in verdicts) / len(values)
    return [values[start : start + SIZE] for start in range(0, len(values), SIZE)], tokens


def order(values: list[float], group: list[tuple[float, float]]) -> float:
    """Kendall's tau-b to the true order; 0 where nothing is told apart."""
    return kendall_tau(values, [quality for quality, _ in group]) or 0.0


async def measured() -> bool:
    rng, groups = random.Random(0), []
    for _ in range(GROUPS):
        middle = rng.uniform(3, 9)
        qualities = [min(10.0, max(0.0, rng.gauss(middle, WITHIN))) for _ in range(SIZE)]
        groups.append([(round(quality, 4), round(rng.gauss(0, ERROR), 4)) for quality in qualities])
    application, port = web.Application(), free_port()
    application.router.add_post("/v1/chat/completions", judge)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("| form | tau | groups without spread | tokens an answer |\n|---|---|---|---|")
    found = {}
    for name, form in FORMS.items():
        values, tokens = await rated(form, f"http://127.0.0.1:{port}/v1", groups)
        tau = statistics.fmean(map(order, values, groups))
        flat = sum(len(set(each)) == 1 for each in values) / GROUPS
        found[name] = tau, flat, tokens
        print(f"| {name} | {tau:.3f} | {flat:.1%} | {tokens:.0f} |", flush=True)
    await runner.cleanup()
    best, flattest, most = found["written"]
    means = [found[name] for name in ("8 votes, no analysis", "distribution, no analysis")]
    return all(tau > best and flat <= flattest / 2 and tokens <= most for tau, flat, tokens in means)


if __name__ == "__main__":
    sys.exit(not asyncio.run(measured()))
