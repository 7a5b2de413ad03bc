import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreward.schema import Evidence
from longreward.text.chunking import chunks_between, cut_points, word_cut_points, word_spans


def chunk(document: str, max_tokens: int, token_spans=word_spans) -> list[Evidence]:
    if token_spans is word_spans:
        return chunks_between(document, word_cut_points(document), max_tokens)
    return chunks_between(document, cut_points(document, token_spans(document)), max_tokens)


def count_tokens(text: str) -> int:
    return len(word_spans(text))


ALPHABET = [
    "a",
    "bc",
    " ",
    "\n",
    "\r\n",
    "3",
    "中",
    "文",
    "。",
    ".",
    "é",
    "e\u0301",
    "👩\u200d🚀",
    "𠮷",
    "\u200d",
    "_",
    "ß",
    "\u0301",
    "हि",
    "न्",
    "ไท",
    "ย",
    "นี้",
    "ខ្មែ",
    "\u200c",
    "७",
]


TEXTS = st.lists(st.sampled_from(ALPHABET), max_size=60).map("".join)


def byte_spans(text: str) -> list[tuple[int, int]]:
    """Like a byte-fallback tokenizer: several tokens for one character, and special tokens of (0, 0) at both ends."""
    spans = [(i, i + 1) for i, c in enumerate(text) if not c.isspace() for _ in c.encode()]
    return [(0, 0), *spans, (0, 0)]


def overlapping_spans(text: str) -> list[tuple[int, int]]:
    return [(i, min(i + 1 + i % 3, len(text))) for i in range(0, len(text))] + [(len(text), len(text))]


@pytest.mark.parametrize("token_spans", [word_spans, byte_spans, overlapping_spans])
@given(text=TEXTS, max_tokens=st.integers(1, 15))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_chunks_cover_the_text_and_keep_the_limit(token_spans, text: str, max_tokens: int) -> None:
    chunks = chunk(text, max_tokens, token_spans)
    assert "".join(c.text for c in chunks) == text
    assert [c.index for c in chunks] == list(range(len(chunks)))
    assert all(c.text == text[c.start : c.end] and c.text for c in chunks)
    spans = sorted(token_spans(text))
    starts = [min(start, max(len(text) - 1, 0)) for start, _ in spans]
    for c in chunks:
        inside = [start for start in starts if c.start <= start < c.end]
        assert len(inside) <= max_tokens or len(set(inside)) == 1
        assert c.start == 0 or c.start in starts


@given(text=st.one_of(TEXTS, st.text()))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_words_are_cut_as_their_spans_say(text: str) -> None:
    fast, by_spans = word_cut_points(text), cut_points(text, word_spans(text))
    assert (fast.starts, list(fast.totals), fast.clean) == (by_spans.starts, by_spans.totals, by_spans.clean)


def test_every_chunk_but_the_last_is_full() -> None:
    text = " ".join(f"word{i}" for i in range(500))
    chunks = chunk(text, 128)
    assert [count_tokens(c.text) for c in chunks[:-1]] == [128] * (len(chunks) - 1)


def test_characters_of_several_tokens_stay_whole() -> None:
    chunks = chunk("𠮷野家", 4, byte_spans)
    assert [c.text for c in chunks] == ["𠮷", "野", "家"]  # 4 + 3 + 3 bytes, the special tokens with the first


@pytest.mark.parametrize("text", ["e\u0301" * 4, "👍🏽" * 4, "👩\u200d🚀" * 4, "葛\U000e0100" * 4])
def test_a_cut_keeps_a_character_and_its_marks_together(text: str) -> None:
    unit = text[: len(text) // 4]
    assert {c.text for c in chunk(text, len(unit), lambda t: [(i, i + 1) for i in range(len(t))])} == {unit}
    odd = chunk(text, len(unit) + 1, lambda t: [(i, i + 1) for i in range(len(t))])
    assert all(c.text.startswith(unit) for c in odd)


def test_no_cut_inside_an_overlapping_token() -> None:
    assert [c.text for c in chunk("abcdef", 3, lambda _: [(0, 1), (1, 2), (2, 4), (3, 5), (5, 6)])] == ["ab", "cdef"]


@pytest.mark.parametrize(("text", "chunks"), [("", []), (" \n ", [" \n "]), ("a", ["a"])])
def test_small_texts(text: str, chunks: list[str]) -> None:
    assert [c.text for c in chunk(text, 3)] == chunks
    assert [c.text for c in chunk(text, 3, lambda _: [])] == ([text] if text else [])


def test_a_limit_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_tokens is 0"):
        chunk("text", 0)


def test_default_tokens_are_words_numbers_characters_and_marks() -> None:
    text = "Dr. Li 有3.5元!"
    assert [text[a:b] for a, b in word_spans(text)] == ["Dr", ".", "Li", "有", "3", ".", "5", "元", "!"]
    assert count_tokens("x" * 1600) == 100  # no token without bound


def test_a_64k_token_document_is_cut_at_once() -> None:
    text = "The committee met again on 中文 day. " * 7200
    start = time.thread_time()
    assert len(chunk(text, 128)) > 500
    assert time.thread_time() - start < 1  # usually 0.1; room for a busy machine


def test_a_word_with_marks_is_one_token_and_four_characters_without_spaces_are_one() -> None:
    text = "पुस्तकालय की मरम्मत। ประเทศไทย 12"
    assert [text[a:b] for a, b in word_spans(text)] == ["पुस्तकालय", "की", "मरम्मत", "।", "ประเ", "ทศไท", "ย", "12"]
    assert all(c.text[0] not in "ัิีึืุู่้์" for c in chunk("นี้คือเรื่องที่ยิ่งใหญ่" * 50, 7))
