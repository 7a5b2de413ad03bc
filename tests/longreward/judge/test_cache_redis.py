"""Verdicts on a real Redis server: shared by machines, never wrong, never in the way, whatever happens there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_process import RedisProcess

from longreward import LongReward, Reward, Sample
from longreward.config import CacheConfig
from longreward.errors import ConfigError
from longreward.judge.cache import VerdictCache, redis_server
from longreward.judge.cache import thread as module

KILLS = Path(__file__).parents[3] / "benchmarks" / "cache_kill.py"
PASSWORD = "a password of its own"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", (0.05, 0.1))
    monkeypatch.setattr(redis_server, "ANSWER_S", 0.3)
    monkeypatch.delenv("REDIS_PASSWORD", raising=False)


@pytest.fixture
def server(tmp_path):
    with RedisProcess(tmp_path) as started:
        yield started


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def value(number: int) -> dict:
    return {"number": number, "text": f"{number} 中文 \ud83d " * 100}


def opened(server: RedisProcess, **settings) -> VerdictCache:
    cache = VerdictCache.of(CacheConfig.model_validate({"url": server.url} | settings))
    assert cache is not None
    return cache


async def fill(server: RedisProcess, *numbers: int, **settings) -> None:
    cache = opened(server, **settings)
    for number in numbers:
        cache.put(key(number), value(number))
    await cache.aclose()
    assert cache.stats()["cache/written"] == len(numbers)


async def look_up(server: RedisProcess, *numbers: int, **settings) -> list:
    cache = opened(server, **settings)
    found = await asyncio.gather(*(cache.get(key(number)) for number in numbers))
    await cache.aclose()
    return found


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def tried(cache: VerdictCache, numbers: range) -> None:
    """Look up and put as a run does, whatever the server does; nothing found is wrong."""
    for number in numbers:
        assert await cache.get(key(number)) in (None, value(number))
        cache.put(key(number), value(number))
        assert await cache.get(key(number)) == value(number)
        await asyncio.sleep(0.02)


def test_what_was_put_is_there_for_everybody_in_batches(server):
    asyncio.run(fill(server, *range(1000)))
    assert asyncio.run(look_up(server, *range(1001))) == [*map(value, range(1000)), None]
    commands = server.client().info("commandstats")
    assert sum(commands[f"cmdstat_{name}"]["calls"] for name in ("mset", "mget")) < 200


def test_each_prefix_is_a_cache_of_its_own_and_verdicts_can_expire(server):
    asyncio.run(fill(server, 1, prefix="judge-a:"))
    asyncio.run(fill(server, 2, prefix="judge-a:", expire_days=2))
    assert asyncio.run(look_up(server, 1, 2, prefix="judge-a:")) == [value(1), value(2)]
    assert asyncio.run(look_up(server, 1, 2)) == [None, None]
    kept, expiring = f"judge-a:{key(1).hex()}", f"judge-a:{key(2).hex()}"
    assert server.client().ttl(kept) == -1
    assert 2 * 86400 - 100 < server.client().ttl(expiring) <= 2 * 86400


@pytest.mark.parametrize("made", [b"", b"no verdict", b"0" * 32 + b" {}", b"x" * 6_000_000])
def test_what_others_have_put_there_is_a_miss(server, caplog, made):
    asyncio.run(fill(server, 1, 2))
    server.client().set(f"longreward:{key(1).hex()}", made)
    assert asyncio.run(look_up(server, 1, 2)) == [None, value(2)]
    assert "a verdict is damaged" in caplog.text
    asyncio.run(fill(server, 1))
    assert asyncio.run(look_up(server, 1, 2)) == [value(1), value(2)]


def test_a_killed_server_is_misses_one_warning_and_used_again_when_it_is_back_empty(server, caplog):
    async def run():
        cache = opened(server)
        await tried(cache, range(5))
        server.kill()
        await tried(cache, range(10, 20))
        server.start()
        written = cache.stats()["cache/written"]
        await until(lambda: cache.stats()["cache/written"] > written)
        await cache.aclose()
        assert cache.stats()["cache/errors"] > 0

    asyncio.run(run())
    found = asyncio.run(look_up(server, *range(20)))
    assert found[10:] == list(map(value, range(10, 20)))  # nothing put meanwhile is lost
    (record,) = caplog.records
    assert server.url in record.getMessage() and "cannot be reached" in record.getMessage()


def test_a_paused_server_holds_up_neither_the_loop_nor_many_lookups(server, turning, caplog):
    async def run():
        cache = opened(server)
        await tried(cache, range(3))
        server.pause()
        async with turning() as loop:
            found = await asyncio.gather(*(cache.get(key(number)) for number in range(100, 200)))
            assert found == [None] * 100 and loop["ticks"] > 3
            await tried(cache, range(10, 15))
        server.go_on()
        written = cache.stats()["cache/written"]
        await until(lambda: cache.stats()["cache/written"] > written)
        await cache.aclose()

    asyncio.run(run())
    assert asyncio.run(look_up(server, *range(10, 15))) == list(map(value, range(10, 15)))
    (record,) = caplog.records
    assert "has not answered within" in record.getMessage()


def test_a_full_server_still_answers_and_takes_more_when_it_has_room(tmp_path, caplog):
    with RedisProcess(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:

        async def run():
            cache = opened(server)
            cache.put(key(0), value(0))
            await until(lambda: cache.stats()["cache/written"] == 1)
            for number in range(1, 3000):
                cache.put(key(number), value(number))
                await asyncio.sleep(0)
            await until(lambda: caplog.records)
            other = opened(server)
            assert await other.get(key(0)) == value(0)
            server.client().config_set("maxmemory", "100mb")
            await until(lambda: cache.stats()["cache/written"] == 3000)
            for each in (cache, other):
                await each.aclose()

        asyncio.run(run())
        (record,) = caplog.records
        assert "it is full" in record.getMessage() and "allkeys-lru" in record.getMessage()


def test_the_password_comes_from_the_environment_and_is_shown_nowhere(tmp_path, monkeypatch, caplog):
    with RedisProcess(tmp_path, password=PASSWORD) as server:
        monkeypatch.setenv("REDIS_PASSWORD", "another password")
        asyncio.run(tried_and_closed(opened(server)))
        words, advice = opened(server).holds()
        assert "refuses us" in words and "password" in advice
        monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
        asyncio.run(fill(server, 1))
        monkeypatch.setenv("ELSEWHERE", PASSWORD)
        monkeypatch.setenv("REDIS_PASSWORD", "")
        assert asyncio.run(look_up(server, 1, password_env="ELSEWHERE")) == [value(1)]
        with pytest.raises(ConfigError, match="names MISSING, which is not set"):
            opened(server, password_env="MISSING")
    assert PASSWORD not in caplog.text and "another password" not in caplog.text
    assert "refuses us" in caplog.text


async def tried_and_closed(cache: VerdictCache) -> None:
    await tried(cache, range(5))
    await cache.aclose()


@pytest.fixture
def behind_tls(server, tmp_path) -> Iterator[tuple[int, Path]]:
    """The server behind TLS: a port, and the file with the certificate of localhost."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    cert, secret = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", secret, "-out", cert]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, secret)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(OSError):
            await asyncio.gather(pipe(reader, back), pipe(there, writer))

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(relay, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield listening.sockets[0].getsockname()[1], cert
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_with_tls_the_certificate_is_checked(server, behind_tls, caplog):
    port, cert = behind_tls
    server.url = f"rediss://localhost:{port}/0"
    words, advice = opened(server).holds()
    assert "certificate is not trusted" in words and "ssl_ca_certs=FILE" in advice
    server.url += f"?ssl_ca_certs={cert}"
    asyncio.run(fill(server, 1))
    assert asyncio.run(look_up(server, 1)) == [value(1)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "is not the URL of a Redis server"),
        ("http://host:6379", "is not the URL of a Redis server"),
        ("redis://", "is not the URL of a Redis server"),
        ("redis://:s3cret@host:6379/0", "holds a password"),
        ("redis://me:s3cret@host", "holds a password"),
        ("redis://host?password=s3cret", "holds a password"),
    ],
)
def test_a_url_that_cannot_work_is_refused_without_its_password(url, said):
    with pytest.raises(ValueError, match=said) as caught:
        CacheConfig(url=url)
    assert "s3cret" not in str(caught.value).split("input_value")[0]


