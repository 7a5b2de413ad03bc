"""Sheets for people: the order of the answers, and what verdicts come to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from longreward.errors import InputError
from longreward.evaluation.people.blind import ASKED, Key, Question, Shown, chosen, read_verdicts, sheet, tally, to_json
from longreward.rows.matching import Match

MATCHES = [Match(str(i), f"Q{i}?", f"a{i}", f"b{i}", f"Document {i}.") for i in range(20)]


def key(firsts: str, same: int = 0) -> Key:
    items = [Shown(f"q{i}", "Q?", "a" if first == "a" else "b") for i, first in enumerate(firsts)]
    return Key("sheet-1", "sft", "dpo", 0, items, [Question("s", "Q?")] * same)


def verdicts(*overall: int | None) -> dict[tuple[int, str], int]:
    """An annotator's, by item; only `overall` was asked."""
    return {(item, "overall"): value for item, value in enumerate(overall, 1) if value is not None}


@pytest.mark.parametrize("count", [20, 19])
def test_each_comes_first_in_half_of_the_items_and_the_seed_says_in_which(count):
    orders = set()
    for seed in range(8):
        made, items = sheet(MATCHES[:count], "sft", "dpo", seed)
        firsts = [shown.first for shown in made.items]
        assert abs(2 * firsts.count("a") - count) <= 1
        assert [item.answers for item in items] == [
            (m.a, m.b) if first == "a" else (m.b, m.a) for m, first in zip(MATCHES, firsts, strict=False)
        ]
        assert (made, items) == sheet(MATCHES[:count], "sft", "dpo", seed)
        orders.add((made.sheet, *firsts))
    assert len(orders) == 8


def test_the_name_is_of_all_that_is_shown():
    names = {sheet([Match("1", *texts)], "sft", "dpo", 0)[0].sheet for texts in (
        ("Q?", "a", "b", "D."), ("Q!", "a", "b", "D."), ("Q?", "A", "b", "D."), ("Q?", "a", "b", "d."), ("Q?", "a", "b")
    )}  # fmt: skip
    assert len(names) == 5 and all(name.startswith("sheet-") for name in names)


def test_the_same_answer_is_not_shown():
    made, items = sheet([*MATCHES[:2], Match("x", "Same?", "yes", " yes\n")], "sft", "dpo", 0)
    assert len(items) == len(made.items) == 2 and made.same == [Question("x", "Same?")]


def test_so_many_of_the_questions_in_their_order():
    some = chosen(MATCHES, 3, 7)
    assert len(some) == 7 and some == [match for match in MATCHES if match in some]
    assert some == chosen(MATCHES, 3, 7) != chosen(MATCHES, 4, 7)
    assert chosen(MATCHES, 3, 20) == chosen(MATCHES, 3, None) == MATCHES


def test_wins_ties_and_losses_of_one_annotator():
    found = tally(key("abababab", same=2), [verdicts(1, 1, 1, 1, 0, -1, None, 1)])["overall"]
    assert (found.win.mean, found.tie.mean, found.loss.mean) == pytest.approx((5 / 9, 3 / 9, 1 / 9))
    assert found.win.n == 9 and found.unfilled == 1 and found.difference.mean == pytest.approx(4 / 9)
    for estimate in (found.win, found.tie, found.loss, found.difference):
        assert estimate.interval is not None and estimate.interval[0] < estimate.mean < estimate.interval[1]
    assert found.loss.interval[0] == 0 and found.agreement.mean is None
    nothing = tally(key("ab"), [verdicts(1)])["helpfulness"]
    assert nothing.win.mean is None and nothing.win.interval is None and nothing.unfilled == 2


def test_the_papers_figures_have_intervals_that_hold_them():
    """54% wins, 38% ties, 8% losses of 50."""
    found = tally(key("ab" * 25), [verdicts(*[1] * 27, *[0] * 19, *[-1] * 4)])["overall"]
    assert (found.win.mean, found.tie.mean, found.loss.mean) == (0.54, 0.38, 0.08)
    assert found.win.interval == pytest.approx((0.40, 0.68), abs=0.02)
    assert found.difference.interval == pytest.approx((0.28, 0.64), abs=0.03)


