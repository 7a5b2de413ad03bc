"""Make what configs/grpo_smollm2_cpu.yaml trains on: SmolLM2 as a folder, and questions about real documents.

    python benchmarks/real/make_data.py --out data      # data/smollm2/, data/readmes/train.jsonl and heldout.jsonl

The documents are the beginnings of the descriptions of the installed packages (their READMEs), as prose: without code,
tables, badges, links and headings. The questions are general ones. Documents of the held-out file stand in no prompt of
the training file. The same packages make the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from longreward.files import jsonlines

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real.models import smollm2

QUESTIONS = (
    "What is this software for? Answer in one or two sentences.",
    "Summarise the text in two sentences.",
    "Which problem does this software solve? Answer in one or two sentences.",
    "What are the main features that the text names? Answer in two sentences.",
    "What should a new user know about it first? Answer in one or two sentences.",
)
HELDOUT = 64
"""Documents that are kept for the measurement."""
SHORTEST, LONGEST = 400, 1000
"""Characters of a document."""
_ABOUT_US = "longreward"

_MARKUP = (
    (r"(?s)```.*?```|~~~.*?~~~|<!--.*?-->", " "),  # code, comments
    (r"(?s)<(script|style|table|picture)\b.*?</\1>", " "),
    (r"<[^<>]*>", " "),
    (r"(?m)^\s*(\.\. |:\w[\w-]*:|\|).*$", ""),  # reST directives and fields, tables
    (r"\[?!\[[^\]]*\][\[(][^\])]*[\])](\][\[(][^\])]*[\])])?", ""),  # pictures
    (r"\[([^\]]*)\][\[(][^\])]*[\])]", r"\1"),  # links
    (r"`([^`<]*?)\s*(<[^`]*>)?`_{1,2}", r"\1"),
    (r"https?://\S+", ""),
    (r"(?<![\w*`])([*`]{1,3}|_{1,3})(\S[^*`\n]*?)\1(?![\w*`])", r"\2"),
)
_HEADING_OR_CODE = re.compile(r"^(#|=|-{3}|~{3}|\||>>>|\$|    |\t)")


def prose(text: str) -> str:
    """The paragraphs of a README that are sentences, from its beginning, of at most `LONGEST` characters."""
    for pattern, replacement in _MARKUP:
        text = re.sub(pattern, replacement, text)
    kept: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = [line for line in paragraph.split("\n") if line.strip() and not _HEADING_OR_CODE.match(line)]
        sentence = " ".join(" ".join(lines).split())
        if len(sentence.split()) < 8 or sentence[-1] not in ".!?":
            continue
        if sum(map(len, kept)) + len(sentence) > LONGEST:
            break
        kept.append(sentence)
    return "\n\n".join(kept)


def documents() -> Iterator[tuple[str, str]]:
    """Name and text of each installed package whose description has enough prose, in the order of the names."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"].lower().replace("_", "-")
        text = prose(str(distribution.metadata.json.get("description", "")))
        if len(text) >= SHORTEST and name != _ABOUT_US and text not in found.values():
            found[name] = text
    yield from sorted(found.items())


def splits() -> dict[str, list[dict[str, str]]]:
    """The rows of the training file, every question about each document, and of the held-out file, one about each."""
    texts = list(documents())
    rng = random.Random("documents of installed packages")
    rng.shuffle(texts)
    heldout = [
        {"idx": name, "context": text, "query": QUESTIONS[number % len(QUESTIONS)]}
        for number, (name, text) in enumerate(texts[:HELDOUT])
    ]
    train = [
        {"idx": f"{name}-{number}", "context": text, "query": question}
        for name, text in texts[HELDOUT:]
        for number, question in enumerate(QUESTIONS)
    ]
    rng.shuffle(train)
    return {"train": train, "heldout": heldout}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder")
    out: Path = parser.parse_args().out
    smollm2(out)
    (out / "readmes").mkdir(exist_ok=True)
    for split, rows in splits().items():
        path = out / "readmes" / f"{split}.jsonl"
        jsonlines.rewrite(path, rows)
        print(f"{path}: {len(rows)} questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
