"""The report as a reader meets it: from disk in a browser without network, by pointer and keyboard, seen and heard."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longreward import LongReward, Sample, cli
from longreward.schema import DimensionScore, JudgeCall, JudgedCriterion, Point, Reward, ScoredAnswer, Statement
from longreward.store import Store

TOY = Path(__file__).parents[3] / "rl" / "toy" / "data"
GRPO = {
    "openrlhf": {"rollout.batch_size": 2, "rollout.n_samples_per_prompt": 4},
    "reward": {"judge": {"kind": "offline"}},
}
PAGES = ("run/0", "answers", "alarms", "compare")
OPEN_ALL = "document.querySelectorAll('main details').forEach(details => { details.open = true })"
EVIL = (
    "<img src=x onerror='window.hurt=1'><script>window.hurt=1</script></script></textarea><svg onload='window.hurt=1'>"
    "<a href='javascript:window.hurt=1'>click</a> \u202edesrever\u202c \x00\x1b[31m \ud800 \u200b אבג"
)


class Reader:
    """One page in a browser without network; `trouble` is all that it complains about or asks for."""

    def __init__(self, browser, path: Path, **context):
        self.context = browser.new_context(offline=True, **context)
        self.page = self.context.new_page()
        self.path, self.trouble = path, []
        self.page.on("console", lambda message: self.trouble.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked(request.url))
        self.page.set_default_timeout(60_000)
        self.page.goto(f"{path.as_uri()}#run/0")
        self.page.wait_for_selector("html[data-shown]")

    def asked(self, url: str) -> None:
        if url.split("#")[0] != self.path.as_uri():
            self.trouble.append(f"request: {url}")

    def at(self, place: str):
        self.page.evaluate("place => { location.hash = place }", place)
        self.page.wait_for_function(
            "title => document.title.startsWith(title)",
            arg={"run": "Run"}.get(word := re.split(r"\W", place)[0], word.title().rstrip("s")),
        )
        self.page.wait_for_timeout(100)
        return self.page


@pytest.fixture
def read(browser) -> Iterator:
    readers = []

    def opened(path: Path, **context) -> Reader:
        readers.append(Reader(browser, path, **context))
        return readers[-1]

    yield opened
    for reader in readers:
        reader.context.close()
        assert reader.trouble == []


async def fill(run, documents, better: float) -> None:
    """Answers as the toy's policy gives them, scored by the offline judge: true, false and repeated sentences."""
    reward = LongReward.from_config({"chunking": {"evidence_tokens": 24, "extraction_tokens": 128}})
    for step in range(6):
        for number, row in enumerate(documents):
            sentences = [part + "." for part in row["context"].rstrip(".").split(". ")]
            names = re.findall(r"[A-Z]\w+", row["query"])[1:]
            true = [sentence for sentence in sentences if sentence.split()[0] in names]
            for i in range(4):
                keep = true[: 1 + (i + step) % 3]
                false = [] if (i * step) % 5 < better else [f"{names[0]} stole gold from Zeno in Oslo."]
                answer = " ".join([*keep, *false])
                sample = Sample(id=f"p{number}", context=row["context"], query=row["query"], answer=answer)
                scored = await reward.score(sample)
                run.time += 1
                about = {"split": "train" if 0 < step < 5 else "heldout", "tokens": len(answer) // 4}
                about |= {"rollout": f"{step}/{number}/{i}", "time": run.time}
                with Store(run.path / "store" / "answers-0-a.jsonl") as store:
                    store.append(ScoredAnswer.of(sample, scored, **about))
    await reward.aclose()


@pytest.fixture(scope="module")
def reports(tmp_path_factory, request) -> dict[str, Path]:
    """`one` run, `two` runs, and `evil`: texts that want to be markup."""
    run_folder = request.getfixturevalue("run_folder")
    folder = tmp_path_factory.mktemp("runs")
    rows = [json.loads(line) for line in (TOY / "heldout.jsonl").read_text().splitlines()[:2]]
    for row in rows:  # so long that evidence lies far apart
        row["context"] = " ".join(f"The archive keeps volume {i}." for i in range(60)) + " " + row["context"]
    runs = []
    for name, better in (("first", 2), ("second", 4)):
        run = run_folder(folder / name)
        run.config(**GRPO, run={"name": name})
        for number, row in enumerate(rows):
            run.prompt(f"p{number}", row["context"], row["query"])
        with ThreadPoolExecutor(1) as pool:  # this thread has playwright's own loop
            pool.submit(asyncio.run, fill(run, rows, better)).result()
        runs.append(run.path)
    (runs[0] / "summary.json").write_text('{"kind": "grpo"}')
    evil = run_folder(folder / "evil")
    evil.config(note=EVIL, **GRPO)
    for i in range(12):
        evil.prompt(f"{EVIL}{i}", EVIL * 5, query=EVIL)
        facts = [(EVIL, 0.0, 0, len(EVIL), EVIL), ("not in it " + EVIL, 0.5, 0, 3, EVIL)]
        status = {"status": EVIL} if i == 3 else {}
        total = None if i == 3 else 5.0
        evil.answer(f"{EVIL}{i}", EVIL + "y" * (1_000_000 if i == 5 else i), total, query=EVIL, said=EVIL, facts=facts,
                    scores={EVIL: total}, **status)  # fmt: skip
    evil.line("store/answers-0-a.jsonl", EVIL)
    table = {"title": "paper", "heads": ["row", "Avg", "held-out reward"], "notes": [EVIL.replace("\ud800", "")]}
    table |= {
        "rows": [["sft", "55.1 (50.0 to 60.0) [55.0]", "8.20"], ["online", "-", "9.1"]],
        "runs": ["first", "second"],
    }
    (folder / "reproduction.json").write_text(json.dumps(table))
    found = {"one": runs[:1], "two": runs, "evil": [evil.path], "reproduction": [folder]}
    for name, paths in found.items():
        assert cli.main(["report", *map(str, paths), "--out", str(folder / f"{name}.html")]) == 0
    return {name: folder / f"{name}.html" for name in found}


def test_a_reproduction_begins_with_its_table(read, reports, violations):
    page = read(reports["reproduction"]).page
    page.get_by_role("link", name="Reproduction").click()
    page.get_by_role("heading", name="paper", exact=True).wait_for()
    assert page.get_by_role("row", name="sft").inner_text().split() == "sft 55.1 (50.0 to 60.0) [55.0] 8.20".split()
    assert violations(page) == []
    page.goto(reports["reproduction"].as_uri())  # as it is opened
    page.get_by_role("table", name="Each row is a policy").wait_for()
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("heading", name="Held-out scores").wait_for()


# --- (a) from a low reward to the evidence of what is not supported ---


def test_from_a_low_reward_to_the_evidence_of_its_unsupported_statement(read, reports):
    reader = read(reports["one"])
    page = reader.page
    assert page.locator("h1").inner_text() == "first" and "Finished" in page.locator(".lead").inner_text()
    page.get_by_role("link", name="Answers", exact=True).click()
    page.get_by_label("Statements", exact=True).select_option("unsupported")
    page.wait_for_function("() => location.hash.includes('facts=unsupported')")
    first = page.locator(".answers > li").first
    assert "not supported" in first.inner_text()
    first.locator("a").click()
    page.get_by_role("heading", name="Answer to").wait_for()
    assert "Choose a statement" in page.locator("#evidence").inner_text()
    wrong = page.locator(".statements .fact.none").first
    said = wrong.locator("bdi").inner_text()
    assert "stole gold from Zeno" in said
    wrong.click()
    evidence = page.locator("#evidence")
    assert "not supported" in evidence.locator("h2").inner_text() and said in evidence.inner_text()
    assert evidence.locator(".passage").count() >= 1 and evidence.locator(".passage mark").count() >= 1
    # In the document: what is between two passages opens.
    gaps, before = evidence.locator(".gap").count(), len(evidence.inner_text())
    assert gaps
    evidence.locator(".gap").first.click()
    assert evidence.locator(".gap").count() == gaps - 1 and len(evidence.inner_text()) > before
    # What the judge said, and the siblings from best to worst.
    page.locator("details.dimension summary").first.click()
    page.locator("details.dimension .call").first.wait_for()
    rewards = [float(text) for text in page.locator(".card .reward b").all_inner_texts()]
    assert len(rewards) == 4 and rewards == sorted(rewards, reverse=True)
    page.get_by_role("link", name="Next →").click()
    page.wait_for_function("() => document.querySelector('.pages').innerText.includes('2 of')")
    page.get_by_role("link", name="All answers found").click()
    page.wait_for_selector(".answers > li")
    assert page.get_by_label("Statements", exact=True).input_value() == "unsupported"


def test_filters(read, reports):
    reader = read(reports["two"])
    page = reader.at("answers")
    count = page.locator(".count")

    def found(expected: str) -> None:
        page.wait_for_function("words => document.querySelector('.count').innerText.startsWith(words)", arg=expected)

    found("96 of 96")
    page.get_by_label("Run", exact=True).select_option(label="second")
    found("48 of 96")
    page.get_by_label("Scored for").select_option("held-out before")
    found("8 of 96")
    page.get_by_role("button", name="Clear the filter").click()
    found("96 of 96")
    page.get_by_label("Text of answer or question").fill("STOLE GOLD")
    page.wait_for_function("() => /^[1-9]\\d* of 96/.test(document.querySelector('.count').innerText)")
    page.wait_for_function("() => !document.querySelector('.count').innerText.startsWith('96 of')")
    assert all("stole gold" in text for text in page.locator(".snippet").all_inner_texts())
    page.get_by_label("Text of answer or question").fill("no such words anywhere")
    found("None of 96")
    reader.at("answers?step=2-3&sort=-total")
    found("32 of 96")
    rewards = [float(text) for text in page.locator(".answers .reward b").all_inner_texts()]
    assert rewards == sorted(rewards, reverse=True)
    reader.at("answers?faithfulness=10")
    assert 0 < int(count.inner_text().split()[0]) < 96


def test_compare_opens_the_answers_of_both_runs_to_a_prompt(read, reports):
    reader = read(reports["two"])
    page = reader.at("compare")
    assert "second" in page.locator("thead").first.inner_text()
    assert page.locator(".legend").first.locator("li").count() == 2
    page.locator("tbody th a").first.click()
    page.get_by_role("heading", name="Prompt").wait_for()
    assert [text.split(",")[0] for text in page.locator("h2").all_inner_texts()] == ["first", "second"]


def test_an_alarm_leads_to_its_answers(read, reports):
    reader = read(reports["evil"])
    page = reader.at("alarms")
    card = page.locator(".alarm-card", has_text="address the judge")
    assert "What it means." in card.inner_text() and "What to do." in card.inner_text()
    card.get_by_role("link", name="Show these answers").click()
    page.wait_for_selector(".answers > li")
    assert page.get_by_label("Sign").input_value() == "attack"


# --- (c) hostile text ---


def test_hostile_text_is_shown_as_text_and_nothing_runs(read, reports):
    reader = read(reports["evil"])
    page = reader.page
    for place in (
        "run/0",
        "answers",
        "answers?text=onerror",
        "alarms",
        "answer/3",
        "answer/0/0",
        "answer/4/1",
        "prompt/2",
    ):
        reader.at(place)
        page.evaluate(OPEN_ALL)
        page.wait_for_timeout(50)
        assert page.locator("main img, main script, main svg[onload], main a[href^=javascript]").count() == 0
        assert page.evaluate("window.hurt") is None
    reader.at("answer/0/0")
    shown = page.locator(".reading").inner_text()
    assert "<img src=x onerror=" in shown and "</script>" in shown
    codes = page.locator(".reading .code-point").all_inner_texts()
    assert {"U+202E", "U+0000", "U+001B", "U+D800", "U+200B"} <= set(codes)


def test_a_line_of_a_megabyte_opens_in_parts(read, reports):
    reader = read(reports["evil"])
    page = reader.at("answers?sort=-tokens&text=" + "y" * 50)
    page.wait_for_function("() => document.querySelector('.count').innerText.startsWith('1 of')")
    page.locator(".answers a.open").click()
    button = page.locator(".reading .text button").first
    button.wait_for()
    text = page.locator(".reading .text:has(button)").first.element_handle()
    assert len(text.inner_text()) < 30_000
    parts = 0
    while "characters left" in (shown := text.inner_text()):
        button.click()
        page.wait_for_function("([text, before]) => text.innerText.length > before", arg=[text, len(shown)])
        parts += 1
    assert parts == 4 and shown.count("y") >= 1_000_000
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_chinese_statements_are_found_in_the_answer_and_in_the_evidence(read, make_run, tmp_path):
    run, document = make_run(**GRPO), "青石寺位于云州城北。僧人慧明在1452年重建了青石寺的大殿。藏经楼由周德海出资修复。"
    run.prompt("p0", document, query="慧明做了什么？")
    facts = [("僧人慧明在1452年重建了大殿。", 1.0, 10, len(document), document[10:])]
    run.answer("p0", "据记载，慧明在1452年重建了大殿。他是僧人。", 9.0, query="慧明做了什么？", facts=facts)
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run.path), "--out", str(out)]) == 0
    page = read(out).at("answer/0/0")
    assert "慧明在1452年重建了大殿。" in page.locator(".reading .text .fact").first.inner_text()
    marked = "".join(page.locator(".passage mark").all_inner_texts())
    assert "慧明" in marked and "1452" in marked and "周德海" not in marked


