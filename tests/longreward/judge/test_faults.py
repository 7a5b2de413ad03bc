"""The failure table: what an endpoint can do wrong on a real socket, byte by byte, and what must come of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from longreward.config import JudgeConfig
from longreward.judge import make_judge
from longreward.judge.requests import RateHelpfulness, VerifyStatement

Writer = asyncio.StreamWriter
Behaviour = Callable[[Writer], Awaitable[None]]


class RawServer:
    """An HTTP endpoint whose every reply is a function that writes bytes; `script(number)` picks it, from 1."""

    def __init__(self) -> None:
        self.script: Callable[[int], Behaviour] = lambda number: good()
        self.requests: list[float] = []
        self.bodies: list[dict] = []
        self.broken_off = 0
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(length)))
                self.requests.append(time.monotonic())
                reply = asyncio.ensure_future(self.script(len(self.requests))(writer))
                while not reply.done() and not reader.at_eof():
                    await asyncio.wait({reply}, timeout=0.02)
                if not reply.done():
                    self.broken_off += 1
                    reply.cancel()
                    return
                await reply
                await writer.drain()
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def raw(data: bytes) -> Behaviour:
    async def write(writer: Writer) -> None:
        writer.write(data)

    return write


def response(body: bytes | str, status: int = 200, kind: str = "application/json", **headers: str) -> Behaviour:
    body = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join(head).encode() + b"\r\n\r\n" + body)


def completion(content: object = "Fine. [[9]]", finish: str = "stop") -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})


def good(content: object = "Fine. [[9]]", finish: str = "stop") -> Behaviour:
    return response(completion(content, finish))


def refusal(status: int, code: str = "", **headers: str) -> Behaviour:
    return response(json.dumps({"error": {"message": f"about {code}", "code": code}}), status, **headers)


async def hang(writer: Writer) -> None:
    await asyncio.sleep(3600)


async def drip(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.02)


async def drip_headers(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: b\r\n")
        await asyncio.sleep(0.02)


async def flood(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (30 * 2**20))
    for _ in range(30):
        writer.write(b" " * 2**20)
        await writer.drain()


async def bomb(writer: Writer) -> None:
    body = gzip.compress(b" " * 100 * 2**20)
    await response(body, content_encoding="gzip")(writer)


async def cut_in_the_body(writer: Writer) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"choices"')
    await writer.drain()
    writer.transport.abort()


async def reset(writer: Writer) -> None:
    writer.transport.abort()


async def close_silently(writer: Writer) -> None:
    writer.close()


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as running:
        yield running


REQUEST = RateHelpfulness("en", "What is the capital of France?", "Paris.")


def numbered(number: int) -> RateHelpfulness:
    return RateHelpfulness("en", "What is the capital of France?", f"Paris, {number}.")


HANGS_S = 60.0  # nothing here takes so long, on any machine: what does hangs


def ask(server: RawServer | None, *requests, url: str = "", documents=None, **settings):
    """Verdicts of requests asked all at once, the judge's stats, and the seconds it took."""
    settings = {"retry_base_s": 0.01, "call_timeout_s": 20, "attempt_timeout_s": 10, "hedge": {"budget": 0}, **settings}
    if "endpoints" not in settings:
        settings["base_url"] = url or server.url
    config = JudgeConfig(kind="openai", model="judge", **settings)

    async def run():
        judge = make_judge(config)
        started = time.monotonic()
        try:
            names = documents or [""] * len(requests or [REQUEST])
            calls = [judge.ask(r, document=d) for r, d in zip(requests or [REQUEST], names, strict=True)]
            verdicts = await asyncio.gather(*calls)
            return verdicts, judge.stats(), time.monotonic() - started
        finally:
            await judge.aclose()

    return asyncio.run(run())


def once(bad: Behaviour) -> Callable[[int], Behaviour]:
    return lambda number: bad if number == 1 else good()


def always(bad: Behaviour) -> Callable[[int], Behaviour]:
    return lambda number: bad