def test_annotators_of_an_item_are_averaged_and_more_of_them_make_no_more_items():
    one = verdicts(1, 0, -1, 1)
    alone, three = (tally(key("aabb"), each)["overall"] for each in ([one], [one] * 3))
    assert alone.win == three.win and alone.difference == three.difference
    assert three.agreement.mean == 1 and three.agreement.n == 4
    # 1 1 0 | 0 0 0 | 1 and two empty: pairs that are alike 1/3, 1 and none.
    found = tally(key("aab", same=1), [verdicts(1, 0, 1), verdicts(1, 0), verdicts(0, 0)])["overall"]
    assert found.win.mean == pytest.approx((2 / 3 + 0 + 1 + 0) / 4) and found.unfilled == 2
    assert found.agreement.mean == pytest.approx((1 / 3 + 1) / 2) and found.agreement.n == 2


def test_as_json():
    made, said = key("ab"), [verdicts(1, None), verdicts(0, -1)]
    plain = to_json(made, said, tally(made, said))
    assert plain["b_against_a"]["overall"]["win"]["mean"] == 0.25 and plain["annotators"] == 2
    assert [row["overall"] for row in plain["verdicts"]] == [["win", "tie"], [None, "loss"]]


HEADER = f"sheet,item,{','.join(ASKED)}"


def saved(tmp_path, *rows: str, header: str = HEADER, encoding: str = "utf-8") -> Sequence[int | None]:
    path = tmp_path / "verdicts.csv"
    path.write_bytes("\n".join([header, *rows]).encode(encoding))
    return read_verdicts(path, key("ab"))


def test_a_verdict_is_for_b_or_against_it(tmp_path):
    found = saved(tmp_path, "sheet-1,1,1,2,tie,,2", "sheet-1,2,1,2,tie,,2")
    assert [found.get((1, name)) for name in ASKED] == [-1, 1, 0, None, 1]
    assert [found.get((2, name)) for name in ASKED] == [1, -1, 0, None, -1]


def test_what_a_program_for_tables_has_written_again_is_read(tmp_path):
    plain = saved(tmp_path, "sheet-1,2,1,2,tie,,2")
    header = HEADER.replace(",", ";") + ";notes"
    rows = ["sheet-1;2; 1 ;2;Tie;;2;a note; with more", "", ";;;;;;;"]
    assert saved(tmp_path, *rows, header=header, encoding="utf-8-sig") == plain


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (["sheet-2,1,1,1,1,1,1"], ":2: it is of the sheet 'sheet-2', and the key of 'sheet-1'"),
        (["sheet-1,3,1,1,1,1,1"], ":2: there is no item '3'; the items of this sheet are 1 to 2"),
        (["sheet-1,x,1,1,1,1,1"], ":2: there is no item 'x'"),
        (["sheet-1,1,1,1,1,1,1"] * 2, ":3: item 1 is there twice; leave one row for each item"),
        (["sheet-1,1,1,A,1,1,1"], ":2: logicality of item 1 is 'A'; write 1, tie or 2, or nothing"),
        (["sheet-1,1,,,,,"], " holds no verdict"),
        ([], " holds no verdict"),
        (['sheet-1,1,"' + "x" * 200_000], ": not a table"),
    ],
)
def test_bad_verdicts_are_named(tmp_path, rows, why):
    with pytest.raises(InputError) as error:
        saved(tmp_path, *rows)
    assert f"verdicts.csv{why}" in str(error.value)


def test_a_file_that_no_sheet_saved(tmp_path):
    for header, encoding, why in (
        ("a,b", "utf-8", "has no column 'sheet'; the sheet saves sheet,item,helpfulness"),
        (HEADER.replace(",overall", ""), "utf-8", "has no column 'overall'"),
        ("", "utf-8", "has no column 'sheet'"),
        (HEADER + "ä", "latin-1", "is not UTF-8 text"),
    ):
        with pytest.raises(InputError, match=why):
            saved(tmp_path, header=header, encoding=encoding)
