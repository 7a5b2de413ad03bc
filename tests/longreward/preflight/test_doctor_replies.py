"""`longreward doctor` at judges that take other fields, only reason, or refuse: what is wrong, and what helps."""

from __future__ import annotations

import pytest
from aiohttp import web

from longreward.cli import main
from longreward.preflight import asking

KINDS = ("helpfulness", "logicality", "statements", "verify", "extract", "completeness")


@pytest.fixture
def examine(judge_server, capsys, monkeypatch):
    """Runs the command at the judge: exit code and the lines it printed about the judge at this level."""
    monkeypatch.setattr(asking, "_MOMENT_S", 0.02)

    def run(level: str) -> tuple[int, list[str]]:
        code = main(["doctor", "--judge", "openai", "--base-url", judge_server.url, "--model", "m"])
        lines = capsys.readouterr().out.splitlines()
        return code, [line for line in lines if line.split()[:2] == [level, "judge"]]

    return run


def test_a_judge_that_takes_other_fields_is_no_problem_and_told_once(examine, judge_server):
    def reply(kind):
        def refuse_or_answer(prompt, _number):
            for field, other in (("max_tokens", ". Use 'max_completion_tokens' instead."), ("temperature", ".")):
                if field in judge_server.bodies[-1]:
                    message = f"Unsupported parameter: '{field}' is not supported with this model{other}"
                    error = {"message": message, "param": field, "code": "unsupported_parameter"}
                    return web.json_response({"error": error}, status=400)
            return judge_server._default(kind, prompt)

        return refuse_or_answer

    judge_server.script = {kind: reply(kind) for kind in KINDS}
    code, lines = examine("note")
    (line,) = [line for line in lines if "max_completion_tokens" in line]
    assert "wants max_completion_tokens in place of max_tokens and takes no temperature" in line
    assert code == 0 and judge_server.url in line and "judge.max_tokens_field" in line
    assert any("s a call" in line for line in examine("ok")[1])


def test_a_judge_that_only_reasons_is_told_what_to_do(examine, judge_server):
    message = {"role": "assistant", "content": None, "reasoning_content": "I would say 8. [[8]]"}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    judge_server.script = {kind: lambda *_: web.json_response(body) for kind in KINDS}
    code, (line,) = examine("problem")
    assert code == 1 and "only reasoning (`reasoning_content`)" in line
    assert "reasoning parser" in line and "judge.reasoning_tokens" in line


@pytest.mark.parametrize(
    ("error", "action"),
    [
        ({"message": "Prompt too long", "code": "1261"}, "serve the judge with a longer context"),
        ({"message": "no", "code": "1301"}, "without a content filter"),
        ({"message": "Budget has been exceeded! Current cost: 2.0, Max budget: 1.0"}, "check the account"),
        ({"message": "invalid api key", "code": 401}, "check the key"),
    ],
    ids=["context", "filter", "budget", "key"],
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_refusal_has_its_remedy_whatever_its_status(examine, judge_server, error, action, status):
    judge_server.script = {kind: lambda *_: web.json_response({"error": error}, status=status) for kind in KINDS}
    code, (line,) = examine("problem")
    assert code == 1 and action in line and error["message"] in line
