"""The cache of verdicts in a file: shared by processes, never wrong, never in the way, whatever happens to the file."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from longreward.judge.cache import VerdictCache, cache_key, sqlite_file, sqlite_table
from longreward.judge.cache import thread as module
from longreward.judge.cache.sqlite_file import SQLiteFile

KILLS = Path(__file__).parents[3] / "benchmarks" / "cache_kill.py"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", (0.05, 0.1))
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "verdicts.db"


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def value(number: int) -> dict:
    return {"number": number, "text": f"{number} 中文 " * 100}


def fill(path: Path, *numbers: int) -> None:
    async def run():
        cache = VerdictCache(SQLiteFile(path))
        for number in numbers:
            cache.put(key(number), value(number))
        await cache.aclose()
        assert cache.stats()["cache/written"] == len(numbers)

    asyncio.run(run())


def look_up(path: Path, *numbers: int) -> list:
    async def run():
        cache = VerdictCache(SQLiteFile(path))
        found = await asyncio.gather(*(cache.get(key(number)) for number in numbers))
        await cache.aclose()
        return found

    return asyncio.run(run())


def change(path: Path, statement: str, *parameters) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, parameters)
    connection.close()


async def until(condition) -> None:
    """Wait for something that happens soon."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def threads():
    """Tells the threads of caches that were begun in this test."""
    before = threading.enumerate()
    return lambda: [each.name for each in threading.enumerate() if each.name == "VerdictCache" and each not in before]


def test_what_was_put_is_there_for_the_next_cache(path):
    fill(path, *range(1000))
    assert look_up(path, *range(1001)) == [*map(value, range(1000)), None]


