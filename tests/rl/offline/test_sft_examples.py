"""Supervised data: which tokens OpenRLHF's own data set trains on, conversations beside documents, a base model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from longreward.errors import ConfigError, InputError
from longreward.files import jsonlines
from rl import sft
from rl.config import load_as
from rl.data import chat_template
from rl.data.prompt_files import load_tokenizer
from rl.offline import sft_examples
from rl.offline.config import SftConfig
from rl.offline.planning import plan_sft
from rl.run import planning
from rl.trainer import cpu_backend, openrlhf_parser
from rl.trainer.learner_programs import SFT

ROOT = Path(__file__).parents[3]
POLICY = ROOT / "rl" / "toy" / "policy"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}<|head|>\n\n{{ m['content'] | trim }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|head|>\n\n{% endif %}"
)
# No mark ends a turn, and the line break before an answer is the model's own to write.
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Empty thoughts stand before the last answer alone, as in Qwen3.
THINKING = CHATML.replace(
    "\n{{ m['content'] | trim }}",
    "\n{% if loop.last and m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] | trim }}",
)
TEMPLATES = {
    "ChatML": (CHATML, "<|im_end|>", "<|im_end|>", ""),
    "Llama 3": (LLAMA, "<|eot|>", "<|eot|>", ""),
    "GLM-4": (GLM, "<|endoftext|>", "<|user|>", "\n"),
    "with thoughts": (THINKING, "<|im_end|>", "<|im_end|>", ""),
}
"""Template, end of text, what ends an earlier answer, and what the model writes before an answer."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|head|>", "<|eot|>", "[gMASK]", "<sop>")
SPECIAL += ("<|user|>", "<|assistant|>", "<|system|>")
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": " I am Ada.\n"},
    {"role": "user", "content": "And who am I?\n\nTell me."},
    {"role": "assistant", "content": "\n\nYou are you, I think."},
]
SAID = ["I am Ada.", "You are you, I think."]
LONG = {"idx": 7, "context": "A long document. " * 9, "query": "What is it?", "answer": "\nLong."}


def model(
    folder: Path, template: str | None, eos: str, words: str = r"\s*[\r\n]+|\s+(?!\S)|\s+| ?\w+| ?[^\s\w]+"
) -> Path:
    """The toy's weights with a tokenizer of bytes that keeps line breaks together, as Llama 3's, GLM-4's and Qwen's."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = ["\n\n\nI am a long, long document and you think so. " * 3]
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=list(SPECIAL))
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=eos, pad_token="<|endoftext|>", bos_token="<sop>"
    )
    tokenizer.chat_template = template
    shutil.copytree(POLICY, folder, ignore=shutil.ignore_patterns("*.jinja", "tokenizer*"))
    tokenizer.save_pretrained(folder)
    return folder


def configured(folder: Path, policy: Path, rows: list[Any], *overrides: str) -> SftConfig:
    write(folder / "in.jsonl", rows)
    given = [f"run.dir={folder}/runs", f"data.train={folder}/in.jsonl", "run.device=cpu"]
    given += [f"openrlhf.actor.model_name_or_path={policy}", *overrides]
    return load_as(SftConfig, ROOT / "configs" / "sft_cpu.yaml", given)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def prepared(config: SftConfig) -> tuple[str, list[str]]:
    """What is said of the rows, and the text of each example."""
    said = sft_examples.prepare(config, plan_sft(config).flags)
    examples = [row["pieces"] for _, row in jsonlines.read(config.examples)]
    return said, ["".join(piece["content"] for piece in pieces) for pieces in examples]


@pytest.fixture(scope="module")
def learned() -> Callable[[SftConfig], list[tuple[list[str], str]]]:
    """The runs of tokens that each example of a run is trained on, and all its text, by OpenRLHF's own data set."""
    pytest.MonkeyPatch().setenv(cpu_backend.DEVICE_VARIABLE, "cpu")
    cpu_backend.apply()
    import datasets
    from openrlhf.datasets import SFTDataset
    from openrlhf.utils.config import hierarchize

    def read(config: SftConfig) -> list[tuple[list[str], str]]:
        learners = plan_sft(config).learners
        assert learners is not None
        words = openrlhf_parser.parser(SFT.module).parse_args(learners.argv)
        args = hierarchize(words)
        # As get_tokenizer does: of the model that training begins with.
        tokenizer = load_tokenizer(args.model.model_name_or_path)
        rows = datasets.Dataset.from_json(str(config.examples), cache_dir=str(config.directory / "cache"))
        strategy = SimpleNamespace(args=args)
        made = SFTDataset(rows, tokenizer, args.data.max_len, strategy, num_processors=1, multiturn=args.data.multiturn)
        found = []
        for number in range(len(made)):
            tokens, _, mask = (each[0].tolist() for each in made[number])
            runs: list[list[int]] = [[]]
            for target, counts in zip(tokens[1:], mask[:-1], strict=True):
                runs[-1].append(target) if counts else runs.append([])
            found.append(([tokenizer.decode(run) for run in runs if run], tokenizer.decode(tokens)))
        return found

    return read