PASSING = {
    "429 bare": refusal(429),
    "429 with Retry-After": refusal(429, retry_after="0.05"),
    "408": refusal(408),
    "409": refusal(409),
    "500": refusal(500),
    "502 with a page of HTML": response("<html>Bad gateway</html>", 502, "text/html"),
    "503": refusal(503),
    "529": refusal(529),
    "200 with a page of HTML": response("<!doctype html><p>Please wait", 200, "text/html"),
    "reset before a byte": reset,
    "closed before a byte": close_silently,
    "reset in the body": cut_in_the_body,
    "junk instead of HTTP": raw(b"\x00\x01 what\r\n\r\n"),
    "headers of a megabyte": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20 + b"\r\n\r\n"),
    "empty JSON": response(""),
    "cut JSON": response(completion()[:40]),
    "JSON list": response("[1, 2]"),
    "JSON null": response("null"),
    "200 with an error": response('{"error": {"message": "oops"}}'),
    "choices null": response('{"choices": null}'),
    "choices empty": response('{"choices": []}'),
    "choice null": response('{"choices": [null]}'),
    "message null": response('{"choices": [{"message": null}]}'),
    "content null": good(None),
    "content empty": good(""),
    "content a number": good(7),
    "content a list": good([{"type": "text"}]),
    "not UTF-8": response(b'{"choices": [{"message": {"content": "\xff\xfe [[9]]"}}]}'),
    "30 MB": flood,
    "a gzip bomb": bomb,
    "cut at the length": good("[[9", "length"),
    "score 11": good("[[11]]"),
    "score -1": good("[[-1]]"),
    "score NaN": good("[[NaN]]"),
    "score inf": good("[[inf]]"),
    "no score": good("I like it."),
    "open brackets": good("[[9"),
}


@pytest.mark.parametrize("bad", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_costs_an_attempt_and_no_verdict(server, bad):
    server.script = once(bad)
    (verdict,), _, _ = ask(server)
    assert (verdict.value, verdict.call.status, verdict.call.attempts) == (9, "ok", 2), verdict.call.detail
    assert len(server.requests) == 2


@pytest.mark.parametrize("bad", [hang, drip, drip_headers], ids=["hang", "drip", "drip of headers"])
def test_an_endpoint_that_never_ends_costs_one_attempts_time(server, bad):
    server.script = once(bad)
    (verdict,), _, seconds = ask(server, attempt_timeout_s=0.4)
    assert (verdict.value, verdict.call.attempts) == (9, 2)
    assert seconds >= 0.4


FINAL = {
    "content filter": (good("partly [[7]]", "content_filter"), "filtered", 1),
    "content filter, 400": (refusal(400, "content_filter"), "filtered", 1),
    "context length, nothing to cut": (refusal(400, "context_length_exceeded"), "context_length", 1),
    "a bad request": (refusal(400, "whatever"), "bad_request", 1),
    "cut JSON": (response(completion()[:40]), "bad_response", 2),
    "no choices": (response('{"choices": []}'), "bad_response", 2),
    "no content": (good(None), "bad_response", 2),
    "30 MB": (flood, "bad_response", 2),
    "cut at the length": (good("[[9]]", "length"), "truncated", 2),
    "no score": (good("I like it."), "parse_error", 3),
    "score 11": (good("[[11]]"), "parse_error", 3),
    "two scores, the last bad": (good("[[9]] or [[12]]"), "parse_error", 3),
    "wrong key": (refusal(401), "unauthorized", 1),
    "forbidden": (refusal(403), "unauthorized", 2),
    "no such model": (refusal(404), "not_found", 1),
    "quota": (refusal(429, "insufficient_quota"), "quota", 1),
}


@pytest.mark.parametrize(("bad", "status", "attempts"), FINAL.values(), ids=FINAL)
def test_a_fault_that_stays_ends_in_its_name_after_its_number_of_attempts(server, bad, status, attempts):
    server.script = always(bad)
    (verdict,), _, _ = ask(server)
    assert (verdict.value, verdict.call.status, verdict.call.attempts) == (None, status, attempts)
    assert len(server.requests) == attempts and verdict.call.detail


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (refusal(500), "server_error"),
        (refusal(429), "rate_limited"),
        (refusal(429, retry_after="300"), "rate_limited"),
        (hang, "timeout"),
        (drip, "timeout"),
        (reset, "unreachable"),
        (cut_in_the_body, "unreachable"),
        (response("<html>", 200, "text/html"), "server_error"),
    ],
)
def test_a_passing_fault_that_does_not_pass_is_void_within_the_deadline(server, bad, status):
    server.script = always(bad)
    (verdict,), _, seconds = ask(server, call_timeout_s=1.5, attempt_timeout_s=0.5)
    assert (verdict.value, verdict.call.status) == (None, status), verdict.call.detail
    assert 1 <= seconds < HANGS_S
    assert 2 <= verdict.call.attempts == len(server.requests) < 20


