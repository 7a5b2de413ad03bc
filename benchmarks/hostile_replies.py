"""Hostile replies: python benchmarks/hostile_replies.py [--replies N] [--responses N] [--seed N]

Replies against the parsers of verdicts, and HTTP responses against the client over a socket. Each is put together from
pieces whose reading is known (benchmarks/hostile/). What comes out must be the value that a person would read, or an
error where a person would not be certain. The oracle is the making; it shares no code with the parsers.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from hostile.asking import GOOD, outcome, outcomes
from hostile.deviations import ResponseMaker
from hostile.replies import Maker

SHOWN = 20


def summed(what: str, found: Iterable[tuple[str, str, str]], began: float) -> int:
    """Print how each kind fared, given outcome, kind and what to show of it. Returns the number of wrong ones."""
    counts: dict[str, Counter[str]] = {}
    shown = 0
    for result, kind, text in found:
        counts.setdefault(kind, Counter())[result if len(result) < 60 else result[:60]] += 1
        if result not in GOOD and shown < SHOWN:
            shown += 1
            print(f"{result}: {kind}, {text}")
    for kind, results in sorted(counts.items()):
        print(f"{kind:26} " + ", ".join(f"{count:,} {result}" for result, count in results.most_common()))
    total = sum(counts.values(), Counter())
    bad = total.total() - sum(total[each] for each in GOOD)
    sums = f"{total['right']:,} right, {total['asked again']:,} asked again, {bad:,} wrong"
    print(f"{total.total():,} {what}: {sums}; {time.monotonic() - began:.0f} s")
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replies", type=int, default=100_000)
    parser.add_argument("--responses", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    replies = islice(Maker(options.seed).replies(), options.replies)
    told = ((outcome(each), each.kind, f"expected {each.value!r}: {each.text!r}") for each in replies)
    bad = summed("replies", told, began)
    began = time.monotonic()
    sent = asyncio.run(outcomes(islice(ResponseMaker(options.seed).responses(), options.responses)))
    shown = ((result, made.kind, f"{made.certain} {made.value!r}: {made.wire[:600]!r}") for result, made in sent)
    return 1 if bad + summed("responses", shown, began) else 0


if __name__ == "__main__":
    sys.exit(main())
