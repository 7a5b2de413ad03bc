"""`longreward doctor`: what a user is told of a judge before it is used, and what it never tells."""

from __future__ import annotations

import asyncio
import io
import json
import re

import pytest
from aiohttp import web
from rich.console import Console

from longreward.cli import main
from longreward.commands.doctor import show
from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.judge.requests import REQUESTS
from longreward.preflight import asking, judge_checks, questions
from longreward.preflight.finding import Finding, Severity
from longreward.text.chunking import word_spans

LABELS = {request.kind: request.label for request in REQUESTS}
SIX = {"helpfulness", "logicality", "statements", "verify", "extract", "completeness"}
RIGHT, WRONG = "Mara sold 40 crates of copper", ("Rain is water", "never sold anything", "Karl bought 12 ships")


def material(prompt: str) -> str:
    """What a prompt is about, without its instructions and their examples."""
    return prompt[prompt.rindex("\n\n<") :]


def discerning(good: str, bad: str):
    return lambda prompt, _: bad if any(text in material(prompt) for text in WRONG) else good


def copied(prompt: str, _: int) -> str:
    """What the passage says of ships and crates, word for word."""
    said = re.findall(r"[^.。]*(?:ship of|40 crates|40箱)[^.。]*[.。]", passage(prompt))
    return "".join(said) or "Something relevant."


def passage(prompt: str) -> str:
    return prompt[prompt.rindex("<passage>") :]


@pytest.fixture
def good_judge(module_judge, monkeypatch):
    """A judge that tells the wrong answers from the right ones."""
    monkeypatch.setattr(asking, "_MOMENT_S", 0.02)
    module_judge.script, module_judge.latency, module_judge.most_in_flight = {}, 0.0, 0
    module_judge.calls.clear()
    module_judge.keys.clear()
    ratings = {kind: discerning("[[9]]", "[[1]]") for kind in ("helpfulness", "logicality", "completeness")}
    module_judge.script = ratings | {"verify": discerning("[[Fully supported]]", "[[No support]]"), "extract": copied}
    return module_judge


@pytest.fixture
def examine(capsys):
    """Runs the command: exit code and the lines it printed."""

    def run(server, *words) -> tuple[int, list[str]]:
        endpoint = ["--judge", "openai", "--base-url", server.url, "--model", "m"] if server else []
        code = main(["doctor", *endpoint, *map(str, words)])
        return code, capsys.readouterr().out.splitlines()

    return run


def told(lines: list[str], level: str, about: str) -> list[str]:
    return [line for line in lines if line.split()[:2] == [level, about]]


def test_a_good_judge_is_asked_everything_and_has_no_problem(examine, good_judge):
    good_judge.latency = 0.05
    code, lines = examine(good_judge)
    assert code == 0 and lines[-1].startswith("no problems, "), lines
    assert set(good_judge.calls) == SIX
    # Each kind in English and Chinese, four about a wrong answer, and an extraction of full size.
    assert good_judge.calls.total() == 17
    (line,) = [line for line in told(lines, "ok", "judge") if "answers all 6 kinds" in line]
    assert good_judge.url in line
    seconds = float(re.search(r"([\d.]+) s a call", line)[1])
    assert 0.05 <= seconds < 2
    assert not told(lines, "note", "judge") and not told(lines, "problem", "judge")
    assert any("17 calls" in line for line in lines)
    assert any("read from beginning to end" in line for line in told(lines, "ok", "judge"))


@pytest.mark.parametrize("kind", sorted(SIX))
def test_a_reply_that_cannot_be_read_is_shown_with_its_kind_and_endpoint(examine, good_judge, kind):
    reply = "I would say " + "so many words " * 40 + "and no verdict at all"
    broken = {kind: lambda *_: web.Response(text="{", content_type="application/json")}
    good_judge.script |= broken if kind == "extract" else {kind: reply}
    code, lines = examine(good_judge)
    assert code == 1 and lines[-1].startswith("1 problem, ")
    (line,) = told(lines, "problem", "judge")
    assert good_judge.url in line and LABELS[kind] in line
    if kind != "extract":
        assert "I would say" in line and "no verdict at all" in line and len(line) < 600


