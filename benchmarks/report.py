"""A report of a large run: how long it takes to make, how large it is, and how fast it answers in a browser.

    python benchmarks/report.py [--answers 100000] [--folder DIR]

The run is made in a temporary folder (some 20 KB an answer, 2 GB for 100,000, evidence included, a twentieth void, 100
answers to each prompt over ten steps) and removed at the end. Half of the sentences of an answer, of its statements and
of its judge are its own, the others are said by siblings as well; a statement that several answers make has been
verified once, as the engine does. Needs Chromium and playwright. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from longreward.commands.accounts import table
from longreward.files.jsonlines import Appender
from longreward.report.build import build
from longreward.report.reading.sources import opened
from longreward.schema import DIMENSIONS, ScoredAnswer
from longreward.store import Store

BARS = {
    "build": (60.0, "s"),
    "peak memory": (1.0, "GiB"),
    "file": (100.0, "MB"),
    "first view": (2.0, "s"),
    "filter by figures": (0.3, "s"),
    "filter by text": (0.3, "s"),
}
FILES, PER_PROMPT, PER_GROUP = 8, 100, 10
DOCUMENT_SENTENCES, ANSWER_SENTENCES, STATEMENTS, CHUNKS = 240, 18, 6, 5
CHUNK_SENTENCES = 5
SHARED = 0.5  # of all sentences
LETTERS = "etaoinshrdlucmfwypvbgk"


class Writer:
    """Words with the frequencies of a language, so that what it writes is as hard to compress as prose."""

    def __init__(self) -> None:
        self.rng = random.Random(0)
        weights = [1 / (i + 2) for i in range(len(LETTERS))]
        sizes = [2, 3, 4, 5, 6, 7, 8, 9, 10]
        made = {"".join(self.rng.choices(LETTERS, weights, k=self.rng.choice(sizes))) for _ in range(12_000)}
        self._words = sorted(made, key=lambda word: (len(word) > 4, self.rng.random()))
        self._weights = list(accumulate(1 / (i + 3) for i in range(len(self._words))))

    def sentence(self) -> str:
        return " ".join(self.rng.choices(self._words, cum_weights=self._weights, k=14)).capitalize() + "."


def call(kind: str, text: str, source: str = "judge") -> dict[str, Any]:
    if source != "judge":
        return {"kind": kind, "text": text, "source": source}
    usage = {"calls": 1, "prompt_tokens": 900, "completion_tokens": 90, "cost": 0.00041}
    return {"kind": kind, "text": text, "attempts": 1, "seconds": 1.234, "usage": usage}


class Document:
    """A document, and what siblings say of it alike."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        sentences = [writer.sentence() for _ in range(DOCUMENT_SENTENCES)]
        self.text, self.chunks = "", []
        for index in range(0, DOCUMENT_SENTENCES, CHUNK_SENTENCES):
            chunk = " ".join(sentences[index : index + CHUNK_SENTENCES]) + " "
            start = len(self.text)
            span = {"index": index // CHUNK_SENTENCES, "start": start, "end": start + len(chunk), "text": chunk}
            self.text += chunk
            self.chunks.append(span)
        self._shared = [writer.sentence() for _ in range(40)]
        self._verified: dict[str, dict[str, Any]] = {}
        self._said = [writer.sentence() for _ in range(60)]

    def answer(self, void: bool) -> dict[str, Any]:
        rng, writer = self._writer.rng, self._writer
        pool, own = self._shared, writer.sentence
        sentences = [rng.choice(pool) if rng.random() < SHARED else own() for _ in range(ANSWER_SENTENCES)]
        facts = []
        for text in sentences[:STATEMENTS]:
            known = self._verified.get(text)
            if known is None:
                chunks = sorted(rng.sample(self.chunks, CHUNKS), key=lambda chunk: chunk["start"])
                made = call("verify", self._judge(4))
                known = {"text": text, "support": rng.choice([0.0, 0.5, 1.0, 1.0]), "evidence": chunks, "call": made}
                if text in pool:
                    shared = call("verify", made["text"], "shared")
                    self._verified[text] = known | {"call": shared}
            facts.append(known)
        dimensions: dict[str, Any] = {}
        for name in DIMENSIONS:
            score = None if void and name == "completeness" else rng.randint(0, 20) / 2
            status = {"status": "timeout", "detail": "no reply in 60 s"} if score is None else {}
            dimensions[name] = {"score": score, **status, "calls": [call(name, self._judge(5))]}
        dimensions["faithfulness"]["statements"] = facts
        scores = [dimension["score"] for dimension in dimensions.values()]
        total = None if None in scores else sum(scores) / 4
        return {"answer": " ".join(sentences), "total": total, "dimensions": dimensions, "seconds": 2.5}

    def _judge(self, sentences: int) -> str:
        rng = self._writer.rng
        some = [rng.choice(self._said) if rng.random() < SHARED else self._writer.sentence() for _ in range(sentences)]
        return " ".join(some) + " [[7]]"


def make(folder: Path, answers: int) -> int:
    """Write a run directory; how many bytes its store has."""
    writer = Writer()
    prompts = max(1, answers // PER_PROMPT)
    flags = {"rollout.batch_size": prompts, "rollout.n_samples_per_prompt": PER_GROUP}
    (folder / "config.yaml").write_text(json.dumps({"openrlhf": flags}))
    files = [Store(folder / "store" / f"answers-{number}-0.jsonl") for number in range(FILES)]
    with Appender(folder / "data" / "train.jsonl") as rendered:
        for number in range(prompts):
            document, query = Document(writer), f"What does document {number} say?"
            middle = 6 + len(document.text)
            label = {"id": f"train-{number:05}", "split": "train", "context": [6, middle]}
            label["query"] = [middle + 2, middle + 2 + len(query)]
            rendered.append({"input": f"<user>{document.text}\n\n{query}<assistant>", "label": json.dumps(label)})
            for i in range(PER_PROMPT):
                # The same prompt comes again in each of ten steps, which is how far apart its answers lie in time.
                at = 1.8e9 + (i // PER_GROUP) * 10_000 + number + i / PER_PROMPT
                record = {"id": label["id"], "split": "train", "rollout": f"{writer.rng.getrandbits(128):032x}"}
                record |= {"truncated": False, "tokens": writer.rng.randint(200, 500), "time": at, "query": query}
                scored = record | document.answer(writer.rng.random() < 0.05)
                writer.rng.choice(files).append(ScoredAnswer.model_validate(scored))
    for store in files:
        store.close()
    return sum(store.path.stat().st_size for store in files)


def measure(folder: Path) -> dict[str, Any]:
    """In a process of its own, whose peak memory counts."""
    started = time.monotonic()
    page = folder / "report.html"
    built = build([opened(folder)], page)
    seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak, cpu = used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime
    size = page.stat().st_size / 1e6
    return {"build": seconds, "its CPU": cpu, "peak memory": peak, "file": size, "limits": built.limits}


_FILTER = """async ([name, value]) => {
  const field = document.getElementById(`by-${name}`);
  const count = document.querySelector(".count");
  const before = count.textContent;
  const began = performance.now();
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  while (count.textContent === before) await new Promise((resolve) => requestAnimationFrame(resolve));
  await new Promise((resolve) => requestAnimationFrame(resolve));
  return [(performance.now() - began) / 1000, count.textContent];
}"""


def browse(report: Path) -> dict[str, Any]:
    """Seconds as a reader has them, from the event to the next frame."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        started = time.monotonic()
        page.goto(report.as_uri(), wait_until="commit")
        page.locator(".chart svg").first.wait_for()
        found: dict[str, Any] = {"first view": time.monotonic() - started}
        page.get_by_role("link", name="Answers", exact=True).click()
        page.locator(".answers > li").first.wait_for()
        found["answers page"] = time.monotonic() - started
        page.wait_for_function("() => document.documentElement.dataset.searchable")
        found["all searchable"] = time.monotonic() - started
        fields = {"reward": "3-4.5", "status": "void", "faithfulness": "8-", "step": "2-5"}
        found["filter by figures"] = max(_filtered(page, name, value) for name, value in fields.items())
        words = [page.locator(".snippet").first.inner_text().split()[3], "a", "no such words", "Document 7 say"]
        found["filter by text"] = max(_filtered(page, "text", value) for value in words)
        _filtered(page, "text", "")
        began = time.monotonic()
        page.locator("a.open").first.click()
        page.locator("#evidence").wait_for()
        found["an answer opens"] = time.monotonic() - began
        browser.close()
    return found


def _filtered(page: Any, name: str, value: str) -> float:
    seconds, count = page.evaluate(_FILTER, [name, value])
    print(f"  {name} = {value!r}: {count}, {seconds:.3f} s")
    if name != "text":
        page.evaluate(_FILTER, [name, ""])
    return float(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="report-", dir=options.folder) as name:
        size = make(Path(name), options.answers)
        print(f"store: {options.answers:,} answers, {size / 1e9:.2f} GB, {size / options.answers / 1e3:.1f} KB each")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found = pool.submit(measure, Path(name)).result()
        found |= browse(Path(name) / "report.html")
    print(f"characters of judge replies about supported statements, and of others (None: all): {found.pop('limits')}")
    shown = table(f"A report of {options.answers:,} answers", "", ["measured", "bar"])
    for name, value in found.items():
        bar, unit = BARS.get(name, (None, "s"))
        missed = bar is not None and value > bar
        shown.add_row(
            name, f"{value:.2f} {unit}", "" if bar is None else f"{bar:g} {unit}", style="red" if missed else None
        )
    Console().print(shown)
    return int(any(found[name] > bar for name, (bar, _) in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