def test_a_put_is_found_at_once_here_and_soon_elsewhere_as_it_was(path):
    async def run():
        here, elsewhere = VerdictCache(SQLiteFile(path)), VerdictCache(SQLiteFile(path))
        verdict = value(1)
        here.put(key(1), verdict)
        verdict["number"] = 2
        found = await here.get(key(1))
        assert found == value(1)
        found["number"] = 3
        assert await here.get(key(1)) == value(1)
        async with asyncio.timeout(30):
            while await elsewhere.get(key(1)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await elsewhere.get(key(1)) == value(1)
        await here.aclose()
        await elsewhere.aclose()
        assert here.stats() == {"cache/hits": 2, "cache/misses": 0, "cache/written": 1, "cache/errors": 0}

    asyncio.run(run())


def test_the_last_write_of_a_key_wins(path):
    async def run():
        cache = VerdictCache(SQLiteFile(path))
        cache.put(key(1), {"n": 1})
        cache.put(key(1), {"n": 2})
        await until(lambda: cache.stats()["cache/written"])
        cache.put(key(1), {"n": 3})
        await cache.aclose()

    asyncio.run(run())
    assert look_up(path, 1) == [{"n": 3}]


def test_lone_surrogates_have_a_key_and_a_value(path):
    async def run():
        cache = VerdictCache(SQLiteFile(path))
        odd = cache_key("m", [{"role": "user", "content": "cut \ud83d"}], {})
        cache.put(odd, {"text": "cut \ud83d, 中"})
        await cache.aclose()
        cache = VerdictCache(SQLiteFile(path))
        assert await cache.get(odd) == {"text": "cut \ud83d, 中"}
        await cache.aclose()

    asyncio.run(run())


def test_the_key_depends_on_everything_but_the_order_of_parameters():
    messages = [{"role": "user", "content": "q"}]
    same = cache_key("m", messages, {"temperature": 0.1, "max_tokens": 5})
    assert len(same) == 32
    assert cache_key("m", messages, {"max_tokens": 5, "temperature": 0.1}) == same
    others = [
        cache_key("n", messages, {"temperature": 0.1, "max_tokens": 5}),
        cache_key("m", messages * 2, {"temperature": 0.1, "max_tokens": 5}),
        cache_key("m", [{"role": "user", "content": "q "}], {"temperature": 0.1, "max_tokens": 5}),
        cache_key("m", messages, {"temperature": 0.2, "max_tokens": 5}),
    ]
    assert len({same, *others}) == 5


def test_closing_ends_the_thread_and_may_be_repeated(path, caplog, threads):
    async def run():
        cache = VerdictCache(SQLiteFile(path))
        await cache.aclose()  # never used
        cache = VerdictCache(SQLiteFile(path))
        cache.put(key(1), value(1))
        assert await cache.get(key(2)) is None
        assert threads() == ["VerdictCache"]
        await asyncio.gather(cache.aclose(), cache.aclose())
        await cache.aclose()
        assert not threads()
        cache.put(key(3), value(3))
        assert await cache.get(key(3)) is None

    asyncio.run(run())
    assert not caplog.records
    assert look_up(path, 1, 3) == [value(1), None]


def test_a_cache_dropped_without_closing_lets_its_thread_end(path, threads):
    async def run():
        cache = VerdictCache(SQLiteFile(path))
        cache.put(key(1), value(1))
        await cache.get(key(2))

    asyncio.run(run())
    gc.collect()
    asyncio.run(until(lambda: not threads()))
    assert look_up(path, 1) == [value(1)]


def test_a_process_that_never_closes_its_cache_ends(path):
    code = """if True:
        import asyncio, sys
        from pathlib import Path
        from longreward.judge.cache import VerdictCache
        from longreward.judge.cache.sqlite_file import SQLiteFile
        async def run():
            cache.put(b"k", {})
            await cache.get(b"other")
        cache = VerdictCache(SQLiteFile(Path(sys.argv[1])))
        asyncio.run(run())
    """
    done = subprocess.run([sys.executable, "-c", code, path], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_waiters_that_leave_and_loops_that_close_disturb_nobody(path):
    fill(path, *range(100))
    cache = VerdictCache(SQLiteFile(path))

    async def leave():
        waiters = [asyncio.create_task(cache.get(key(number))) for number in range(100)]
        await asyncio.sleep(0)
        for waiter in waiters[::2]:
            waiter.cancel()
        found = await asyncio.gather(*waiters, return_exceptions=True)
        assert found[1::2] == list(map(value, range(1, 100, 2)))

    def close_loop_with_waiters():
        async def begin():
            waiters.extend(asyncio.create_task(cache.get(key(number))) for number in range(100))
            await asyncio.sleep(0)

        waiters: list[asyncio.Task] = []
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)  # tasks destroyed while pending: on purpose
        loop.run_until_complete(begin())
        loop.close()

    async def all_found():
        assert await asyncio.gather(*(cache.get(key(number)) for number in range(100))) == list(map(value, range(100)))

    def in_a_loop_of_its_own():
        asyncio.run(all_found())
        done.append(True)

    asyncio.run(leave())
    for _ in range(10):
        close_loop_with_waiters()
    done: list[bool] = []
    others = [threading.Thread(target=in_a_loop_of_its_own) for _ in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert len(done) == 4
    asyncio.run(cache.aclose())


def test_eight_processes_share_a_file_and_some_are_killed(tmp_path):
    options = ["--kills", "5", "--pause", "0.5", "--keys", "5000", "--folder", tmp_path]
    done = subprocess.run([sys.executable, KILLS, *options], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    table = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert (table["wrong"], table["unreadable"], table["integrity_check"]) == ("0", "0", "ok")
    assert int(table["rows"]) > 100 and int(table["right_lookups"]) > 100


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ("UPDATE verdicts SET value = replace(value, '1', '7') WHERE key = ?", [key(1)]),
        ("UPDATE verdicts SET value = substr(value, 1, 20) WHERE key = ?", [key(1)]),
        ("UPDATE verdicts SET value = x'ff00fe' WHERE key = ?", [key(1)]),
        ("UPDATE verdicts SET value = 5 WHERE key = ?", [key(1)]),
        ("UPDATE verdicts SET digest = x'00' WHERE key = ?", [key(1)]),
        ("UPDATE verdicts SET digest = 'a:b c' WHERE key = ?", [key(1)]),
        ("UPDATE verdicts SET key = ? WHERE key = ?", [key(1), key(9)]),
    ],
)
def test_a_damaged_row_is_a_miss_until_it_is_put_again(path, caplog, statement, parameters):
    fill(path, *([9] if len(parameters) == 2 else [1]), 2, 3)
    change(path, statement, *parameters)

    async def run():
        cache = VerdictCache(SQLiteFile(path))
        numbers = [2, 1, 3]
        assert await asyncio.gather(*(cache.get(key(n)) for n in numbers)) == [value(2), None, value(3)]
        assert await cache.get(key(1)) is None
        assert cache.stats()["cache/errors"] == 2
        cache.put(key(1), value(1))
        await cache.aclose()

    asyncio.run(run())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text and "damaged" in caplog.text
    assert look_up(path, 1, 2, 3) == [value(1), value(2), value(3)]


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 5000)