def test_a_judge_without_judgement_is_noted_and_no_problem(examine, good_judge):
    good_judge.script = {"extract": copied}
    code, lines = examine(good_judge)
    (line,) = told(lines, "note", "judge")
    assert code == 0
    assert "helpfulness (8, the right one 8)" in line and "verification (1, the right one 1)" in line


def test_a_judge_that_fails_at_chinese_is_noted(examine, good_judge):
    rating = good_judge.script["helpfulness"]
    good_judge.script["helpfulness"] = lambda p, n: "very good" if "玛拉" in material(p) else rating(p, n)
    code, lines = examine(good_judge)
    (line,) = told(lines, "note", "judge")
    assert code == 0 and "Chinese material for helpfulness" in line and "'very good'" in line


def test_a_reply_that_is_cut_wants_more_tokens(examine, good_judge):
    cut = {"choices": [{"message": {"role": "assistant", "content": "[["}, "finish_reason": "length"}]}
    good_judge.script["logicality"] = lambda *_: web.json_response(cut)
    code, lines = examine(good_judge)
    assert code == 1 and "raise judge.max_tokens" in told(lines, "problem", "judge")[0]


def refusing(prompt: str) -> web.Response:
    error = {"message": "This model's maximum context length is 4096 tokens.", "code": "context_length_exceeded"}
    return web.json_response({"error": error}, status=400)


