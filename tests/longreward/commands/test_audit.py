"""`longreward audit`: which planted flaws a judge sees, and what is wrong with it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from longreward import cli
from longreward.commands import audit
from longreward.config import JudgeConfig
from longreward.judge.base import Judge, Verdict
from longreward.judge.offline import OfflineJudge
from longreward.judge.own_server.settings import KEY, asked_at
from longreward.judge.requests import RateAnswer, VerifyStatement
from longreward.judge.requests.evaluation import CompareAnswers
from longreward.schema import JudgeCall

TOWNS = Path(__file__).parents[3] / "docs" / "examples" / "towns.jsonl"
ROWS = TOWNS.read_text(encoding="utf-8").splitlines()[:24]
"""Those in English."""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(line + "\n" for line in ROWS))
    return path


class Scripted(Judge):
    """The offline judge, but for what is given: helpfulness, logicality, completeness, support or preference."""

    def __init__(self, **script) -> None:
        self.script, self.rules, self.rng = script, OfflineJudge(), random.Random(0)

    async def ask(self, request, *, document=""):
        for kinds, name in ((RateAnswer, request.kind), (VerifyStatement, "support"), (CompareAnswers, "preference")):
            if isinstance(request, kinds) and name in self.script:
                return Verdict(self.rng.choice(self.script[name]), JudgeCall(kind=request.kind))
        return await self.rules.ask(request)


RATINGS = ("helpfulness", "logicality", "completeness")
ALL = {*RATINGS, "faithfulness"}
ANY = [float(rating) for rating in range(11)]
JUDGES = {
    "offline": ({}, {}),
    "lenient": (
        {name: [9.0, 10.0] for name in RATINGS} | {"support": [1.0], "preference": ["tie"]},
        dict.fromkeys(ALL, "lenient") | {"order": "tells no answers apart"},
    ),
    "harsh": (
        {name: [0.0, 1.0] for name in RATINGS} | {"support": [0.0], "preference": ["tie"]},
        dict.fromkeys(ALL, "harsh") | {"order": "tells no answers apart"},
    ),
    "random": (
        dict.fromkeys(RATINGS, ANY) | {"support": [0.0, 0.5, 1.0], "preference": ["A", "B", "tie"]},
        dict.fromkeys(ALL, "random") | {"order": "order decides"},
    ),
    "prefers the first": ({"preference": ["A"]}, {"order": "prefers the first"}),
    "prefers the second": ({"preference": ["B", "B", "B", "A", "tie"]}, {"order": "prefers the second"}),
    "lenient in one": ({"support": [1.0]}, {"faithfulness": "lenient"}),
    "random in one": ({"logicality": ANY}, {"logicality": "random"}),
    "one score": ({"completeness": [5.0]}, {"completeness": "blind"}),
}
"""What a judge says, and what is at fault with it."""


def run(source, *words, out="out.jsonl") -> int:
    return cli.main(["audit", str(source), "--out", str(source.parent / out), *map(str, words)])


def verdict(source, monkeypatch, capsys, judge: Judge, *words) -> tuple[str, str]:
    """What is at fault, and the whole screen."""
    monkeypatch.setattr(audit, "judge_of", lambda *_: judge)
    assert run(source, "--judge", "offline", *words) == 0
    told = capsys.readouterr().out
    return re.findall(r"^at fault: (.*)", told, re.MULTILINE)[0], told


@pytest.mark.parametrize("name", JUDGES)
def test_it_names_what_is_at_fault_with_a_judge(source, monkeypatch, capsys, name):
    script, faults = JUDGES[name]
    told, screen = verdict(source, monkeypatch, capsys, Scripted(**script))
    found = dict(re.findall(r"(\w+) \((\w[^()]*)\)", told))
    assert found.keys() == faults.keys(), told
    assert all(found[about].startswith(fault) for about, fault in faults.items()), told
    assert "384 versions scored, 528 comparisons" in screen


def test_what_raises_a_score_and_may_not_is_a_fault(source, monkeypatch, capsys):
    class LikesLength(Scripted):
        async def ask(self, request, *, document=""):
            if request.kind == "helpfulness":
                return Verdict(min(10.0, len(request.answer) / 60), JudgeCall(kind=request.kind))
            return await super().ask(request)

    told, _ = verdict(source, monkeypatch, capsys, LikesLength())
    for flaw in ("padding", "repetition", "injection"):
        assert f"raised by {flaw} in 100% of cases, +" in told
    assert told.startswith("helpfulness") and told.count("helpfulness") == 1 and "logicality" not in told


def test_a_judge_that_differs_from_itself_is_seen(source, monkeypatch, capsys):
    _, screen = verdict(source, monkeypatch, capsys, Scripted(helpfulness=[3.0, 7.0]))
    noise = re.findall(r"^noise .deviation. +(\S+) +(\S+) +(\S+) +(\S+)$", screen, re.MULTILINE)[0]
    assert 1.0 < float(noise[0]) < 3.0 and noise[1:] == ("0.00", "0.00", "0.00")


def test_the_screen_says_which_flaws_are_seen_and_which_are_not(source, monkeypatch, capsys):
    class ReadsNoUnits(Scripted):
        async def ask(self, request, *, document=""):
            if isinstance(request, VerifyStatement):
                said = request.statement.strip("- .").replace("million", "thousand").replace("weeks", "days")
                held = any(said in passage for passage in request.evidence)
                return Verdict(float(held), JudgeCall(kind=request.kind))
            return await super().ask(request)

    fault, screen = verdict(source, monkeypatch, capsys, ReadsNoUnits(), "chunking.evidence_tokens=512")
    assert fault == "faithfulness (does not see unit changed)"
    told = re.findall("^faithfulness: (.*)", screen, re.MULTILINE)[0]
    assert told.startswith("sees number changed (100%, -") and "does not see unit changed (0%, +0.00)" in told


def test_two_judges_stand_side_by_side(source, capsys):
    other = source.parent / "other.yaml"
    other.write_text("judge: {kind: offline}\nretrieval: {top_k: 1}\nchunking: {evidence_tokens: 16}\n")
    assert run(source, "--judge", "offline", "--against", other, "--limit", "8") == 0
    told = capsys.readouterr().out
    assert told.count("at fault:") == 2
    assert re.search("^flaw +dimension +offline +other +difference", told, re.MULTILINE)
    assert re.search(r"^number changed +faithfulness +100% +\d+% +[+-]\d+%", told, re.MULTILINE)
    assert len(rows_of(source.parent / "out.against.jsonl")) == len(rows_of(source.parent / "out.jsonl")) == 8 * 16


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_larger_limit_keeps_what_is_there_and_a_dimension_that_is_not_needed_is_not_planted(source, capsys):
    words = ["--judge", "offline", "weights={faithfulness: 1}"]
    run(source, *words, "--limit", "4")
    few = {row["key"] for row in rows_of(source.parent / "out.jsonl")}
    names = Counter(row["idx"].partition("/")[2] for row in rows_of(source.parent / "out.jsonl"))
    assert names["number changed"] == names["injection"] == names["judged again"] == names["original"] == 4
    assert not {"refusal", "padding", "contradiction", "half dropped"} & names.keys()
    run(source, *words, "--limit", "8")
    assert few < {row["key"] for row in rows_of(source.parent / "out.jsonl")}
    assert f"{len(few)} of {2 * len(few)} answers are already scored" in capsys.readouterr().err


def at(server, *words) -> list[str]:
    judge = ["--judge", "openai", "--base-url", server.url, "--model", "judge", "judge.retry_base_s=0.01"]
    return [*judge, "weights={helpfulness: 1}", *words]


def test_an_answer_is_judged_twice_past_the_cache_and_nothing_else_is(source, judge_server):
    cache = f"cache.path={source.parent / 'verdicts.db'}"
    assert run(source, *at(judge_server, cache, "--limit", "6")) == 0
    assert max(Counter(judge_server.prompts).values()) == 2
    twice = [prompt for (kind, prompt), times in Counter(judge_server.prompts).items() if times == 2]
    assert len(twice) == 6 and judge_server.calls["evaluate_pair"] == 2 * 6 * 4
    judge_server.calls.clear()
    assert run(source, *at(judge_server, cache, "--limit", "6")) == 0 and not judge_server.calls


def test_routes_are_asked_and_paid_for_and_judged_again_anew(source, judge_server, start_judge, capsys):
    with start_judge() as checker:
        route = f"{{base_url: {checker.url}, model: small, price: {{prompt_per_million: 1000000}}}}"
        words = [*at(judge_server)[:-1], f"judge.routes={{verify: {route}}}", "completeness.way=key_points"]
        assert run(source, *words, f"cache.path={source.parent / 'verdicts.db'}", "--limit", "2") == 0
        assert not judge_server.calls["verify"] and set(checker.calls) == {"verify"}
        assert max(Counter(checker.prompts).values()) == 2
        assert judge_server.calls["coverage"] and not judge_server.calls["completeness"]
        assert judge_server.calls["points"] == 2 * 2  # once a document, and once anew
        assert f", cost {100 * checker.calls.total():,.2f} in all" in capsys.readouterr().out


def test_a_killed_audit_continues_and_asks_nothing_twice(source, judge_server, capsys):
    judge_server.latency = 0.1
    words = ["audit", source, "--out", source.parent / "out.jsonl", *at(judge_server, "--concurrency", "2")]
    files = [(source.parent / "out.jsonl", 5), (source.parent / "out.pairs.jsonl", 5)]
    for file, enough in files:
        process = subprocess.Popen([sys.executable, "-m", "longreward", *map(str, words)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 200
        while not (file.exists() and len(file.read_bytes().splitlines()) >= enough):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with file.open("ab") as cut:
            cut.write(b'{"key": "cut by the ki')
        judge_server.latency = 0.02
    before, compared = (sum(line.endswith(b"}") for line in file.read_bytes().splitlines()) for file, _ in files)
    judge_server.calls.clear()
    judge_server.latency = 0
    assert cli.main([str(word) for word in words]) == 0
    scored = len(rows_of(source.parent / "out.jsonl"))
    assert before == scored and judge_server.calls["helpfulness"] == 0
    assert judge_server.calls["evaluate_pair"] == 2 * (24 * 4 - compared)
    asked = re.findall(r"scored, (\d+) comparisons", capsys.readouterr().out)
    assert asked == [str(2 * 24 * 4)]


def test_an_audit_by_a_judge_of_its_own_continues(source, monkeypatch, judge_server):
    at_server = {"judge": asked_at(JudgeConfig(kind="vllm", model="m"), [("127.0.0.1", judge_server.port)])}
    monkeypatch.setattr(audit, "served", lambda config: nullcontext(config.model_copy(update=at_server)))
    monkeypatch.setenv(KEY, "secret")
    for _ in range(2):
        assert run(source, "--limit", "2", "judge={kind: vllm, model: m}", "weights={helpfulness: 1}") == 0
        assert judge_server.calls.total() == 2 * 9 + 2 * 8


def test_the_spend_cap_holds_for_scores_and_comparisons_over_all_runs(source, judge_server, capsys):
    asked = 0
    for cap, code in ((3_000, 1), (10_000, 1), (60_000, 0)):
        words = at(judge_server, f"judge.spend.max_tokens={cap}", "judge.max_tokens=20", "--limit", "8")
        assert run(source, *words) == code
        captured = capsys.readouterr()
        assert ("spend cap" in captured.err) == bool(code), captured.err
        assert asked < 110 * judge_server.calls.total() <= cap
        asked = 110 * judge_server.calls.total()
    assert f"{asked // 110:,} calls" in captured.out


def test_a_cap_that_the_comparisons_will_reach_is_told_before_the_start(source, judge_server, capsys):
    cap, warned = 9_000_000, []
    for out in ("one.jsonl", "other.jsonl"):
        run(source, *at(judge_server, "--limit", "2", f"judge.spend.max_tokens={cap}"), out=out)
        warned.append("the run will end before that" in (screen := capsys.readouterr().err))
        scored, compared = (float(k) * 1000 for k in re.findall(r"about \d+ calls, ([\d.]+)k tokens", screen))
        cap = round(scored + compared / 2)
    assert warned == [False, True]


def test_void_scores_are_told_and_are_no_numbers(source, judge_server, capsys):
    judge_server.script["helpfulness"] = lambda prompt, _: "no idea" if "I cannot answer" in prompt else "[[7]]"
    assert run(source, *at(judge_server, "--limit", "6", "judge.max_attempts=1")) == 0
    told = capsys.readouterr().out
    assert "void, in no figure: helpfulness parse_error 6" in told
    assert re.search(r"^refusal +helpfulness +0 ", told, re.MULTILINE)
    assert "6 cases void" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--limit", "0"], "'0' is not a whole number above 0"),
        (["weights.speed=1"], "speed"),
        (["--against", "was.yaml"], "scores as the first configuration does"),
        (["--against", "none.yaml"], "none.yaml"),
        (["helpfulness.way=ranking"], "longreward audit does not know all answers"),
        (["--against", "ranks.yaml"], "longreward audit does not know all answers"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence(source, monkeypatch, capsys, words, told):
    monkeypatch.chdir(source.parent)
    (source.parent / "was.yaml").write_text("judge: {kind: offline}\n")
    (source.parent / "ranks.yaml").write_text("judge: {kind: offline}\nhelpfulness: {way: ranking}\n")
    try:
        code = run(source, "--judge", "offline", *words)
    except SystemExit as error:
        code = error.code
    assert code == 2 and told in capsys.readouterr().err and not (source.parent / "out.jsonl").exists()


def test_other_files_are_not_written_over(source, capsys):
    assert run(source, "--judge", "offline", out="in.jsonl") == 2
    assert "choose another --out" in capsys.readouterr().err
    (source.parent / "out.pairs.jsonl").write_text('{"a": 1}\n')
    assert run(source, "--judge", "offline") == 2
    assert "is no comparison of an audit" in capsys.readouterr().err
    assert len(rows_of(source)) == 24 and (source.parent / "out.pairs.jsonl").read_text() == '{"a": 1}\n'


def test_a_file_without_answers_is_told(source, capsys):
    source.write_text(json.dumps(json.loads(ROWS[0]) | {"answer": " ... "}) + "\n" + json.dumps({"idx": 1}) + "\n")
    assert run(source, "--judge", "offline") == 2
    assert "holds no answer to plant something in; first problem:" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.against.jsonl", "out.against.pairs.jsonl"])
def test_what_the_second_judge_cannot_continue_is_told_before_the_first_is_asked(source, judge_server, capsys, name):
    (source.parent / "other.yaml").write_text("judge: {kind: offline}\n")
    (source.parent / name).write_text('{"a": 1}\n')
    assert run(source, *at(judge_server), "--against", source.parent / "other.yaml") == 2
    assert f"/{name}" in capsys.readouterr().err
    assert not judge_server.calls and not (source.parent / "out.jsonl").exists()
