"""`longreward agree` on labelled claims: formats in, AUC and balanced accuracy out, stopped and started again."""

from __future__ import annotations

import json
import re

import pytest

from longreward import cli

CONTEXT = "Mara sold copper to Otto in Lisbon. Lena bought 40 apples from Karl in Rome."
OTHER = "The mill of Orn burnt down in 1902. Its owner, Ida Brandt, built another one of stone."


def claim(idx, text: str, supported, context: str = CONTEXT) -> dict:
    return {"idx": idx, "context": context, "claim": text, "supported": supported}


OURS = [
    claim(0, "Mara sold copper to Otto.", True),
    claim(1, "Mara sold silver to Otto.", False),
    claim(2, "The mill burnt down in 1902.", 1, OTHER),
    claim(3, "The mill burnt down in 1920.", 0, OTHER),
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def agree(capsys, tmp_path):
    """Exit code, standard output, standard error, the JSON."""

    def run(*arguments):
        file = tmp_path / "agreement.json"
        file.unlink(missing_ok=True)
        code = cli.main(["agree", *map(str, arguments), "--json", str(file)])
        out, err = capsys.readouterr()
        return code, out, err, json.loads(file.read_text()) if file.exists() else None

    return run


def said_in(prompt: str, _: int) -> str:
    """Each claim tells the judge's verdict itself."""
    return f"[[{re.findall(r'verdict (.+?)[.]', prompt)[-1]}]]"


@pytest.fixture
def judged(judge_server) -> tuple[str, ...]:
    judge_server.script = {"verify": said_in}
    return ("--judge", "openai", "--base-url", judge_server.url, "--model", "judge", "judge.max_attempts=1")


def told(idx: int, verdict: str, supported: bool, context: int) -> dict:
    return claim(idx, f"Claim {idx} of Mara, verdict {verdict}.", supported, f"{CONTEXT} Page {context}.")


FULL, PART, NONE = "Fully supported", "Partially supported", "No support"


def test_each_claim_is_verified_as_a_statement_and_nothing_else_is_asked(agree, tmp_path, judged, judge_server):
    rows = [told(0, FULL, True, 0), told(1, PART, True, 1), told(2, PART, False, 1), told(3, NONE, False, 2)]
    code, out, err, found = agree(write(tmp_path / "claims.jsonl", rows), *judged, "weights={helpfulness: 1}")
    assert code == 0, err
    assert judge_server.calls == {"verify": 4}
    assert CONTEXT in judge_server.prompts[0][1]
    assert [one["support"] for one in found["claims"]] == [1.0, 0.5, 0.5, 0.0]
    assert found["agreement"]["auc"]["value"] == 3.5 / 4
    assert found["agreement"]["ties"] == 1 / 4
    assert found["agreement"]["balanced_accuracy_at_0.5"]["value"] == 0.75
    assert (found["agreement"]["claims"], found["agreement"]["contexts"]) == (4, 3)
    assert "4 claims about 3 documents in" in out and "4 calls, 440 tokens" in out
    assert re.search(r"^AUC +4 +0\.875", out, re.MULTILINE)
    assert "4 labelled claims about 3 documents, 2 of them supported" in err
    assert "expected: about 4 calls" in err


def test_evidence_is_retrieved_from_a_long_document(agree, tmp_path, judged, judge_server):
    filler = " ".join(f"Sentence {i} speaks of rain and wind in the valley of Orn." for i in range(400))
    rows = [
        claim(0, "Zelda mined cobalt, verdict Fully supported.", True, f"{filler} Zelda mined cobalt. {filler}"),
        claim(1, "Zelda mined gold, verdict No support.", False, f"{filler} Zelda mined cobalt. {filler}"),
    ]
    assert agree(write(tmp_path / "claims.jsonl", rows), *judged)[0] == 0
    for _, prompt in judge_server.prompts:
        assert "Zelda mined cobalt." in prompt and len(prompt) < 12_000


def test_voids_have_reasons_and_are_no_support(agree, tmp_path, judged):
    rows = [told(0, FULL, True, 0), told(1, NONE, False, 1), told(2, "Perhaps", True, 2)]
    code, out, _, found = agree(write(tmp_path / "claims.jsonl", rows), *judged, "judge.parse_attempts=1")
    assert code == 0
    assert found["agreement"]["void"] == {"n": 1, "reasons": {"parse_error": 1}}
    assert found["agreement"]["claims"] == 2 and found["claims"][2]["support"] is None
    assert re.search(r"^void +1 +parse_error 1", out, re.MULTILINE)


def test_what_is_verified_is_kept_and_not_paid_again(agree, tmp_path, judged, judge_server):
    rows, out = [told(i, FULL if i % 2 else NONE, i % 2 == 1, i // 2) for i in range(6)], tmp_path / "out.jsonl"
    first = agree(write(tmp_path / "some.jsonl", rows[:4]), *judged, "--out", out)
    whole = agree(write(tmp_path / "all.jsonl", rows), *judged, "--out", out, "weights={completeness: 1}")
    assert judge_server.calls["verify"] == 6 and len(out.read_text().splitlines()) == 6
    assert "4 of 6 claims are already scored" in whole[2]
    again = agree(tmp_path / "some.jsonl", *judged, "--out", out)
    assert judge_server.calls["verify"] == 6
    assert again[3]["agreement"] == first[3]["agreement"]
    code, _, err, _ = agree(tmp_path / "some.jsonl", *judged, "--out", out, "judge.temperature=0.5")
    assert code == 2 and "another reward configuration" in err
    row = json.loads(out.read_text().splitlines()[0])
    assert row["detail"]["faithfulness"]["statements"][0]["evidence"]


def test_a_spend_cap_ends_the_run_and_a_higher_one_goes_on(agree, tmp_path, judged, judge_server):
    source = write(tmp_path / "claims.jsonl", [told(i, FULL if i % 2 else NONE, i % 2 == 1, i) for i in range(12)])
    arguments = (source, *judged, "--concurrency", "1", "judge.max_tokens=100", "--out", tmp_path / "out.jsonl")
    code, _, err, stopped = agree(*arguments, "judge.spend.max_tokens=2000")
    assert code == 1 and "claims are scored" in err and not stopped["complete"]
    left = stopped["agreement"]["void"]["reasons"]["spend_cap"]
    assert 0 < left < 12
    code, _, err, done = agree(*arguments, "judge.spend.max_tokens=600000")
    assert code == 0 and done["complete"] and done["agreement"]["claims"] == 12
    assert judge_server.calls["verify"] == 12 == done["usage"]["calls"]


def test_the_offline_judge_tells_right_claims_from_wrong_ones(agree, tmp_path):
    code, out, err, found = agree(write(tmp_path / "claims.jsonl", OURS), "--judge", "offline")
    assert code == 0, err
    assert found["agreement"]["auc"]["value"] == 1.0
    assert "of 2 documents they are too narrow" in out


QAGS = {
    "article": CONTEXT,
    "summary_sentences": [
        {"sentence": "Mara sold copper.", "responses": [{"worker_id": i, "response": r} for i, r in enumerate(votes)]}
        for votes in (("yes", "no", "yes"), ("no", "no", "yes"))
    ],
}
AGGREFACT = {"dataset": "D", "doc": CONTEXT, "claim": "Mara sold silver.", "label": 0, "contamination_identifier": "x"}
RAGTRUTH = {
    "id": "7", "source_id": "3", "model": "m", "temperature": 0.7, "split": "test", "quality": "good",
    "response": "Mara sold copper. She sold it in Rome. Lena bought apples.",
    "labels": [{"start": 30, "end": 37, "text": "in Rome", "label_type": "Evident Conflict", "implicit_true": False}],
}  # fmt: skip
FAITHBENCH = {
    "sample_id": 0,
    "source": CONTEXT,
    "summary": "Mara sold copper. Lena liked apples. Otto was glad. Karl sold apples.",
    "annotations": [
        {"label": ["Unwanted", "Unwanted.Extrinsic"], "summary_start": 23, "summary_end": 28, "note": ""},
        {"label": ["Benign"], "summary_start": 42, "summary_end": 50, "note": ""},
        {"label": [], "summary_start": 52, "summary_end": 56, "note": ""},
    ],
}


def with_sources(tmp_path, info) -> None:
    write(tmp_path / "source_info.jsonl", [{"source_id": "3", "task_type": "QA", "source_info": info, "prompt": "p"}])


def labels(found) -> list[tuple[str, bool]]:
    return [(one["idx"], one["supported"]) for one in found["claims"]]


def test_qags_counts_the_majority_of_workers(agree, tmp_path):
    found = agree(write(tmp_path / "mturk.jsonl", [QAGS]), "--judge", "offline")[3]
    assert labels(found) == [("1/1", True), ("1/2", False)]


def test_llm_aggrefact_is_a_row_for_each_claim(agree, tmp_path):
    rows = [AGGREFACT, AGGREFACT | {"claim": "Mara sold copper.", "label": 1}]
    found = agree(write(tmp_path / "rows.jsonl", rows), "--judge", "offline")[3]
    assert labels(found) == [("1", False), ("2", True)]


@pytest.mark.parametrize(
    "info", [CONTEXT, {"question": "What did Mara do?", "passages": CONTEXT}, {"name": "Mara", "sold": ["copper"]}]
)
def test_ragtruth_takes_sentences_with_a_span_for_unsupported(agree, tmp_path, judged, judge_server, info):
    judge_server.script = {}
    with_sources(tmp_path, info)
    rows = [RAGTRUTH, RAGTRUTH | {"id": "8", "quality": "incorrect_refusal"}]
    _, _, err, found = agree(write(tmp_path / "response.jsonl", rows), *judged)
    assert labels(found) == [("7/1", True), ("7/2", False), ("7/3", True)]
    assert "left out: quality is incorrect_refusal 1" in err
    assert all("copper" in prompt for _, prompt in judge_server.prompts)


@pytest.mark.parametrize("form", ["file", "rows"])
def test_faithbench_is_read_as_its_file_and_as_rows(agree, tmp_path, form):
    source = tmp_path / "batch.json"
    source.write_text(json.dumps({"samples": [FAITHBENCH]} if form == "file" else [FAITHBENCH], indent=1))
    _, _, err, found = agree(source, "--judge", "offline")
    assert [supported for _, supported in labels(found)] == [True, False, True]
    assert "left out: a span without a label 1" in err


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (claim(9, "Mara sold copper.", "yes"), "supported is 'yes'; write true or false"),
        (claim(9, "Mara sold copper.", None), "supported is missing; write true or false"),
        (claim(9, "Mara sold copper.", 0.5), "supported is 0.5; write true or false"),
        (claim(9, " ", True), "claim is ' '; write a text"),
        (claim(9, "Mara sold copper.", True, context=None), "context is missing; write a text"),
        (claim([9], "Mara sold copper.", True), "idx must be text or a whole number, found [9]"),
        ({"question": "?"}, "no claim, which has context, claim and supported; found question"),
        (AGGREFACT | {"label": -1}, "label is -1; write true or false, or 1 or 0"),
        (QAGS | {"article": 7}, "article is 7; write a text"),
        (QAGS | {"summary_sentences": "x"}, "summary_sentences is 'x'; write a list of objects"),
        (
            QAGS | {"summary_sentences": [{"sentence": "x", "responses": [{"response": "maybe"}]}]},
            'sentence 1: response is \'maybe\'; write "yes" or "no"',
        ),
        (
            QAGS | {"summary_sentences": [{"sentence": "x", "responses": [{"response": "yes"}, {"response": "no"}]}]},
            "sentence 1: 1 of 2 responses are yes: no majority; leave that sentence out",
        ),
        (RAGTRUTH | {"source_id": "4"}, "source_id is '4', which source_info.jsonl does not hold"),
        (RAGTRUTH | {"labels": None}, "labels is missing; write a list of objects"),
        (
            RAGTRUTH | {"labels": [{"start": 5, "end": 900}]},
            "label 1: start is 5 and end 900, no span of the 58 characters of response; correct that label",
        ),
        (
            FAITHBENCH | {"annotations": [{"label": ["Odd"], "summary_start": 0, "summary_end": 4}]},
            "annotation 1: label is ['Odd']; write a list of Unwanted, Questionable, Benign",
        ),
        (
            {"samples": [FAITHBENCH, FAITHBENCH | {"annotations": [{"label": ["Benign"]}]}]},
            "sample 2: annotation 1: summary_start is missing and summary_end missing, no span of",
        ),
    ],
)
def test_a_label_that_is_not_in_order_is_refused_before_anything_is_paid(
    agree, tmp_path, judged, judge_server, row, sentence
):
    with_sources(tmp_path, CONTEXT)
    code, _, err, found = agree(write(tmp_path / "claims.jsonl", [*OURS, row]), *judged)
    assert code == 2 and found is None and not judge_server.calls
    (line,) = [line for line in err.splitlines() if line.startswith("longreward: ")]
    assert "claims.jsonl:5: " in line and sentence in line


def test_documents_that_are_not_there_are_asked_for(agree, tmp_path):
    code, _, err, _ = agree(write(tmp_path / "response.jsonl", [RAGTRUTH]), "--judge", "offline")
    assert code == 2 and "source_info.jsonl is not there" in err and "put it beside the responses" in err
    with_sources(tmp_path, None)
    code, _, err, _ = agree(tmp_path / "response.jsonl", "--judge", "offline")
    assert code == 2 and "source_info.jsonl:1: source_info is missing; write the text of the document" in err


@pytest.mark.parametrize(
    ("rows", "more", "sentence"),
    [
        (OURS[::2], (), "all 2 claims are supported, so none can be told from others; give claims of both labels"),
        (OURS[1::2], (), "all 2 claims are not supported"),
        (OURS, ("--baseline", "pairwise"), "--baseline compares answers in pairs and"),
        (OURS, ("--reward-model", "http://host"), "--reward-model compares answers in pairs and"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_paid(
    agree, tmp_path, judged, judge_server, rows, more, sentence
):
    code, _, err, _ = agree(write(tmp_path / "claims.jsonl", rows), *judged, *more)
    assert code == 2 and sentence in err and not judge_server.calls