def cutting(keep, reports=True):
    """A judge that reads only what `keep` leaves of a prompt, and reports as many tokens as that, if any."""

    def reply(prompt: str) -> web.Response:
        kept = keep(passage(prompt))
        message = {"role": "assistant", "content": copied("<passage>" + kept, 0)}
        usage = {"prompt_tokens": len(kept) // 4 * reports, "completion_tokens": 10}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    return reply


SHORT_CONTEXTS = {
    "refuses": (refusing, "half of it does"),
    "cuts the head and says how much": (cutting(lambda text: text[-8000:]), "does not fit into the judge's context"),
    "cuts the tail and says how much": (cutting(lambda text: text[:8000]), "does not fit into the judge's context"),
    "cuts the head": (cutting(lambda text: text[-12000:], False), "the fact at its beginning"),
    "cuts the tail": (cutting(lambda text: text[:12000], False), "the fact at its end"),
    "cuts the middle": (cutting(lambda text: text[:6000] + text[-6000:], False), "the fact at its middle"),
    "keeps the tail": (cutting(lambda text: text[-4000:], False), "the fact at its beginning and middle"),
}


@pytest.mark.parametrize(("short", "words"), SHORT_CONTEXTS.values(), ids=SHORT_CONTEXTS)
def test_a_judge_whose_context_is_too_short_is_a_problem(examine, good_judge, short, words):
    good_judge.script["extract"] = lambda p, n: short(p) if len(p) > 15_000 else copied(p, n)
    code, lines = examine(good_judge)
    (line,) = told(lines, "problem", "judge")
    assert code == 1 and words in line and "context" in line, lines


def test_a_judge_that_reads_all_of_a_long_passage_and_misses_a_part_is_noted(examine, good_judge):
    def careless(prompt: str, number: int):
        if len(prompt) <= 15_000:
            return copied(prompt, number)
        choice = {"message": {"content": "The first ship is called Quillon."}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": len(prompt) // 4}})

    good_judge.script["extract"] = careless
    code, lines = examine(good_judge)
    (line,) = told(lines, "note", "judge")
    assert code == 0 and "the fact at its middle and end" in line and "stronger judge" in line


def test_a_judge_that_finds_nothing_in_a_long_passage_is_noted(examine, good_judge):
    good_judge.script["extract"] = lambda p, n: "No relevant information" if len(p) > 15_000 else copied(p, n)
    code, lines = examine(good_judge)
    (line,) = told(lines, "note", "judge")
    assert code == 0 and "none of the three facts" in line


@pytest.mark.parametrize("tokens", [8, 100, 1000, 8192])
def test_the_full_extraction_is_as_long_as_the_configuration_says(tokens):
    config = validate(RewardConfig, {"chunking": {"extraction_tokens": tokens}})
    request = questions.full_extraction(config)
    assert abs(len(word_spans(request.chunk)) - max(tokens, 31)) <= 4
    assert questions.parts_missed(request.chunk) == []
    assert questions.parts_missed(None) == ["beginning", "middle", "end"]


def test_each_endpoint_is_asked_and_named(tmp_path, examine, good_judge, start_judge):
    with start_judge() as slow:
        slow.latency, slow.script = 0.2, good_judge.script
        urls = [good_judge.url, slow.url, "http://127.0.0.1:9/v1"]
        config = tmp_path / "reward.yaml"
        judge = {"kind": "openai", "model": "m", "endpoints": [{"base_url": url} for url in urls]}
        config.write_text(json.dumps({"judge": judge}))
        code, lines = examine(None, "--config", config)
    assert code == 1
    assert {url for url in urls for line in told(lines, "ok", "judge") if url in line} == set(urls[:2])
    (line,) = told(lines, "problem", "judge")
    assert urls[2] in line and "unreachable" in line and "answers no question" in line
    assert (good_judge.calls.total(), slow.calls.total()) == (17, 17)


def test_keys_are_named_and_never_shown(examine, good_judge, monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", "sk-very-secret")
    code, lines = examine(good_judge, "judge.api_key_env=MY_JUDGE_KEY")
    assert code == 0 and "MY_JUDGE_KEY is set" in told(lines, "ok", "keys")[0]
    assert set(good_judge.keys) == {"Bearer sk-very-secret"}

    refusal = {"error": {"message": "Incorrect API key: sk-very-secret"}}
    good_judge.script = dict.fromkeys(SIX, lambda *_: web.json_response(refusal, status=401))
    code, more = examine(good_judge, "judge.api_key_env=MY_JUDGE_KEY")
    (line,) = told(more, "problem", "judge")
    assert code == 1 and "unauthorized" in line and "check the key" in line
    assert "secret" not in "".join(lines + more)


def test_a_key_that_is_not_set_is_a_problem_and_nothing_is_asked(examine, good_judge):
    code, lines = examine(good_judge, "judge.api_key_env=NO_SUCH_KEY")
    assert code == 1 and good_judge.calls.total() == 0
    assert "NO_SUCH_KEY is not set -> export NO_SUCH_KEY" in told(lines, "problem", "keys")[0]


def test_a_proxy_that_cannot_be_used_is_a_problem_with_its_remedy(examine, good_judge, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    code, lines = examine(good_judge)
    (line,) = told(lines, "problem", "judge")
    assert code == 1 and "misconfigured" in line and "ALL_PROXY=" in line and "name 127.0.0.1 in NO_PROXY" in line
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    code, lines = examine(good_judge)
    assert code == 0, lines


def test_limits_that_are_set_and_those_that_are_not(examine, good_judge):
    _, lines = examine(good_judge)
    first, spend, price = told(lines, "note", "limits")
    assert "at most 256 requests at once" in first and "judge.tokens_per_minute not set" in first
    assert "no spend cap" in spend and "judge.price is not set" in price

    limits = ["judge.requests_per_minute=6000", "judge.tokens_per_minute=9000000", "judge.max_in_flight=7"]
    price = ["judge.price.prompt_per_million=1", "judge.spend.max_cost=50"]
    _, lines = examine(good_judge, *limits, *price)
    assert not told(lines, "note", "limits")
    first, spend = told(lines, "ok", "limits")
    assert "at most 7 requests at once, 6,000 requests a minute, 9,000,000 tokens a minute" in first
    assert "judge.spend.max_cost=50" in spend
    assert any("17 calls" in line and "cost 0.0" in line for line in lines)
    assert good_judge.most_in_flight <= 10


def test_only_what_the_reward_needs_is_asked(examine, good_judge):
    weights = "weights={helpfulness: 1, faithfulness: 1}"
    code, _ = examine(good_judge, weights, "faithfulness.statements_per_call=3")
    assert code == 0
    assert set(good_judge.calls) == {"helpfulness", "statements", "verify", "verify_many"}


def test_an_input_is_read_and_its_cost_and_pace_told(tmp_path, examine, good_judge, rows):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"idx": 7, "context": "only"}\n')
    code, lines = examine(good_judge, "--input", source, "judge.requests_per_minute=600", "judge.spend.max_tokens=9000")
    assert code == 0
    assert "3 answers" in told(lines, "ok", "input")[0]
    assert "1 of its rows" in told(lines, "note", "input")[0] and f"{source}:4" in told(lines, "note", "input")[0]
    assert "calls" in told(lines, "ok", "cost")[0]
    assert "judge.spend.max_tokens=9000 ends the work" in told(lines, "note", "cost")[0]
    assert "by judge.requests_per_minute" in told(lines, "ok", "pace")[0]


def test_a_users_error_is_one_sentence_and_exit_code_2(tmp_path, capsys, good_judge):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    for words, sentence in (
        (["--judge", "openai"], "judge.base_url and judge.model is not set"),
        (["--config", "none.yaml"], "config file none.yaml does not exist"),
        (["--base-url", good_judge.url, "--input", empty], "holds no readable row"),
    ):
        assert main(["doctor", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert sentence in error and len(error.splitlines()) == 1
    assert good_judge.calls.total() == 0


def test_the_offline_judge_is_called_a_stand_in(examine):
    code, lines = examine(None)
    assert code == 0 and "stand-in" in told(lines, "note", "judge")[0]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_questions_have_answers_that_rules_can_find(language):
    config = RewardConfig()
    asked = asyncio.run(asking.ask(config.judge, questions.questions(config, language), 5))
    by_kind = {one.kind: one.verdict.value for one in asked}
    assert len(by_kind) == 6
    assert by_kind["statements"] and by_kind["extraction"]
    assert by_kind["verification"] == 1
    assert min(by_kind[kind] for kind in ("helpfulness", "logicality", "completeness")) > 4


def test_the_wrong_answers_are_wrong_by_rules_too():
    config = RewardConfig()
    right = {one.kind: one for one in asyncio.run(asking.ask(config.judge, questions.questions(config), 5))}
    wrong = asyncio.run(asking.ask(config.judge, questions.wrong_answers(config), 5))
    assert len(wrong) == 4
    for one in wrong:
        assert one.verdict.value < right[one.kind].verdict.value, one.kind


def test_an_outage_is_not_waited_out(monkeypatch):
    monkeypatch.setattr(asking, "_MOMENT_S", 0.02)
    judge = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "max_outage_s": 600}
    config = validate(RewardConfig, {"judge": judge})
    check = asyncio.run(asyncio.wait_for(judge_checks.check_judge(config), 10))
    assert [finding.severity for finding in check.findings] == [Severity.PROBLEM]
    assert check.latency_s is None


def test_on_a_terminal_long_findings_are_wrapped_beside_their_level():
    file = io.StringIO()
    show(
        Console(file=file, force_terminal=True, width=60, no_color=True),
        [Finding(Severity.NOTE, "judge", "so " * 40, "do")],
    )
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in file.getvalue().splitlines()]
    assert lines[0].startswith("note     judge    so so")
    assert len(lines) > 2 and all(line.startswith(" " * 18) and len(line) <= 60 for line in lines[1:])
    assert lines[-1].strip() == "-> do"


def test_settings_are_named_as_in_the_configuration_they_stand_in():
    finding = Finding(Severity.NOTE, "judge", "http://judge.example/v1: judge.price is not set", "set judge.price.x")
    moved = finding.within("reward.")
    assert moved.sentence == "http://judge.example/v1: reward.judge.price is not set"
    assert moved.action == "set reward.judge.price.x"