def test_an_endpoint_that_is_not_there_is_unreachable():
    (verdict,), _, seconds = ask(None, url="http://127.0.0.1:9/v1", call_timeout_s=1)
    assert verdict.call.status == "unreachable" and "127.0.0.1" in verdict.call.detail
    assert seconds < HANGS_S


def test_retry_after_is_obeyed(server):
    server.script = once(refusal(429, retry_after="0.7"))
    ask(server)
    assert server.requests[1] - server.requests[0] >= 0.7


def date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def test_retry_after_as_a_date_is_obeyed(server):
    # A date is whole seconds, and time passes until the reply is read: only the lower part of the wait is certain.
    server.script = once(refusal(503, retry_after=date(6)))
    ask(server)
    assert server.requests[1] - server.requests[0] >= 0.9


@pytest.mark.parametrize(
    "value", ["Sun, 01 Nov 2020 00:00:00 GMT", "-5", "0", "soon", "nan", "inf", "", "1e400", "Wed, 99 Foo"]
)
def test_a_retry_after_that_makes_no_sense_is_ignored(server, value):
    server.script = once(refusal(429, retry_after=value))
    # Obeyed, it would take the time to the deadline.
    (verdict,), _, seconds = ask(server, call_timeout_s=5 * HANGS_S)
    assert verdict.value == 9 and seconds < HANGS_S


def test_a_retry_after_past_the_deadline_still_leaves_time_for_another_attempt(server):
    server.script = once(refusal(429, retry_after="300"))
    (verdict,), _, seconds = ask(server, call_timeout_s=2)
    assert verdict.value == 9 and seconds >= 1


def test_one_long_retry_after_does_not_hold_up_the_others(server):
    server.script = once(refusal(429, retry_after="300"))
    verdicts, _, _ = ask(server, *map(numbered, range(50)), call_timeout_s=3)
    assert all(verdict.ok for verdict in verdicts)
    assert sorted(server.requests)[49] - server.requests[0] < 1.5


def test_a_long_retry_after_of_one_endpoint_is_no_reason_to_leave_another_one_alone(server):
    faults = [refusal(500), refusal(429, retry_after="300")]
    with RawServer() as other:
        server.script = other.script = lambda _: faults.pop(0) if faults else good()
        # Obeyed for both, it would take three quarters of the time to the deadline.
        urls = [{"base_url": server.url}, {"base_url": other.url}]
        (verdict,), _, seconds = ask(None, endpoints=urls, call_timeout_s=5 * HANGS_S, max_outage_s=5 * HANGS_S)
    assert (verdict.value, verdict.call.attempts) == (9, 3) and seconds < HANGS_S


def test_a_burst_of_refusals_cuts_the_concurrency_once(server):
    server.script = lambda number: refusal(429, retry_after="0.3") if number <= 40 else good()

    async def run():
        judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=server.url, max_in_flight=40))
        before = judge.stats()["judge/limit"]
        verdicts = await asyncio.gather(*(judge.ask(numbered(i)) for i in range(40)))
        after_burst = judge.stats()["judge/limit"]
        for i in range(40, 300):
            await judge.ask(numbered(i))
        await judge.aclose()
        return before, after_burst, verdicts

    before, after, verdicts = asyncio.run(run())
    assert all(verdict.ok for verdict in verdicts)
    assert before == 40 and 20 <= after < 40


def test_a_stale_connection_is_no_fault_of_the_call(server):
    async def then_close(writer: Writer) -> None:
        await good()(writer)
        await writer.drain()
        writer.transport.abort()  # after a reply that promised to keep the connection

    server.script = always(then_close)

    async def run():
        judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=server.url, retry_base_s=0.01))
        verdicts = [await judge.ask(numbered(i)) for i in range(20)]
        await judge.aclose()
        return verdicts

    assert all(verdict.ok for verdict in asyncio.run(run()))


