"""How much of an answer is copied from its document."""

from __future__ import annotations

import pytest

from longreward.text.copying import Copying

ENGLISH = (
    "The town council met on Monday to discuss the old tram line. Mayor Edith Holloway said that the line had carried "
    "12,000 passengers a week before it was closed in 2009."
)
CHINESE = "市议会周一开会讨论旧电车线路。市长说该线路在二〇〇九年关闭之前每周运送一万两千名乘客。"


@pytest.mark.parametrize(
    ("document", "answer", "share"),
    [
        (ENGLISH, ENGLISH, 1),
        (ENGLISH, "the TOWN council met, on Monday, to discuss:", 1),
        (ENGLISH, "It is about the old tram line and Mayor Edith Holloway.", 0),  # five words in a row
        (ENGLISH, "Today the town council met on Monday and nothing was said.", 6 / 11),
        (ENGLISH, "", 0),
        ("", ENGLISH, 0),
        (CHINESE, CHINESE, 1),
        (CHINESE, "市长谈到了旧电车线路和乘客。", 0),
        (CHINESE, "据说该线路在二〇〇九年关闭之前每周运送很多人。", 15 / 20),
    ],
)
def test_rows_of_words_from_the_document_are_copied(document: str, answer: str, share: float) -> None:
    assert Copying(document, row=6).share(answer) == pytest.approx(share, abs=0.06)


def test_longer_rows_leave_phrases_alone() -> None:
    answer = "The mayor said that the line had carried 12,000 passengers a week before it was closed in 2009."
    assert Copying(ENGLISH, row=16).share(answer) == pytest.approx(17 / 18, abs=0.06)
    assert Copying(ENGLISH, row=18).share(answer) == 0
