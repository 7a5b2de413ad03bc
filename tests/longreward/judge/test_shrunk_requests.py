"""A question made smaller for a judge whose context is too short keeps what matters most."""

from __future__ import annotations

import pytest

from longreward.judge.requests import (
    CheckCoverage,
    ExtractRelevant,
    ListPoints,
    ListStatements,
    RateCompleteness,
    RateHelpfulness,
    RateLogicality,
    VerifyStatement,
    VerifyStatements,
)
from longreward.judge.requests.writing import WriteAnswer, WriteQuestions
from longreward.text.shorten import GAP, without_middle

PASSAGES = [f"{name} came to the harbour. It rained." for name in ("Ada", "Mara", "Karl", "Lena", "Otto")]
SENTENCES = [f"Sentence number {i} is about copper." for i in range(100)]


def test_evidence_keeps_the_half_that_speaks_of_the_statement_in_document_order() -> None:
    smaller = VerifyStatement("en", "Otto met Karl.", PASSAGES).shrunk()
    assert smaller is not None and smaller.evidence == [PASSAGES[2], PASSAGES[4]]
    assert smaller.statement == "Otto met Karl."


def test_each_statement_of_a_batch_keeps_its_passage() -> None:
    request = VerifyStatements("en", ["Lena left.", "Ada, who had long been waiting for the ship, left."], PASSAGES)
    smaller = request.shrunk()
    assert smaller is not None and smaller.evidence == [PASSAGES[0], PASSAGES[3]]
    assert smaller.statements == request.statements


def test_of_a_single_passage_the_sentences_around_the_statement_stay() -> None:
    """Neighbouring chunks are one passage: what is looked for may be in its middle."""
    sentences = [*SENTENCES[:80], "Otto left the harbour.", *SENTENCES[80:]]
    smaller = VerifyStatement("en", "Otto left.", [" ".join(sentences)]).shrunk()
    assert smaller is not None and 0.4 * len(" ".join(sentences)) < len(smaller.evidence[0])
    assert len(smaller.evidence[0]) < 0.55 * len(" ".join(sentences))
    head, middle = smaller.evidence[0].split(GAP)
    assert head == " ".join(SENTENCES[: head.count(".")])
    assert middle == f"{SENTENCES[79]} Otto left the harbour. {SENTENCES[80]}"


def test_a_document_is_cut_alike_for_its_questions_and_their_answers() -> None:
    document = " ".join(SENTENCES)
    questions = WriteQuestions("en", document, ["summary"]).shrunk()
    answer = WriteAnswer("en", document, "What is it?").shrunk()
    assert questions is not None and answer is not None and GAP in answer.document
    assert questions.document == answer.document and answer.query == "What is it?"
    assert WriteAnswer("en", "Short.", "What is it?").shrunk() is None


@pytest.mark.parametrize("space", [" ", "\n"])
def test_a_chunk_keeps_its_head_and_tail_in_whole_sentences(space: str) -> None:
    chunk = space.join(SENTENCES)
    smaller = ExtractRelevant("en", "What is it?", chunk).shrunk()
    assert smaller is not None and 0.4 * len(chunk) < len(smaller.chunk) < 0.55 * len(chunk)
    head, tail = smaller.chunk.split(GAP)
    assert head == space.join(SENTENCES[: head.count(".")]) and tail == space.join(SENTENCES[-tail.count(".") :])


@pytest.mark.parametrize(
    "text", ["word " * 100, "字" * 400, "这是一句话。" * 80, "a" * 80, "x" * 300 + ". Short. " * 9]
)
def test_any_text_is_about_halved(text: str) -> None:
    smaller = without_middle(text)
    assert 0.3 * len(text) <= len(smaller) <= 0.5 * len(text) + len(GAP)
    head, tail = smaller.split(GAP)
    assert text.startswith(head) and text.rstrip().endswith(tail.rstrip())


def test_extractions_are_all_cut_alike() -> None:
    long, longer = " ".join(SENTENCES[:20]), " ".join(SENTENCES)
    request = RateCompleteness("en", "What is it?", "Copper.", [long, "It rained.", longer])
    smaller = request.shrunk()
    assert smaller is not None and smaller.extractions[1] == "It rained."
    for before, after in ((long, smaller.extractions[0]), (longer, smaller.extractions[2])):
        assert 0.35 * len(before) < len(after) < 0.55 * len(before)
    assert len(smaller.text()) < len(request.text()) and smaller.answer == "Copper."


@pytest.mark.parametrize(
    "request_",
    [
        RateHelpfulness("en", "q", "a " * 999),
        RateLogicality("en", "q", "a " * 999),
        ListStatements("en", "q", "a " * 999),
        VerifyStatement("en", "Otto left.", []),
        VerifyStatement("en", "Otto left.", ["It rained."]),
        VerifyStatements("en", ["Otto left.", "Ada left."], []),
        ExtractRelevant("en", "q", "It rained."),
        RateCompleteness("en", "q", "a", []),
        ListPoints("en", "q", ["It rained."]),
        CheckCoverage("en", "q", "a " * 500, ["It rained.", "Otto left."]),
        RateCompleteness("en", "q", "a", ["It rained."]),
    ],
    ids=lambda request: type(request).__name__,
)
def test_what_has_nothing_to_leave_out_stays(request_) -> None:
    assert request_.shrunk() is None