@pytest.mark.parametrize("bad", [refusal(401), refusal(404), refusal(429, "insufficient_quota")])
def test_a_refusal_for_good_is_one_message_and_no_storm_of_requests(server, bad, caplog):
    server.script = always(bad)
    with caplog.at_level(logging.WARNING, "longreward"):
        verdicts, _, _ = ask(server, *map(numbered, range(200)), max_in_flight=4)
    assert {verdict.call.status for verdict in verdicts} <= {"unauthorized", "not_found", "quota"}
    assert len(server.requests) <= 4
    assert len([r for r in caplog.records if server.url in r.getMessage()]) == 1


def test_one_refusal_of_an_endpoint_that_works_is_not_believed(server):
    server.script = lambda number: refusal(403) if number == 5 else good()
    verdicts, _, _ = ask(server, *map(numbered, range(30)), max_in_flight=2)
    assert all(verdict.ok for verdict in verdicts)


def test_a_cut_reply_is_asked_again_with_more_room(server):
    server.script = once(good("cut", "length"))
    ask(server, max_tokens=100)
    assert [body["max_tokens"] for body in server.bodies] == [100, 200]


def test_an_unreadable_reply_is_asked_again_at_another_temperature_and_paid_for(server):
    server.script = once(good("no verdict"))
    (verdict,), _, _ = ask(server)
    assert [body["temperature"] for body in server.bodies] == [0.01, 0.7]
    assert (verdict.call.usage.calls, verdict.call.usage.prompt_tokens) == (2, 200)


def test_a_bad_reply_is_asked_again_more_than_once_while_others_are_answered_well(server):
    first: list[str] = []

    async def bad(writer: Writer) -> None:
        # Only when some of the others have been answered: it must not depend on the machine's pace.
        seen, deadline = len(server.bodies) + 8, time.monotonic() + 5
        while len(server.bodies) < seen and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await response("{")(writer)

    def script(number: int) -> Behaviour:
        prompt = server.bodies[number - 1]["messages"][0]["content"]
        first.append(prompt) if not first else None
        asked = sum(body["messages"][0]["content"] == first[0] for body in server.bodies)
        return bad if prompt == first[0] and asked <= 3 else good()

    server.script = script
    verdicts, _, _ = ask(server, *map(numbered, range(1200)), max_in_flight=4, retry_base_s=0.06)
    assert all(verdict.ok for verdict in verdicts)
    assert max(verdict.call.attempts for verdict in verdicts) == 4


def test_the_last_call_of_a_crowd_is_asked_again_as_often_as_the_others(server):
    """When its second bad reply comes, nobody else is there to be answered well."""
    answered = threading.Event()
    last = numbered(0).text()

    async def bad(writer: Writer) -> None:
        await asyncio.to_thread(answered.wait, HANGS_S)
        await response("{")(writer)

    def script(number: int) -> Behaviour:
        prompts = [body["messages"][0]["content"] for body in server.bodies]
        if len(set(prompts)) == 10:
            asyncio.get_running_loop().call_later(0.2, answered.set)
        return bad if prompts[number - 1] == last and prompts.count(last) <= 3 else good()

    server.script = script
    verdicts, _, _ = ask(server, *map(numbered, range(10)), call_timeout_s=5 * HANGS_S, attempt_timeout_s=2 * HANGS_S)
    assert all(verdict.ok for verdict in verdicts) and verdicts[0].call.attempts == 4


def test_a_void_keeps_what_the_judge_said_and_cost(server):
    server.script = always(good("I would rather not say."))
    (verdict,), _, _ = ask(server, parse_attempts=2)
    assert verdict.call.text == "I would rather not say."
    assert verdict.call.usage.completion_tokens == 20


def test_evidence_that_is_too_long_is_cut_once_and_flagged(server):
    server.script = once(refusal(400, "context_length_exceeded"))
    evidence = ["Mara sold copper. " * 200, "It rained. " * 200, "Otto bought it. " * 200, "The end. " * 200]
    server_reply = good("[[Fully supported]]")
    server.script = lambda number: refusal(400, "context_length_exceeded") if number == 1 else server_reply
    (verdict,), _, _ = ask(server, VerifyStatement("en", "Mara sold copper.", evidence))
    assert (verdict.value, verdict.call.status, verdict.call.shrunk, verdict.call.attempts) == (1, "ok", True, 2)
    long, short = (len(body["messages"][0]["content"]) for body in server.bodies)
    assert short < 0.8 * long
    server.script = always(refusal(400, "context_length_exceeded"))
    server.requests.clear()
    (verdict,), _, _ = ask(server, VerifyStatement("en", "Mara sold copper.", evidence))
    assert (verdict.call.status, len(server.requests)) == ("context_length", 2)


