import random
import subprocess
import sys
import time

import pytest

from longreward.text.retrieval import BM25Index

TEXTS = [
    "The lighthouse of Halden was built in 1871.",
    "Its keeper kept a diary.",
    "灯塔高三十二米，建于十九世纪。",
    "The lighthouse keeper's name was Ola Berg.",
    "守塔人写过日记。",
    "",
    "It cost 1,000 kroner.",
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Who was Ola Berg?", [3]),
        ("LIGHTHOUSE", [0, 3]),
        ("the keeper", [1, 3]),
        ("灯塔", [2]),
        ("守塔人的日记", [4]),
        ("1000", [6]),
        ("１０００", [6]),
    ],
)
def test_the_texts_about_the_query_come_in_document_order(query: str, found: list[int]) -> None:
    top = BM25Index(TEXTS).top(query, 5)
    assert top == sorted(top)
    assert set(found) <= set(top)
    assert BM25Index(TEXTS).top(query, len(found)) == found


@pytest.mark.parametrize("query", ["", "?!", "zebra", "斑马"])
def test_unknown_terms_find_nothing(query: str) -> None:
    assert BM25Index(TEXTS).top(query, 5) == []


@pytest.mark.parametrize("texts", [[], [""], ["", " ...", "！"]])
def test_a_corpus_without_words_finds_nothing(texts: list[str]) -> None:
    assert BM25Index(texts).top("lighthouse", 5) == []


def test_k_may_exceed_the_corpus_and_may_be_zero() -> None:
    assert BM25Index(["a lighthouse"]).top("lighthouse", 50) == [0]
    assert BM25Index(TEXTS).top("lighthouse", 0) == []
    with pytest.raises(ValueError, match="k is -1"):
        BM25Index(TEXTS).top("lighthouse", -1)


def test_ties_go_to_the_earlier_text() -> None:
    assert BM25Index(["same words"] * 40).top("words", 5) == [0, 1, 2, 3, 4]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    BM25Index(TEXTS).top("lighthouse", 2)
    assert capfd.readouterr() == ("", "")


def test_importing_the_module_does_not_import_bm25s() -> None:
    code = "import longreward.text.retrieval, sys; assert not {'bm25s', 'numpy', 'numba'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_long_document_is_indexed_and_asked_at_once(language: str) -> None:
    BM25Index(["warm up"])
    rng = random.Random(0)
    if language == "en":
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) + " " for _ in range(8000)]
    else:
        words = [chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(3000)]
    texts = ["".join(rng.choices(words, k=128)) for _ in range(500)]
    start = time.thread_time()
    index = BM25Index(texts)
    assert all(i in index.top(texts[i][20:120], 5) for i in range(0, 500, 50))
    assert time.thread_time() - start < 1  # usually 0.12; room for a busy machine