def other_schema(path: Path) -> None:
    fill(path, 1)
    change(path, f"PRAGMA user_version = {sqlite_file.SCHEMA + 1}")


def other_program(path: Path) -> None:
    change(path, "CREATE TABLE verdicts (key, digest, value)")


def lost_table(path: Path) -> None:
    fill(path, 1)
    change(path, "DROP TABLE verdicts")


def open_to_all(path: Path) -> None:
    fill(path, *range(20))
    path.chmod(0o666)


def of_somebody_else(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    fill(path, *range(20))
    os.chown(path, 12345, -1)


def link_of_somebody_else(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a link away")
    fill(path.with_name("own.db"), *range(20))
    path.symlink_to("own.db")
    os.lchown(path, 12345, -1)


def log_of_somebody_else(path: Path) -> None:
    """SQLite would read what stands in the log into the file."""
    if os.geteuid():
        pytest.skip("only root can give a file away")
    fill(path, *range(20))
    log = path.with_name(f"{path.name}-wal")
    log.touch()
    os.chown(log, 12345, -1)


def endless_view(path: Path) -> None:
    """A view in the place of the table, which never ends."""
    fill(path, 1)
    change(path, "DROP TABLE verdicts")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i, i FROM n"
    change(path, f"CREATE VIEW verdicts(key, digest, value) AS {endless}")


def trigger(path: Path) -> None:
    fill(path, 1)
    change(path, "CREATE TRIGGER t AFTER INSERT ON verdicts BEGIN DELETE FROM verdicts; END")


@pytest.mark.parametrize(
    ("make", "reason", "advice"),
    [
        (open_to_all, "anyone may write to", "chmod o-w"),
        (of_somebody_else, "another user (uid 12345)", "another file"),
        (link_of_somebody_else, "another user (uid 12345)", "another file"),
        (log_of_somebody_else, "another user (uid 12345)", "another file"),
        (os.mkfifo, "no regular file", "another file"),
        (endless_view, "more than our table", "Delete it"),
        (trigger, "more than our table", "Delete it"),
        (garbage, "no SQLite database", "Delete it"),
        (other_schema, f"schema {sqlite_file.SCHEMA + 1}, here {sqlite_file.SCHEMA}", "another file"),
        (other_program, "another program", "another file"),
        (lost_table, "damaged", "Delete it"),
        (Path.mkdir, "directory", "Check cache.path"),
    ],
)
def test_a_file_that_is_no_cache_of_ours_is_left_alone_with_one_warning(path, caplog, make, reason, advice):
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else None

    async def run():
        cache = VerdictCache(SQLiteFile(path))
        for number in range(20):
            assert await cache.get(key(number)) is None
            cache.put(key(number), value(number))
            assert await cache.get(key(number)) == value(number)
            await asyncio.sleep(0.02)
        assert cache.stats()["cache/written"] == 0
        assert cache.stats()["cache/errors"] > 0
        await cache.aclose()

    asyncio.run(run())
    warning, farewell = (record.getMessage() for record in caplog.records)
    assert str(path) in warning and reason in warning and advice in warning
    assert str(path) in farewell and "not written: 20" in farewell
    assert before is None or path.read_bytes() == before
    assert {record.name for record in caplog.records} == {"longreward.cache"}


def test_a_folder_that_cannot_be_made_is_misses_and_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "deep" / "verdicts.db"
    assert look_up(path, 1, 2, 3) == [None, None, None]
    (record,) = caplog.records
    assert str(path) in record.getMessage() and "Not a directory" in record.getMessage()


def test_an_empty_file_is_a_new_cache(path, caplog):
    path.parent.mkdir()
    path.touch()
    fill(path, 1)
    assert look_up(path, 1) == [value(1)]
    assert not caplog.records


@pytest.mark.parametrize("damage", ["truncate", "garbage", "garbage pages", "delete", "replace"])
def test_a_file_ruined_while_open_serves_nothing_wrong_and_can_be_replaced(path, caplog, damage):
    fill(path, *range(3000))
    size = path.stat().st_size

    async def run():
        cache = VerdictCache(SQLiteFile(path))
        await cache.get(key(0))
        cache.put(key(3000), value(3000))
        await until(lambda: cache.stats()["cache/written"] == 1)
        match damage:
            case "truncate":
                with path.open("r+b") as file:
                    file.truncate(size // 3)
            case "garbage":
                with path.open("r+b") as file:
                    file.write(b"\xa5" * size)
            case "garbage pages":
                with path.open("r+b") as file:
                    for page in range(3, size // 4096, 7):
                        file.seek(page * 4096)
                        file.write(b"\x0d\x00" * 2048)
            case "delete":
                path.unlink()
            case "replace":
                other = path.with_name("other.db")
                sqlite3.connect(other).close()
                other.replace(path)
        served = 0
        for start in range(0, 3000, 50):
            numbers = range(start, start + 50)
            found = await asyncio.gather(*(cache.get(key(number)) for number in numbers))
            assert all(f in (None, value(number)) for f, number in zip(found, numbers, strict=True))
            served += sum(f is not None for f in found)
            cache.put(key(start), value(start))
            await asyncio.sleep(0.002)
        assert served < 3000
        # Doing what the warning says helps without a restart. Meanwhile the cache tries the file again and again.
        for file in path.parent.iterdir():
            file.unlink(missing_ok=True)
        written = cache.stats()["cache/written"]
        cache.put(key(5000), value(5000))
        await until(lambda: cache.stats()["cache/written"] > written)
        await cache.aclose()

    asyncio.run(run())
    assert len(caplog.records) == len({record.getMessage() for record in caplog.records})
    assert look_up(path, 5000) == [value(5000)]


def test_a_file_deleted_while_it_is_opened_takes_no_verdict_with_it(path, monkeypatch):
    fill(path, 1)
    prepare = sqlite_file._prepare

    def prepare_and_delete(connection):
        prepare(connection)
        monkeypatch.setattr(sqlite_file, "_prepare", prepare)
        path.unlink()

    monkeypatch.setattr(sqlite_file, "_prepare", prepare_and_delete)
    fill(path, 2)
    assert look_up(path, 1, 2) == [None, value(2)]


LOCK = """if True:
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    if sys.argv[2] == "readers too":
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("DELETE FROM verdicts WHERE key = x'00'")
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("who", ["writers", "readers too"])
def test_a_locked_file_stops_neither_the_loop_nor_later_writes(path, turning, caplog, who):
    fill(path, 1)
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, path, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"

        async def run():
            cache = VerdictCache(SQLiteFile(path))
            async with turning() as loop:
                assert await cache.get(key(1)) == (value(1) if who == "writers" else None)
                cache.put(key(2), value(2))
                await until(lambda: "locked" in caplog.text and loop["ticks"] > 20)
                assert cache.stats()["cache/written"] == 0
                assert await cache.get(key(2)) == value(2)
                assert not holder.communicate()[0]  # lets it end, and the lock with it
                await until(lambda: cache.stats()["cache/written"] == 1)
            await cache.aclose()

        asyncio.run(run())
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert look_up(path, 1, 2) == [value(1), value(2)]


def test_closing_while_the_file_is_locked_gives_up_with_a_warning(path, caplog, threads):
    fill(path, 1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    async def run():
        cache = VerdictCache(SQLiteFile(path))
        cache.put(key(2), value(2))
        await cache.aclose()

    asyncio.run(run())
    holder.close()
    assert "not written: 1" in caplog.text and not threads()


FULL_DISK = """if True:
    import asyncio, resource, sys
    from pathlib import Path
    from longreward.judge.cache import thread as module
    from longreward.judge.cache import VerdictCache
    from longreward.judge.cache.sqlite_file import SQLiteFile
    module.RETRY_S = (0.05, 0.1)

    async def run():
        cache = VerdictCache(SQLiteFile(Path(sys.argv[1])))
        written = lambda: cache.stats()["cache/written"]
        number, troubles, explain = 0, [], SQLiteFile.explain
        SQLiteFile.explain = lambda self, error: troubles.append(written()) or explain(self, error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        while len(troubles) < 3 or len({*troubles[-3:]}) > 1:  # until the file takes no more
            cache.put(number.to_bytes(32, "big"), {"n": number, "text": "x" * 1000})
            number += 1
            await asyncio.sleep(0.001)
        full = written()
        await asyncio.sleep(0.3)
        assert written() == full
        assert await cache.get((0).to_bytes(32, "big")) == {"n": 0, "text": "x" * 1000}
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await cache.aclose()
        assert written() == number, (written(), number)
        print(number)

    asyncio.run(run())
"""


def test_a_full_disk_is_one_warning_and_later_writes_succeed(path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (warning,) = done.stderr.splitlines()
    assert str(path) in warning and "full or failing" in warning and "Make room" in warning
    count = int(done.stdout)

    async def run():
        cache = VerdictCache(SQLiteFile(path))
        found = await asyncio.gather(*(cache.get(n.to_bytes(32, "big")) for n in range(count)))
        await cache.aclose()
        assert [f and f["n"] for f in found] == list(range(count))

    asyncio.run(run())


def test_memory_stays_bounded_while_nothing_can_be_written(path, monkeypatch):
    path.mkdir(parents=True)
    monkeypatch.setattr(module, "PENDING_BYTES", 100_000)

    async def run():
        cache = VerdictCache(SQLiteFile(path))
        for number in range(1000):
            cache.put(key(number), value(number))
        assert await cache.get(key(0)) is None
        assert await cache.get(key(999)) == value(999)
        assert cache._thread.pending_bytes <= 100_000
        await cache.aclose()
        assert cache.stats()["cache/errors"] >= 1000

    asyncio.run(run())


def test_a_value_that_is_not_json_is_refused_at_once(path):
    cache = VerdictCache(SQLiteFile(path))
    with pytest.raises(TypeError):
        cache.put(key(1), {"path": path})


def test_a_new_file_is_its_owners_alone(path):
    fill(path, 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_made_at_the_end_of_a_link_of_somebody_else(path, caplog):
    path.parent.mkdir()
    real = path.with_name("elsewhere.db")
    path.symlink_to(real)
    fill(path, 1)
    assert real.stat().st_mode & 0o777 == 0o600 and not caplog.records
    real.unlink()
    if os.geteuid():
        pytest.skip("only root can give a link away")
    os.lchown(path, 12345, -1)
    assert look_up(path, 1) == [None]
    assert not real.exists() and "another user (uid 12345)" in caplog.text


def test_a_file_that_does_not_answer_holds_up_no_lookup(path, caplog, monkeypatch):
    fill(path, 1)
    released = threading.Event()
    read = sqlite_table.select
    monkeypatch.setattr(sqlite_table, "select", lambda *given: released.wait() and read(*given))
    monkeypatch.setattr(module, "LOOKUP_S", 0.2)

    async def run():
        cache = VerdictCache(SQLiteFile(path))
        assert await cache.get(key(1)) is None
        released.set()
        await asyncio.sleep(0.2)  # longer than the pause after trouble
        assert await cache.get(key(1)) == value(1)
        await cache.aclose()

    asyncio.run(run())
    assert "has not answered for 0.2 s" in caplog.text


@pytest.mark.parametrize("data", [b"[" * 100_000 + b"]" * 100_000, b"[1]", b"no JSON", b'"' + b"x" * 5_000_000 + b'"'])
def test_a_made_up_value_is_a_miss(path, data):
    fill(path, 1, 2)
    digest = hashlib.blake2b(key(1) + data, digest_size=16).digest()
    change(path, "UPDATE verdicts SET value = CAST(? AS TEXT), digest = ? WHERE key = ?", data, digest, key(1))
    assert look_up(path, 1, 2) == [None, value(2)]
