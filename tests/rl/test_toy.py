"""The toy task of benchmarks/toy, and its shipped prompts and policy in rl/toy."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import pytest
from toy import answers, make_data, task

TOY = Path(__file__).parents[2] / "rl" / "toy"
POLICY = TOY / "policy"


def some_prompts(count: int) -> list[task.ToyPrompt]:
    return list(islice(task.prompts("test"), count))


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(POLICY, use_fast=True)


@pytest.mark.parametrize("split", task.SPLITS)
def test_shipped_prompts_are_what_the_maker_writes(split: str) -> None:
    shipped = (TOY / "data" / f"{split}.jsonl").read_text(encoding="utf-8")
    assert shipped == make_data.file_text(f"{split}.jsonl")
    rows = [json.loads(line) for line in shipped.splitlines()]
    assert len(rows) == task.SPLITS[split]
    assert all(list(row) == ["idx", "context", "query", "answer"] for row in rows)
    assert all(isinstance(value, str) and value for row in rows for value in row.values())
    assert len({row["idx"] for row in rows}) == len(rows)


@pytest.mark.parametrize("name", make_data.FILES)
def test_every_shipped_file_is_what_the_maker_writes(name: str) -> None:
    assert (TOY / "data" / name).read_text(encoding="utf-8") == make_data.file_text(name)


def test_no_document_is_shared_between_train_heldout_and_supervised_start() -> None:
    train, heldout = (
        {json.loads(line)["context"] for line in (TOY / "data" / f"{split}.jsonl").open(encoding="utf-8")}
        for split in ("train", "heldout")
    )
    start = {prompt.context for prompt in islice(task.prompts("sft"), 2000)}
    assert not train & heldout
    assert not (train | heldout) & start


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'dev.jsonl'.*train.jsonl, heldout.jsonl"):
        make_data.file_text("dev.jsonl")


def test_a_question_cannot_ask_for_more_than_the_document_says() -> None:
    with pytest.raises(ValueError, match="ask for 3 of 2"):
        task.make_prompt(random.Random(0), "x", sentences=2)


def test_a_subject_names_one_sentence_and_the_answer_keeps_the_order_asked() -> None:
    for prompt in some_prompts(50):
        sentences = [f"{part}." for part in prompt.context.rstrip(".").split(". ")]
        assert task.SENTENCES[0] <= len(sentences) <= task.SENTENCES[1]
        for name in prompt.asked:
            assert sum(name in sentence.split() for sentence in sentences) == 1
        said = [next(s for s in sentences if s.startswith(name + " ")) for name in prompt.asked]
        assert prompt.answer == " ".join(said)
        assert prompt.query == "What did {}, {} and {} do?".format(*prompt.asked)


@pytest.mark.parametrize("mode", answers.MODES)
def test_a_mode_does_what_it_says_and_nothing_else(mode: str) -> None:
    for number, prompt in enumerate(some_prompts(100)):
        made = answers.compromised_answer(prompt, random.Random(number), frozenset({mode}))
        assert answers.faults(prompt, made) == {mode}, made


def test_an_answer_without_modes_is_the_reference() -> None:
    for prompt in some_prompts(20):
        assert answers.compromised_answer(prompt, random.Random(1), frozenset()) == prompt.answer
        assert answers.faults(prompt, prompt.answer) == frozenset()


def test_one_prompt_gets_answers_of_different_modes_and_the_same_seed_the_same_answer() -> None:
    prompt = some_prompts(1)[0]
    made = [answers.compromised_answer(prompt, random.Random(seed)) for seed in range(200)]
    assert made == [answers.compromised_answer(prompt, random.Random(seed)) for seed in range(200)]
    found = [answers.faults(prompt, text) for text in made]
    assert set().union(*found) == set(answers.MODES)
    assert 0.2 < sum(not faults for faults in found) / len(found) < 0.5


def test_an_unknown_mode_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'rude'.*invented"):
        answers.compromised_answer(some_prompts(1)[0], random.Random(0), frozenset({"rude"}))


def test_other_faults_of_an_answer_are_named() -> None:
    prompt = some_prompts(1)[0]
    first, second, third = (fact.sentence for fact in prompt.asked_facts)
    assert answers.faults(prompt, f"{second} {first} {third}") == {"reordered"}
    assert answers.faults(prompt, "") == {"missing"}
    assert "broken" in answers.faults(prompt, f"{first} {second} {third[:-6]}")
    assert answers.faults(prompt, f"{first} {first} {second} {third}") == {"padded"}
    assert answers.exact_facts(prompt, f"{third} {first}") == 2


def test_tokenizer_round_trips_and_its_offsets_cut_words(tokenizer) -> None:
    for number, prompt in enumerate(some_prompts(50)):
        made = answers.compromised_answer(prompt, random.Random(number))
        for text in (prompt.context, prompt.query, made, prompt.message):
            encoded = tokenizer(text, return_offsets_mapping=True)
            assert tokenizer.decode(encoded["input_ids"], skip_special_tokens=True) == text
            assert tokenizer.unk_token_id not in encoded["input_ids"]
            tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
            assert [text[start:end] for start, end in encoded["offset_mapping"]] == tokens


def test_chat_template_marks_the_turns(tokenizer) -> None:
    turn = [{"role": "user", "content": "What did Mara do?"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>\nWhat did Mara do?<|end|>\n<|assistant|>\n"
    assert tokenizer.bos_token is None
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token) == ("<|end|>", "<|pad|>", "<|unk|>")
    assert tokenizer.decode(tokenizer("Mara sold zeppelins.")["input_ids"]) == "Mara sold <|unk|>."


def test_shipped_policy_is_small_and_complete() -> None:
    names = {path.name for path in POLICY.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert sum(path.stat().st_size for path in TOY.rglob("*")) <= 5_000_000
    config = json.loads((POLICY / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["hidden_size"] // config["num_attention_heads"] in (32, 64)


def test_a_missing_policy_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    from toy.measure import load

    with pytest.raises(FileNotFoundError, match=r"make_policy\.py --out"):
        load(tmp_path)


def test_shipped_policy_copies_most_facts_and_is_compromised() -> None:
    torch = pytest.importorskip("torch")
    from toy import measure

    torch.manual_seed(0)
    model, tokenizer = measure.load(POLICY)
    prompts = list(islice(task.prompts("heldout"), 4))
    greedy = [text for text, _ in measure.answer(model, tokenizer, prompts)]
    assert measure.said_exact(list(zip(prompts, greedy, strict=True))) >= 0.7
    repeated = [prompt for prompt in prompts for _ in range(8)]
    drawn = [text for text, _ in measure.answer(model, tokenizer, prompts, samples=8)]
    found = [answers.faults(prompt, text) for prompt, text in zip(repeated, drawn, strict=True)]
    assert 0.05 < sum(not faults for faults in found) / len(found) < 0.6
    # Contradictions are too rare to show in every small sample.
    assert set().union(*found) >= set(answers.MODES) - {"contradicting"}