def test_how_unsure_the_judge_is_stands_beside_its_scores(read, make_run, tmp_path):
    run, document = make_run(**GRPO), "Mara sold copper in Oslo. Otto bought it."
    run.prompt("p0", document, query="What did Mara do?")
    call, rating = JudgeCall(kind="verify"), DimensionScore(score=7.25, deviation=0.8)
    facts = [Statement(text="Mara sold copper.", support=0.93, deviation=0.21, call=call)]
    facts.append(Statement(text="Otto sold it.", support=0.02, deviation=0.11, call=call))
    faithful = DimensionScore(score=4.75, deviation=1.2, statements=facts)
    scored = Reward(id="p0", total=6, dimensions={"helpfulness": rating, "faithfulness": faithful})
    sample = Sample(id="p0", context=document, query="What did Mara do?", answer="Mara sold copper. Otto sold it.")
    with Store(run.path / "store" / "answers-0-a.jsonl") as store:
        store.append(ScoredAnswer.of(sample, scored, split="train", rollout="0/0/0", time=1.0))
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run.path), "--out", str(out)]) == 0
    page = read(out).at("answer/0/1")
    assert (
        "7.25 ± 0.80" in page.locator(".scores").inner_text() and "4.75 ± 1.20" in page.locator(".scores").inner_text()
    )
    listed = page.locator(".statements").inner_text()
    assert "supported, 0.93 ± 0.21" in listed and "not supported, 0.02 ± 0.11" in listed
    assert "not supported, 0.02 ± 0.11" in page.locator("#evidence h2").inner_text()


