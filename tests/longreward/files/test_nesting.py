"""Data nested without end: one sentence, a broken row, a void; never a traceback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from longreward import LongReward, Sample, cli, rows

LEVELS = (150, 400, 950, 3_000)  # from what every reader takes to what none takes
ROW = {"idx": 1, "context": "Mara sold copper.", "query": "What did Mara do?", "answer": "Mara sold copper."}


def lists(levels: int) -> str:
    return "[" * levels + "]" * levels


def score(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, *more: str) -> tuple[int, str]:
    source = tmp_path / "rows.jsonl"
    source.write_text(text)
    code = cli.main(["score", str(source), "--out", str(tmp_path / "out.jsonl"), "--judge", "offline", *more])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("levels", LEVELS)
def test_a_row_nested_too_deeply_is_a_broken_row(tmp_path, capsys, levels):
    good = json.dumps(ROW)
    deep = good[:-1] + f', "meta": {lists(levels)}}}'
    code, told = score(tmp_path, capsys, f"{good}\n{deep}\n")
    assert "rows.jsonl:2" in told and "too deeply nested" in told and "Traceback" not in told
    assert code == 1 and len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_many_brackets_side_by_side_are_no_depth(tmp_path, capsys):
    row = json.dumps(ROW | {"meta": [[1]] * 1000, "note": "[" * 1000})
    assert score(tmp_path, capsys, row)[0] == 0


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("form", ["file", "override"])
def test_a_configuration_nested_too_deeply_is_one_sentence(tmp_path, capsys, levels, form):
    path = tmp_path / "config.yaml"
    path.write_text(f"judge:\n  extra_body: {{a: {lists(levels if form == 'file' else 1)}}}\n")
    more = [] if form == "file" else [f"judge.extra_body={lists(levels)}"]
    code, told = score(tmp_path, capsys, json.dumps(ROW), "--config", str(path), *more)
    assert code != 0 and "too deeply nested" in told and "Traceback" not in told and len(told.splitlines()) == 1


def test_a_configuration_that_holds_itself_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("judge: &it\n  extra_body: {a: *it, b: *it, c: [*it, *it]}\n")
    code, told = score(tmp_path, capsys, json.dumps(ROW), "--config", str(path))
    assert code != 0 and "too deeply nested" in told and len(told.splitlines()) == 1


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_reply_nested_too_deeply_is_a_void(judge_server, levels, status):
    body = f'{{"error": {{"message": {lists(levels)}}}}}'
    judge_server.script = {"helpfulness": lambda *_: web.Response(text=body, status=status)}
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "max_attempts": 1, "retry_base_s": 0}

    async def scored():
        reward = LongReward.from_config({"judge": judge, "weights": {"helpfulness": 1}})
        try:
            return await reward.score(Sample(**{k: v for k, v in ROW.items() if k != "idx"}))
        finally:
            await reward.aclose()

    result = asyncio.run(scored())
    assert result.total is None and result.dimensions["helpfulness"].status != "ok"


@pytest.mark.parametrize("levels", LEVELS)
def test_the_report_passes_over_what_is_nested_too_deeply(make_run, tmp_path, levels, capsys):
    run = make_run()
    run.prompt("p0", "Mara sold copper.")
    run.answer("p0", "Mara sold copper.", 5.0)
    run.line("store/answers-0-a.jsonl", f'{{"id": "deep", "more": {lists(levels)}}}')
    (run.path / "config.yaml").write_text(f"a: {lists(levels)}\n")
    (run.path / "summary.json").write_text(f'{{"kind": {lists(levels)}}}')
    assert cli.main(["report", str(run.path), "--out", str(tmp_path / "page.html")]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_rows_read_one_after_another_are_not_stopped_by_a_deep_one(tmp_path):
    source, broken = tmp_path / "rows.json", []
    source.write_text(f'[{json.dumps(ROW)}, {{"a": {lists(500)}}}, {json.dumps(ROW)}]')
    assert len(list(rows.read(source, broken))) == 2 and "too deeply nested" in broken[0]
