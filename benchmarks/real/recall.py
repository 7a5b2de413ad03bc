"""Does retrieval find the right part of a long document? BM25, embeddings and both, by the product's own `Document`.

    PYTHONPATH=. python benchmarks/real/recall.py --base-url URL --model NAME --claims claims_qags_cnndm.jsonl

The file (W4ngatang/qags, not shipped) has summary sentences of news articles, labelled by people; those that they found
supported are asked. A document is 40 articles one after the other. The right chunks of a claim are those that lie mostly
in its own article. Nothing is tuned.

Cross language: an English fact of `FACTS` stands between two articles each time, and its Chinese or German translation
is asked; the right chunk is that with the fact. In English, as a reworded sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from longreward.config import EmbeddingsConfig, JudgeConfig, RetrievalConfig, RewardConfig
from longreward.dimensions.document import Document
from longreward.judge import judge_of
from longreward.text.chunking import word_spans

ARTICLES = 40  # in a document
# fmt: off
# ruff: noqa: E501
FACTS = [
    # the document's sentence, the same reworded, in Chinese, in German
    ("The bakery on Elm Street burnt down in March.", "Fire destroyed a bread shop in spring.", "面包店在三月被烧毁。", "Die Bäckerei brannte im März ab."),
    ("Her sister breeds horses near the coast.", "A sibling raises ponies by the sea.", "她的姐姐在海边养马。", "Ihre Schwester züchtet Pferde an der Küste."),
    ("The museum keeps a meteorite from 1908.", "A space rock is on display in a gallery.", "博物馆收藏着一块陨石。", "Im Museum liegt ein Meteorit."),
    ("Doctors advise pregnant women against raw fish.", "Expectant mothers should not eat sushi.", "医生建议孕妇不要吃生鱼。", "Ärzte raten Schwangeren von rohem Fisch ab."),
    ("The orchestra lost its conductor last winter.", "The symphony's maestro left.", "乐团去年冬天失去了指挥。", "Das Orchester verlor im Winter seinen Dirigenten."),
    ("Glaciers in the valley shrink every summer.", "The ice of the mountains is melting away.", "山谷里的冰川每年夏天都在缩小。", "Die Gletscher im Tal schrumpfen jeden Sommer."),
    ("The bridge was closed after cracks were found.", "Damage forced the viaduct to shut.", "桥上发现裂缝后被关闭。", "Die Brücke wurde wegen Rissen gesperrt."),
    ("He taught himself to play the violin.", "An autodidact of the fiddle.", "他自学了小提琴。", "Er brachte sich selbst das Geigenspiel bei."),
    ("Bees have vanished from the apple farms.", "Pollinating insects are gone from the orchards.", "苹果园里的蜜蜂消失了。", "Die Bienen sind von den Apfelhöfen verschwunden."),
    ("The submarine sank with all of its crew.", "No sailor survived the loss of the underwater vessel.", "潜艇沉没，全体船员遇难。", "Das U-Boot sank mit der ganzen Besatzung."),
]
# fmt: on


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--claims", type=Path, required=True)
    options = parser.parse_args()
    embeddings = EmbeddingsConfig(base_url=options.base_url, model=options.model)
    settings = JudgeConfig(kind="openai", base_url=options.base_url, model="none", max_in_flight=4)
    rows = [json.loads(line) for line in options.claims.read_text().splitlines()]
    claims = [(row["claim"], row["context"]) for row in rows if row["supported"]]
    articles = list(dict.fromkeys(context for _, context in claims))
    print("| statements | | at least one right chunk of 5 | right chunks of the 5 | right chunks found |")
    print("|---|---|---|---|---|")
    judge = judge_of(RewardConfig(judge=settings, retrieval=RetrievalConfig(kind="hybrid", embeddings=embeddings)))
    try:
        for kind in ("bm25", "embeddings", "hybrid"):
            config = RewardConfig(judge=settings, retrieval=RetrievalConfig(kind=kind, embeddings=embeddings))

            async def ask(text: str, asked: list[tuple[str, str]], config: RewardConfig = config) -> list[list[float]]:
                """For each (statement, right passage): hit, share of the five, share of the right ones."""
                document = Document(text, "What is told?", judge, config, word_spans, asyncio.Lock())
                chunks, _ = await document._start_chunks().result()
                figures = []
                for statement, passage in asked:
                    start = text.index(passage)
                    end = start + len(passage)
                    parts = {c.index: min(c.end, end) - max(c.start, start) for c in chunks}
                    right = {c.index for c in chunks if parts[c.index] * 2 > c.end - c.start}
                    right = right or {max(parts, key=lambda index: parts[index])}
                    found = await document.evidence(statement)
                    if found.failed:
                        raise SystemExit(f"{found.failed.status}: {found.failed.detail}")
                    hits = len(right & {e.index for e in found.chunks})
                    figures.append([float(hits > 0), hits / len(found.chunks), hits / len(right)])
                return figures

            figures = []
            for start in range(0, len(articles), ARTICLES):
                group = articles[start : start + ARTICLES]
                figures += await ask("\n\n".join(group), [claim for claim in claims if claim[1] in group])
            show("claims, English", kind, figures)
            middle = [part for fact, article in zip(FACTS, articles, strict=False) for part in (article, fact[0])]
            text = "\n\n".join([*middle, *articles[len(FACTS) : ARTICLES]])
            for place, name in enumerate(("reworded, English", "Chinese", "German"), 1):
                show(name, kind, await ask(text, [(fact[place], fact[0]) for fact in FACTS]))
    finally:
        await judge.aclose()


def show(name: str, kind: str, figures: list[list[float]]) -> None:
    means = [sum(column) / len(figures) for column in zip(*figures, strict=True)]
    print(
        f"| {name} ({len(figures)}) | `{kind}` | " + " | ".join(f"{100 * mean:.0f}%" for mean in means) + " |",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main())
