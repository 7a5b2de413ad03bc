"""Make the toy policy, or measure one.

    python benchmarks/toy/make_policy.py --out rl/toy/policy
    python benchmarks/toy/make_policy.py --measure rl/toy/policy

Three phases under `transformers.Trainer`: the policy learns to copy the sentences of many asked subjects, then of
three; the supervised start then teaches it answers of compromised quality.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy import task
from toy.answers import compromised_answer
from toy.induction import induce
from toy.measure import measure, render
from toy.vocabulary import make_tokenizer

# (sentences, asked, prompts of a batch, steps): dense short documents first, since copying is found there soonest.
CURRICULUM = (
    (12, 12, 16, 120),
    (44, 16, 10, 250),
)
# Several questions on one document: the document is most of the cost of a batch, the answers are what teaches.
TURNS, BATCH = 6, 12
FEW_STEPS, START_STEPS = 120, 160
# Trained this briefly, the policy slips more often than its training answers do: 12% of its answers were clean, too few
# for a demonstration. Scaling the last norm samples it at temperature 1 as if at 1 / SHARPENED.
SHARPENED = 1.2
IGNORED = -100
Conversation = list[tuple[task.ToyPrompt, str]]
"""Questions on one document, each with its answer."""


def copying_batches() -> Iterator[list[Conversation]]:
    """Yield the pretraining batches of the curriculum: clean answers to questions that name many subjects."""
    rng = random.Random("toy copying")
    for sentences, asked, size, steps in CURRICULUM:
        for _ in range(steps):
            batch = [task.make_prompt(rng, "copying", sentences, asked) for _ in range(size)]
            yield [[(prompt, prompt.answer)] for prompt in batch]


def short_batches(split: str, steps: int, answer: Callable[[task.ToyPrompt], str]) -> Iterator[list[Conversation]]:
    """Yield batches whose questions ask for as few subjects as the shipped ones, answered by ``answer``.

    The questions of a conversation share a document of the split; no subject is asked for twice.
    """
    documents = task.prompts(split)
    for _ in range(steps):
        batch = []
        for _ in range(BATCH):
            first = next(documents)
            names = random.Random(f"toy turns {first.idx}").sample([f.subject for f in first.facts], TURNS * task.ASKED)
            asked = [tuple(names[at : at + task.ASKED]) for at in range(0, len(names), task.ASKED)]
            batch.append([(prompt, answer(prompt)) for prompt in (replace(first, asked=three) for three in asked)])
        yield batch


def encode(tokenizer: PreTrainedTokenizerFast, batch: list[Conversation]) -> dict[str, torch.Tensor]:
    """Return ids padded on the right, and their labels, which leave only the answers to the loss.

    Causal attention needs no mask for such padding.
    """
    ids: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for conversation in batch:
        row: list[int] = []
        wanted: list[int] = []
        for number, (prompt, answer) in enumerate(conversation):
            # Only the first turn holds the document.
            head = "\n" + render(tokenizer, prompt.query) if number else render(tokenizer, prompt.message)
            head_ids, answer_ids = tokenizer([head, answer + tokenizer.eos_token])["input_ids"]
            row += head_ids + answer_ids
            wanted += [IGNORED] * len(head_ids) + answer_ids
        ids.append(torch.tensor(row))
        labels.append(torch.tensor(wanted))
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }


def new_policy(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained policy; the head size of 32 is one that vLLM supports.

    It is a Llama with biases, which computes what a Qwen2 does: ``AutoTokenizer`` of transformers 5.15 silently puts
    ``Qwen2Tokenizer`` in place of the saved tokenizer of any model of type qwen2.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        initializer_range=0.08,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        attention_bias=True,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        # Slow rotations: a match must hold over the whole document, some 400 tokens.
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    induce(model)
    return model


class Batches(IterableDataset):
    """Encoded batches, one a step."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, batches: Iterable[list[Conversation]]) -> None:
        self.tokenizer, self.batches = tokenizer, batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return (encode(self.tokenizer, batch) for batch in self.batches)


def train(model: LlamaForCausalLM, batches: Batches, steps: int, learning_rate: float) -> None:
    """Train on a phase's batches; print the losses along the way."""
    # Qwen2 has no such bias; at zero the policy can be converted to either class.
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias.requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=1,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=30,
            adam_beta2=0.98,
            weight_decay=0.01,
            logging_steps=25,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        # A batch comes ready, so the collator only unwraps it.
        Trainer(model=model, args=arguments, train_dataset=batches, data_collator=lambda items: items[0]).train()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the policy, sharpened, in bf16, as it is served, with its tokenizer."""
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPENED)
    model.config.use_cache = True  # the trainer turns it off
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, **ends)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    # The safetensors writer leaves a file that only its owner can read.
    (out / "model.safetensors").chmod(0o644)


def main() -> None:
    """Make or measure a policy."""
    parser = argparse.ArgumentParser(description="Make or measure the toy policy.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FOLDER", help="make a policy and write it here")
    what.add_argument("--measure", type=Path, metavar="POLICY", help="measure this policy")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.measure:
        print(json.dumps(measure(options.measure), indent=1))
        return
    set_seed(1)
    tokenizer = make_tokenizer()
    model = new_policy(tokenizer)
    rng = random.Random("toy answers")
    clean = short_batches("few", FEW_STEPS, lambda prompt: prompt.answer)
    compromised = short_batches("sft", START_STEPS, lambda prompt: compromised_answer(prompt, rng))
    train(model, Batches(tokenizer, copying_batches()), sum(steps for *_, steps in CURRICULUM), 3e-3)
    train(model, Batches(tokenizer, clean), FEW_STEPS, 2e-3)
    train(model, Batches(tokenizer, compromised), START_STEPS, 7e-4)
    save(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