@pytest.mark.parametrize("name", TEMPLATES)
def test_loss_is_on_every_answer_with_its_end_and_on_nothing_else(tmp_path, learned, name):
    template, eos, end, lead = TEMPLATES[name]
    policy = model(tmp_path / "model", template, eos)
    config = configured(tmp_path, policy, [{"messages": CHAT}, LONG])
    said, texts = prepared(config)
    assert said.startswith("train: 2 prompts") and "1 of them conversations" in said
    (conversation, whole), (document, _) = learned(config)
    assert conversation == [f"{lead}{SAID[0]}{end}", f"{lead}{SAID[1]}{eos}"]
    assert document == [f"{lead}Long.{eos}"]
    assert whole == texts[0], "what is trained on is what was rendered"
    if name != "with thoughts":
        printed = chat_template.rendered(load_tokenizer(str(policy)), CHAT, prompt=False)
        if name != "GLM-4":  # its template strips nothing, and we do
            assert printed.rstrip("\n").removesuffix(eos) + eos == texts[0]


def test_a_base_model_gets_a_template_and_ends_where_it_ends_a_turn(tmp_path, learned):
    policy = model(tmp_path / "base", None, "<|endoftext|>")
    template = tmp_path / "template.jinja"
    template.write_text(LLAMA)
    config = configured(tmp_path, policy, [{"messages": CHAT}, LONG], f"data.chat_template={template}")
    planning.refuse(plan_sft(config).findings)
    prepared(config)
    (conversation, _), (document, text) = learned(config)
    assert conversation == [f"{said}<|eot|>" for said in SAID] and document == ["Long.<|eot|>"]
    assert text.startswith("<sop><|start|>user<|head|>\n\nA long document.")
    trained = config.directory / "model"
    trained.mkdir(parents=True)
    (trained / "generation_config.json").write_text('{"eos_token_id": 0, "do_sample": true}')
    sft_examples.keep_tokenizer(config, plan_sft(config).flags)
    kept = load_tokenizer(str(trained))
    assert kept.eos_token == "<|eot|>"
    assert chat_template.around_turn(kept) == (
        "<sop><|start|>user<|head|>\n\n",
        "<|eot|><|start|>assistant<|head|>\n\n",
    )
    generation = json.loads((trained / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [0, kept.eos_token_id], "do_sample": True}


def test_generation_ends_where_a_template_without_marks_begins_the_next_turn(tmp_path):
    config = configured(tmp_path, model(tmp_path / "glm", GLM, "<|endoftext|>"), [LONG])
    (config.directory / "model").mkdir(parents=True)
    sft_examples.keep_tokenizer(config, plan_sft(config).flags)
    generation = json.loads((config.directory / "model" / "generation_config.json").read_text())
    tokenizer = load_tokenizer(str(tmp_path / "glm"))
    assert generation["eos_token_id"] == tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>"])


def test_a_model_may_be_named_for_its_template(tmp_path):
    base, chat = (model(tmp_path / name, template, "<|endoftext|>") for name, template in (("b", None), ("c", CHATML)))
    config = configured(tmp_path, base, [LONG], f"data.chat_template={chat}")
    _, (text,) = prepared(config)
    assert text.startswith("<|im_start|>user\nA long document") and text.endswith("Long.<|im_end|>")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "has no chat template; use an instruction model, or train a start from it with rl/sft.py and data.chat"),
        ("nowhere/at/all", "data.chat_template nowhere/at/all does not exist; give a Jinja file, or a model whose"),
        ("BASE", "has none; name a model that has one"),
        ("<|turn|>{{ messages[0]['content'] }}{{ messages[1]['content'] }}", "writes <|turn|>, which is no token of"),
        ("{{ raise_exception('No, thanks') }}", "the chat template refuses it: No, thanks"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_sentence(tmp_path, capfd, given, sentence):
    base = model(tmp_path / "base", None, "<|endoftext|>")
    if given is not None and "{" in given:
        (tmp_path / "template.jinja").write_text(given)
        given = str(tmp_path / "template.jinja")
    words = ["--config", str(ROOT / "configs/sft_cpu.yaml"), f"run.dir={tmp_path}/runs", "--dry-run", "run.device=cpu"]
    words += [f"openrlhf.actor.model_name_or_path={base}"]
    words += [f"data.chat_template={base if given == 'BASE' else given}"] * (given is not None)
    assert sft.main(words) == 2
    error = capfd.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_sharegpts_form_and_rows_that_cannot_be_used(tmp_path):
    def turns(*said: tuple[str, Any]) -> dict[str, Any]:
        return {"id": "x", "conversations": [{"from": name, "value": text} for name, text in said]}

    question, answer = ("human", "Hello ?"), ("gpt", "Hello .")
    good = [
        turns(question, answer),
        turns(("gpt", "cut off before"), question, answer, ("human", "Thanks .")),
        {"messages": [{"role": "user", "content": "Hi ?", "id": 3}, {"role": "assistant", "content": "Hello ."}]},
    ]
    bad = [
        (turns(question), "no turn of the user, or none of the assistant"),
        (turns(answer, question), "no turn of the assistant follows"),
        (turns(question, ("gpt", " ")), "a turn of the assistant is empty"),
        (turns(question, ("tool", "x"), answer), "a turn is of 'tool'; known are system, user, human,"),
        (turns(question, ("gpt", None)), "each chat message of conversations must have role and content"),
        ({"messages": []}, "messages must be text or chat messages"),
        (turns(question, ("gpt", "Hello <|end|> .")), "holds <|end|> inside"),
        (LONG | {"answer": " "}, "answer of 7 is empty"),
        ("[1]", ""),
    ]
    said, texts = prepared(configured(tmp_path, POLICY, [*good, *(row for row, _ in bad)]))
    asked = "<|user|>\n{}<|end|>\n<|assistant|>\nHello .<|end|>"
    assert texts == [asked.format(text) for text in ("Hello ?", "Hello ?", "Hi ?")]
    assert "9 unreadable rows skipped" in said
    for place, (row, why) in enumerate(bad):
        folder = tmp_path / str(place)
        folder.mkdir()
        with pytest.raises(InputError, match=r"holds no row .* fits; first problem: .*in.jsonl:1: ") as caught:
            prepared(configured(folder, POLICY, [row]))
        assert why in str(caught.value)


def test_a_template_for_one_turn_alone_takes_no_conversations(tmp_path):
    one = "<|user|>\n{{ messages[0]['content'] }}{% if messages | length > 1 %}{{ raise_exception('One') }}{% endif %}"
    policy = model(tmp_path / "model", one + "<|assistant|>", "<|endoftext|>")
    said, texts = prepared(configured(tmp_path, policy, [LONG, {"messages": CHAT}]))
    assert "1 prompts" in said and "in.jsonl:2: the chat template refuses it: One" in said
    assert texts[0].endswith("<|assistant|>Long.<|endoftext|>")


def test_rows_whose_tokens_openrlhf_would_take_for_others_are_left_out(tmp_path):
    # As GPT-2's tokenizer does: of two line breaks the last is a token of its own where a word follows.
    policy = model(tmp_path / "model", LLAMA, "<|eot|>", words=r"\s+(?!\S)|\s+| ?\w+| ?[^\s\w]+")
    with pytest.raises(InputError, match=r"other tokens of an answer behind its prompt .* train on the wrong ones"):
        prepared(configured(tmp_path, policy, [LONG]))


def test_a_second_file_is_mixed_in_evenly_and_always_alike(tmp_path):
    chats = [{"messages": [{"role": "user", "content": f"chat {n}"}, CHAT[4]]} for n in range(90)]
    second = write(tmp_path / "chats.jsonl", chats)
    rows = [LONG | {"query": f"question {n}"} for n in range(30)]
    config = configured(tmp_path, POLICY, rows, f"data.conversations={second}")
    _, texts = prepared(config)
    first = config.examples.read_bytes()
    assert len(texts) == 120
    for kind, count in (("question ", 30), ("chat ", 90)):
        numbers = [int(text.split(kind)[1].split("<")[0]) for text in texts if kind in text]
        assert numbers == list(range(count)), "each in its order: the trainer shuffles them"
    assert 5 <= sum("question " in text for text in texts[:40]) <= 15
    prepared(config)
    assert config.examples.read_bytes() == first


def test_the_second_file_is_looked_at_before_anything_starts(tmp_path):
    for there, sentence in (
        (False, "does not exist; give a file with"),
        (True, "holds no row with context, query and"),
    ):
        path = tmp_path / "chats.jsonl"
        if there:
            write(path, [{"messages": "none"}])
        with pytest.raises(ConfigError, match=sentence) as caught:
            planning.refuse(plan_sft(configured(tmp_path, POLICY, [LONG], f"data.conversations={path}")).findings)
        assert "data.conversations" in str(caught.value)


def test_conversations_that_are_the_training_file_itself_are_refused(tmp_path):
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "in.jsonl")
    for name in ("in", "link"):
        config = configured(tmp_path, POLICY, [LONG], f"data.conversations={tmp_path}/{name}.jsonl")
        with pytest.raises(ConfigError, match=f"{name}.jsonl is the file of data.train; leave data.conversations out"):
            planning.refuse(plan_sft(config).findings)


def test_conversations_that_do_not_fit_are_counted(tmp_path):
    long = {"messages": [{"role": "user", "content": "word " * 700}, CHAT[4]]}
    said, texts = prepared(configured(tmp_path, POLICY, [LONG, long]))
    assert len(texts) == 1 and "1 left out that do not fit into openrlhf.data.max_len" in said


def test_the_tokenizer_of_a_checkpoint_is_not_taken_for_the_models(tmp_path):
    policy = Path(shutil.copytree(POLICY, tmp_path / "model"))
    (policy / "chat_template.jinja").write_text(SFT.fixed["data.tokenizer_chat_template"])
    with pytest.raises(ConfigError, match="is of the midst of a training; take that of the model it began with"):
        chat_template.around_turn(load_tokenizer(str(policy)))
