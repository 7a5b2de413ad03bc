"""A judge that repeats the key it was sent, in every place that it has: no file and no output holds it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socketserver
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from longreward.cli import main
from longreward.errors import JudgeError, Reason
from longreward.redaction import keep_secret

KEY = "sk-Ab3/xY+9=q&Zw<K7>-Tm5R.u2Vp8Lc4"
TOKEN = "Tk.server-9f3aQ7Zx2mLw5c"


def response(status: str, body: bytes | str, *headers: str, length: int | None = None) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def error(status: str, message: object, *headers: str) -> bytes:
    return response(status, json.dumps({"error": {"message": message, "type": "x"}}), *headers)


def completion(text: object, finish: object = "stop", **more: object) -> bytes:
    message = {"role": "assistant", "content": text, **more}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return response("200 OK", json.dumps({"choices": [{"message": message, "finish_reason": finish}], "usage": usage}))


def for_html(text: str) -> str:
    return json.dumps(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


LONG = [f"{'word ' * words}{KEY} is the key" for words in range(52, 61)]
WAYS: dict[str, bytes | list[bytes]] = {
    "401": error("401 Unauthorized", f"Incorrect API key provided: {KEY}."),
    "401, with the header": error("401 Unauthorized", f"got 'Authorization: Bearer {KEY}'"),
    "401, as a list": error("401 Unauthorized", [{"loc": ["header"], "msg": f"not {KEY}"}]),
    "401, where we cut": [error("401 Unauthorized", text) for text in LONG],
    "500": error("500 Internal Server Error", f"cannot use {KEY}"),
    "500, a page": response("500 Error", f"<html><title>no {KEY}</title></html>", "Content-Type: text/html"),
    "500, plain": response("500 Error", KEY),
    "503 and when to come back": error("503 Busy", f"{KEY} waits", f"Retry-After: {KEY}"),
    "the status line": response(f"401 {KEY}", ""),
    "a header that is none": response("200 OK", "", f"{KEY} {KEY}"),
    "a redirect elsewhere": response("302 Found", "", f"Location: http://127.0.0.1:9/v1?key={quote(KEY, safe='')}"),
    "a redirect with a password": response("302 Found", "", f"Location: http://u:{KEY}@127.0.0.1:9/v1"),
    "a redirect far away": response("308 Moved", "", f"Location: https://example.org/{'a' * 280}/{KEY}/x"),
    "a redirect in a circle": response("307 Again", "", f"Location: /v1/chat/completions?key={KEY}"),
    "a broken body": response("200 OK", '{"error": "' + KEY[:-4]),
    "a body that breaks off": response("200 OK", f'{{"error": "{KEY}"', length=500),
    "a compressed refusal": response(
        "401 No", gzip.compress(json.dumps({"detail": KEY}).encode()), "Content-Encoding: gzip"
    ),
    "an encoding": response("200 OK", "x", f"Content-Encoding: {KEY}"),
    "no completion": response("200 OK", json.dumps({"seen": KEY})),
    "no completion, for HTML": response("200 OK", f'{{"seen": {for_html(KEY)}}}'),
    "no completion, for HTML and PHP": response("200 OK", f'{{"seen": {for_html(KEY)}}}'.replace("/", "\\/")),
    "JSON in JSON": error("400 Bad Request", f"upstream said {for_html(KEY)}"),
    "a web page": response("200 OK", f"<html>{KEY}</html>"),
    "a finish reason": completion("Fine. [[8]]", KEY),
    "a finish reason, in parts": completion("Fine. [[8]]", {"type": KEY}),
    "a refusal": completion("", refusal=f"I refuse {KEY}"),
    "a kind of thought": completion([{"type": f"thought {KEY}"}]),
    "a reply without a verdict": completion(f"The key is {KEY}, and I cannot say more."),
    "a reply with two verdicts": completion(f"{KEY} [[8]] or [[{KEY}]]"),
    "a reply that is cut": completion(f"The key is {KEY}", "length"),
    "a good reply": completion(f"I was sent {KEY}. [[Fully supported]] [[8]]"),
    "statements": completion(f"<statement>The key is {KEY}.</statement>"),
}


class Echo(socketserver.ThreadingTCPServer):
    """Answers each request with the next of the responses, byte for byte."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, responses: bytes | list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.responses = [responses] if isinstance(responses, bytes) else responses
        self.keys: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(socketserver.StreamRequestHandler):
    server: Echo

    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline().decode().strip()) or not length:
            name, _, value = line.partition(":")
            length = int(value) if name.lower() == "content-length" else length
            if name.lower() == "authorization":
                self.server.keys.append(value.strip())
        self.rfile.read(length)
        self.wfile.write(self.server.responses[len(self.server.keys) % len(self.server.responses)])


