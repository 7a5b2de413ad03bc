"""The published files are read as they are; a broken row is told with file and line, and the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreward.errors import ConfigError, InputError
from rl.data import prompt_files
from rl.offline import published_files
from rl.offline.pair_report import PairReport

POLICY = Path(__file__).parents[3] / "rl" / "toy" / "policy"
EOS = "<|end|>"
DOCUMENT = "Mara sold copper to Otto in Lisbon."
QUERY = "What did Mara do?"


@pytest.fixture(scope="module")
def tokenizer():
    return prompt_files.load_tokenizer(str(POLICY))


def write(path: Path, rows: list, as_list: bool = False) -> Path:
    """JSON lines, strings among them as they are; or one list, a row a line."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n" if as_list else "".join(line + "\n" for line in lines))
    return path


def sft_row(idx, **fields) -> dict:
    return {"idx": idx, "query": QUERY, "answer": "She sold copper.", "context": f"Document {idx}. {DOCUMENT}"} | fields


def pair_row(idx, **fields) -> dict:
    texts = {"context": DOCUMENT, "query": QUERY, "win_response": DOCUMENT, "lose_response": "Otto sold copper."}
    return {"idx": idx} | texts | fields


def places(broken: list[str]) -> list[str]:
    """file:line of each."""
    return [f"{Path(file).name}:{line}" for file, line, _ in (problem.split(":", 2) for problem in broken)]


@pytest.mark.parametrize("as_list", [False, True])
def test_sft_rows(tmp_path, as_list):
    lacking = sft_row(3)
    del lacking["context"]
    name = "sft.json" if as_list else "sft.jsonl"
    rows = [sft_row(11), sft_row("b-2"), lacking, sft_row(4, answer=None), "[1]", sft_row(True), sft_row(12)]
    rows.insert(0, {key: value for key, value in sft_row(0).items() if key != "idx"})
    source, broken = write(tmp_path / name, rows, as_list), []
    found = [row for _, row in published_files.sft(source, broken)]
    first = as_list + 1  # the list's bracket stands on a line of its own
    assert [sample.id for sample in found] == [str(first), "11", "b-2", "12"]
    assert found[1].context == f"Document 11. {DOCUMENT}" and found[1].answer == "She sold copper."
    assert places(broken) == [f"{name}:{first + row}" for row in (3, 4, 5, 6)]
    assert "context must be text" in broken[0] and "answer must be text" in broken[1]


def test_half_a_surrogate_pair_is_a_broken_row(tmp_path):
    source, broken = write(tmp_path / "sft.jsonl", [json.dumps(sft_row(1, query="\ud83d")), sft_row(2)]), []
    assert [sample.id for _, sample in published_files.sft(source, broken)] == ["2"]
    assert places(broken) == ["sft.jsonl:1"] and "surrogate" in broken[0]


def test_a_list_that_breaks_off_yields_what_was_whole(tmp_path):
    source, broken = tmp_path / "sft.json", []
    source.write_text(json.dumps([sft_row(1), sft_row(2)], indent=1)[:-60])
    assert [sample.id for _, sample in published_files.sft(source, broken)] == ["1"]
    assert places(broken) == ["sft.json:8"] and "the rest of the list is skipped" in broken[0]


def test_a_json_file_may_hold_lines_too(tmp_path):
    source = write(tmp_path / "sft.json", [sft_row(1), sft_row(2)])
    assert [sample.id for _, sample in published_files.sft(source, [])] == ["1", "2"]


