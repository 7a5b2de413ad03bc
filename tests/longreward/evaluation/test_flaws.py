"""Each flaw changes what it says and nothing else."""

from __future__ import annotations

import difflib
import json
import random
from pathlib import Path

import pytest

from longreward.evaluation.flaws import FLAWS, HARMLESS, planted
from longreward.schema import DIMENSIONS, Sample
from longreward.text.sentences import split_sentences

TOWNS = Path(__file__).parents[3] / "docs" / "examples" / "towns.jsonl"
SAMPLES = [
    Sample(id=row["idx"], context=row["context"], query=row["query"], answer=row["answer"])
    for row in map(json.loads, TOWNS.read_text(encoding="utf-8").splitlines())
]
ENGLISH, CHINESE = SAMPLES[3], SAMPLES[25]


def plants(sample: Sample, seed: str = "0") -> dict[str, str | None]:
    others = [other for other in SAMPLES if other.context != sample.context]
    return planted(sample, others, seed, DIMENSIONS)


def answer(text: str, context: str | None = None) -> dict[str, str | None]:
    return plants(Sample(id="x", context=context or f"{text} And more of it.", query="What is said?", answer=text))


def changed(before: str, after: str) -> list[tuple[str, str]]:
    """The words that differ, those on both sides of a change."""
    old, new = before.split(), after.split()
    moves = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [(" ".join(old[a:b]), " ".join(new[c:d])) for kind, a, b, c, d in moves if kind != "equal"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_every_flaw_and_harmless_change_is_planted_and_is_the_same_each_time(sample):
    found = plants(sample)
    assert list(found) == [each.name for each in (*FLAWS, *HARMLESS)] and None not in found.values()
    assert len({*found.values(), sample.answer}) == len(found) + 1
    assert plants(sample) == found
    assert any(plants(sample, seed) != found for seed in "123456")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_a_fact_that_is_made_wrong_is_the_only_change_and_not_in_the_document(sample):
    found = plants(sample)
    for name in ("number changed", "name changed", "unit changed", "negation"):
        text = found[name]
        assert text is not None and text not in sample.context
        matcher = difflib.SequenceMatcher(None, sample.answer, text, autojunk=False)
        assert len(split_sentences(text)) == len(split_sentences(sample.answer))
        same = [(a, b) for a, b in zip(split_sentences(sample.answer), split_sentences(text), strict=True) if a != b]
        assert len(same) == 1, name
        assert matcher.ratio() > 0.8


def test_what_is_changed_where():
    [(old, new)] = changed(ENGLISH.answer, plants(ENGLISH)["number changed"] or "")
    assert old.isdigit() and new.isdigit() and old[:-1] == new[:-1] and old in ENGLISH.context
    [(old, new)] = changed(ENGLISH.answer, plants(ENGLISH)["name changed"] or "")
    assert old.strip(".") in ENGLISH.context and new.strip(".") not in ENGLISH.context and new[0].isupper()
    [(old, new)] = changed(ENGLISH.answer, plants(ENGLISH)["unit changed"] or "")
    assert (old.strip("."), new.strip(".")) in {("thousand", "million"), ("days", "weeks")}
    assert len(changed(ENGLISH.answer, plants(ENGLISH)["negation"] or "")) == 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("number changed", "4. It cost 4 crowns.\n5. It was 4 crowns.", "4. It cost 7 crowns.\n5. It was 7 crowns."),
        ("number changed", "It cost 1,200 crowns in all.", "It cost 1,500 crowns in all."),
        ("number changed", "The pier is long and old.", None),
        ("unit changed", "It grew by 12% in all.", "It grew by 12‰ in all."),
        ("unit changed", "It cost $3 million in all.", "It cost $3 billion in all."),
        ("unit changed", "Gate 3 million-dollar doors.", "Gate 3 billion-dollar doors."),
        ("unit changed", "It has 12 doors.", None),
        ("unit changed", "桥长30公里。", "桥长30米。"),
        ("name changed", "In March the old pier fell.", None),
        ("name changed", "The pier of Vell fell. Vell is wet.", "The pier of Harwick fell. Harwick is wet."),
        ("name changed", "他写了《红楼梦》一书。", ("《寒山集》", "《白鹿记》", "《远帆》")),
        ("negation", "The pier was not rebuilt in time.", "The pier was rebuilt in time."),
        ("negation", "The pier wasn't rebuilt in time.", "The pier was rebuilt in time."),
        ("negation", "The town cannot pay the whole sum.", "The town can pay the whole sum."),
        ("negation", "The pier is built of concrete.", "The pier is not built of concrete."),
        ("negation", "Storms broke the northern pier.", "It is not true that Storms broke the northern pier."),
        ("negation", "The storms broke the northern pier.", "It is not true that the storms broke the northern pier."),
        ("negation", "Was the pier built of concrete?", None),
        ("half dropped", "The pier is built of concrete.", None),
        ("list or prose", "The pier fell. It was old.", "- The pier fell.\n- It was old."),
        ("list or prose", "- The pier fell.\n- It was old.", "The pier fell. It was old."),
        ("list or prose", "The pier fell.\nIt was old.", None),
        ("other order", "The pier of Vell fell. It cost 40 crowns.", None),
        ("other order", "The pier of Vell fell. However, the mill of Vell stood.", None),
        ("other order", "The pier of Vell fell. Read on to see more.", None),
        ("other order", "The pier of Vell fell. A mill of Orsa stood.", "A mill of Orsa stood. The pier of Vell fell."),
        ("other order", "- 12 piers\n- 3 mills", "- 3 mills\n- 12 piers"),
        ("white space", "The pier fell. The mill stood.", "\nThe pier fell.\n\nThe mill stood.\n"),
        ("white space", "- The pier fell.\n- The mill stood.", None),
    ],
    ids=str,
)  # fmt: skip
def test_by_rules(name, text, expected):
    found = answer(text)[name]
    if isinstance(expected, tuple):
        assert found is not None and any(found == text.replace("《红楼梦》", title) for title in expected)
    else:
        assert found == expected