def test_path_and_url_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="both set"):
        CacheConfig(url="redis://host", path=tmp_path / "cache.db")


def test_it_says_what_it_holds(server):
    asyncio.run(fill(server, *range(10)))
    words, advice = opened(server).holds()
    assert words.startswith("redis 6.2.5: 10 keys, ") and " used" in words and not advice
    server.kill()
    words, advice = opened(server).holds()
    assert "cannot be reached" in words and "Start it" in advice


def test_eight_processes_share_a_server_and_all_of_them_are_killed_now_and_then(tmp_path):
    options = ["--cache", "url", "--kills", "10", "--pause", "0.3", "--keys", "5000", "--folder", tmp_path]
    done = subprocess.run([sys.executable, KILLS, *options], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    table = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert (table["wrong"], table["unreadable"]) == ("0", "0")


@pytest.mark.parametrize("fault", ["killed", "paused", "full", "another password"])
def test_no_answer_is_void_or_scored_otherwise_whatever_becomes_of_the_server(tmp_path, judge_server, fault):
    samples = [
        Sample(id=f"{number}", context="Mara sold copper to Otto.", query="What did Mara sell?", answer=f"No. {number}")
        for number in range(40)
    ]

    async def run(server: RedisProcess) -> list[Reward]:
        judge = {"kind": "openai", "model": "judge", "base_url": judge_server.url}
        reward = LongReward.from_config({"judge": judge, "cache": {"url": server.url}})
        first = await reward.score_many(samples[:20])
        match fault:
            case "killed":
                server.kill()
            case "paused":
                server.pause()
            case "full":
                server.client().config_set("maxmemory", 1)
            case "another password":
                client = server.client()
                client.config_set("requirepass", PASSWORD)
                client.client_kill_filter(_type="normal", skipme=True)
        second = await reward.score_many(samples[10:])
        if fault == "paused":
            server.go_on()
        await reward.aclose()
        return [*first, *second]

    with RedisProcess(tmp_path) as server:
        rewards = asyncio.run(run(server))
    assert [reward.total for reward in rewards] == [rewards[0].total] * 50 and rewards[0].total is not None