@pytest.mark.parametrize("name", ["sft.jsonl", "sft.json"])
def test_sampled_responses_are_joined_with_their_documents(tmp_path, name):
    sft = write(tmp_path / name, [sft_row(11), sft_row("a-b", query="玛拉?"), sft_row("11")], name.endswith(".json"))
    answers = [
        ("11-7", "x"),
        ("11-0", "y"),
        ("a-b-3", "z"),
        ("12-1", "?"),
        ("11", "?"),
        (11, "?"),
        ("-1", "?"),
        ("11-0", "?"),
    ]
    rows: list = [{"idx": idx, "query": "Its own?", "answer": answer} for idx, answer in answers]
    rows += [
        {"idx": "11-8", "query": "q"},
        "{",
        {"query": "q", "answer": "a"},
        {"idx": "11-9", "query": "q", "answer": ""},
    ]
    broken: list[str] = []
    found = list(published_files.responses(write(tmp_path / "responses.jsonl", rows), broken, sft))
    assert [(one.rollout, one.sample.id, one.sample.answer) for one in found] == [
        ("11-7", "11", "x"),
        ("11-0", "11", "y"),
        ("a-b-3", "a-b", "z"),
        ("11-9", "11", ""),
    ]
    assert [one.sample.context for one in found[1:3]] == [f"Document {idx}. {DOCUMENT}" for idx in ("11", "a-b")]
    assert {one.sample.query for one in found[:3]} == {"Its own?"}
    second = 4 if name.endswith(".json") else 3
    assert places(broken) == [f"{name}:{second}", *[f"responses.jsonl:{line}" for line in (4, 5, 6, 7, 8, 9, 10, 11)]]
    assert "no context for document '12'" in broken[1]
    assert "idx '11' is not document-sample" in broken[2]
    assert "there is a response '11-0' before" in broken[5]


@pytest.mark.parametrize("name", ["sft.jsonl", "sft.json"])
def test_responses_have_criteria_of_their_own_or_those_of_their_question(tmp_path, name):
    asked = [sft_row(1) | {"criteria": ["Names it."]}, sft_row(2)]
    sft = write(tmp_path / name, asked, name.endswith(".json"))
    rows = [{"idx": f"{i}-0", "query": QUERY, "answer": "x"} for i in (1, 2)]
    rows += [rows[0] | {"idx": "1-1", "criteria": ["Is short."]}, rows[0] | {"idx": "1-2", "query": "Another?"}]
    broken: list[str] = []
    source = write(tmp_path / "responses.jsonl", rows)
    found = list(published_files.responses(source, broken, sft, criteria=True))
    assert [(one.rollout, [c.text for c in one.sample.criteria]) for one in found] == [
        ("1-0", ["Names it."]),
        ("1-1", ["Is short."]),
    ]
    assert places(broken) == ["responses.jsonl:2", "responses.jsonl:4"] and "there are no criteria" in broken[0]
    assert len(list(published_files.responses(source, [], sft))) == 4


def test_a_models_name_may_stand_before_the_document_of_a_response(tmp_path):
    """As in the published pairs; only where the question is that document's too."""
    sft = write(tmp_path / "sft.jsonl", [sft_row(11), sft_row("b-2"), sft_row(5, query="Other?")])
    ids = ["llama-11-7", "glm-4-11-7", "11-7", "llama-b-2-0", "news-5-1", "llama-12-3"]
    rows = [{"idx": idx, "query": QUERY, "answer": "x"} for idx in ids]
    broken: list[str] = []
    found = list(published_files.responses(write(tmp_path / "responses.jsonl", rows), broken, sft))
    assert [(one.rollout, one.sample.id) for one in found] == [
        ("llama-11-7", "11"),
        ("glm-4-11-7", "11"),
        ("11-7", "11"),
        ("llama-b-2-0", "b-2"),
    ]
    assert found[0].sample.context == f"Document 11. {DOCUMENT}"
    assert places(broken) == ["responses.jsonl:5", "responses.jsonl:6"] and "document 'news-5'" in broken[0]


@pytest.mark.parametrize("name", ["sft.jsonl", "sft.json"])
def test_a_response_is_joined_with_no_document_where_there_are_two(tmp_path, name):
    both = [sft_row(7, context="One."), sft_row(7.0, context="Two."), sft_row(8)]
    sft, broken = write(tmp_path / name, both, name.endswith(".json")), []
    rows = [{"idx": idx, "query": QUERY, "answer": "x"} for idx in ("7-0", "8-0")]
    found = list(published_files.responses(write(tmp_path / "responses.jsonl", rows), broken, sft))
    assert [one.sample.id for one in found] == ["8"]
    assert "idx '7' stands for another document before" in broken[0] and "responses.jsonl:1" in broken[1]


def test_responses_with_their_own_context(tmp_path):
    rows = [sft_row("11-0", context="One."), sft_row("11-1", context="One."), sft_row("7", context="Two.")]
    rows += [sft_row("11-2", context="Three."), sft_row("11-3", context=5)]
    broken: list[str] = []
    found = list(published_files.responses(write(tmp_path / "r.jsonl", rows), broken))
    assert [(one.rollout, one.sample.id, one.sample.context) for one in found] == [
        ("11-0", "11", "One."),
        ("11-1", "11", "One."),
        ("7", "7", "Two."),
    ]
    assert places(broken) == ["r.jsonl:4", "r.jsonl:5"]
    assert "document '11' had another context before" in broken[0]


