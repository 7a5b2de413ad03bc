"""The documents that SmolLM2 is trained on: the descriptions of the installed packages, as prose."""

from __future__ import annotations

import pytest
from real.make_data import HELDOUT, LONGEST, QUESTIONS, SHORTEST, prose, splits

SENTENCE = "A small library that reads one format and writes another, without any dependency."


@pytest.mark.parametrize(
    "markup",
    [
        "# A heading that has as many words as a sentence has.",
        "[![Build status of this project on every platform.](https://host/a.svg)](https://host/actions)",
        "```python\nprint('many words in a block of code that nobody should read as a text.')\n```",
        "    an indented block of code which is as long as a sentence is and ends so.",
        "| a table | with more than eight words in its only row | 1. |",
        ".. image:: https://host/picture.png with a long description of what is to be seen on it.",
        "<table><tr><td>Eight words and more stand in this cell of a table.</td></tr></table>",
        "A line that introduces the block of code which has been left out:",
    ],
)
def test_only_sentences_are_left(markup: str) -> None:
    assert prose(f"{markup}\n\n{SENTENCE}\n\n{markup}") == SENTENCE


def test_words_stay_where_their_markup_goes() -> None:
    found = prose(
        "The **first** word, a [link](https://host/) to `my_module`, `a page <https://host/b>`__, *and* so on."
    )
    assert found == "The first word, a link to my_module, a page, and so on."


def test_no_document_is_in_both_files_and_the_same_packages_make_the_same_files() -> None:
    made = splits()
    assert made == splits()
    train, heldout = ({row["context"] for row in made[name]} for name in ("train", "heldout"))
    assert len(heldout) == HELDOUT and not train & heldout
    assert len(made["train"]) == len(QUESTIONS) * len(train)
    assert all(SHORTEST <= len(text) <= LONGEST + 100 for text in train | heldout)
