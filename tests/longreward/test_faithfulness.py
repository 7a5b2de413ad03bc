"""Verifying statements: each once per document, one by one or several in a call, against a judge on a real socket."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web

from longreward import LongReward, Sample
from longreward.schema import Usage

DOCUMENT = "".join(f"On day {i} Mara sold {i} crates of copper to Otto in Lisbon. " for i in range(1, 401))
SAMPLE = Sample(id="1", context=DOCUMENT, query="What did Mara do?", answer="Mara sold copper.")


def config(server, judge=None, **faithfulness):
    settings = {"kind": "openai", "base_url": server.url, "model": "judge", "retry_base_s": 0, **(judge or {})}
    return {"judge": settings, "faithfulness": faithfulness}


def only_faithfulness(server, judge=None, **faithfulness):
    return config(server, judge, **faithfulness) | {"weights": {"faithfulness": 1}}


def says(server, *statements):
    """Every answer makes these statements; with {} the answer's own words are put in."""
    server.script["statements"] = lambda prompt, _: "\n".join(
        f"<statement>{text.format(prompt.rpartition('<answer>')[2].split('</')[0].strip())}</statement>"
        for text in statements
    )


def group(*answers):
    return [SAMPLE.model_copy(update={"id": answer, "answer": answer}) for answer in answers]


def score(settings, samples, **many):
    async def run():
        reward = LongReward.from_config(settings)
        try:
            return await reward.score_many(samples, **many)
        finally:
            await reward.aclose()

    return asyncio.run(run())


def faithfulness(rewards):
    return [reward.dimensions["faithfulness"] for reward in rewards]


def usage_of(rewards):
    return sum((reward.usage for reward in rewards), Usage())


@pytest.mark.parametrize(("per_call", "most"), [(1, 148), (3, 90)])
def test_calls_of_a_group_of_ten(judge_server, per_call, most):
    # 8 extraction chunks, and 10 statements an answer, none said twice.
    says(judge_server, *(f"{{}} fact {i} holds." for i in range(10)))
    settings = config(judge_server, statements_per_call=per_call) | {"chunking": {"extraction_tokens": 700}}
    rewards = score(settings, group(*(f"Answer {i}" for i in range(10))))
    assert all(reward.total is not None for reward in rewards)
    assert judge_server.calls["extract"] == 8
    assert judge_server.calls.total() <= most
    assert usage_of(rewards).calls == judge_server.calls.total()


@pytest.mark.parametrize("together", [64, 1], ids=["at once", "one after the other"])
@pytest.mark.parametrize("per_call", [1, 2])
def test_what_several_answers_say_is_verified_and_paid_for_once(judge_server, together, per_call):
    judge_server.latency = 0.05
    says(judge_server, "Mara  sold copper.", "It was in Lisbon.", "{} adds this.")
    settings = only_faithfulness(judge_server, statements_per_call=per_call)
    rewards = score(settings, group("Ada", "Bob", "Cem"), concurrency=together)
    asked = [prompt for kind, prompt in judge_server.prompts if kind.startswith("verify")]
    assert sum("Mara sold copper." in prompt for prompt in asked) == 1
    assert sum("adds this." in prompt for prompt in asked) == 3
    assert [d.score for d in faithfulness(rewards)] == [10, 10, 10]
    assert usage_of(rewards).calls == judge_server.calls.total()
    assert usage_of(rewards).prompt_tokens == 100 * judge_server.calls.total()
    for dimension in faithfulness(rewards):
        first, *_ = dimension.statements
        assert first.text == "Mara  sold copper." and first.evidence and "ully supported" in first.call.text
    if per_call == 1:
        sources = [[statement.call.source for statement in d.statements] for d in faithfulness(rewards)]
        assert sources == [["judge"] * 3, ["shared", "shared", "judge"], ["shared", "shared", "judge"]]
        shared = faithfulness(rewards)[1].statements[0].call
        assert shared.attempts == 0 and shared.usage == Usage()


def test_the_same_words_in_another_case_are_another_statement(judge_server):
    says(judge_server, "{} goods arrived.")
    score(only_faithfulness(judge_server), group("Polish", "polish"))
    assert judge_server.calls["verify"] == 2


@pytest.mark.parametrize("per_call", [1, 3])
def test_a_failed_verification_is_void_for_who_waits_and_asked_again_for_the_next(judge_server, per_call):
    says(judge_server, "Mara sold copper.", "It was in Lisbon.")
    kind = "verify" if per_call == 1 else "verify_many"
    refuse = True

    def reply(prompt, _):
        if refuse:
            return web.json_response({"error": "no"}, status=400)
        return "[[No support]]" if kind == "verify" else "1. a [[No support]]\n2. b [[No support]]"

    judge_server.script[kind] = reply

    async def run():
        nonlocal refuse
        reward = LongReward.from_config(only_faithfulness(judge_server, statements_per_call=per_call))
        void = await reward.score_many(group("Ada", "Bob"))
        refuse = False
        mended = await reward.score_many(group("Cem"))
        await reward.aclose()
        return void, mended

    void, mended = asyncio.run(run())
    assert [(d.score, d.status) for d in faithfulness(void)] == [(None, "bad_request")] * 2
    assert all(s.support is None and s.call.status == "bad_request" for d in faithfulness(void) for s in d.statements)
    assert [d.score for d in faithfulness(mended)] == [0]
    assert judge_server.calls[kind] == (4 if per_call == 1 else 2)


