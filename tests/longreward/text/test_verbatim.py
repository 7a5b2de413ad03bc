"""Which sentences a document is taken to say itself: whole ones, in its own voice; when in doubt, none."""

from __future__ import annotations

import pytest

from longreward.text.verbatim import normal_form, stated_sentences

CLAIM = "Mara sold copper to Otto in Lisbon."
ZH = "玛拉在里斯本把铜卖给了奥托。"


def is_stated(statement: str, document: str) -> bool:
    return normal_form(statement) in stated_sentences(document)


@pytest.mark.parametrize(
    ("statement", "document"),
    [
        (CLAIM, CLAIM),
        (CLAIM, f"It rained. {CLAIM} He left."),
        (CLAIM, f"It rained.\n\n{CLAIM}\n\nHe left."),
        (CLAIM, "It rained. Mara sold copper to  Otto in\u00a0Lisbon. He left."),
        ("mara sold COPPER to Otto in Lisbon", CLAIM),
        (CLAIM, "Did it rain? Mara sold copper to Otto in Lisbon!"),
        (CLAIM, f'"It rained," he said. {CLAIM}'),
        (CLAIM, f"“It rained. It poured.” {CLAIM}"),
        (CLAIM, f"He said: 'It rained. It poured.' {CLAIM}"),
        (CLAIM, f"In the dogs' house, back in the '90s, it didn't rain. {CLAIM}"),
        (CLAIM, f"The „Halden“ sank. «Halden» sank. »Halden« sank. {CLAIM}"),
        ('Mara sold "Ode to Joy" to Otto.', 'It rained. Mara sold "Ode to Joy" to Otto. He left.'),
        (ZH, f"天下着雨。{ZH}他走了。"),
        (ZH, f"他说：“天下着雨。很大。”{ZH}"),
        ("Mara sold 40 crates.", "Mara sold ４０ crates. It rained."),
    ],
)
def test_a_whole_sentence_of_the_document_is_stated(statement: str, document: str) -> None:
    assert is_stated(statement, document)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "It is false that Mara sold copper to Otto in Lisbon.",
        "Mara sold copper to Otto in Lisbon, he lied.",
        "Mara sold copper to Otto in Lisbon if it rained.",
        "Mara sold copper to Otto in Lisbon?",
        "Did Mara sell it? Mara sold copper to Otto in Lisbon?",
        "It is false that\nMara sold copper to Otto in Lisbon.",
        "It is false that\n\nMara sold copper to Otto in Lisbon.",
        "These are lies:\nMara sold copper to Otto in Lisbon.",
        "- Mara sold copper to Otto in Lisbon.",
        "OTTO\nMara sold copper to Otto in Lisbon.",
        "OTTO: Mara sold copper to Otto in Lisbon.",
        "Mara sold copper to Otto in Lisbon\nonly in his dreams.",
        "It rained. Mara sold copper to Otto in Lisbon\nonly in his dreams.",
        "(Mara sold copper to Otto in Lisbon.)",
        '"Mara sold copper to Otto in Lisbon."',
        '"It rained. Mara sold copper to Otto in Lisbon. He left," she lied.',
        '"It rained.\nMara sold copper to Otto in Lisbon.\nHe left," she lied.',
        '"It rained.\n\n"It poured. Mara sold copper to Otto in Lisbon. He left," she lied.',
        "“It rained.\n\n“It poured. Mara sold copper to Otto in Lisbon. He left,” she lied.",
        "She lied: “It rained, ‘they’ said. Mara sold copper to Otto in Lisbon. He left.”",
        "She lied: 'It didn't rain. Mara sold copper to Otto in Lisbon. He left.'",
        "She lied: ‘It didn’t rain. Mara sold copper to Otto in Lisbon. He left.’",
        "Sie log: „Es regnete. Mara sold copper to Otto in Lisbon. He left.“",
        "Sie log: »Es regnete. Mara sold copper to Otto in Lisbon. He left.«",
        "Elle mentit : « Il pleuvait. Mara sold copper to Otto in Lisbon. He left. »",
        '他说谎："下雨了。Mara sold copper to Otto in Lisbon."',
        '5" of rain. She lied: "It rained. Mara sold copper to Otto in Lisbon. He left."',
    ],
)
def test_what_is_only_part_of_a_sentence_or_somebody_elses_words_is_not(document: str) -> None:
    assert not is_stated(CLAIM, document)


@pytest.mark.parametrize(
    "document",
    [
        "他撒谎说：“天下着雨。玛拉在里斯本把铜卖给了奥托。他走了。”",
        "谎言有三：天下着雨；玛拉在里斯本把铜卖给了奥托；他走了。",
    ],
)
def test_the_same_in_chinese(document: str) -> None:
    assert not is_stated(ZH, document)


@pytest.mark.parametrize("sentence", ["He agreed.", "Yes.", "他走了。", "", "..."])
def test_a_sentence_too_short_to_stand_alone_is_judged(sentence: str) -> None:
    assert normal_form(sentence) is None and not stated_sentences(f"It rained. {sentence} He left.")


def test_a_power_is_no_number_written_otherwise() -> None:
    assert not is_stated("The hall measures 102 m.", "The hall measures 10² m.")


def test_sentences_with_other_full_stops_are_stated_and_questions_are_not() -> None:
    stated = stated_sentences("राम ने चावल खरीदा। क्या वह घर गया? वह घर नहीं गया।")
    assert stated == {normal_form("राम ने चावल खरीदा"), normal_form("वह घर नहीं गया।")}
    assert normal_form("هل اشترى أحمد شيئا؟") is None and normal_form("Τι έκανε ο Νίκος;") is None
    assert not stated_sentences("word " * 900)  # cut by length: no piece is a sentence