def test_what_the_document_does_not_say_is_not_made_wrong():
    found = answer("Otto of Vell paid 40 million crowns.", "A pier was built of concrete and it fell.")
    assert found["number changed"] is found["name changed"] is found["unit changed"] is None


def test_sentences_are_dropped_added_said_again_and_replaced():
    for sample in (ENGLISH, CHINESE):
        found, sentences = plants(sample), split_sentences(sample.answer)
        assert set(split_sentences(found["half dropped"] or "")) < set(sentences)
        for name in ("foreign sentence", "contradiction", "injection", "repetition"):
            assert (found[name] or "").startswith(sample.answer)
        added = split_sentences((found["foreign sentence"] or "").removeprefix(sample.answer))
        assert len(added) == 1 and added[0] not in sample.context
        assert any(added[0] in other.context for other in SAMPLES)
        assert split_sentences(found["repetition"] or "") == sentences * 2
        assert sample.answer in (found["padding"] or "") and "[[10]]" in (found["injection"] or "")
        assert not set(split_sentences(found["refusal"] or "")) & set(sentences)
    assert (plants(ENGLISH)["refusal"] or "").isascii() and not (plants(CHINESE)["refusal"] or "").isascii()
    contradiction = (plants(ENGLISH)["contradiction"] or "").removeprefix(ENGLISH.answer)
    assert " not " in contradiction


def test_an_answer_in_another_language_is_another_rows_answer_and_left_out_where_there_is_none():
    assert plants(ENGLISH)["other language"] in {sample.answer for sample in SAMPLES[24:]}
    assert plants(CHINESE)["other language"] in {sample.answer for sample in SAMPLES[:24]}
    assert planted(ENGLISH, SAMPLES[:3], "0", DIMENSIONS)["other language"] is None
    assert planted(ENGLISH, [], "0", DIMENSIONS)["foreign sentence"] is None


def test_only_what_a_needed_dimension_is_about_is_planted():
    found = planted(ENGLISH, [], "0", ["logicality"])
    assert set(found) == {"contradiction", "repetition", "injection", *(each.name for each in HARMLESS)}


def test_odd_answers_do_no_harm():
    pieces = [
        "1.",
        "- ",
        "",
        "\n",
        "It is",
        "not",
        "40",
        "“”",
        "《》",
        "是",
        "…",
        "% ",
        "A",
        "a.b",
        "?",
        "\ud800",
        "Vell ",
    ]
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        if any(character.isalnum() for character in text):
            assert all(found != text for found in answer(text).values())