@pytest.mark.parametrize("per_call", [1, 3])
def test_an_answer_cancelled_in_the_middle_leaves_its_verdicts_to_the_others(judge_server, per_call):
    judge_server.latency = 0.15
    says(judge_server, "Mara sold copper.", "It was in Lisbon.", "Otto bought it.")

    async def run():
        reward = LongReward.from_config(config(judge_server, statements_per_call=per_call))
        first, second = (asyncio.create_task(reward.score(sample)) for sample in group("Ada", "Bob"))
        while not any(kind.startswith("verify") for kind, _ in judge_server.prompts):  # noqa: ASYNC110 (another thread)
            await asyncio.sleep(0.01)
        first.cancel()
        result = await second
        again = await reward.score(group("Cem")[0])
        await reward.aclose()
        return first, result, again

    first, result, again = asyncio.run(run())
    assert first.cancelled()
    assert result.total is not None and again.total is not None
    assert judge_server.calls["verify"] + judge_server.calls["verify_many"] == (3 if per_call == 1 else 1)
    # The one that was cancelled cannot tell what the verdicts cost; the next one does.
    verified = result.dimensions["faithfulness"].usage.calls - 1
    assert verified == (3 if per_call == 1 else 1)
    assert again.dimensions["faithfulness"].usage.calls == 1


def test_batches_are_even_and_show_each_passage_once_before_the_statements(judge_server):
    says(judge_server, *(f"On day {i}00 Mara sold {i} crates." for i in range(1, 5)))
    judge_server.script["verify_many"] = "1. a [[Fully supported]]\n2. b [[No support]]"
    (reward,) = score(only_faithfulness(judge_server, statements_per_call=3), [SAMPLE])
    prompts = [prompt for kind, prompt in judge_server.prompts if kind == "verify_many"]
    assert len(prompts) == 2 and judge_server.calls["verify"] == 0
    for prompt in prompts:
        evidence, statements = prompt.rsplit("\n<evidence>\n")[1].split("\n<statements>\n")
        places = [DOCUMENT.index(passage.strip()[:60]) for passage in re.split(r"\(\d+\) ", evidence)[1:]]
        assert 5 < len(places) <= 10 and places == sorted(set(places))
        assert re.fullmatch(r"1\. .*\n2\. .*\n</statements>\n\n.*", statements)
    (dimension,) = faithfulness([reward])
    assert dimension.score == 5
    assert [s.support for s in dimension.statements] == [1, 0, 1, 0]
    assert all(1 <= len(s.evidence) <= 5 for s in dimension.statements)
    # The answer's own calls hold what was paid; the statements only say what was replied.
    assert [call.kind for call in dimension.calls] == ["statements", "verify_many", "verify_many"]
    assert all(s.call.source == "shared" and "[[No support]]" in s.call.text for s in dimension.statements)


def test_one_statement_alone_is_asked_as_the_paper_does(judge_server):
    says(judge_server, "Mara sold copper.", "{} adds this.")
    score(only_faithfulness(judge_server, statements_per_call=5), group("Ada", "Bob"), concurrency=1)
    assert judge_server.calls["verify_many"] == 1
    assert judge_server.calls["verify"] == 1  # what Bob adds: the rest is known


@pytest.mark.parametrize(
    "reply", ["1. a [[Fully supported]]", "[[Fully supported]]", "1. [[No]]\n2. [[No]]\n3. [[No]]"]
)
def test_a_batch_without_a_verdict_for_each_is_void_and_never_a_guess(judge_server, reply):
    says(judge_server, "Mara sold copper.", "It was in Lisbon.", "Otto bought it.")
    judge_server.script["verify_many"] = reply
    (reward,) = score(only_faithfulness(judge_server, statements_per_call=3), [SAMPLE])
    (dimension,) = faithfulness([reward])
    assert (dimension.score, dimension.status) == (None, "parse_error")
    assert all(s.support is None and s.call.text == reply for s in dimension.statements)
    assert dimension.usage.calls == judge_server.calls.total()


VERBATIM = "On day 7 Mara sold 7 crates of copper to Otto in Lisbon."
NEARLY = "On day 7 Mara sold 8 crates of copper to Otto in Lisbon."


def test_a_sentence_of_the_document_needs_no_judge_where_that_is_asked_for(judge_server):
    says(judge_server, VERBATIM, NEARLY)
    judge_server.script["verify"] = "[[No support]]"
    (reward,) = score(only_faithfulness(judge_server, skip_verbatim=True), [SAMPLE])
    (dimension,) = faithfulness([reward])
    assert dimension.score == 5 and judge_server.calls["verify"] == 1
    taken, judged = dimension.statements
    assert (taken.text, taken.support, taken.call.kind, taken.call.source) == (VERBATIM, 1, "verify", "document")
    assert taken.call.attempts == 0 and any(VERBATIM in evidence.text for evidence in taken.evidence)
    assert judged.call.source == "judge"


