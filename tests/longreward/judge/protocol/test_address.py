"""The way to an endpoint, on real sockets: its URL, key, proxy, redirects, compression and certificate."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import brotli
import pytest

from longreward.config import JudgeConfig, RewardConfig
from longreward.config_file import validate
from longreward.errors import ConfigError
from longreward.judge import make_judge
from longreward.judge.requests import RateHelpfulness

REQUEST = RateHelpfulness("en", "What is the capital of France?", "Paris.")
GOOD = json.dumps({"choices": [{"message": {"role": "assistant", "content": "[[9]]"}, "finish_reason": "stop"}]})
Reply = tuple[int, dict[str, str], bytes | str]


class Server:
    """Answers any request by `reply(path)`, and keeps what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.reply: Callable[[str], Reply] = lambda path: (200, {}, GOOD)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        """Method, path, headers (their names in small letters) and body of each request."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append((self.command, self.path, headers, body))
                status, more, text = outer.reply(self.path)
                data = text.encode() if isinstance(text, str) else text
                self.send_response(status)
                for name, value in (("Content-Length", str(len(data))), *more.items()):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if context:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """Those of the only request."""
        ((_, _, headers, _),) = self.seen
        return headers

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    with Server() as running:
        yield running


def ask(url: str, **settings):
    """The verdict of one question to the endpoint at `url`."""
    settings = {"retry_base_s": 0.01, "call_timeout_s": 10, **settings}
    config = JudgeConfig(kind="openai", model="judge", base_url=url, **settings)

    async def run():
        judge = make_judge(config)
        try:
            return await judge.ask(REQUEST)
        finally:
            await judge.aclose()

    return asyncio.run(run())


def told(verdict) -> tuple[str, int]:
    assert verdict.value is None
    return verdict.call.status, verdict.call.attempts


# URLs


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1\n", "/v1/chat/completions"),
        ("/v1#", "/v1/chat/completions"),
        ("/v1?", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("", "/chat/completions"),
        ("/api/paas/v4", "/api/paas/v4/chat/completions"),
        (
            "/openai/deployments/gpt?api-version=2024-10-21",
            "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        ),
        ("/d/chat/completions?api-version=1&a=b%2Bc", "/d/chat/completions?api-version=1&a=b%2Bc"),
    ],
)
def test_chat_completions_are_asked_for_where_the_base_url_means(server, given, asked):
    assert ask(f" {server.root}{given}").value == 9
    assert [(method, path) for method, path, _, _ in server.seen] == [("POST", asked)]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("host:8000/v1", "write it as http://host:port/v1"),
        ("ftp://host/v1", "write it as http://host:port/v1"),
        ("http:///v1", "write it as http://host:port/v1"),
        ("http://host:99999/v1", "write it as http://host:port/v1"),
        ("http://host:0/v1", "write it as http://host:port/v1"),
        ("http://host:80a/v1", "write it as http://host:port/v1"),
        ("http://::1:8000/v1", "an IPv6 address in brackets"),
        ("http://[::1:8000/v1", "an IPv6 address in brackets"),
        ("http://ho\nst/v1", "write it as http://host:port/v1"),
        ("http://host/v 1", "write it as http://host:port/v1"),
        ("http://host/v1#chat", "#chat, which is never sent"),
        ("http://user:pa55word@host/v1", "api_key_env"),
        ("http://user:x/pa55word@host/v1", "write it as http://host:port/v1"),
        ("http://user:x#pa55word@host/v1", "write it as http://host:port/v1"),
        ("http://user:x pa55word@host/v1", "write it as http://host:port/v1"),
        ("user:pa55word@host/v1", "write it as http://host:port/v1"),
        ("http://pa55word@host:x/v1", "write it as http://host:port/v1"),
    ],
)
@pytest.mark.parametrize("where", ["base_url", "endpoints"])
def test_a_url_that_cannot_be_asked_is_one_sentence_without_its_password(where, url, words):
    given = {"base_url": url} if where == "base_url" else {"endpoints": [{"base_url": url}]}
    with pytest.raises(ConfigError) as refusal:
        validate(RewardConfig, {"judge": {"kind": "openai", "model": "m", **given}})
    sentence = str(refusal.value)
    assert words in sentence and "pa55word" not in sentence and len(sentence.splitlines()) == 1


def test_the_same_endpoint_written_twice_is_noticed():
    urls = ["http://host/v1", "http://host/v1/chat/completions"]
    with pytest.raises(ConfigError, match="the same base_url twice"):
        endpoints = [{"base_url": url} for url in urls]
        validate(RewardConfig, {"judge": {"kind": "openai", "model": "m", "endpoints": endpoints}})


# Keys


@pytest.mark.parametrize("value", ["sk-abc", "sk-abc\n", "\r\n sk-abc\t", "\ufeffsk-abc"])
@pytest.mark.parametrize(
    ("variable", "header", "sent"),
    [
        ("OPENAI_API_KEY", "authorization", "Bearer sk-abc"),
        ("OPENAI_ORG_ID", "openai-organization", "sk-abc"),
        ("OPENAI_PROJECT_ID", "openai-project", "sk-abc"),
    ],
)
def test_white_space_around_what_goes_into_a_header_is_not_sent(server, monkeypatch, variable, header, sent, value):
    monkeypatch.setenv(variable, value)
    assert ask(server.root).value == 9
    assert server.headers[header] == sent


@pytest.mark.parametrize("variable", ["MY_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
@pytest.mark.parametrize("value", ["sk-abc\nsk-def", "sk-abc\u200b-def", "sk-abcé", "sk\x7f"])
def test_what_no_header_may_hold_is_named_by_its_variable_and_not_shown(server, monkeypatch, variable, value):
    monkeypatch.setenv("MY_KEY", "good")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as refusal:
        ask(server.root, api_key_env="MY_KEY")
    assert "sk" not in str(refusal.value) and not server.seen


def test_a_variable_of_white_space_is_not_set(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "\n")
    with pytest.raises(ConfigError, match="MY_KEY, which is not set"):
        ask(server.root, api_key_env="MY_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert ask(server.root).value == 9
    assert "authorization" not in server.headers


@pytest.mark.parametrize(
    ("key", "header", "sent"),
    [
        ("sk-abc", None, {"authorization": "Bearer sk-abc"}),
        ("sk-abc", "Authorization", {"authorization": "Bearer sk-abc"}),
        ("Basic dTpw", None, {"authorization": "Basic dTpw"}),
        ("Bearer sk-abc", None, {"authorization": "Bearer sk-abc"}),
        ("sk-abc", "api-key", {"api-key": "sk-abc"}),
        ("sk-abc", "X-Goog-Api-Key", {"x-goog-api-key": "sk-abc"}),
    ],
)
def test_the_key_goes_into_the_header_that_the_endpoint_wants(server, monkeypatch, key, header, sent):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert ask(server.root, api_key_header=header).value == 9
    names = {"authorization", "api-key", "x-goog-api-key"}
    assert {name: value for name, value in server.headers.items() if name in names} == sent


def test_an_endpoint_may_want_its_key_elsewhere_than_the_others():
    endpoints = [{"base_url": "http://a/v1", "api_key_header": "api-key"}, {"base_url": "http://b/v1"}]
    config = JudgeConfig(kind="openai", model="m", endpoints=endpoints, api_key_header="x-key")
    assert [endpoint.api_key_header for endpoint in config.resolved_endpoints] == ["api-key", "x-key"]


@pytest.mark.parametrize("name", ["", "api key", "api-key:", "api\nkey", "schlüssel"])
def test_what_cannot_name_a_header_is_refused(name):
    with pytest.raises(ConfigError, match="api_key_header"):
        judge = {"kind": "openai", "model": "m", "base_url": "http://a/v1", "api_key_header": name}
        validate(RewardConfig, {"judge": judge})


# Proxies


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:{}", "127.0.0.1:{}", " http://127.0.0.1:{}/\n", "HTTP://u:p@127.0.0.1:{}"]
)
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_the_environments_proxy_is_used(server, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value.format(server.port))
    assert ask("http://judge.example/v1").value == 9
    ((_, path, _, _),) = server.seen
    assert path == "http://judge.example/v1/chat/completions"


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "localhost,127.0.0.1", "*", "127.0.0.0/8", "10.0.0.0/8 127.0.0.1", "127.0.0.1:{}"]
)
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://127.0.0.1:9", "no proxy at all"])
def test_a_host_in_no_proxy_is_asked_directly(server, monkeypatch, proxy, entry):
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", entry.format(server.port))
    assert ask(server.root).value == 9


def test_no_proxy_names_domains_in_both_ways_of_writing(monkeypatch, server):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    for entry in ("*.example", ".example", "example"):
        monkeypatch.setenv("no_proxy", entry)
        status, _ = told(ask("http://judge.example/v1", max_attempts=1))
        assert status == "unreachable" and not server.seen


@pytest.mark.parametrize(
    "value",
    [
        "socks5://u:pa55word@127.0.0.1:9",
        "socks5h://127.0.0.1:9",
        "socks://127.0.0.1:9",
        "http://",
        "http://127.0.0.1:x",
        "ftp://h:1",
    ],
)
@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_used_is_named_in_one_try(server, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    verdict = ask(server.root)
    assert told(verdict) == ("misconfigured", 1) and not server.seen
    detail = verdict.call.detail
    assert variable in detail and "NO_PROXY" in detail and "pa55word" not in detail


def test_a_proxy_that_is_away_is_named_and_asked_again(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:pa55word@127.0.0.1:9")
    verdict = ask(server.root, max_attempts=2)
    assert told(verdict) == ("unreachable", 2)
    assert "127.0.0.1:9 (http_proxy" in verdict.call.detail and "pa55word" not in verdict.call.detail


def test_a_proxy_that_refuses_to_connect_is_named(server, monkeypatch):
    monkeypatch.setenv("https_proxy", server.root)
    verdict = ask("https://judge.example/v1", max_attempts=2)
    assert told(verdict)[0] == "unreachable"  # it answers 501 to CONNECT
    assert "https_proxy" in verdict.call.detail and "501" in verdict.call.detail


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["/new/v1/chat/completions?a=b", "http://127.0.0.1:{}/new/v1/chat/completions?a=b"])
def test_a_redirect_on_the_same_host_is_followed_with_its_question(server, monkeypatch, status, target):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abc")
    moved = (status, {"Location": target.format(server.port)}, "")
    server.reply = lambda path: (200, {}, GOOD) if path.startswith("/new") else moved
    assert ask(server.root + "/v1").value == 9
    (_, _, _, first), (method, path, headers, second) = server.seen
    assert (method, path, first) == ("POST", "/new/v1/chat/completions?a=b", second)
    assert headers["authorization"] == "Bearer sk-abc"


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{}/v1/chat/completions",
        "http://127.0.0.1:{}/v1/chat/completions",
        "/login?next=/v1",
        "https://[",
        "//h\u00e9/x",
    ],
)
def test_a_redirect_to_somewhere_else_is_named_and_gets_no_key(server, other, monkeypatch, target):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abc")
    target = target.format(other.port)
    server.reply = lambda path: (302, {"Location": target.encode().decode("latin-1")}, "")
    verdict = ask(server.root)
    assert told(verdict) == ("misconfigured", 1)
    assert "redirects to" in verdict.call.detail and target[:8] in verdict.call.detail
    assert len(server.seen) == 1 and not other.seen


def test_redirects_without_end_are_named(server):
    server.reply = lambda path: (307, {"Location": path}, "")
    verdict = ask(server.root)
    assert told(verdict) == ("misconfigured", 1)
    assert "redirects again and again" in verdict.call.detail and len(server.seen) == 4


# Compression


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


PLAIN = GOOD.encode()
ENCODED = {
    "identity": ("identity", PLAIN),
    "in other letters": ("Identity", PLAIN),
    "empty": ("", PLAIN),
    "gzip": ("gzip", gzip.compress(PLAIN)),
    "capital": ("GZIP", gzip.compress(PLAIN)),
    "x-gzip": ("x-gzip", gzip.compress(PLAIN)),
    "two members": ("gzip", gzip.compress(PLAIN[:30]) + gzip.compress(PLAIN[30:])),
    "deflate": ("deflate", zlib.compress(PLAIN)),
    "raw deflate": ("Deflate", raw_deflate(PLAIN)),
    "identity and gzip": ("identity, gzip", gzip.compress(PLAIN)),
    "twice": ("deflate, gzip", gzip.compress(zlib.compress(PLAIN))),
}


@pytest.mark.parametrize(("name", "body"), ENCODED.values(), ids=ENCODED)
def test_a_compressed_reply_is_read(server, name, body):
    server.reply = lambda path: (200, {"Content-Encoding": name}, body)
    assert ask(server.root).value == 9
    assert server.headers["accept-encoding"] == "identity"


BOMB = b" " * 50 * 2**20
BROKEN = {
    "gzip bomb": ("gzip", gzip.compress(BOMB), "longer than 4 MiB"),
    "bomb of two": ("gzip", gzip.compress(BOMB[: 3 * 2**20]) * 2, "longer than 4 MiB"),
    "deflate bomb": ("deflate", zlib.compress(BOMB), "longer than 4 MiB"),
    "raw bomb": ("deflate", raw_deflate(BOMB), "longer than 4 MiB"),
    "bomb in a bomb": ("gzip, gzip", gzip.compress(gzip.compress(BOMB)), "longer than 4 MiB"),
    "not gzip": ("gzip", PLAIN, "broken"),
    "cut": ("gzip", gzip.compress(PLAIN)[:-12], "cut"),
    "unknown": ("zstd", PLAIN, "(zstd) though not asked for; switch that off"),
}


@pytest.mark.parametrize(("name", "body", "words"), BROKEN.values(), ids=BROKEN)
def test_a_compressed_reply_that_cannot_be_read_is_no_verdict(server, name, body, words):
    server.reply = lambda path: (200, {"Content-Encoding": name}, body)
    verdict = ask(server.root)
    assert told(verdict) == ("bad_response", 2) and words in verdict.call.detail


class OldDecompressor:
    """That of the brotli package before 1.2, which knows no limit."""

    def process(self, data: bytes) -> bytes:
        return PLAIN


@pytest.mark.parametrize("package", [None, SimpleNamespace(Decompressor=OldDecompressor)], ids=["none", "old"])
def test_brotli_without_a_package_that_reads_it_is_told_with_the_way_out(server, monkeypatch, package):
    monkeypatch.setitem(sys.modules, "brotli", package)
    server.reply = lambda path: (200, {"Content-Encoding": "br"}, PLAIN)
    verdict = ask(server.root)
    assert told(verdict) == ("bad_response", 2)
    assert "(br) though not asked for" in verdict.call.detail and "pip install 'brotli>=1.2'" in verdict.call.detail


def test_brotli_is_read_where_its_package_is_installed(server):
    for body, words in {
        brotli.compress(PLAIN): "",
        brotli.compress(PLAIN)[:-3]: "cut",
        brotli.compress(BOMB): "longer than 4 MiB",
        b"\xff" * 40: "broken",
    }.items():
        server.reply = lambda path, body=body: (200, {"Content-Encoding": "br"}, body)
        verdict = ask(server.root)
        assert (verdict.value, verdict.call.detail) == (9, "") if not words else words in verdict.call.detail


# Certificates


@pytest.fixture
def certificate(tmp_path):
    """A folder with key.pem and cert.pem, signed by itself for 127.0.0.1."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    made = ["-subj", "/CN=judge", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *made]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path


