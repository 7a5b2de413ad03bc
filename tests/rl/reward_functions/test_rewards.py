"""Reward functions by name: what each makes of an answer, and what is refused before anything starts."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from longreward.config_file import validate
from longreward.errors import ConfigError
from longreward.schema import Reward
from longreward.text.chunking import word_spans
from rl.data import prompt_files
from rl.data.prompts import Label, TrainingSample
from rl.reward_functions import registry
from rl.reward_functions.config import RewardSection
from rl.run import planning
from rl.run.checks import services

CONTEXT, QUERY = "Mara sold copper to Otto in Lisbon.", "What did Mara do?"


def sample(answer: str = "Mara sold copper.", reference: tuple[str, ...] = ()) -> TrainingSample:
    prompt, label = Label.of_text("11", "train", CONTEXT, QUERY)
    return Label(**{**vars(label), "reference": reference}).sample(prompt, answer, tokens=4)


def section(name: str, **settings: Any) -> RewardSection:
    return validate(RewardSection, {"name": name, **settings})


def score(config: RewardSection, *samples: TrainingSample) -> list[Reward]:
    async def scored() -> list[Reward]:
        function = registry.make(config, word_spans)
        try:
            function.prepare(CONTEXT, QUERY)
            return list(await asyncio.gather(*(function.score(one) for one in samples)))
        finally:
            await function.aclose()

    return asyncio.run(scored())


def totals(config: RewardSection, *samples: TrainingSample) -> list[float | None]:
    return [reward.total for reward in score(config, *samples)]


# --- dimensions by themselves


def test_dimensions_with_weights_are_compared_one_by_one() -> None:
    assert section("longreward").compared == {"total": 1.0}
    weights = {"helpfulness": 2.0, "logicality": 0.0, "faithfulness": 1.0}
    one = section("longreward", advantage="per_dimension", weights=weights, gates={"logicality": 3})
    assert one.compared == {"helpfulness": 2.0, "faithfulness": 1.0}, "what is only a gate has no weight"
    parts = {"longreward": {"weight": 2}, "reference": {}, "remote": {"weight": 0, "gate": 5}}
    several = section("composite", advantage="per_dimension", composite={"parts": parts})
    assert several.compared == {"longreward": 2.0, "reference": 1.0}
    assert set(several.compared) <= set(registry.dimensions(several))


@pytest.mark.parametrize("name", ["reference", "remote", "python", "openrlhf", "of_a_package"])
def test_a_reward_without_weights_has_nothing_to_compare_one_by_one(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"the reward {name} has no dimensions with weights; .*composite"):
        section(name, advantage="per_dimension")
    with pytest.raises(ConfigError, match="shuffle exchanges totals alone"):
        section("longreward", advantage="per_dimension", shuffle=True)


# --- longreward


def test_a_gate_makes_the_total_zero_where_a_dimension_is_below_it() -> None:
    false = sample("Otto ate 12 apples in Rome.")
    free = score(section("longreward"), false)[0]
    assert free.total is not None and free.total > 0
    faithfulness = free.dimensions["faithfulness"].score
    assert faithfulness is not None
    assert totals(section("longreward", gates={"faithfulness": faithfulness + 0.1}), false) == [0.0]
    assert totals(section("longreward", gates={"faithfulness": faithfulness}), false) == [free.total]


def test_a_gated_dimension_is_asked_for_even_without_a_weight() -> None:
    config = section("longreward", weights={"helpfulness": 1}, gates={"logicality": 1})
    (reward,) = score(config, sample())
    assert list(reward.dimensions) == registry.dimensions(config) == ["helpfulness", "logicality"]
    assert reward.total == reward.dimensions["helpfulness"].score


# --- reference


@pytest.mark.parametrize(
    ("match", "answer", "references", "total"),
    [
        ("exact", "  LISBON! ", ["Lisbon"], 10),
        ("exact", "in Lisbon", ["Lisbon"], 0),
        ("substring", "It was in Lisbon, on Monday.", ["Rome", "lisbon"], 10),
        ("substring", "It was in Lisbonne.", ["Lisbon"], 0),
        ("f1", "sold copper", ["sold copper in Lisbon"], 10 * 2 * 2 / 6),
        ("f1", "copper copper copper", ["copper"], 5),
        ("f1", "\u4ed6\u5356\u94dc", ["\u4ed6\u4e70\u94dc"], 10 * 2 * 2 / 6),
        ("f1", "", ["copper"], 0),
        ("substring", "anything", ["", "gold"], 0),
        ("exact", "-5", ["5"], 0),
        ("substring", "3.5 tons", ["5"], 0),
        ("substring", "on lines 3-5", ["5"], 10),
        ("exact", "1,000", ["1000"], 10),
        ("exact", "\u0926\u093f\u0928", ["\u0926\u0940\u0928"], 0),
        ("exact", "\u30b8\u30e7\u30f3\u30fb\u30b9\u30df\u30b9", ["\u30b8\u30e7\u30f3\u30b9\u30df\u30b9"], 10),
        ("exact", "\uff11\uff12", ["12"], 10),
    ],
)
def test_an_answer_is_compared_with_the_references(
    match: str, answer: str, references: list[str], total: float
) -> None:
    config = section("reference", reference={"match": match})
    assert totals(config, sample(answer, tuple(references))) == [pytest.approx(total)]
    assert registry.dimensions(config) == ["reference"]


@pytest.mark.parametrize("references", [(), ("",), ("->", " ")])
def test_without_a_reference_there_is_no_reward(references: tuple[str, ...]) -> None:
    (reward,) = score(section("reference"), sample("", references))
    assert (reward.total, reward.void_reasons) == (None, {"reference": "bad_request"})


def test_the_references_travel_with_the_prompts(tmp_path: Path) -> None:
    source, broken = tmp_path / "in.jsonl", list[str]()
    source.write_text(
        '{"idx": 1, "context": "c", "query": "q", "answers": ["a", "b"]}\n'
        '{"idx": 2, "context": "c", "query": "q", "answers": "a"}\n'
        '{"idx": 3, "context": "c", "query": "q"}\n'
        '{"idx": 4, "context": "c", "query": "q", "answers": [1]}\n'
    )
    found = list(prompt_files.rows(source, broken, "answers"))
    assert [(row.id, row.reference) for row in found] == [("1", ("a", "b")), ("2", ("a",))]
    assert len(broken) == 2 and all("in.jsonl" in line and "answers" in line for line in broken)
    assert len(list(prompt_files.rows(source, []))) == 4


# --- python


def python(folder: Path, code: str, **settings: Any) -> RewardSection:
    file = folder / "mine.py"
    file.write_text(textwrap.dedent(code))
    return section("python", python={"function": f"{file}:reward", "allow": True, **settings})


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_function_of_a_file_is_the_reward(tmp_path: Path, kind: str) -> None:
    config = python(
        tmp_path,
        f"""
        {kind} reward(sample, per_word):
            return per_word * len(sample.answer.split())
        """,
        options={"per_word": 2},
    )
    assert totals(config, sample("one two"), sample("three")) == [4.0, 2.0]
    assert registry.dimensions(config) == ["python"]


def test_a_function_may_give_parts_and_another_scale(tmp_path: Path) -> None:
    config = python(
        tmp_path,
        """
        def reward(sample):
            return {"total": 0.5, "brevity": 1.0, "tone": 0.0}

        reward.dimensions = ["brevity", "tone"]
        """,
        range=[0, 1],
    )
    (reward,) = score(config, sample())
    assert reward.scores == {"total": 5.0, "brevity": 10.0, "tone": 0.0}
    assert registry.dimensions(config) == ["brevity", "tone"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("raise KeyError('gold')", "internal", "KeyError: 'gold'"),
        ("return None", "bad_response", "gave no reward"),
        ("return float('nan')", "bad_response", "not a finite number"),
        ("return '7'", "bad_response", "not a finite number"),
        ("return True", "bad_response", "not a finite number"),
        ("return 11", "bad_response", "11, which is not within 0 to 10"),
        ("return {'brevity': 3}", "bad_response", "without a total"),
        ("return {'total': 3, 'brevity': 3}", "bad_response", "gave the parts ['brevity'], but its attribute"),
        ("return 10 ** 400", "bad_response", "not a finite number"),
    ],
)
def test_what_is_no_reward_is_void_and_says_why(tmp_path: Path, body: str, status: str, detail: str) -> None:
    (reward,) = score(python(tmp_path, f"def reward(sample):\n    {body}"), sample())
    (dimension,) = reward.dimensions.values()
    assert (reward.total, dimension.status) == (None, status)
    assert detail in dimension.detail


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    code = "import numpy\ndef reward(sample): return numpy.float32(0.5) + numpy.int64(1)"
    assert totals(python(tmp_path, code), sample()) == [1.5]


def test_a_decorated_async_function_is_awaited(tmp_path: Path) -> None:
    code = """
        import functools

        async def inner(sample):
            return 4

        reward = functools.partial(inner)
        plain = lambda sample: inner(sample)
        """
    config = python(tmp_path, code)
    assert totals(config, sample()) == [4.0]
    assert config.python.function is not None
    config.python.function = config.python.function.replace(":reward", ":plain")
    assert totals(config, sample()) == [4.0]


def test_a_file_is_run_once_in_a_process(tmp_path: Path) -> None:
    code = f"""
        with open({str(tmp_path / "runs")!r}, "a") as file:
            file.write("x")

        def reward(sample):
            return 1
        """
    config = python(tmp_path, code)
    registry.dimensions(config)
    assert totals(config, sample()) == [1.0] == totals(config, sample())
    assert (tmp_path / "runs").read_text() == "x"


def test_the_file_is_found_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def reward(sample): return 3")
    config = section("python", python={"function": "mine.py:reward", "allow": True})
    monkeypatch.chdir("/")
    assert totals(config, sample()) == [3.0]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["void"], "'void' has another meaning"),
        (["a", "a"], "'a' is the name of two"),
        (["total_spread"], "meaning"),
    ],
)
def test_names_that_would_be_mixed_up_are_told(tmp_path: Path, names: list[str], sentence: str) -> None:
    config = python(tmp_path, f"def reward(sample): return 1\nreward.dimensions = {names}")
    with pytest.raises(ConfigError, match=sentence):
        registry.dimensions(config)


def test_slow_functions_run_side_by_side(tmp_path: Path) -> None:
    # Each waits for the other: one after the other they would never end.
    code = """
        import threading
        both = threading.Barrier(2, timeout=20)

        def reward(sample):
            both.wait()
            return 1
        """
    assert totals(python(tmp_path, code), sample(), sample()) == [1.0, 1.0]


def test_code_does_not_run_unless_it_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef reward(sample): return 1")
    config = section("python", python={"function": f"{file}:reward"})
    for use in (registry.check, registry.dimensions, lambda config: registry.make(config, word_spans)):
        with pytest.raises(ConfigError, match=r"is code that would run .* set reward.python.allow=true if you trust"):
            use(config)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (None, "reward.python.function is not set"),
        ("mine.py", "write path/to/file.py:function"),
        ("none.py:reward", "none.py does not exist"),
        ("{file}:nothing", "has no function 'nothing'"),
        ("{file}:broken", "cannot be loaded: ZeroDivisionError"),
    ],
)
def test_a_function_that_cannot_be_had_is_told(tmp_path: Path, function: str | None, sentence: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text("1 / 0" if function and "broken" in function else "def reward(sample): return 1")
    named = function and function.format(file=file)
    with pytest.raises(ConfigError, match=sentence):
        registry.make(section("python", python={"function": named, "allow": True}), word_spans)


# --- remote


@asynccontextmanager
async def server(answer: Callable[[dict[str, Any], web.Request], Any]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        found = answer(await request.json(), request)
        return found if isinstance(found, web.StreamResponse) else web.json_response(found)

    app = web.Application()
    app.router.add_post("/get_reward", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/get_reward"
    finally:
        await runner.cleanup()


def remote(answer: Callable[[dict[str, Any], web.Request], Any], **settings: Any) -> Reward:
    async def asked() -> Reward:
        async with server(answer) as url:
            function = registry.make(section("remote", remote={"url": url, **settings}), word_spans)
            try:
                return await function.score(sample("It's copper."))
            finally:
                await function.aclose()

    return asyncio.run(asked())


def test_a_server_is_asked_in_openrlhfs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_TOKEN", "secret")
    seen: list[tuple[dict[str, Any], str | None]] = []

    def answer(payload: dict[str, Any], request: web.Request) -> dict[str, Any]:
        seen.append((payload, request.headers.get("Authorization")))
        return {"rewards": [0.7], "scores": [0.7], "extra_logs": {}}

    reward = remote(answer, range=[0, 1], token_env="REWARD_TOKEN")
    assert reward.total == 7.0
    ((payload, header),) = seen
    prompt = f"{CONTEXT}\n\n{QUERY}"
    assert payload["query"] == [f"{prompt}It's copper."] and payload["prompts"] == [prompt]
    assert Label.from_json(payload["labels"][0]).id == "11"
    assert header == "Bearer secret"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"rewards": [None]}, "bad_response"),
        ({"rewards": None}, "bad_response"),
        ({"rewards": [1, 2]}, "bad_response"),
        ({"rewards": [11]}, "bad_response"),
        ({"rewards": [5], "extra_logs": {"longreward/void": [1.0]}, "status": ["timeout"]}, "bad_response"),
        ([5], "bad_response"),
        (web.Response(text="<html>"), "bad_response"),
        (web.Response(body=b"1" * 2**21), "bad_response"),
        (web.Response(status=422), "bad_request"),
        (web.Response(status=401), "unauthorized"),
    ],
)
def test_a_server_that_gives_no_reward_makes_it_void(reply: Any, status: str) -> None:
    reward = remote(lambda *_: reply)
    assert (reward.total, reward.void_reasons) == (None, {"remote": status})


def test_a_server_that_is_down_for_a_moment_is_asked_again() -> None:
    replies = iter([web.Response(status=503), web.Response(status=500), {"rewards": 4}])
    assert remote(lambda *_: next(replies)).total == 4.0


def test_a_server_that_stays_down_has_a_deadline() -> None:
    config = section("remote", remote={"url": "http://127.0.0.1:9/secret-path", "timeout_s": 0.7})
    (reward,) = score(config, sample())
    assert reward.void_reasons == {"remote": "timeout"}
    detail = reward.dimensions["remote"].detail
    assert "127.0.0.1:9 gave no reward in 0.7 s" in detail and "ClientConnectorError" in detail
    assert "secret-path" not in detail


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ({"rewards": 4}, ""),
        (web.Response(status=401), "401 Unauthorized .*; check reward.remote.url, the server and reward.remote.token"),
        (web.Response(status=503), "gave no reward in 1 s: it answers 503"),
        ({"rewards": [5], "extra_logs": {"longreward/void": [1.0]}, "status": ["timeout"]}, "is void: .*timeout"),
    ],
)
def test_the_server_is_asked_before_a_run_starts(monkeypatch, reply: Any, sentence: str) -> None:
    monkeypatch.setattr(services, "REPLY_S", 1)

    async def asked() -> None:
        async with server(lambda *_: reply) as url:
            config = SimpleNamespace(reward=section("remote", remote={"url": url}))
            planning.refuse(await asyncio.to_thread(services.reward_server, config))

    with pytest.raises(ConfigError, match=sentence) if sentence else nullcontext():
        asyncio.run(asked())


def test_what_speaks_no_http_makes_it_void() -> None:
    async def asked() -> Reward:
        async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(garbage, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
            function = registry.make(section("remote", remote={"url": url, "timeout_s": 1}), word_spans)
            try:
                return await function.score(sample())
            finally:
                await function.aclose()

    assert asyncio.run(asked()).void_reasons == {"remote": "timeout"}


def test_waiting_for_a_place_is_no_time_out() -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.4)
        return web.json_response({"rewards": 3})

    async def asked() -> list[float | None]:
        app = web.Application()
        app.router.add_post("/", slow)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        settings = {"url": url, "timeout_s": 1.5, "max_in_flight": 1}
        function = registry.make(section("remote", remote=settings), word_spans)
        found = await asyncio.gather(*(function.score(sample()) for _ in range(6)))
        await function.aclose()
        await runner.cleanup()
        return [reward.total for reward in found]

    assert asyncio.run(asked()) == [3.0] * 6


# --- composite


def composite(folder: Path, code: str, parts: Mapping[str, Any], **settings: Any) -> RewardSection:
    given = python(folder, code).python
    return section("composite", python=given.model_dump(), composite={"parts": parts}, **settings)


def test_parts_are_weighed(tmp_path: Path) -> None:
    parts = {"python": {"weight": 1}, "reference": {"weight": 3}}
    config = composite(tmp_path, "def reward(sample): return 2", parts)
    (reward,) = score(config, sample("copper", ("copper",)))
    assert reward.scores == {"total": 8.0, "python": 2.0, "reference": 10.0}
    assert registry.dimensions(config) == ["python", "reference"]


def test_a_part_may_be_a_gate(tmp_path: Path) -> None:
    parts = {"python": {"weight": 0, "gate": 5}, "reference": {}}
    code = "def reward(sample): return len(sample.answer)"
    found = totals(composite(tmp_path, code, parts), sample("Rome", ("Rome",)), sample("Lisbon", ("Lisbon",)))
    assert found == [0.0, 10.0]


def test_longreward_may_be_a_part(tmp_path: Path) -> None:
    config = composite(tmp_path, "def reward(sample): return 2", {"longreward": {}, "python": {}})
    (reward,) = score(config, sample())
    alone = score(section("longreward"), sample())[0]
    assert alone.total is not None
    assert reward.total == pytest.approx((alone.total + 2) / 2)
    names = ["helpfulness", "logicality", "faithfulness", "completeness", "longreward", "python"]
    assert sorted(reward.dimensions) == sorted(names) and registry.dimensions(config) == names


def test_where_a_part_is_void_all_is(tmp_path: Path) -> None:
    config = composite(tmp_path, "def reward(sample): raise ValueError", {"python": {}, "reference": {}})
    (reward,) = score(config, sample("copper", ("copper",)))
    assert (reward.total, reward.void_reasons) == (None, {"python": "internal"})


# --- by name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "nice"}, "reward.name 'nice' is unknown; known: longreward, reference, remote"),
        ({"name": "remote"}, "reward.remote.url is not set"),
        ({"name": "openrlhf"}, "reward.openrlhf.model_name_or_path is not set"),
        ({"name": "composite"}, "reward.composite.parts is empty"),
        ({"name": "composite", "composite": {"parts": {"nice": {}}}}, "reward.composite.parts: 'nice' is unknown"),
        ({"name": "composite", "composite": {"parts": {"composite": {}}}}, "cannot be a part of itself"),
        ({"name": "composite", "composite": {"parts": {"reference": {"weight": 0}}}}, "needs a weight above 0"),
        ({"name": "remote", "remote": {"url": "host:80"}}, "is not a URL"),
        ({"name": "remote", "remote": {"url": "http://"}}, "is not a URL"),
        ({"name": "remote", "remote": {"url": "http://host:99999/x"}}, "is not a URL"),
        ({"name": "remote", "remote": {"url": "http://me:word@host/"}}, "would stand in logs; use"),
        (
            {"name": "remote", "remote": {"url": "http://h/", "token_env": "NO_SUCH_TOKEN"}},
            "NO_SUCH_TOKEN, which is not",
        ),
        ({"name": "composite", "composite": {"parts": {"python": {"gate": float("nan")}}}}, "finite"),
        ({"name": "python", "python": {"range": [1, 0]}}, "from the lowest to the highest"),
    ],
)
def test_a_reward_that_cannot_work_is_told_before_anything_starts(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        registry.check(validate(RewardSection, settings))


def test_a_package_can_bring_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packaged_reward.py").write_text("def words(sample, most):\n    return min(most, sample.tokens)\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("words", "packaged_reward:words", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    config = section("words", options={"most": 3})
    registry.check(config)
    assert totals(config, sample()) == [3.0]
    assert registry.dimensions(config) == ["words"]
    with pytest.raises(ConfigError, match=r"known: .*composite, words"):
        registry.check(section("word"))
    sys.modules.pop("packaged_reward", None)


def test_criteria_is_longreward_with_other_weights():
    config = section("criteria")
    assert config.name == "longreward" and config.weights == {"criteria": 1} and config.uses_criteria
    assert config.scored_by() == section("longreward", weights={"criteria": 1}).scored_by()
    assert registry.dimensions(config) == ["criteria"] and config.dimension_weights == {"criteria": 1}
    both = section("criteria", weights={"criteria": 2, "faithfulness": 1})
    assert both.dimension_weights == {"faithfulness": 1, "criteria": 2}
    assert not section("longreward").uses_criteria
    with pytest.raises(ConfigError, match="name is criteria, which weights does not have; add it there"):
        section("criteria", weights={"faithfulness": 1})


def test_the_worker_scores_by_the_criteria_of_the_label():
    prompt, label = Label.of_text("1", "train", CONTEXT, QUERY)
    wanted = ({"text": "Says that Mara sold copper.", "weight": 2.0}, {"text": "Names Zeno of Thule.", "weight": 1.0})
    label = Label.from_json(replace(label, criteria=wanted).to_json())
    (scored,) = score(section("criteria"), label.sample(prompt, "Mara sold copper to Otto in Lisbon."))
    assert [one.met for one in scored.dimensions["criteria"].criteria] == [1, 0]
    assert scored.total == pytest.approx(20 / 3 * scored.kept)
