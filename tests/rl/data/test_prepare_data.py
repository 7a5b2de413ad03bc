"""Prompt files: the document can be cut out of the prompt again, and nothing is cut but its middle."""

from __future__ import annotations

import json
import re

import pytest

from longreward.errors import ConfigError, InputError
from rl.data import prompt_files
from rl.data.prompts import Label


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level tokenizer made on the spot, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=alphabet[0], pad_token=alphabet[0])
    fast.chat_template = "<user>{{ messages[0]['content'] }}</user><assistant>"
    return fast


def prepare(tmp_path, tokenizer, rows, budget=100_000, split="train"):
    source, out = tmp_path / "in.jsonl", tmp_path / "out" / "prompts.jsonl"
    source.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    report = prompt_files.prepare(source, out, tokenizer, budget, split)
    return report, [json.loads(line) for line in out.read_text().splitlines()]


def spans(row) -> tuple[Label, str, str]:
    label = Label.from_json(row["label"])
    return label, row["input"][slice(*label.context)], row["input"][slice(*label.query)]


def test_the_label_finds_document_and_question_in_the_prompt(tmp_path, tokenizer):
    row = {"idx": 11, "context": "  玛拉 sold copper.\n\nThen </user> left. ", "query": "What? "}
    report, (prompt,) = prepare(tmp_path, tokenizer, [row], split="heldout")
    label, context, query = spans(prompt)
    assert (context, query) == (row["context"], row["query"])
    assert (label.id, label.split) == ("11", "heldout")
    assert prompt["input"] == f"<user>{row['context']}\n\n{row['query']}</user><assistant>"
    assert (report.kept, report.cut, report.broken) == (1, 0, [])
    assert report.longest == len(tokenizer(prompt["input"])["input_ids"])


def test_a_prompt_over_the_budget_is_cut_in_the_middle_of_the_context(tmp_path, tokenizer):
    context = "".join(f"Sentence {i}. " for i in range(200))
    report, (prompt,) = prepare(tmp_path, tokenizer, [{"id": "a", "context": context, "query": "Why?"}], budget=300)
    _, cut, query = spans(prompt)
    assert query == "Why?" and report.cut == 1
    head, tail = cut.split("\n")
    assert context.startswith(head) and context.endswith(tail)
    assert abs(len(head) - len(tail)) <= 2
    assert 290 <= len(tokenizer(prompt["input"])["input_ids"]) <= 300


def test_a_budget_that_the_question_alone_exceeds_is_an_error(tmp_path, tokenizer):
    with pytest.raises(ConfigError, match=r"row a: question and template alone take more than the 50 tokens"):
        prepare(tmp_path, tokenizer, [{"id": "a", "context": "x" * 100, "query": "y" * 100}], budget=50)


def test_unreadable_rows_are_reported_and_the_rest_goes_on(tmp_path, tokenizer):
    good = {"idx": 1, "context": "c", "query": "q"}
    report, prompts = prepare(tmp_path, tokenizer, [good, "{", {"idx": 2, "context": "c"}, good])
    assert len(prompts) == report.kept == 2
    assert [problem.split("/")[-1].split(" ")[0] for problem in report.broken] == ["in.jsonl:2:", "in.jsonl:3:"]


def test_documents_under_one_id_are_told_apart(tmp_path, tokenizer):
    """Two files put together, with ids from 0 in both; several questions about a document share its id as before."""
    rows = [(7, "Mara.", "Who?"), (8, "Otto.", "Who?"), ("7", "Karl.", "Who?"), (7.0, "Mara.", "Where?")]
    rows += [(None, "Lena.", "Who?"), ("5", "Ina.", "Who?")]
    made = [{"idx": idx, "context": context, "query": query} for idx, context, query in rows]
    report, prompts = prepare(tmp_path, tokenizer, made)
    labels = [spans(prompt)[0] for prompt in prompts]
    assert [label.id for label in labels] == ["7@1", "8", "7@3", "7@1", "5@5", "5@6"]
    assert labels[0].document == labels[3].document != labels[2].document
    sentence = "2 ids stand for several documents (idx 7 for those in lines 1 and 3, called 7@1 and 7@3)"
    assert sentence in report.sentence() and len(report.shared) == 2
    assert report == prompt_files.PromptReport.read(tmp_path / "out" / "prompts.jsonl")


def test_an_id_of_many_documents_is_told_in_one_line(tmp_path, tokenizer):
    made = [{"idx": "gov_report", "context": f"Document {n}.", "query": "?"} for n in range(300)]
    report, prompts = prepare(tmp_path, tokenizer, made)
    assert len({spans(prompt)[0].id for prompt in prompts}) == 300
    assert "lines 1, 2, 3, 4 and 296 more" in report.sentence() and len(report.sentence()) < 300


def test_documents_that_were_cut_alike_are_still_two(tmp_path, tokenizer):
    made = [{"idx": n, "context": "a" * 300 + middle + "b" * 300, "query": "?"} for n, middle in enumerate("xy")]
    report, prompts = prepare(tmp_path, tokenizer, made, budget=100)
    one, other = (spans(prompt) for prompt in prompts)
    assert report.cut == 2 and one[1] == other[1] and one[0].document != other[0].document