def test_what_was_asked_of_an_answer_stands_beside_it(read, make_run, violations, tmp_path):
    run, document = make_run(**GRPO), "Mara sold copper in Oslo. Otto bought it."
    run.prompt("p0", document, query="What did Mara do?")
    judged = [
        JudgedCriterion(text="Names the place.", weight=2.5, met=1.0),
        JudgedCriterion(text="Names the buyer.", met=0.45, deviation=0.3),
        JudgedCriterion(text="Is rude <b>", weight=-1, met=1.0),
        JudgedCriterion(text="Is long.", weight=-2, met=0.0),
    ]
    call = JudgeCall(kind="criteria", text="1. It does. [[Met]]", attempts=1, seconds=0.5)
    asked = DimensionScore(score=5.5, deviation=0.86, criteria=judged, calls=[call])
    void = DimensionScore(score=None, status="timeout", criteria=[JudgedCriterion(text="Is kind.", met=None)])
    sample = Sample(id="p0", context=document, query="What did Mara do?", answer="She sold copper in Oslo.")
    with Store(run.path / "store" / "answers-0-a.jsonl") as store:
        for number, dimension in enumerate((asked, void)):
            scored = Reward(id="p0", total=dimension.score, dimensions={"criteria": dimension})
            store.append(ScoredAnswer.of(sample, scored, split="train", rollout=f"0/0/{number}", time=1.0 + number))
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run.path), "--out", str(out)]) == 0
    reader = read(out)
    page = reader.at("answer/0")
    assert "5.50 ± 0.86" in page.locator(".scores").inner_text()
    items = page.locator(".criteria li")
    assert [text.strip() for text in items.all_inner_texts()] == [
        "✓ Names the place. met; weight 2.5",
        "◐ Names the buyer. partly met, 0.45 ± 0.30; weight 1",
        "✓ Is rude <b> met; weight −1",
        "✗ Is long. not met; weight −2",
    ]
    kinds = [items.nth(number).get_attribute("class") for number in range(4)]
    assert kinds == ["full", "partly", "none", "full"]
    page.evaluate(OPEN_ALL)
    assert "1. It does. [[Met]]" in page.locator(".dimension").inner_text()
    assert violations(page) == []
    (unknown,) = reader.at("answer/1").locator(".criteria li.unknown").all_inner_texts()
    assert unknown.strip() == "? Is kind. void: timeout; weight 1"


