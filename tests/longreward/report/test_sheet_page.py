"""The sheet as a person meets it who compares answers: from disk, in a real browser without network."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager

import pytest

from longreward import cli
from longreward.evaluation.people.blind import ASKED

EVIL = (
    "<img src=x onerror='window.hurt=1'></script><script>window.hurt=1</script></textarea><svg onload='window.hurt=1'>"
    "<a href='javascript:window.hurt=1'>click</a> \u202edesrever\u202c \u200f \x1b[31m \u200b אבג"
)


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """Three items: one of plain text, one in Chinese with a long document, one that wants to be markup."""
    folder = tmp_path_factory.mktemp("sheet")
    document = "青石寺位于云州城北。" * 30_000 + "The end."
    texts = [("What did Mara sell?", "Mara sold copper.", "Copper.", "Gold."), ("谁？", document, "慧明。", ""),
             (EVIL, EVIL, EVIL + "1", EVIL + "2" * 30_000)]  # fmt: skip
    for name, place in (("sft", 2), ("dpo", 3)):
        rows = [{"idx": i, "query": row[0], "context": row[1], "answer": row[place]} for i, row in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(folder / "sft.jsonl"), str(folder / "dpo.jsonl"), "--out", str(folder / "sheet.html"), "--seed", "5"]
    assert cli.main(["blind", *words]) == 0
    return folder / "sheet.html"


@contextmanager
def opened(browser, sheet, **context):
    trouble = []
    made = browser.new_context(offline=True, accept_downloads=True, **context)
    page = made.new_page()
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda one: one.url.split("#")[0].startswith(("file://", "blob:")) or trouble.append(one.url))
    page.set_default_timeout(60_000)
    page.goto(sheet.as_uri())
    page.wait_for_selector("html[data-shown]")
    yield page
    made.close()
    assert trouble == []


def choose(page, asked: str, words: str) -> None:
    page.get_by_role("group", name=asked.title(), exact=True).get_by_role("radio", name=words, exact=True).check()


def at(page, item: int) -> None:
    page.wait_for_function("item => document.querySelector('h1').innerText.startsWith(`Item ${item} of`)", arg=item)


def test_filled_in_reloaded_saved_and_tallied(browser, sheet, tmp_path, capsys):
    first = [one["first"] for one in json.loads(sheet.with_suffix(".key.json").read_text())["items"]]
    dpo = [f"Answer {1 if one == 'b' else 2}" for one in first]
    with opened(browser, sheet) as page:
        assert page.get_by_text("0 of 3 done").is_visible() and page.get_by_text("Does it give what").is_visible()
        for asked in ASKED:
            choose(page, asked, dpo[0])
        page.get_by_role("link", name="Next item").click()
        at(page, 2)
        assert page.get_by_text("1 of 3 done").is_visible() and page.get_by_text("Does it give what").is_hidden()
        choose(page, "overall", "Tie")
        choose(page, "helpfulness", "Answer 1")
        choose(page, "helpfulness", "Tie")
        page.reload()
        page.wait_for_selector("html[data-shown]")
        at(page, 2)
        checked = page.locator("input:checked").evaluate_all("all => all.map(one => [one.name, one.value])")
        assert checked == [["helpfulness", "tie"], ["overall", "tie"]]
        page.get_by_text("All items", exact=True).click()
        assert [text.split() for text in page.locator(".all li").all_inner_texts()] == [
            ["1", "done"], ["2", "begun"], ["3", "open"],
        ]  # fmt: skip
        with page.expect_download() as download:
            page.get_by_role("button", name="Save").click()
        assert page.get_by_role("status").inner_text() == "Saved verdicts.csv. Not done: 2, 3"
        assert download.value.suggested_filename == "verdicts.csv"
        download.value.save_as(tmp_path / "verdicts.csv")
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Clear all choices").click()
        assert page.get_by_text("0 of 3 done").is_visible() and page.locator("input:checked").count() == 0
    saved = list(csv.reader((tmp_path / "verdicts.csv").open()))
    assert saved[0] == ["sheet", "item", *ASKED] and [row[2:] for row in saved[1:]] == [
        [dpo[0][-1]] * 5, ["tie", "", "", "", "tie"], [""] * 5,
    ]  # fmt: skip
    capsys.readouterr()
    words = ["--key", str(sheet.with_suffix(".key.json")), "--json", str(tmp_path / "tally.json")]
    assert cli.main(["blind", "--tally", str(tmp_path / "verdicts.csv"), *words]) == 0
    found = json.loads((tmp_path / "tally.json").read_text())["b_against_a"]
    assert found["overall"]["win"]["mean"] == found["overall"]["tie"]["mean"] == 0.5
    assert found["logicality"]["win"]["mean"] == 1 and found["logicality"]["unfilled"] == 2


def test_all_by_the_keyboard(browser, sheet):
    with opened(browser, sheet) as page:
        page.get_by_text("Document (").focus()
        page.keyboard.press("Enter")
        page.get_by_text("Mara sold copper.").wait_for()
        page.get_by_role("radio").first.focus()
        for _ in ASKED:
            page.keyboard.press("Space")
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Tab")
        assert page.locator("input:checked").evaluate_all("all => all.map(one => one.value)") == ["tie"] * 5
        assert page.evaluate("document.activeElement.innerText") == "Next item →"
        page.keyboard.press("Enter")
        at(page, 2)
        assert page.evaluate("document.activeElement.id") == "content"


def test_foreign_text_is_text(browser, sheet):
    with opened(browser, sheet) as page:
        page.evaluate("location.hash = 3")
        at(page, 3)
        page.get_by_text("Document (").click()
        page.locator(".source").wait_for()
        assert page.locator("main img, main script, main svg, main a[href^=javascript]").count() == 0
        assert page.evaluate("window.hurt") is None
        shown = page.locator("main").inner_text()
        assert shown.count("<img src=x onerror=") == 4 and shown.count("</script>") >= 4
        for text in page.locator(".text").all():
            assert {"U+202E", "U+200F", "U+001B", "U+200B"} <= set(text.locator(".code-point").all_inner_texts())


def test_a_long_document_is_there_as_a_whole_and_an_empty_answer_says_so(browser, sheet):
    with opened(browser, sheet) as page:
        page.evaluate("location.hash = 2")
        at(page, 2)
        page.get_by_text("Document (300,008 characters)").click()
        page.locator(".source").wait_for()
        assert page.locator(".source").inner_text().endswith("The end.")
        assert page.get_by_text("This answer is empty.").is_visible()


def test_where_the_browser_keeps_nothing_it_is_told_and_saved_all_the_same(browser, sheet, tmp_path):
    with opened(browser, sheet) as page:
        page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})")
        page.reload()
        page.wait_for_selector("html[data-shown]")
        choose(page, "overall", "Tie")
        assert "This browser keeps nothing: save before" in page.get_by_role("status").inner_text()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save").click()
        download.value.save_as(tmp_path / "verdicts.csv")
    assert (tmp_path / "verdicts.csv").read_text().splitlines()[1].endswith(",1,,,,,tie")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 800)], ids=["laptop", "phone"])
def test_nothing_keeps_people_out(browser, sheet, violations, scheme, size):
    shape = {"width": size[0], "height": size[1]}
    with opened(browser, sheet, color_scheme=scheme, viewport=shape) as page:
        for item in (1, 2, 3):
            page.evaluate("item => { location.hash = item }", item)
            at(page, item)
            choose(page, "faithfulness", "Answer 2")
            page.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true })")
            page.locator(".source").wait_for()
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