def test_a_file_without_a_usable_row_is_an_error(tmp_path, tokenizer):
    with pytest.raises(InputError, match="holds no row with context and query"):
        prepare(tmp_path, tokenizer, [{"idx": 1}])


def test_a_tokenizer_without_a_chat_template_is_an_error(tmp_path, tokenizer):
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        prepare(tmp_path, bare, [{"idx": 1, "context": "c", "query": "q"}])


@pytest.mark.parametrize(
    ("found", "references"),
    [
        ("Lisbon", ("Lisbon",)),
        (["Lisbon", "->", "", "in Lisbon"], ("Lisbon", "in Lisbon")),
        ("12", ("12",)),
        ("\u94dc", ("\u94dc",)),
    ],
)
def test_references_are_those_that_hold_a_word(found, references):
    assert prompt_files.references_of({"answers": found}, "answers") == references


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "there is no reference answer in 'answers'; add one, or set reward.reference.field"),
        ({"answers": None}, "there is no reference answer in 'answers'"),
        ({"answers": 3}, "'answers' is 3; it must be a reference answer or a list of them"),
        ({"answers": ["Lisbon", 3]}, "it must be a reference answer or a list of them"),
        ({"answers": {"text": "Lisbon"}}, "it must be a reference answer or a list of them"),
        ({"answers": []}, "'answers' is [], which holds no reference answer with a word in it"),
        ({"answers": ["->", " "]}, "which holds no reference answer with a word in it"),
        ({"answers": ""}, "'answers' is '', which holds no"),
    ],
)
def test_a_row_without_a_reference_says_so(row, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        prompt_files.references_of(row, "answers")


def test_rows_without_a_reference_are_neither_prepared_nor_measured(tmp_path, tokenizer):
    source, row = tmp_path / "in.jsonl", {"context": "c", "query": "q"}
    rows = [row | {"answers": ["Lisbon", "->"]}, row, row | {"answers": "..."}, {"answers": "Lisbon"}]
    source.write_text("".join(json.dumps(one) + "\n" for one in rows))
    out = tmp_path / "prompts.jsonl"
    report = prompt_files.prepare(source, out, tokenizer, 100, "train", reference="answers")
    assert report == prompt_files.prepare(source, None, tokenizer, 100, "train", reference="answers")
    assert (report.kept, len(report.broken)) == (1, 3)
    assert report.broken[2] == f"{source}:4: context must be text"
    (prompt,) = out.read_text().splitlines()
    assert Label.from_json(json.loads(prompt)["label"]).reference == ("Lisbon",)
    with pytest.raises(InputError, match="and a reference answer in 'gold'; first problem"):
        prompt_files.prepare(source, None, tokenizer, 100, "train", reference="gold")


@pytest.mark.parametrize(("end", "thinking"), [("<think>\n", True), ("<think></think>", False), ("", False)])
def test_a_template_may_begin_the_answers_thoughts(end, thinking):
    prompt, label = Label.of_text("7", "train", "The document.", "What?")
    assert label.sample(prompt + end, "Karl.").thinking is thinking


def test_criteria_travel_in_the_label_to_the_sample_that_is_scored(tmp_path, tokenizer):
    wanted = [{"text": "Names the buyer.", "weight": 2.0}, {"text": "Is rude.", "weight": -1.0}]
    given = [{"idx": i, "context": "Ada met Bob.", "query": "Who?", **more} for i, more in enumerate(
        [{"criteria": wanted}, {}, {"rubric": ["Is short."]}, {"criteria": [{"text": "Is rude.", "weight": -1}]}]
    )]  # fmt: skip
    source, out = tmp_path / "in.jsonl", tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    report = prompt_files.prepare(source, out, tokenizer, 1000, "train", criteria=True)
    assert (report.kept, len(report.broken)) == (2, 2)
    assert "in.jsonl:2: there are no criteria; add the field criteria" in report.broken[0]
    assert "in.jsonl:4: criteria: no criterion has a positive weight" in report.broken[1]
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    sample = Label.from_json(first["label"]).sample(first["input"], "Bob.")
    assert [criterion.model_dump() for criterion in sample.criteria] == wanted
    assert Label.from_json(second["label"]).criteria == ({"text": "Is short.", "weight": 1.0},)
    # Without a weight nobody looks at them.
    assert prompt_files.prepare(source, out, tokenizer, 1000, "train").kept == 4
    assert all(not Label.from_json(json.loads(line)["label"]).criteria for line in out.read_text().splitlines())


def test_a_file_without_criteria_is_refused(tmp_path, tokenizer):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"idx": 1, "context": "c", "query": "q"}))
    with pytest.raises(InputError, match="no row with context and query as text and criteria; first problem"):
        prompt_files.prepare(source, None, tokenizer, 1000, "train", criteria=True)