def test_key_points_stand_beside_the_answer(read, make_run, tmp_path):
    run = make_run(**GRPO)
    points = [
        Point(text="Mara sold copper.", covered=1.0, quote="sold copper", in_answer=True),
        Point(text=EVIL, covered=0.42, deviation=0.2, quote=EVIL, in_answer=False),
        Point(text="Otto bought it.", covered=0.0),
    ]
    for number, covered in enumerate((points, [Point(text=point.text, covered=None) for point in points])):
        score, status = (4.7, "ok") if number == 0 else (None, "timeout")
        complete = DimensionScore(score=score, status=status, points=covered, calls=[JudgeCall(kind="coverage")])
        scored = Reward(id="p0", total=score, dimensions={"completeness": complete})
        sample = Sample(id="p0", context="Mara sold copper.", query="What?", answer="Mara sold copper.")
        with Store(run.path / "store" / "answers-0-a.jsonl") as store:
            store.append(ScoredAnswer.of(sample, scored, split="train", rollout=f"0/0/{number}", time=1.0 + number))
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run.path), "--out", str(out)]) == 0
    reader = read(out)
    page = reader.at("answer/0")
    assert "1 of 3 covered" in page.locator("main").inner_text()
    first, second, third = page.locator(".points li").all_inner_texts()
    assert "Mara sold copper. covered" in first and "sold copper" in first and "not in the answer" not in first
    assert "partly covered, 0.42 ± 0.20" in second and "onerror" in second and "not in the answer" in second
    assert third.endswith("missing")
    assert reader.at("answer/1").locator(".points").inner_text().count("void: timeout") == 3


