"""Documents, questions and answers in any language, and in different ones: true statements keep their evidence."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

import pytest

from longreward import LongReward, Sample
from longreward.judge.requests import ListStatements

PAGES = tomllib.loads((Path(__file__).parents[1] / "data" / "languages.toml").read_text(encoding="utf-8"))
UNSPACED = ("zh", "ja")


def score(settings, sample):
    async def run():
        reward = LongReward.from_config(settings)
        try:
            return await reward.score(sample)
        finally:
            await reward.aclose()

    return asyncio.run(run())


def page(language, between_facts=21):
    """A document with four facts in it, and so many sentences after each."""
    facts, between = PAGES[language]["facts"], PAGES[language]["between"]
    glue = "" if language in UNSPACED else " "
    return glue.join(glue.join([fact, *[between] * between_facts]) for fact in facts), facts, glue


@pytest.mark.parametrize("language", PAGES)
def test_true_statements_are_supported_in_every_language(language):
    """Wherever the borders of the chunks are: some of them cut a fact in two."""
    settings = {"judge": {"kind": "offline"}, "weights": {"faithfulness": 1}}
    for between_facts in (5, 9, 10, 12, 14, 17, 21):
        document, facts, glue = page(language, between_facts)
        dimension = score(settings, Sample(context=document, query="?", answer=glue.join(facts[::-1]))).dimensions
        statements = dimension["faithfulness"].statements
        assert len(statements) == len(facts)
        assert [statement.support for statement in statements] == [1] * len(facts), between_facts
        assert all(0 < len(statement.evidence) <= 5 for statement in statements)


@pytest.mark.parametrize("language", PAGES)
def test_a_wrong_number_is_not_supported_in_any_language(language):
    document, facts, _ = page(language)
    digits = {ord(a): b for a, b in zip("١٢٣۱۲۳१२३১২৩១២៣၁၂၃123", "٢٣٤۲۳۴२३४২৩৪២៣៤၂၃၄234", strict=True)}
    wrong = facts[3].translate(digits)
    assert wrong != facts[3]
    settings = {"judge": {"kind": "offline"}, "weights": {"faithfulness": 1}}
    reward = score(settings, Sample(context=document, query="?", answer=wrong))
    assert reward.dimensions["faithfulness"].score <= 5


def judge(server, *, restates=True):
    """A judge that restates in the language it is told to use, and supports what the evidence says."""
    originals = dict(zip(PAGES["zh"]["facts"], PAGES["en"]["facts"], strict=True)) | dict(
        zip(PAGES["hi"]["facts"], PAGES["en"]["facts"], strict=True)
    )

    def statements(prompt, _):
        answer = prompt.rpartition("<answer>\n")[2].rpartition("\n</answer>")[0]
        said = [fact for fact in (*originals, *originals.values()) if fact in answer]
        wanted = prompt.rpartition("\n<language>\n")[2].partition("\n")[0]
        if restates and wanted == "English":
            pairs = [(originals.get(fact, fact), fact) for fact in said]
            return "\n".join(
                f"<statement>{text}</statement>" + (f" <original>{fact}</original>" if text != fact else "")
                for text, fact in pairs
            )
        return "\n".join(f"<statement>{fact}</statement>" for fact in said)

    def verify(prompt, _):
        evidence, _, statement = prompt.rpartition("\n<evidence>\n")[2].partition("\n<statement>\n")
        return "[[Fully supported]]" if statement.partition("\n</")[0] in evidence else "[[No support]]"

    server.script |= {"statements": statements, "verify": verify}
    judge = {"kind": "openai", "base_url": server.url, "model": "judge", "retry_base_s": 0}
    return {"judge": judge, "weights": {"faithfulness": 1}}


@pytest.mark.parametrize("language", ["en", "zh", "hi"])
def test_an_answer_in_another_language_is_judged_like_one_in_the_documents(judge_server, language):
    document, _, _ = page("en")
    facts = PAGES[language]["facts"]
    query = {"en": "What happened?", "zh": "发生了什么？", "hi": "क्या हुआ?"}[language]
    sample = Sample(context=document, query=query, answer=" ".join([*facts[:3], "Otto left."]))
    dimension = score(judge(judge_server), sample).dimensions["faithfulness"]
    assert (dimension.score, dimension.detail) == (10, "")
    assert [statement.text for statement in dimension.statements] == PAGES["en"]["facts"][:3]
    assert [statement.original for statement in dimension.statements] == ([""] * 3 if language == "en" else facts[:3])
    assert all(statement.evidence for statement in dimension.statements)


def test_statements_that_the_judge_does_not_restate_get_passages_and_are_told(judge_server):
    answer = "".join(PAGES["zh"]["facts"])
    dimension = score(
        judge(judge_server, restates=False), Sample(context=page("en")[0], query="发生了什么？", answer=answer)
    )
    dimension = dimension.dimensions["faithfulness"]
    # The years are found in both languages; of the third fact nothing is.
    assert dimension.detail == "1 of 4 statements share no word with the document"
    assert all(statement.evidence for statement in dimension.statements)


@pytest.mark.parametrize(("query", "found"), [("What did Mara sell?", "Mara sold"), ("发生了什么？", "Mara sold")])
def test_a_statement_without_a_word_of_the_document_gets_passages_and_is_told(judge_server, query, found):
    settings = judge(judge_server)
    judge_server.script["statements"] = "<statement>Mara sold copper.</statement>\n<statement>玛拉卖了铜。</statement>"
    dimension = score(settings, Sample(context=page("en")[0], query=query, answer="玛拉卖了铜。")).dimensions[
        "faithfulness"
    ]
    assert dimension.detail == "1 of 2 statements share no word with the document"
    assert found in "".join(evidence.text for evidence in dimension.statements[1].evidence)


def asked(server, context, query, answer):
    settings = judge(server) | {"weights": {"helpfulness": 1, "faithfulness": 1, "completeness": 1}}
    score(settings | {"chunking": {"extraction_tokens": 400}}, Sample(context=context, query=query, answer=answer))
    return {kind: [bool(re.match("[\u4e00-\u9fff]", text)) for name, text in server.prompts if name == kind]
            for kind, _ in server.prompts}  # fmt: skip


def test_each_prompt_is_in_the_language_of_what_it_is_about(judge_server):
    english, chinese = page("en")[0], page("zh")[0]
    in_chinese = asked(judge_server, english + "\n" + chinese, "发生了什么？", PAGES["zh"]["facts"][0])
    assert in_chinese["helpfulness"] == [True]
    assert in_chinese["extract"][0] is False and in_chinese["extract"][-1] is True


def test_a_title_in_another_language_does_not_decide(judge_server):
    context = "长上下文强化学习研究资料汇编。" * 300 + page("en")[0] * 20
    found = asked(judge_server, context, "发生了什么？", PAGES["zh"]["facts"][0])
    assert found["statements"] == [False] and found["verify"] == [False]


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (page("en")[0], "English"),
        (page("zh")[0], "Chinese"),
        (page("ja")[0], "the language of this piece of the document: マーラは"),
        (page("fr")[0], "the language of this piece of the document: "),
        ("", "the language of the answer"),
    ],
    ids=["en", "zh", "ja", "fr", "none"],
)
def test_the_judge_is_told_the_documents_language(document, shown):
    prompt = ListStatements("en", "What?", "Mara sold copper.", document[:600]).text()
    assert prompt.rpartition("\n<language>\n")[2].startswith(shown.partition("マ")[0])
    assert "答" in ListStatements("zh", "什么？", "铜。").text().rpartition("\n<language>\n")[2].partition("\n</")[0]
