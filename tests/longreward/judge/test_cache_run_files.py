"""The verdicts of a run in its own directory: written by many processes and hosts, read by all, never wrong."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longreward.config import CacheConfig
from longreward.judge.cache import VerdictCache, run_files
from longreward.judge.cache import thread as module

KILLS = Path(__file__).parents[3] / "benchmarks" / "cache_kill.py"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", (0.05, 0.1))
    monkeypatch.setattr(run_files, "LOOK_S", 0.05)


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def value(number: int) -> dict:
    return {"number": number, "text": f"{number} 中文 \r\n\u2028 " * 100}


def opened(directory: Path) -> VerdictCache:
    cache = VerdictCache.of(CacheConfig(), directory)
    assert cache is not None
    return cache


async def fill(directory: Path, *numbers: int) -> None:
    cache = opened(directory)
    for number in numbers:
        cache.put(key(number), value(number))
    await cache.aclose()
    assert cache.stats()["cache/written"] == len(numbers)


async def look_up(directory: Path, *numbers: int) -> list:
    cache = opened(directory)
    found = await asyncio.gather(*(cache.get(key(number)) for number in numbers))
    await cache.aclose()
    return found


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def files(directory: Path) -> list[Path]:
    return sorted((directory / "cache").glob("*"))


def test_the_next_process_finds_what_others_have_put_whatever_their_hosts_name(tmp_path, monkeypatch):
    for host, numbers in (("gpu-7", range(500)), ("pod-x9k2", range(500, 1000))):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        asyncio.run(fill(tmp_path, *numbers))
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert asyncio.run(look_up(tmp_path, *range(1001))) == [*map(value, range(1000)), None]
    first, second = files(tmp_path)  # who only reads makes no file
    assert first.name.startswith("gpu-7-") and second.name.startswith("pod-x9k2-")
    assert first.stat().st_mode & 0o777 == 0o600


def test_two_processes_at_once_see_each_others_verdicts_soon(tmp_path):
    async def run():
        here, there = opened(tmp_path), opened(tmp_path)
        assert await there.get(key(1)) is None
        here.put(key(1), value(1))
        assert await here.get(key(1)) == value(1)

        async def seen() -> bool:
            return await there.get(key(1)) == value(1)

        await until(seen)
        there.put(key(1), {"number": "new"})

        async def replaced() -> bool:
            return await here.get(key(1)) == {"number": "new"}

        await until(replaced)
        await here.aclose()
        await there.aclose()

    asyncio.run(run())


def test_a_line_cut_by_a_kill_and_damaged_lines_are_misses_and_the_rest_is_found(tmp_path, caplog):
    asyncio.run(fill(tmp_path, *range(10)))
    (file,) = files(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"number":3', b'"number":8')
    lines[4] = b"\xff\xfe no line of ours \x00\n"
    lines[5] = lines[6][:64] + lines[5][64:]  # the value of 5 under the key of 6
    lines[9] = lines[9][:-20]
    file.write_bytes(b"".join(lines))
    found = asyncio.run(look_up(tmp_path, *range(10)))
    assert found == [value(n) if n not in (3, 4, 5, 9) else None for n in range(10)]
    (record,) = caplog.records
    assert "damaged" in record.getMessage()


def test_a_full_disk_loses_nothing_and_the_cut_line_hides_no_other(tmp_path):
    code = """if True:
        import asyncio, resource, signal, sys
        from pathlib import Path
        from longreward.config import CacheConfig
        from longreward.judge.cache import VerdictCache, thread
        thread.RETRY_S = (0.05, 0.1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        async def run():
            cache = VerdictCache.of(CacheConfig(), Path(sys.argv[1]))
            cache.put(b"0" * 32, {"n": 0})
            while not cache.stats()["cache/written"]:
                await asyncio.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
            for n in range(1, 10):
                cache.put(str(n).encode() * 32, {"n": n, "text": "x" * 1000})
            await asyncio.sleep(1)
            assert await cache.get(b"9" * 32) == {"n": 9, "text": "x" * 1000}
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await cache.aclose()
            print(int(cache.stats()["cache/written"]))

        asyncio.run(run())
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "10\n"), done.stderr
    (warning,) = done.stderr.splitlines()
    assert "cannot be written" in warning.replace("read or ", "") and "Make room" in warning

    async def run():
        cache = opened(tmp_path)
        found = await asyncio.gather(*(cache.get(str(n).encode() * 32) for n in range(10)))
        await cache.aclose()
        assert [each and each["n"] for each in found] == list(range(10))

    asyncio.run(run())


