"""With a token set, nothing but health is told to those who do not know it, and nobody reads it in a log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

pytest.importorskip("fastapi")

TOKEN = "s3cret-0123456789-ABCDEF"
VARIABLE = "LONGREWARD_SERVER_TOKEN"
OPENAI = ["--judge", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]


def raw(port: int, target: str, *headers: str, method: str = "POST") -> tuple[int, bytes]:
    """Status and whole response to a request line as it is written here, which no client library tidies."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", "Content-Length: 2", *headers]
    lines += ["Content-Type: application/json", "", "{}"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall("\r\n".join(lines).encode())
        response = b""
        while part := client.recv(65536):
            response += part
    return int(response.split(b" ", 2)[1]), response


def test_the_token_opens_every_path_and_nothing_else_does(serve, rows):
    with serve({}, **{VARIABLE: TOKEN}) as server:
        port = server.port
        assert server.ask(rows)[0] == 200  # by header
        server.headers = {}
        assert server.ask(rows, f"/{TOKEN}/get_reward")[0] == 200
        assert server.ask(rows, f"/{TOKEN}/")[0] == 200
        for path in ("/metrics", "/docs", "/openapi.json"):
            assert server.request("GET", f"/{TOKEN}{path}")[0] == 200
            assert server.request("GET", path)[0] == 401
        for path in ("/healthz", "/readyz"):
            assert server.request("GET", path)[0] == 200

        status, headers, reply = server.ask(rows)
        assert (status, reply, headers["www-authenticate"]) == (401, {"detail": "unauthorized"}, "Bearer")

        encoded = "".join(f"%{ord(sign):02x}" for sign in TOKEN)
        tricks = [
            *("/get_reward", "//get_reward", "/get_reward/", "/./get_reward", "/healthz/../get_reward", "/GET_REWARD"),
            *(
                "/healthz/%2e%2e/get_reward",
                "/healthz%2f..%2fget_reward",
                "/healthz;/get_reward",
                "/readyz//get_reward",
            ),
            *(f"/{encoded}/get_reward", f"/{TOKEN.lower()}/get_reward", f"/{TOKEN[:-1]}/get_reward", f"/{TOKEN}"),
            *(
                f"//{TOKEN}/get_reward",
                f"/x/{TOKEN}/get_reward",
                f"/{TOKEN}%2fget_reward",
                f"/get_reward?token={TOKEN}",
            ),
            *("/%67et_reward", "/metrics%00", "/HEALTHZ", "/healthz/", "/%68ealthz", "http://x/metrics", "*"),
        ]
        for target in tricks:
            status, response = raw(port, target)
            assert status == 401 and TOKEN.encode() not in response, target
        for target in (f"/{TOKEN}//get_reward", f"/{TOKEN}/../get_reward", f"/{TOKEN}/get_reward/"):
            assert raw(port, target)[0] == 404, target
        for wrong in (
            *("Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}"),
            f"Bearer {TOKEN}\r\nAuthorization: Bearer wrong",
        ):
            assert raw(port, "/get_reward", f"Authorization: {wrong}")[0] == 401, wrong
        assert raw(port, "/get_reward", f"authorization: bearer {TOKEN}")[0] == 422  # let in; `{}` is no request
        raw(port, f"/{TOKEN}/get_reward", "X-Garbage: \x01")
        server.end()
        assert TOKEN not in server.log.read_text()


def test_openapi_tells_of_the_token(serve):
    with serve({}, **{VARIABLE: TOKEN}) as server:
        described = server.request("GET", "/openapi.json")[2]
        assert "401" in described["paths"]["/get_reward"]["post"]["responses"]
        assert described["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}


@pytest.mark.parametrize(
    "words, environment, sentence",
    [
        (["--host", "0.0.0.0"], {}, "--host 0.0.0.0 can be reached from other machines and LONGREWARD_SERVER_TOKEN is"),
        (["--host", "::"], {VARIABLE: ""}, "--host :: can be reached from other machines"),
        (["--host", "0.0.0.0", "serve.token_env=OURS"], {VARIABLE: TOKEN}, "and OURS is not set; export a token"),
        ([], {VARIABLE: "short"}, "the token in LONGREWARD_SERVER_TOKEN must have at least 16 characters"),
        ([], {VARIABLE: "with/slash-and-more-characters"}, "must have at least 16 characters of A-Z a-z"),
        (["--host", "192.0.2.1"], {VARIABLE: TOKEN}, "cannot listen on 192.0.2.1:0"),
        (["serve.tokenizer=/nowhere"], {}, "serve.tokenizer: /nowhere/tokenizer.json does not exist"),
        (["serve.deadline_s=180"], {}, "serve.deadline_s: Input should be less than 180"),
        (["serve.queue=10"], {}, "max_items=256 is more than the queue of 10"),
        (["serve.que=10"], {}, "unknown key 'serve.que'; did you mean 'queue'?"),
        (
            ["--judge", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", "judge.api_key_env=NO_KEY"],
            {},
            "names NO_KEY",
        ),
    ],
)
def test_what_cannot_work_is_told_in_one_sentence_and_nothing_starts(words, environment, sentence):
    command = [sys.executable, "-m", "longreward", "serve", "--port", "0", *words]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)
    assert ended.returncode == 2
    complaint = [line for line in ended.stderr.splitlines() if line.startswith("longreward: ")]
    assert len(complaint) == 1 and sentence in complaint[0], ended.stderr
