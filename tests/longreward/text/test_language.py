import pytest

from longreward.text.language import detect, terms


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "en"),
        (" 123 ...", "en"),
        ("。！？", "en"),
        ("What does the report say?", "en"),
        ("The poet 李白 (Li Bai) was born in 701 and wrote 静夜思, a short and famous poem.", "en"),
        ("Où est-il né ?", "en"),
        ("这份报告说了什么？", "zh"),
        ("请总结 OpenRLHF 与 DeepSpeed 在长上下文训练中的区别和各自的优点。", "zh"),
        ("〇", "zh"),
    ],
)
def test_the_language_is_the_one_most_words_are_in(text: str, language: str) -> None:
    assert detect(text) == language


def test_terms_are_words_numbers_and_bigrams() -> None:
    assert terms("Alice's 1,000 cats, 3.5 kg; ＡＢＣ") == ["alice", "1000", "cats", "3.5", "kg", "abc"]
    assert terms("长文档 is 文") == ["长文", "文档", "is", "文"]
    assert terms("") == []