def test_by_default_the_judge_is_asked_about_sentences_of_the_document_too(judge_server):
    says(judge_server, VERBATIM)
    judge_server.script["verify"] = "[[No support]]"
    (reward,) = score(only_faithfulness(judge_server), [SAMPLE])
    assert reward.total == 0


def test_verbatim_statements_take_no_place_in_a_batch(judge_server):
    says(judge_server, VERBATIM, *(f"{NEARLY} {i}" for i in range(3)))
    score(only_faithfulness(judge_server, skip_verbatim=True, statements_per_call=3), [SAMPLE])
    assert judge_server.calls["verify_many"] == 1 and judge_server.calls["verify"] == 0


@pytest.mark.parametrize("per_call", [1, 4])
def test_evidence_too_long_for_the_judge_is_halved_once_and_the_verdict_says_so(judge_server, per_call):
    says(judge_server, "Mara sold 7 crates.", "Mara sold 8 crates.")
    sizes = []

    def reply(prompt, _):
        sizes.append(len(prompt.rpartition("\n<evidence>\n")[2]))
        if sizes[-1] > 0.7 * max(sizes):
            error = {"message": "too long", "code": "context_length_exceeded"}
            return web.json_response({"error": error}, status=400)
        return "1. a [[Fully supported]]\n2. b [[Fully supported]]" if per_call > 1 else "[[Fully supported]]"

    judge_server.script |= {"verify": reply, "verify_many": reply}
    settings = only_faithfulness(judge_server, statements_per_call=per_call)
    (reward,) = score(settings | {"chunking": {"evidence_tokens": 64}}, [SAMPLE])
    (dimension,) = faithfulness([reward])
    assert dimension.score == 10
    assert all(statement.call.shrunk for statement in dimension.statements)


NEVER = "I cannot tell."


@pytest.mark.parametrize("per_call", [1, 2])
def test_after_a_statement_that_failed_for_good_the_others_are_not_paid_for(judge_server, per_call):
    says(judge_server, *(f"Fact number {i} holds." for i in range(12)))
    judge_server.script |= {"verify": NEVER, "verify_many": NEVER}
    settings = only_faithfulness(judge_server, {"max_in_flight": 1}, statements_per_call=per_call)
    (reward,) = score(settings, group("Ada"))
    (dimension,) = faithfulness([reward])
    assert (dimension.score, dimension.status) == (None, "parse_error")
    # Three attempts at the first one. With one place the others wait for it, or for the place before their second one.
    asked = judge_server.calls["verify"] + judge_server.calls["verify_many"]
    assert 3 <= asked < 12 / per_call + 3
    assert len(dimension.statements) == 12 and all(s.support is None for s in dimension.statements)
    assert {s.call.status for s in dimension.statements} == {"parse_error"}
    assert any("another statement of this answer failed" in s.call.detail for s in dimension.statements)


def test_a_statement_that_another_answer_makes_too_is_verified_for_it(judge_server):
    judge_server.script["statements"] = lambda prompt, _: (
        ("<statement>Ada fails.</statement>" if "Ada" in prompt.rpartition("<answer>")[2] else "")
        + "".join(f"<statement>Fact number {i} holds.</statement>" for i in range(6))
    )

    async def reply(prompt, _):
        if "Ada fails." in prompt:
            return NEVER
        await asyncio.sleep(0.3)  # well after the one that fails
        return "[[Fully supported]]"

    judge_server.script["verify"] = reply
    ada, bob = faithfulness(score(only_faithfulness(judge_server), group("Ada", "Bob")))
    assert (ada.score, ada.status) == (None, "parse_error")
    assert bob.score == 10 and all(s.support == 1 for s in bob.statements)
    assert judge_server.calls["verify"] == 3 + 6
    # What Ada's answer caused and did not wait for is counted in Bob's.
    assert ada.usage.calls + bob.usage.calls == judge_server.calls.total()


def test_what_was_given_up_is_asked_afresh_for_the_next_answer(judge_server):
    fails = True
    says(judge_server, *(f"Fact number {i} holds." for i in range(4)))

    async def reply(prompt, _):
        if fails and "number 0" in prompt:
            return NEVER
        await asyncio.sleep(0.2)
        return "[[Fully supported]]"

    judge_server.script["verify"] = reply

    async def run():
        nonlocal fails
        reward = LongReward.from_config(only_faithfulness(judge_server))
        void = await reward.score_many(group("Ada"))
        fails = False
        mended = await reward.score_many(group("Bob"))
        await reward.aclose()
        return void, mended

    void, mended = asyncio.run(run())
    assert faithfulness(void)[0].score is None
    assert faithfulness(mended)[0].score == 10