# --- (d) runs in every state ---


@pytest.mark.parametrize("state", ["running", "crashed", "empty"])
def test_a_run_in_any_state_is_a_useful_page(read, make_run, tmp_path, state):
    import os
    import time

    run = make_run(**GRPO)
    if state != "empty":
        run.prompt("p0", "Mara sold copper.")
        for i in range(5):
            run.answer("p0", f"Mara sold {i}.", float(i))
        run.line("store/answers-0-a.jsonl", '{"id": "half', end="")
    if state == "crashed":
        run.line("logs/train.log", "RuntimeError: CUDA out of memory")
        for path in run.path.rglob("*"):
            os.utime(path, (time.time() - 3600,) * 2)
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run.path), "--out", str(out)]) == 0
    text = read(out).page.locator("main").inner_text()
    words = {
        "running": "It seems to be running",
        "crashed": "RuntimeError: CUDA out of memory",
        "empty": "No answer has been scored yet",
    }
    assert words[state] in text and ("1 line holds no scored answer" in text) == (state != "empty")


def test_a_file_that_was_cut_says_so(read, reports, tmp_path, browser):
    cut = tmp_path / "cut.html"
    whole = reports["one"].read_bytes()
    cut.write_bytes(whole[: whole.index(b'id="block-overview">') + 500])
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(cut.as_uri())
    page.get_by_role("heading", name="could not be opened").wait_for()
    context.close()


