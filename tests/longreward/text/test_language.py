import unicodedata

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("पुस्तकालय की मरम्मत", ["पुस्तकालय", "की", "मरम्मत"]),
        ("புத்தகம் வாங்கினான்", ["புத்தகம்", "வாங்கினான்"]),
        ("Việt cafe\u0301 ‘naïve’", ["việt", "café", "naïve"]),
        ("İstanbul'da I\u0307zmir", ["istanbul", "da", "izmir"]),
        ("שָׁלוֹם עולם", ["שלום", "עולם"]),
        ("كِتَاب جمـــيل", ["كتاب", "جميل"]),
        ("می\u200cروم", ["می", "روم"]),
        ("co\u00adoperate", ["cooperate"]),
        ("१९०० और ۱۲٬۳۴۵٫۵", ["1900", "और", "12345.5"]),
        ("₹ 1,00,000 paid", ["100000", "paid"]),
        ("ไทย", ["ไท", "ทย"]),
        ("ទឹក១២", ["ទឹក", "12"]),
    ],
    ids=["hi", "ta", "vi", "tr", "he", "ar", "fa", "hyphen", "digits", "lakh", "th", "km"],
)
def test_marks_belong_to_words_and_unseen_differences_do_not(text: str, words: list[str]) -> None:
    assert terms(text) == words


@pytest.mark.parametrize("text", ["क्षत्रिय", "นี้คือ", "ខ្ញុំ", "മലയാളം", "e\u0301te\u0301", "葛\U000e0100城"])
def test_a_word_is_the_same_in_all_its_normal_forms(text: str) -> None:
    assert terms(unicodedata.normalize("NFD", text)) == terms(unicodedata.normalize("NFC", text))