def test_half_a_character_in_an_answer_is_no_crash(server):
    (verdict,), _, _ = ask(server, RateHelpfulness("en", "What?", "Paris \ud800 is."))
    assert verdict.ok and "\ud800" not in server.bodies[0]["messages"][0]["content"]


def test_a_cancelled_caller_ends_its_request_and_gives_its_place_back(server):
    server.script = lambda number: hang if number == 1 else good()

    async def run():
        judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=server.url, max_in_flight=1))
        first = asyncio.create_task(judge.ask(numbered(1)))
        queued = asyncio.create_task(judge.ask(numbered(2)))
        third = asyncio.create_task(judge.ask(numbered(3)))
        await asyncio.sleep(0.2)
        queued.cancel()
        first.cancel()
        verdict = await asyncio.wait_for(third, 2)
        under_way = judge.stats()["judge/in_flight"], judge.stats()["judge/waiting"]
        await judge.aclose()
        return verdict, under_way

    verdict, under_way = asyncio.run(run())
    assert verdict.ok and under_way == (0, 0)
    deadline = time.monotonic() + 30
    while not server.broken_off and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.broken_off == 1 and len(server.requests) == 2


def test_a_judge_that_goes_away_and_comes_back_costs_time_and_no_verdict():
    port_holder = RawServer()
    with port_holder as server:
        url, port = server.url, server.port
        (verdict,), _, _ = ask(server)
        assert verdict.ok
    late = RawServer()
    late.port = port

    async def run():
        judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=url, retry_base_s=0.05))
        calls = [asyncio.create_task(judge.ask(numbered(i))) for i in range(100)]
        await asyncio.sleep(2)
        with late:
            verdicts = await asyncio.gather(*calls)
            await judge.aclose()
        return verdicts

    verdicts = asyncio.run(run())
    assert all(verdict.ok for verdict in verdicts), {v.call.status for v in verdicts}
    assert len(late.requests) == 100


def outage(seconds: float, after: int = 5) -> Callable[[int], Behaviour]:
    """Well for some requests, then 503 for so long, then well again."""
    begun: list[float] = []

    def script(number: int) -> Behaviour:
        if number <= after:
            return good()
        begun.append(time.monotonic())
        return refusal(503) if begun[-1] - begun[0] < seconds else good()

    return script


def test_an_outage_longer_than_a_calls_deadline_is_waited_out_where_that_is_asked_for(server):
    server.script = outage(4)
    verdicts, _, seconds = ask(server, *map(numbered, range(50)), call_timeout_s=1, max_in_flight=5, max_outage_s=30)
    assert {verdict.call.status for verdict in verdicts} == {"ok"}
    assert seconds > 3


def test_an_outage_that_does_not_end_is_given_up(server):
    server.script = always(refusal(503))
    verdicts, _, seconds = ask(server, *map(numbered, range(20)), call_timeout_s=1, max_in_flight=5, max_outage_s=4)
    assert {verdict.call.status for verdict in verdicts} == {"server_error"}
    assert 3.5 < seconds < HANGS_S


def test_after_an_outage_a_call_has_its_own_deadline_again(server):
    """The clock that stood still goes on: an endpoint that is back but never answers this call is no reason to hang."""
    down_at: list[float] = []

    def script(number: int) -> Behaviour:
        if number <= 5:
            return good()
        down_at.append(time.monotonic())
        if down_at[-1] - down_at[0] < 2:
            return refusal(503)
        return good() if number % 2 else hang

    server.script = script
    settings = {"call_timeout_s": 2, "attempt_timeout_s": 1, "max_in_flight": 4, "max_outage_s": 20}
    _, _, seconds = ask(server, *map(numbered, range(20)), **settings)
    assert seconds < HANGS_S


def test_while_all_are_down_a_crowd_waits_and_one_asks(server):
    server.script = always(refusal(503))
    verdicts, _, _ = ask(server, *map(numbered, range(100)), call_timeout_s=3, max_in_flight=20)
    assert {verdict.call.status for verdict in verdicts} == {"server_error"}
    assert len(server.requests) < 60
