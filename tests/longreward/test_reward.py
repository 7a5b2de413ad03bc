"""What LongReward promises about a score, against a judge on a real socket."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from longreward import LongReward, Reward, RewardConfig, Sample
from longreward.fingerprint import fingerprint
from longreward.judge.offline import OfflineJudge

DOCUMENT = "".join(f"On day {i} Mara sold copper to Otto in Lisbon. " for i in range(300))
SAMPLE = Sample(id="1", context=DOCUMENT, query="What did Mara do?", answer="Mara sold copper.")


def config(server, **judge):
    settings = {"kind": "openai", "base_url": server.url, "model": "judge", "retry_base_s": 0, **judge}
    return {"judge": settings, "chunking": {"extraction_tokens": 800}}


def score(settings, *samples) -> list[Reward]:
    async def run():
        reward = LongReward.from_config(settings)
        try:
            return await reward.score_many(samples)
        finally:
            await reward.aclose()

    return asyncio.run(run())


def test_total_is_the_mean_of_four_dimensions(judge_server):
    judge_server.script = {
        "helpfulness": "[[6]]",
        "logicality": "[[9.5]]",
        "completeness": "[[4]]",
        "verify": lambda prompt, number: ["[[Fully supported]]", "[[Partially supported]]", "[[No support]]"][
            number % 3
        ],
    }
    (reward,) = score(config(judge_server), SAMPLE)
    scores = {name: dimension.score for name, dimension in reward.dimensions.items()}
    assert scores == {"helpfulness": 6, "logicality": 9.5, "faithfulness": 5, "completeness": 4}
    assert reward.total == pytest.approx((6 + 9.5 + 5 + 4) / 4)


def test_calls_of_one_answer_and_of_a_group(judge_server):
    def ten_statements(prompt, number):
        return "\n".join(f"<statement>Answer {number} says fact {i}.</statement>" for i in range(10))

    judge_server.script = {"statements": ten_statements}
    group = [SAMPLE.model_copy(update={"answer": f"Answer {i}."}) for i in range(10)]
    rewards = score(config(judge_server), *group)
    chunks = judge_server.calls["extract"]
    assert chunks > 1, "the document should need several extraction chunks"
    # Paper, section 3: extraction once per document and question, then 14 calls an answer.
    assert judge_server.calls.total() == chunks + 10 * 14
    assert sum(reward.usage.calls for reward in rewards) == judge_server.calls.total()
    assert sum(reward.usage.prompt_tokens for reward in rewards) == 100 * judge_server.calls.total()


def test_one_answer_takes_two_judge_latencies(judge_server):
    judge_server.statements = 10
    score(config(judge_server), SAMPLE)
    first = judge_server.calls["extract"] + 3  # helpfulness, logicality, the list of statements
    second = 10 + 1  # the statements, completeness
    assert judge_server.calls.total() == first + second
    # Nothing is answered before all of a wave is asked: what went one after the other would wait for ever.
    judge_server.waves = [first, second]
    (reward,) = score(config(judge_server, max_attempts=1, attempt_timeout_s=30), SAMPLE)
    assert reward.total is not None, reward.void_reasons


@pytest.mark.parametrize("kind", ["helpfulness", "logicality", "statements", "verify", "extract", "completeness"])
def test_a_failing_judge_is_void_and_never_a_number(judge_server, kind):
    judge_server.script = {kind: "I would rather not say."} | (
        {"extract": lambda *_: web.json_response({"error": "x"}, status=500)} if kind == "extract" else {}
    )
    (reward,) = score(config(judge_server, max_attempts=2), SAMPLE)
    assert reward.total is None
    (void,) = reward.void_reasons.items()
    dimension = {"statements": "faithfulness", "verify": "faithfulness", "extract": "completeness"}.get(kind, kind)
    assert void == (dimension, "server_error" if kind == "extract" else "parse_error")
    failed = reward.dimensions[dimension]
    assert failed.score is None
    calls = failed.calls + [statement.call for statement in failed.statements]
    assert any(call.attempts == 2 and call.status != "ok" for call in calls)
    if kind != "extract":
        assert any("rather not" in call.text for call in calls), "the judge's words are kept where they cannot be read"


def test_one_void_answer_does_not_touch_the_others_and_order_is_kept(judge_server):
    judge_server.script = {"helpfulness": lambda prompt, _: "no verdict" if "Answer 1" in prompt else "[[7]]"}
    samples = [SAMPLE.model_copy(update={"id": str(i), "answer": f"Answer {i}."}) for i in range(3)]
    rewards = score(config(judge_server, max_attempts=1), *samples)
    assert [reward.id for reward in rewards] == ["0", "1", "2"]
    assert [reward.total is None for reward in rewards] == [False, True, False]


@pytest.mark.parametrize("answer", ["", "  \n", "...", "?!", "\u200b", "。"])
def test_an_answer_without_words_gets_the_floor_without_a_call(judge_server, answer):
    (reward,) = score(config(judge_server), SAMPLE.model_copy(update={"answer": answer}))
    assert reward.total == 0
    assert judge_server.calls.total() == 0


@pytest.mark.parametrize(("faithfulness", "given"), [({}, 5), ({"without_statements": 0}, 0)])
def test_an_answer_without_statements_has_the_documented_faithfulness(judge_server, faithfulness, given):
    judge_server.script = {"statements": "No statements"}
    (reward,) = score(config(judge_server) | {"faithfulness": faithfulness}, SAMPLE)
    assert reward.dimensions["faithfulness"].score == given
    assert judge_server.calls["verify"] == 0


def test_a_dimension_without_weight_is_not_asked_for(judge_server):
    settings = config(judge_server) | {"weights": {"helpfulness": 3, "logicality": 1}}
    judge_server.script = {"helpfulness": "[[10]]", "logicality": "[[2]]"}
    (reward,) = score(settings, SAMPLE)
    assert reward.total == pytest.approx(8)
    assert set(judge_server.calls) == {"helpfulness", "logicality"}


def test_after_a_failed_extraction_only_the_failed_chunk_is_asked_again(judge_server):
    judge_server.script = {"extract": lambda _, number: "" if number == 2 else "Something relevant."}
    settings = config(judge_server, max_attempts=1, max_in_flight=1)

    async def run():
        reward = LongReward.from_config(settings)
        results = [await reward.score(SAMPLE.model_copy(update={"answer": a})) for a in ("One fact.", "Two facts.")]
        await reward.aclose()
        return results

    first, second = asyncio.run(run())
    chunks = len(first.dimensions["completeness"].calls)
    assert chunks > 2 and first.dimensions["completeness"].status == "bad_response"
    assert second.total is not None
    assert judge_server.calls["extract"] == chunks + 1
    paid = sum((r.usage.calls for r in (first, second)), 0)
    assert paid == judge_server.calls.total()


def test_failed_extraction_is_tried_again_for_the_next_answer(judge_server):
    judge_server.script = {
        "extract": lambda _, number: web.json_response({}, status=500) if number == 1 else "Something relevant."
    }
    settings = config(judge_server, max_attempts=1) | {"chunking": {"extraction_tokens": 100_000}}

    async def run():
        reward = LongReward.from_config(settings)
        results = [await reward.score(SAMPLE), await reward.score(SAMPLE)]
        await reward.aclose()
        return results

    first, second = asyncio.run(run())
    assert first.dimensions["completeness"].status == "server_error"
    assert second.total is not None


def test_evidence_shown_to_the_judge_is_cut_from_the_document(judge_server):
    (reward,) = score(config(judge_server), SAMPLE.model_copy(update={"context": "The fact number 2 holds. " * 300}))
    statements = reward.dimensions["faithfulness"].statements
    assert statements
    for statement in statements:
        assert 1 <= len(statement.evidence) <= 5
        for evidence in statement.evidence:
            assert evidence.text == ("The fact number 2 holds. " * 300)[evidence.start : evidence.end]


def test_chinese_material_gets_chinese_prompts(judge_server):
    chinese = Sample(id="1", context="玛拉在里斯本把铜卖给了奥托。" * 20, query="玛拉做了什么？", answer="玛拉卖了铜。")
    (reward,) = score(config(judge_server), chinese)
    assert reward.total is not None
    assert all("你" in prompt for _, prompt in judge_server.prompts)


def test_a_reward_survives_json(judge_server):
    (reward,) = score(config(judge_server), SAMPLE)
    assert Reward.model_validate(json.loads(reward.model_dump_json())) == reward


def test_cancelling_one_answer_leaves_the_shared_document_work_alone(judge_server):
    judge_server.latency = 0.2

    async def run():
        reward = LongReward.from_config(config(judge_server))
        first = asyncio.create_task(reward.score(SAMPLE))
        second = asyncio.create_task(reward.score(SAMPLE.model_copy(update={"answer": "Another answer."})))
        await asyncio.sleep(0.1)
        first.cancel()
        result = await second
        await reward.aclose()
        return result

    assert asyncio.run(run()).total is not None


def test_calls_about_a_document_name_it_and_other_documents_have_other_names():
    class Listening(OfflineJudge):
        async def ask(self, request, *, document=""):
            heard.append(document)
            return await super().ask(request, document=document)

    def documents(context):
        async def run():
            reward = LongReward(RewardConfig(), judge=Listening())
            await reward.score_many([SAMPLE.model_copy(update={"context": context, "answer": a}) for a in "ab"])
            await reward.aclose()

        heard.clear()
        asyncio.run(run())
        return set(heard)

    heard: list[str] = []
    first, other = documents(DOCUMENT), documents(DOCUMENT + "Otto left.")
    assert len(first) == len(other) == 1 and all(first | other) and first != other
    assert documents(DOCUMENT) == first


def test_stats_are_plain_numbers_and_know_the_calls(judge_server):
    async def run():
        reward = LongReward.from_config(config(judge_server))
        await reward.score(SAMPLE)
        stats = reward.stats()
        await reward.aclose()
        return stats

    stats = asyncio.run(run())
    assert all(isinstance(value, int | float) for value in stats.values())
    assert judge_server.calls.total() in stats.values()


def test_verdicts_are_kept_where_the_configuration_says(judge_server, tmp_path):
    settings = config(judge_server) | {"cache": {"path": tmp_path / "verdicts.sqlite"}}
    (first,) = score(settings, SAMPLE)
    calls = judge_server.calls.total()
    (second,) = score(settings, SAMPLE)
    assert judge_server.calls.total() == calls
    assert second.total == first.total and second.usage.calls == 0


THOUGHTS = "<think>Perhaps Karl sold it. Karl was in Rome.</think>\n\n"


def asked_about(judge_server) -> str:
    return "\n".join(prompt.rpartition("<answer>")[2] for _, prompt in judge_server.prompts)


@pytest.mark.parametrize("thoughts", [THOUGHTS, "Perhaps Karl sold it.</think>", "[THINK]Perhaps Karl.[/THINK]"])
def test_an_answer_is_judged_without_its_thoughts(judge_server, thoughts):
    plain, thinking = SAMPLE, SAMPLE.model_copy(update={"answer": thoughts + SAMPLE.answer})
    first, second = score(config(judge_server), plain, thinking)
    assert "Karl" not in asked_about(judge_server)
    assert first.scores == second.scores
    # One question each: the two answers are the same to the judge.
    assert judge_server.calls["helpfulness"] == judge_server.calls["statements"] == 1
    assert (first.thought_chars, second.thought_chars) == (0, len(thoughts))


def test_thoughts_are_judged_where_that_is_asked_for(judge_server):
    thinking = SAMPLE.model_copy(update={"answer": THOUGHTS + SAMPLE.answer})
    (reward,) = score(config(judge_server) | {"strip_thoughts": False}, thinking)
    assert "Karl was in Rome" in asked_about(judge_server)
    assert reward.thought_chars == 0


@pytest.mark.parametrize(
    ("answer", "thinking"),
    [("<think>Perhaps Karl sold it.", False), (THOUGHTS, False), ("Perhaps Karl sold it. Karl was", True)],
)
def test_an_answer_that_is_all_thought_is_empty(judge_server, answer, thinking):
    (reward,) = score(config(judge_server), SAMPLE.model_copy(update={"answer": answer, "thinking": thinking}))
    assert reward.total == 0 and reward.thought_chars == len(answer)
    assert {d.detail for d in reward.dimensions.values()} == {"the answer is empty but for its thoughts"}
    assert judge_server.calls.total() == 0


COPY, OWN = "On day 7 Mara sold copper to Otto in Lisbon.", "Otto bought copper from Mara."
LONG_COPY = f"{COPY} Mara sold the copper in nine bags with a seal, and Otto took all of them."
ASIDE = "In May the harbour was shut for nine days because of a strike of the pilots and of the men at the cranes."


def test_a_copied_answer_loses_what_is_asked_for():
    settings = {"judge": {"kind": "offline"}}
    samples = [SAMPLE.model_copy(update={"answer": answer}) for answer in (COPY, OWN)]
    free, halved = (
        score(settings | {"copying": {"loss": loss, "row": 6, "answered": None}}, *samples) for loss in (0, 0.5)
    )
    assert [reward.copied for reward in free] == [0, 0]
    assert [reward.copied for reward in halved] == [1, 0]
    assert [reward.kept for reward in free + halved] == [1, 1, 0.5, 1]
    assert halved[0].total == pytest.approx(free[0].total / 2) and halved[1].total == free[1].total
    assert [reward.dimensions for reward in halved] == [reward.dimensions for reward in free]


def test_by_default_a_passage_is_a_copy_and_an_exact_answer_is_none():
    document = SAMPLE.model_copy(update={"context": f"{LONG_COPY} {ASIDE}"})
    samples = [document.model_copy(update={"answer": answer}) for answer in (COPY, LONG_COPY, ASIDE)]
    exact, answering, passage = score({"judge": {"kind": "offline"}}, *samples)
    assert (exact.copied, exact.kept) == (0, 1)
    assert (answering.copied, passage.copied) == (1, 1)
    assert passage.kept < 0.25 < 0.75 < answering.kept


def test_an_answer_that_was_cut_loses_what_is_asked_for():
    settings = {"judge": {"kind": "offline"}}
    samples = [SAMPLE.model_copy(update={"truncated": truncated}) for truncated in (True, False)]
    free, fifth = (score(settings | {"truncated_loss": loss}, *samples) for loss in (0, 0.2))
    assert [reward.kept for reward in free + fifth] == [1, 1, 0.8, 1]
    assert fifth[0].total == pytest.approx(0.8 * free[0].total) and fifth[1].total == free[1].total
    assert len({fingerprint(RewardConfig(truncated_loss=loss)) for loss in (0, 0.2)}) == 2


def test_scores_with_another_loss_for_copies_do_not_mix():
    settings = [{"loss": 0, "row": 6}, {"loss": 0}, {"loss": 0.25}, {"loss": 0.8}, {"loss": 0.8, "row": 6}]
    prints = [fingerprint(RewardConfig(copying=one)) for one in settings]
    assert prints[0] == prints[1] and len(set(prints)) == 4
    assert fingerprint(RewardConfig()) == prints[3]