@settings(max_examples=40, deadline=None)
@given(document=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), sample=st.integers(0, 99))
def test_the_sample_number_stands_behind_the_last_dash(tmp_path_factory, document, sample):
    folder = tmp_path_factory.mktemp("dash")
    sft = write(folder / "sft.jsonl", [sft_row(document)])
    row = {"idx": f"{document}-{sample}", "query": "q", "answer": "a"}
    (found,) = published_files.responses(write(folder / "r.jsonl", [row]), [], sft)
    assert found.sample.id == document and found.sample.context == f"Document {document}. {DOCUMENT}"


def test_published_pairs_become_the_preference_file(tmp_path, tokenizer):
    long = " ".join(["Lena bought apples from Karl in Rome."] * 40)
    alike = pair_row(4, lose_response=DOCUMENT + EOS)
    inside = pair_row(5, win_response=f"Mara{EOS} sold.")
    rows = [pair_row(11), pair_row(2, context=long), {"idx": 3}, alike, inside, pair_row(6, lose_response="too long")]
    rows += [pair_row(7, query=QUERY * 40), pair_row(8, win_response=DOCUMENT + EOS), "{"]
    source, out = write(tmp_path / "pairs.jsonl", rows), tmp_path / "out" / "pairs.jsonl"
    asked = []

    def fits(prompt: str, answer: str) -> bool:
        asked.append((prompt, answer))
        return answer != "too long" + EOS

    report = published_files.from_published(source, out, tokenizer, 100, EOS, fits)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in written] == ["11", "2", "8"]
    prompt = f"<|user|>\n{DOCUMENT}\n\n{QUERY}<|end|>\n<|assistant|>\n"
    assert written[0] == {
        "id": "11",
        "prompt": prompt,
        "chosen": DOCUMENT + EOS,
        "rejected": "Otto sold copper." + EOS,
        "chosen_score": None,
        "rejected_score": None,
    }
    assert written[2]["chosen"] == DOCUMENT + EOS
    assert len(tokenizer(written[1]["prompt"])["input_ids"]) <= 100 and report.shortened == 1
    assert (prompt, DOCUMENT + EOS) in asked
    assert (report.prompts, report.prompts_kept, report.pairs, report.pairs_too_long) == (6, 3, 3, 1)
    assert report.left_out == {"unusable": 2, "too_long": 1}
    assert (report.answers, report.unwritable, report.chosen_score) == (12, 1, None)
    assert report.chosen_tokens == 9 and report.rejected_tokens == 5 and report.chosen_longer == 3
    assert places(report.broken) == ["pairs.jsonl:3", "pairs.jsonl:7", "pairs.jsonl:9"]
    assert "question and template alone" in report.broken[1]
    assert report == PairReport.read(out)
    assert "score" not in report.sentence() and not any("mean score" in what for what, _ in report.rows())


def test_prompts_are_those_that_a_run_would_train_on(tmp_path, tokenizer):
    row = pair_row(1, context=" ".join(["Lena bought apples from Karl in Rome."] * 40))
    source = write(tmp_path / "pairs.jsonl", [row])
    published_files.from_published(source, tmp_path / "out.jsonl", tokenizer, 120, EOS, None)
    prompt_files.prepare(source, tmp_path / "prompts.jsonl", tokenizer, 120, "train")
    ours, theirs = (json.loads((tmp_path / name).read_text()) for name in ("out.jsonl", "prompts.jsonl"))
    assert ours["prompt"] == theirs["input"]


def test_files_that_cannot_be_used_are_errors(tmp_path, tokenizer):
    source = write(tmp_path / "pairs.jsonl", [sft_row(1)])
    with pytest.raises(
        InputError, match=r"holds no row with .*; first problem: .*pairs.jsonl:1: win_response must be text"
    ):
        published_files.from_published(source, tmp_path / "out.jsonl", tokenizer, 100, EOS, None)
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(ConfigError, match="end-of-text"):
        published_files.from_published(source, tmp_path / "out.jsonl", tokenizer, 100, "", None)
    for name in ("none.jsonl", "none.json"):
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            list(published_files.pairs(tmp_path / name, []))
