import pytest

from longreward.text.sentences import content_words, names_and_numbers, sentence_spans, split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rained.", "We left!", "Why?", "Nobody knows."],
        ["Dr. Smith paid 3.5 million, e.g. in the U.S. market.", "He left."],
        ["He lives in the U.S.", "The law there is old."],
        ["J. K. Rowling wrote it.", "See No. 5 and Fig. 3.", "The answer is no.", "It was late."],
        ['He said "Stop!" and went.', '"Go!" she cried.', 'He said "I will."', "She did not."],
        ["all in lower case.", "as small models write."],
        ["Wait... and see.", "Version 1.2.3 is out."],
    ],
)
def test_english_sentences(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["灯塔高32.5米。", "守塔人是谁？", "没人知道！", "它建于1871年；", "后来关闭了。"],
        ["他说：“我走了。”", "她点了点头……然后也走了。"],
    ],
)
def test_chinese_sentences(sentences: list[str]) -> None:
    assert split_sentences("".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["राम ने 3.5 किलो चावल खरीदा।", "वह घर गया॥", "क्यों?"],
        ["Τι έκανε;", "Πούλησε χαλκό."],
        ["ذهب أحمد إلى السوق.", "هل اشترى شيئا؟", "لا."],
        ["اس نے ایم۔اے کیا۔", "پھر وہ گھر گیا۔"],
        ["አበበ ቤት ገዛ።", "መቼ ገዛ፧", "ትናንት።"],
        ["Նա գնաց տուն։", "Անձրև էր գալիս։"],
        ["គាត់ទៅផ្សារ។", "គាត់ទិញត្រី៕"],
        ["သူ ဈေးသွားသည်။", "ငါး ဝယ်သည်။"],
    ],
    ids=["hi", "el", "ar", "ur", "am", "hy", "km", "my"],
)
def test_each_script_has_its_own_full_stops(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


def test_length_ends_a_sentence_where_no_mark_does() -> None:
    thai = ["สมชายขายทองแดงสี่สิบลังให้กับสมหญิงที่เชียงใหม่", "ต่อมาในปี 1900 เขาซื้อเรือลำใหม่ที่กรุงเทพ", "วันนั้นฝนตกหนักมาก"]
    assert split_sentences(" ".join(thai)) == thai
    assert len(split_sentences("ນີ້" * 200)) > 1 and all(len(s) <= 203 for s in split_sentences("ນີ້" * 200))
    assert all(500 < len(s) <= 1000 for s in split_sentences("and then we went on " * 300)[:-1])
    assert "".join(split_sentences("x" * 2500)) == "x" * 2500


def test_line_breaks_end_sentences_and_marks_alone_are_none() -> None:
    assert split_sentences("# Title\n\n1. First point\n2. Second. Third\n---\n") == [
        "# Title",
        "1. First point",
        "2. Second.",
        "Third",
    ]
    assert split_sentences("") == split_sentences(" \n...!") == []


def test_spans_point_into_the_text() -> None:
    text = "  One here.  二。\tThree "
    assert [text[a:b] for a, b in sentence_spans(text)] == split_sentences(text) == ["One here.", "二。", "Three"]


def test_content_words_leave_out_function_words_but_not_negation() -> None:
    assert content_words("The cat did not sit on the cat's mat.") == ["cat", "not", "sit", "cat", "mat"]
    assert content_words("他们没有关闭了的灯塔") == ["没有", "有关", "关闭", "灯塔"]
    assert content_words("The of and.") == []
    assert content_words("He didn't, can’t, cannot and won't pay") == ["not", "not", "not", "not", "pay"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It cost 1,000 euros, then 2,500,000.50 and １２.", {"1000", "2500000.50", "12"}),
        ("The runner did 10km on the 3rd day, 3.5 times.", {"10", "3", "3.5"}),
        ("Alice's friend met Bob in New York.", {"alice", "bob", "new", "york"}),
        ("However, he left. They stayed.", set()),
        ("Revenue grew, and revenue is up.", set()),
        ("E12 v3 met GPT4 .", {"e12", "v3", "gpt4"}),
        ("他在1871年读了《红楼梦》。", {"1871", "红楼梦"}),
        ("", set()),
    ],
)
def test_names_and_numbers(text: str, found: set[str]) -> None:
    assert names_and_numbers(text) == found
