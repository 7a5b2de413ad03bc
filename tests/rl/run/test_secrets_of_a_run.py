"""Keys of a training run: what servers repeat of them is in no output, and one that cannot be sent ends it at once."""

from __future__ import annotations

import asyncio
import http.server
import json
import sys
import threading
from collections.abc import Iterator

import pytest

from longreward.errors import ConfigError
from rl.reward_functions import remote

SECRET = "hf_Zq8xW3nR5tY7uK2mB4vC6"


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that repeats in the status line, a header and the body what it was sent as Authorization."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = f"no access with {self.headers.get('Authorization')} to {self.path}"
            body = json.dumps({"error": said}).encode()
            self.send_response(403, said)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", said)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_HEAD = _reply  # noqa: N815 - the names that the library calls

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("path", ["/get_reward", f"/{SECRET}/get_reward"])
def test_a_reward_servers_token_is_not_told(echo, path, monkeypatch):
    monkeypatch.setenv("A_TOKEN", SECRET)
    section = remote.RemoteSection(url=echo + path, token_env="A_TOKEN" if SECRET not in path else None)
    why = asyncio.run(remote.problem(section, 10))
    assert "no access with" in why and "unauthorized" in why and SECRET[:10] not in why


def test_a_reward_servers_token_that_no_header_takes_is_a_users_error(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "two\nlines")
    section = remote.RemoteSection(url="http://127.0.0.1:9/get_reward", token_env="A_TOKEN")
    with pytest.raises(ConfigError, match=r"A_TOKEN holds '.n' as character 4 of 9, which no HTTP header may hold"):
        remote.RemoteReward(section)


@pytest.mark.parametrize("kept_in", ["the environment", "a file"])
def test_the_hubs_token_is_not_told(launcher, echo, tmp_path, kept_in):
    pytest.importorskip("transformers")
    words = [sys.executable, "rl/prepare_data.py", "none.jsonl", "out.jsonl", "--model", "some/model"]
    hub = {"HF_ENDPOINT": echo, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    if kept_in == "a file":
        (tmp_path / "token").write_text(f"{SECRET}\n")
    else:
        hub["HF_TOKEN"] = SECRET
    code, output = launcher.run(*words, "--max-prompt-tokens", "100", timeout=300, **hub)
    assert code == 2 and "no tokenizer at some/model" in output and "no access with Bearer ***" in output
    assert SECRET[:10] not in output


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "A_KEY"])
def test_a_judges_key_that_no_header_takes_ends_a_run_before_it_begins(launcher, variable):
    settings = ["kind=openai", "base_url=http://127.0.0.1:9/v1", "model=m", "api_key_env=A_KEY"]
    given = [f"reward.judge.{each}" for each in settings[: 4 if variable == "A_KEY" else 3]]
    code, output = launcher.train(*given, timeout=600, **{variable: "sk-first\nsecond"})
    assert code == 2 and f"train: {variable} holds '\\n' as character 9 of 15" in output
    assert len(output.strip().splitlines()) == 1 and "second" not in output, output