# --- (e) for everyone ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 800)], ids=["laptop", "phone"])
def test_no_page_has_a_violation_that_axe_finds(read, reports, violations, scheme, size):
    viewport = {"width": size[0], "height": size[1]}
    reader = read(reports["two"], color_scheme=scheme, viewport=viewport)
    for place in (*PAGES, "answers?status=void", "answer/0", "answer/0/0", "prompt/0"):
        page = reader.at(place)
        page.evaluate(OPEN_ALL)
        page.wait_for_timeout(100)
        assert violations(page) == [], place
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{place} is wider than the screen"
    evil = read(reports["evil"], color_scheme=scheme, viewport=viewport)
    for place in ("run/0", "answers", "answer/0/0", "alarms"):
        assert violations(evil.at(place)) == [], place
        assert evil.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place


def test_everything_is_within_reach_of_the_keyboard(read, reports):
    reader = read(reports["one"])
    page = reader.page

    def tab_to(selector: str, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never comes to {selector}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab_to("#ruler")
    page.keyboard.press("ArrowLeft")
    assert (
        "step 3" in page.locator(".scrubber output").inner_text()
        and "at step 3" in page.locator(".value").first.inner_text()
    )
    tab_to(".chart summary")
    page.keyboard.press("Enter")
    page.locator(".chart table").first.wait_for()
    page.evaluate("document.getElementById('nav').querySelectorAll('a')[1].focus()")
    page.keyboard.press("Enter")
    page.wait_for_selector(".answers > li")
    assert page.evaluate("document.activeElement.id") == "content"
    tab_to("a.open")
    page.keyboard.press("Enter")
    page.wait_for_selector("#evidence")
    tab_to(".fact")
    page.keyboard.press("Enter")
    page.wait_for_selector("#evidence h3")
    assert page.evaluate("document.activeElement.id") == "evidence"


def test_nothing_is_told_by_colour_alone(read, reports):
    reader = read(reports["two"])
    page = reader.at("compare")
    dashes = (
        page.locator(".chart")
        .first.locator("polyline.line")
        .evaluate_all("all => all.map(e => e.getAttribute('stroke-dasharray'))")
    )
    assert len(set(dashes)) == len(dashes) == 2
    page = reader.at("answer/0")
    for fact in page.locator(".statements .fact").all():
        assert re.search("supported|void", fact.inner_text())
    for sign in page.locator(".text .fact .sign").all():
        assert sign.get_attribute("aria-label")


@pytest.mark.parametrize("hidden", ["\u200b" * 20_000, "a\u200b" * 10_000], ids=["in a row", "one by one"])
def test_many_statements_that_nobody_sees_make_a_small_page(read, make_run, tmp_path, hidden):
    run, texts = make_run(**GRPO), [f"{i} {hidden}" for i in range(50)]
    run.prompt("p0", "Mara sold copper.")
    facts = [(text, 0.0, 0, 17, "Mara sold copper.") for text in texts]
    run.answer("p0", "".join(texts), 5.0, query="What did Mara do?", facts=facts)
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run.path), "--out", str(out)]) == 0
    page = read(out).at("answer/0/7")
    assert page.locator(".statements li").count() == 50
    assert {"U+200B"} < set(page.locator("#evidence .code-point").all_inner_texts())
    assert page.evaluate("document.querySelectorAll('*').length") < 60_000
    assert page.evaluate("document.body.innerText.length") < 1_000_000


def test_a_statement_that_an_answer_repeats_is_found_at_once(read, make_run, tmp_path):
    run, text = make_run(**GRPO), "\u200bab" * 7_000
    run.prompt("p0", "Mara sold copper.")
    facts = [(text, 0.0, 0, 17, "Mara sold copper.")] * 50
    run.answer("p0", text * 40, 5.0, query="What did Mara do?", facts=facts)
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run.path), "--out", str(out)]) == 0
    page = read(out).at("answer/0/7")
    assert page.locator(".statements li").count() == 50