@pytest.fixture
def secure(certificate) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with Server(context) as running:
        yield running


def test_a_certificate_signed_by_itself_is_told_in_one_try_with_the_way_out(secure, certificate, rows):
    url = f"https://127.0.0.1:{secure.port}/v1"
    verdict = ask(url)
    assert told(verdict) == ("misconfigured", 1)
    assert "self-signed" in verdict.call.detail and "export SSL_CERT_FILE" in verdict.call.detail

    source, out = certificate / "in.jsonl", certificate / "out.jsonl"
    source.write_text(json.dumps(rows[0]) + "\n")
    words = [
        "score",
        source,
        "--out",
        out,
        "--judge",
        "openai",
        "--base-url",
        url,
        "--model",
        "m",
        "weights.helpfulness=1",
    ]
    words += [f"weights.{name}=0" for name in ("logicality", "faithfulness", "completeness")]
    environment = os.environ | {"SSL_CERT_FILE": str(certificate / "cert.pem")}
    subprocess.run(
        [sys.executable, "-m", "longreward", *map(str, words)], check=True, env=environment, capture_output=True
    )
    assert json.loads(out.read_text())["scores"]["total"] == 9


def test_a_certificate_for_another_name_wants_that_name(secure, certificate, monkeypatch):
    # A context of this process, because aiohttp reads the environment when it is imported.
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    assert ask(f"https://127.0.0.1:{secure.port}/v1").value == 9
    verdict = ask(f"https://localhost:{secure.port}/v1")
    assert told(verdict) == ("misconfigured", 1) and "the name in judge.base_url" in verdict.call.detail


def test_https_to_a_server_without_tls_is_told_in_one_try(server):
    verdict = ask(server.root.replace("http://", "https://"))
    assert told(verdict) == ("misconfigured", 1) and "write judge.base_url with http://" in verdict.call.detail
