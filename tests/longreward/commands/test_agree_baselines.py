"""`longreward agree` with the paper's baselines: a judge that compares two answers, and a reward model's server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from longreward import cli

CONTEXT = "Mara sold copper to Otto in Lisbon."
PAIRWISE = ("--baseline", "pairwise")


def answer(rating: float, liked: int, reward: float) -> str:
    """An answer that the judge rates, the comparing judge likes and the reward model rewards so."""
    return f"Mara sold copper, rated {rating}, liked {liked}, rewarded {reward}."


def pair(idx, preference: str, a: str, b: str) -> dict:
    about = {"idx": idx, "context": CONTEXT, "query": f"What did Mara do, {idx}?", "preference": preference}
    return about | {"answer_a": a, "answer_b": b}


PAIRS = [
    pair(0, "a", answer(8, 2, 3.5), answer(3, 1, -20.25)),
    pair(1, "b", answer(8, 2, 3.5), answer(3, 1, 4.5)),
    pair(2, "a", answer(9, 1, 18.5), answer(4, 1, 18.25)),
    pair(3, "tie", answer(9, 2, 1), answer(4, 1, 2)),
]


def liked_more(prompt: str, _: int) -> str:
    first, second = re.findall(r"liked (\d)", prompt)[-2:]
    return "[[A]]" if first > second else "[[B]]" if second > first else "[[A]]"  # of equal ones the first


@dataclass
class RewardServer:
    """Speaks vLLM's /classify for a model that gives an answer the reward that stands in it."""

    port: int = 0
    outputs: int = 1
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    failures: int = 0
    """Requests that it refuses first."""
    too_long: str = ""
    """An answer with this in it is longer than its context."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path != "/classify":
            return 404, {"detail": "Not Found"}
        if self.failures:
            self.failures -= 1
            return 503, {"error": {"message": "overloaded", "type": "x", "code": 503}}
        user, assistant = body["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        if self.too_long and self.too_long in assistant["content"]:
            message = "This model's maximum context length is 512 tokens. However, you requested 900."
            return 400, {"error": {"message": message, "type": "BadRequestError", "code": 400}}
        logit = float(re.findall(r"rewarded (\S+)[.]", assistant["content"])[-1])
        data = [{"index": 0, "label": "LABEL_0", "probs": [logit] * self.outputs, "num_classes": self.outputs}]
        return 200, {"id": "x", "object": "list", "model": "rm", "data": data, "usage": {"prompt_tokens": 9}}


@pytest.fixture
def reward_server() -> Iterator[RewardServer]:
    state = RewardServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.bodies.append(body)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, said = state.reply(self.path, body)
            raw = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def agree(capsys, tmp_path, judge_server):
    """Runs it on PAIRS or these pairs. Exit code, standard output, standard error, the JSON."""
    judge_server.script = {
        "helpfulness": lambda prompt, _: f"[[{re.findall(r'rated (.+?),', prompt)[-1]}]]",
        "evaluate_pair": liked_more,
    }
    judge = ["--judge", "openai", "--base-url", judge_server.url, "--model", "judge", "judge.retry_base_s=0.01"]

    def run(*arguments, pairs=PAIRS):
        source, file = tmp_path / "pairs.jsonl", tmp_path / "agreement.json"
        source.write_text("".join(json.dumps(row) + "\n" for row in pairs))
        file.unlink(missing_ok=True)
        words = ["agree", source, *judge, "weights={helpfulness: 1}", "--json", file, *arguments]
        code = cli.main([*map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err, json.loads(file.read_text()) if file.exists() else None

    return run


def row(out: str, name: str) -> list[str]:
    return next(line[len(name) :].split() for line in out.splitlines() if line.startswith(name))


def test_a_comparing_judge_stands_beside_the_total_with_the_paired_difference(agree, judge_server):
    code, out, err, found = agree(*PAIRWISE)
    assert code == 0, err
    assert judge_server.calls == {"helpfulness": 8, "evaluate_pair": 8}
    assert [one["judge"]["pairwise"] for one in found["pairs"]] == ["a", "a", "tie", "a"]
    assert row(out, "total")[:2] == ["3", "66.7%"] and row(out, "pairwise")[:2] == ["3", "50.0%"]
    assert row(out, "pairwise")[2] == "12.5-87.5%"
    assert "total less pairwise: +16.7 points (-16.0 to +49.3) on the 3 pairs that both judge" in out
    assert found["total_less"]["pairwise"] == {"share": 0.1667, "interval": [-0.16, 0.4933], "n": 3}
    assert "not the document" in out and "8 calls, 880 tokens" in out
    assert found["usage"]["calls"] == 16
    assert all(CONTEXT not in prompt for kind, prompt in judge_server.prompts if kind == "evaluate_pair")


def test_an_answer_wins_only_where_the_two_orders_do_not_contradict_each_other(agree, judge_server):
    judge_server.script["evaluate_pair"] = "[[A]]"
    found = agree(*PAIRWISE)[3]
    assert {one["judge"]["pairwise"] for one in found["pairs"]} == {"tie"}
    assert found["agreement"]["pairwise"]["agree_ties_half"]["share"] == 0.5


def test_a_comparison_that_fails_is_void_and_not_in_the_difference(agree, judge_server):
    judge_server.script["evaluate_pair"] = lambda prompt, n: "?" if "do, 0?" in prompt else liked_more(prompt, n)
    code, out, _, found = agree(*PAIRWISE, "judge.parse_attempts=1")
    assert code == 0
    assert row(out, "pairwise")[-3:] == ["1", "parse_error", "1"]
    assert "on the 2 pairs that both judge" in out
    assert found["pairs"][0]["void"] == {"pairwise": "parse_error"}


def test_comparisons_are_kept_and_not_paid_again(agree, tmp_path, judge_server):
    out = tmp_path / "judged.jsonl"
    judge_server.script["evaluate_pair"] = lambda prompt, n: "?" if "do, 0?" in prompt else liked_more(prompt, n)
    agree(*PAIRWISE, "--out", out, "judge.parse_attempts=1")
    kept = tmp_path / "judged.baselines.jsonl"
    with kept.open("a") as file:
        file.write('{"baseline": "pairwise", "key": "cut by the ki')
    judge_server.script["evaluate_pair"] = liked_more
    judge_server.calls.clear()
    code, _, _, found = agree(*PAIRWISE, "--out", out, "judge.parse_attempts=1")
    assert code == 0 and judge_server.calls == {"evaluate_pair": 2}
    assert found["pairs"][0]["judge"]["pairwise"] == "a"
    assert found["usage"]["calls"] == 8 + 8 + 2
    agree(*PAIRWISE, "--out", out, "judge.parse_attempts=1")
    assert judge_server.calls == {"evaluate_pair": 2}


def test_one_spend_cap_holds_for_scores_and_comparisons_over_all_runs(agree, tmp_path, judge_server):
    many = [pair(i, "a", answer(8, 2, 1), answer(3, 1, 2)) for i in range(10)]
    more = (*PAIRWISE, "--concurrency", "1", "judge.max_tokens=100", "--out", tmp_path / "judged.jsonl")
    code, out, err, found = agree(*more, "judge.spend.max_tokens=4000", pairs=many)
    assert code == 1 and not found["complete"] and "the comparisons stopped at the spend cap; raise judge.spend" in err
    assert row(out, "total")[0] == "10" and 0 < int(row(out, "pairwise")[0]) < 10
    spent = sum(judge_server.calls.values())
    assert spent * 110 <= 4000 and found["usage"]["calls"] == spent
    code, _, _, found = agree(*more, "judge.spend.max_tokens=4000", pairs=many)
    assert code == 1 and sum(judge_server.calls.values()) * 110 <= 4000
    code, _, _, found = agree(*more, "judge.spend.max_tokens=600000", pairs=many)
    assert code == 0 and found["complete"] and found["agreement"]["pairwise"]["agree_ties_half"]["n"] == 10
    assert found["usage"]["calls"] == 40 == sum(judge_server.calls.values())


def test_a_reward_model_stands_beside_the_total(agree, reward_server):
    code, out, err, found = agree("--reward-model", reward_server.url)
    assert code == 0, err
    assert [one["judge"]["reward model"] for one in found["pairs"]] == ["a", "b", "a", "b"]
    assert found["pairs"][0]["scores"]["a"]["reward model"] == 3.5
    assert row(out, "reward model")[:2] == ["3", "100.0%"]
    assert "total less reward model: -33.3 points" in out
    assert len(reward_server.bodies) == 8
    body = reward_server.bodies[0]
    assert body["messages"][0]["content"].startswith(CONTEXT) and body["use_activation"] is False
    assert "max_tokens" not in body and "temperature" not in body


def test_a_reward_model_of_short_contexts_reads_the_question_alone(agree, reward_server):
    code, out, _, _ = agree("--reward-model", f"{reward_server.url}/v1", "--reward-model-reads", "query")
    assert code == 0 and "it reads question and answer, not the document" in out
    assert all(CONTEXT not in body["messages"][0]["content"] for body in reward_server.bodies)


def test_the_judges_key_is_not_sent_to_the_reward_model(agree, reward_server, judge_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-judge")
    agree("--reward-model", reward_server.url)
    assert judge_server.keys[0] == "Bearer sk-judge"
    assert not any("authorization" in headers for headers in reward_server.headers)
    monkeypatch.setenv("LONGREWARD_REWARD_MODEL_KEY", "of-its-own")
    agree("--reward-model", reward_server.url)
    assert reward_server.headers[-1]["authorization"] == "Bearer of-its-own"


def test_a_reward_model_that_is_busy_is_asked_again_and_a_too_long_answer_is_void(agree, reward_server):
    reward_server.failures, reward_server.too_long = 2, "rewarded -20.25"
    code, out, err, found = agree("--reward-model", reward_server.url)
    assert code == 0, err
    assert found["agreement"]["reward model"]["void"] == {"n": 1, "reasons": {"context_length": 1}}
    assert "--reward-model-reads query" in out
    assert row(out, "reward model")[:2] == ["2", "100.0%"]


def test_rewards_are_kept(agree, tmp_path, reward_server):
    arguments = ("--reward-model", reward_server.url, "--out", tmp_path / "judged.jsonl")
    first = agree(*arguments)[3]
    asked = len(reward_server.bodies)
    assert agree(*arguments)[3]["agreement"] == first["agreement"] and len(reward_server.bodies) == asked
    agree(*arguments, "--reward-model-reads", "query")
    assert len(reward_server.bodies) == 2 * asked


@pytest.mark.parametrize(
    ("outputs", "url", "sentence"),
    [
        (2, "{}", "the model tells 2 classes apart; a reward model has one output"),
        (1, "{}/elsewhere", "check --reward-model, and that vLLM serves a classifier there"),
        (1, "ftp://host", "--reward-model: 'ftp://host' is not a URL"),
    ],
)
def test_what_is_no_reward_model_is_told_before_the_judge_is_paid(
    agree, reward_server, judge_server, outputs, url, sentence
):
    reward_server.outputs = outputs
    code, _, err, _ = agree("--reward-model", url.format(reward_server.url))
    assert code == 2 and sentence in err and not judge_server.calls