@pytest.fixture
def echo(request: pytest.FixtureRequest) -> Iterator[Echo]:
    with Echo(WAYS[request.param]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pieces(secret: str) -> set[str]:
    """What must be nowhere: eight characters of it in a row, in any case, as they are or escaped."""
    windows = {secret[start : start + 8] for start in range(len(secret) - 7)}
    return {form.lower() for text in windows for form in (text, quote(text, safe=""), json.dumps(text)[1:-1])}


def all_of_it(folder: Path, *outputs: str) -> dict[str, str]:
    """Every file beneath the folder, blocks of reports decompressed, and the outputs."""
    found = {f"output {number}": text for number, text in enumerate(outputs)}
    for path in folder.rglob("*"):
        if path.is_file():
            found[path.name] = path.read_bytes().decode(errors="replace")
        if path.suffix == ".html":
            blocks = re.findall(r'<script type="text/plain" id="block-(\w+)">([A-Za-z0-9+/=]*)<', path.read_text())
            assert blocks
            found |= {
                f"report {name}": zlib.decompress(base64.b64decode(block)).decode(errors="replace")
                for name, block in blocks
            }
    return found


def assert_nowhere(secret: str, texts: dict[str, str]) -> None:
    for where, text in texts.items():
        text = text.lower()
        assert not (found := [piece for piece in pieces(secret) if piece in text]), (where, found)


@pytest.fixture
def write(tmp_path, rows):
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


SETTINGS = ("judge.max_attempts=2", "judge.retry_base_s=0.01", "judge.api_key_env=A_KEY", "judge.call_timeout_s=2")


@pytest.mark.parametrize("echo", WAYS, indirect=True)
def test_a_key_that_the_judge_repeats_is_in_no_file_and_no_output(echo, tmp_path, write, capfd, monkeypatch):
    monkeypatch.setenv("A_KEY", KEY)
    words = ["--judge", "openai", "--base-url", echo.url, "--model", "m", *SETTINGS]
    out, page = tmp_path / "out.jsonl", tmp_path / "report.html"
    main(["score", str(write), "--out", str(out), *words, f"cache.path={tmp_path / 'cache.db'}"])
    main(["report", str(out), "--out", str(page)])
    main(["doctor", *words])
    assert set(echo.keys) == {f"Bearer {KEY}"}
    assert page.is_file() and out.read_text().count("\n") == 3
    assert_nowhere(KEY, all_of_it(tmp_path, *capfd.readouterr()))


@pytest.mark.parametrize("echo", ["401", "500, plain", "no completion"], indirect=True)
def test_the_key_of_the_embeddings_is_in_no_file_and_no_output(echo, judge_server, tmp_path, write, capfd, monkeypatch):
    monkeypatch.setenv("A_KEY", KEY)
    vectors = [f"retrieval.embeddings.{name}" for name in (f"base_url={echo.url}", "model=e", "api_key_env=A_KEY")]
    words = ["--judge", "openai", "--base-url", judge_server.url, "--model", "m", "retrieval.kind=hybrid", *vectors]
    words += ["judge.max_attempts=2", "judge.retry_base_s=0.01", "judge.call_timeout_s=2"]
    out = tmp_path / "out.jsonl"
    main(["score", str(write), "--out", str(out), *words, f"cache.path={tmp_path / 'cache.db'}"])
    main(["report", str(out), "--out", str(tmp_path / "report.html")])
    main(["doctor", *words])
    assert set(echo.keys) == {f"Bearer {KEY}"}
    assert_nowhere(KEY, all_of_it(tmp_path, *capfd.readouterr()))


def test_the_password_of_a_key_for_basic_authentication_is_as_secret():
    keep_secret(f"Basic {base64.b64encode(b'user:a-long+password').decode()}")
    said = JudgeError(Reason.UNAUTHORIZED, "user:a-long+password, a-long%2Bpassword, dXNlcjphLWxvbmcrcGFzc3dvcmQ=")
    assert said.detail == "***, ***, ***" and str(said) == "unauthorized: ***, ***, ***"


def test_a_placeholder_for_a_key_is_no_secret():
    keep_secret("EMPTY")
    keep_secret("Bearer none")
    assert str(JudgeError(Reason.BAD_RESPONSE, "EMPTY, none")) == "bad_response: EMPTY, none"


@pytest.mark.parametrize("echo", ["401", "500", "a reply without a verdict"], indirect=True)
def test_the_server_tells_why_it_is_not_ready_to_those_who_know_the_token(echo, serve, tmp_path):
    reasons = {401: "unauthorized", 500: "server_error", 200: "parse_error"}
    reason = reasons[int(echo.responses[0].split()[1])]
    judge = {"kind": "openai", "base_url": echo.url, "model": "m", "max_attempts": 1, "api_key_env": "A_KEY"}
    with serve({"judge": judge}, ready=False, A_KEY=KEY, LONGREWARD_SERVER_TOKEN=TOKEN) as server:
        wait_until(lambda: reason in server.log.read_text())
        known = server.request("GET", "/readyz")
        assert known[0] == 503 and reason in known[2]["detail"] and "judge" in known[2]["detail"]
        assert server.request("GET", f"/{TOKEN}/readyz", Authorization="")[2] == known[2]
        for others in ("", "Bearer no", f"Basic {TOKEN}"):
            told = server.request("GET", "/readyz", Authorization=others)
            assert told[0] == 503 and told[2] == {"status": "not ready", "detail": reason}
        texts = all_of_it(tmp_path, json.dumps(known))
    assert_nowhere(KEY, texts)
    assert_nowhere(TOKEN, texts)


def test_a_server_without_a_token_tells_the_reason_alone(serve):
    judge = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "max_attempts": 1}
    with serve({"judge": judge}, ready=False) as server:
        wait_until(lambda: server.request("GET", "/readyz")[2]["detail"] == "unreachable")
        assert "127.0.0.1:9" in server.log.read_text()


def wait_until(true) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
