"""How steady is completeness by key points beside the rating? A scripted judge with known noise.

    PYTHONPATH=.:benchmarks python benchmarks/key_points.py      # a minute

30 documents of 8 facts. Of each there is an answer with all facts, and 8 from which 1, 2, ... are deleted. An answer
says a fact plainly (1), or more or less clearly (0.5 to 1, drawn once). The judge sees how clearly each fact is said,
and errs: the error of a judgement has the same deviation, relative to its scale, whether it is a rating (0 to 10 in
halves) or the verdict on a point (1, 0.5 or 0). That is the one of noisy_judge.py with an analysis (0.067), 0.1 or 0.2.
Errors are independent, or half of their variance is one error for the whole reply. Every call errs anew.

Printed are, for each way, the share of neighbours of which the answer with a fact less has a lower score, the share of
documents whose nine scores all fall strictly, and the deviation of the score of one answer from call to call. Exit code
1 where, with facts that are said plainly and independent errors of the least deviation, fewer than 95% of the documents
fall strictly by key points, or the deviation is more than half of the rating's. The other rows are no bars: they tell
how far that carries.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import statistics
import sys
from itertools import pairwise, product

from aiohttp import web
from judge_server import free_port
from noisy_judge import SETTLED, SPREAD

from longreward import LongReward, Sample

DOCUMENTS, FACTS, TIMES = 30, 8, 4
NOISES = (round(math.hypot(SETTLED, SPREAD[True]) / 10, 3), 0.1, 0.2)
LEAST_CLEAR = {"plain": 1.0, "more or less clear": 0.5}
SHARED = (0.0, 0.5)  # of the variance, what is one error for the whole reply
WAYS = ("rating", "key_points")
QUERY = "What did they do?"


class NoisyJudge:
    """It reads how clearly each fact is said out of the answer."""

    def __init__(self) -> None:
        self.noise = self.shared = 0.0
        self.random = random.Random(0)

    async def reply(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = self._said(request.headers["X-LongReward-Request"], body["messages"][-1]["content"])
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    def _said(self, kind: str, prompt: str) -> str:
        # The examples of a prompt speak of no such fact.
        facts = list(dict.fromkeys(re.findall(r"Fact \d+-\d+\b", prompt)))
        if kind == "extract":
            return "\n".join(f"{fact} happened." for fact in facts)
        if kind == "points":
            return "\n".join(f"<point>{fact} happened.</point>" for fact in facts)
        answer = prompt.rpartition("\n<answer>\n")[2]
        clear = [
            float(found[1]) if (found := re.search(rf"{fact} at (\S+) clarity", answer)) else 0.0 for fact in facts
        ]
        shared = self._error(self.shared)
        if kind == "completeness":
            return f"[[{round(2 * self._seen(statistics.fmean(clear), shared, 10)) / 2}]]"
        verdicts = ("Missing", "Partly covered", "Covered")
        seen = [verdicts[round(self._seen(each, shared, 2))] for each in clear]
        return "\n".join(f"{number}. [[{verdict}]]" for number, verdict in enumerate(seen, 1))

    def _error(self, share: float) -> float:
        return self.random.gauss(0, self.noise * math.sqrt(share))

    def _seen(self, true: float, shared: float, scale: float) -> float:
        return scale * min(1.0, max(0.0, true + shared + self._error(1 - self.shared)))


def answers(least_clear: float) -> list[list[Sample]]:
    """Of each document the answers with all facts, without one, ..., without any."""
    rng, found = random.Random(1), []
    for document in range(DOCUMENTS):
        facts = [f"Fact {document}-{number}" for number in range(FACTS)]
        said = [f"{fact} at {rng.uniform(least_clear, 1):.3f} clarity." for fact in facts]
        rng.shuffle(said)
        context = " ".join(f"{fact} happened." for fact in facts)
        texts = [" ".join(said[deleted:]) or "Nothing is known." for deleted in range(FACTS + 1)]
        found.append([Sample(context=context, query=QUERY, answer=text) for text in texts])
    return found


async def scored(way: str, url: str, asked: list[list[Sample]]) -> list[list[float]]:
    """The completeness of each answer, by document."""
    judge = {"kind": "openai", "model": "judge", "base_url": url, "max_in_flight": 64}
    reward = LongReward.from_config({"judge": judge, "weights": {"completeness": 1}, "completeness": {"way": way}})
    rewards = await reward.score_many([sample for samples in asked for sample in samples])
    await reward.aclose()
    values = [each.dimensions["completeness"].score for each in rewards]
    assert None not in values, "the scripted judge gave no verdict"
    size = FACTS + 1
    return [[value or 0.0 for value in values[at : at + size]] for at in range(0, len(values), size)]


async def measured() -> bool:
    judge, application, port = NoisyJudge(), web.Application(), free_port()
    application.router.add_post("/v1/chat/completions", judge.reply)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("| facts | errors | noise | way | neighbours in order | documents in order | deviation of a score |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    for (facts, least), judge.shared, judge.noise in product(LEAST_CLEAR.items(), SHARED, NOISES):
        asked, errors = answers(least), "half shared" if judge.shared else "independent"
        for way in WAYS:
            rounds = [await scored(way, f"http://127.0.0.1:{port}/v1", asked) for _ in range(TIMES)]
            found[facts, errors, judge.noise, way] = pairs, whole, deviation = figures(rounds)
            cells = facts, errors, judge.noise, way, f"{pairs:.1%}", f"{whole:.1%}", f"{deviation:.2f}"
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    await runner.cleanup()
    (_, _, rated), (_, in_order, covered) = (found["plain", "independent", NOISES[0], way] for way in WAYS)
    return in_order >= 0.95 and covered <= rated / 2


def figures(rounds: list[list[list[float]]]) -> tuple[float, float, float]:
    """Shares of neighbours and of documents in order, and the deviation of a score between the rounds."""
    chains = [chain for one in rounds for chain in one]
    pairs = [[before > after for before, after in pairwise(chain)] for chain in chains]
    again = [statistics.variance(values) for same in zip(*rounds, strict=True) for values in zip(*same, strict=True)]
    shares = statistics.fmean(map(statistics.fmean, pairs)), statistics.fmean(map(all, pairs))
    return *shares, math.sqrt(statistics.fmean(again))


if __name__ == "__main__":
    sys.exit(not asyncio.run(measured()))