def test_a_folder_deleted_under_a_run_is_made_again(tmp_path):
    async def run():
        cache = opened(tmp_path)
        cache.put(key(1), value(1))

        async def written() -> bool:
            return bool(cache.stats()["cache/written"])

        await until(written)
        for file in files(tmp_path):
            file.unlink()
        (tmp_path / "cache").rmdir()

        async def put_again() -> bool:
            await cache.get(key(9))
            cache.put(key(2), value(2))
            return bool(files(tmp_path))

        await until(put_again)
        await cache.aclose()

    asyncio.run(run())
    assert asyncio.run(look_up(tmp_path, 2)) == [value(2)]


@pytest.mark.parametrize("made", ["open to all", "of another user", "a link", "a pipe"])
def test_what_others_could_have_written_is_not_believed_and_holds_up_nobody(tmp_path, caplog, made):
    if made == "of another user" and os.geteuid():
        pytest.skip("only root can give a file away")
    asyncio.run(fill(tmp_path, 1))
    asyncio.run(fill(tmp_path, 2))
    first, _ = files(tmp_path)
    held = 1 if b'"number":1' in first.read_bytes() else 2
    match made:
        case "open to all":
            first.chmod(0o666)
        case "of another user":
            os.chown(first, 12345, -1)
        case "a link":
            first.rename(tmp_path / "elsewhere")
            first.symlink_to(tmp_path / "elsewhere")
        case "a pipe":
            first.unlink()
            os.mkfifo(first)
    found = asyncio.run(look_up(tmp_path, 1, 2))
    if made != "a pipe":  # an empty one is passed over
        assert first.name in caplog.text or "symbolic link" in caplog.text
    # The other file is read at the first try, or at the next.

    async def run():
        cache = opened(tmp_path)

        async def other() -> bool:
            return await cache.get(key(3 - held)) == value(3 - held)

        await until(other)
        assert await cache.get(key(held)) is None
        await cache.aclose()

    asyncio.run(run())
    assert found[held - 1] is None


def test_what_is_read_before_the_first_lookup_may_take_longer_than_a_lookup(tmp_path, monkeypatch):
    asyncio.run(fill(tmp_path, *range(100)))
    monkeypatch.setattr(module, "LOOKUP_S", 3)
    monkeypatch.setattr(run_files, "_PART", 6000)  # some 30 parts
    take = run_files.RunFiles._take

    def slow(self, name):
        time.sleep(0.15)
        return take(self, name)

    monkeypatch.setattr(run_files.RunFiles, "_take", slow)
    assert asyncio.run(look_up(tmp_path, 0, 99)) == [value(0), value(99)]


def test_eight_processes_share_a_folder_and_some_are_killed(tmp_path):
    options = ["--cache", "run", "--kills", "5", "--pause", "0.5", "--keys", "5000", "--folder", tmp_path]
    done = subprocess.run([sys.executable, KILLS, *options], timeout=120, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    table = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert (table["wrong"], table["unreadable"]) == ("0", "0")
    assert int(table["rows"]) > 100 and int(table["right_lookups"]) > 100


def test_it_says_what_it_holds(tmp_path, monkeypatch):
    assert opened(tmp_path).holds() == ("the run's own, nothing yet", "")
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-7")
    asyncio.run(fill(tmp_path, *range(1000)))
    words, advice = opened(tmp_path).holds()
    assert "MB of verdicts written on gpu-7" in words and not advice
