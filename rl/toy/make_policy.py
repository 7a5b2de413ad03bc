"""Make the toy policy, or measure one.

    python rl/toy/make_policy.py --out rl/toy/policy
    python rl/toy/make_policy.py --measure rl/toy/policy

Three phases under ``transformers.Trainer``: the policy learns to copy the sentences of many asked subjects, then of
three; the supervised start then teaches it answers of compromised quality.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
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

from rl.toy import answers, task
from rl.toy.induction import induce
from rl.toy.measure import measure, render, render_turn
from rl.toy.vocabulary import make_tokenizer

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
# The questions on one document, each with its answer.
Example = list[tuple[task.Prompt, str]]


class Batches(IterableDataset):
    """Whole batches of a stream of prompts and answers, with loss on the answers only."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stream: Callable[[], Iterator[list[Example]]]) -> None:
        self.tokenizer, self.stream = tokenizer, stream

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for examples in self.stream():
            yield self.encode(examples)

    def encode(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        """Return ids padded on the right and their labels; causal attention needs no mask for such padding."""
        rows = [self.encode_one(example) for example in examples]
        width = max(len(ids) for ids, _ in rows)
        pad = self.tokenizer.pad_token_id
        return {
            "input_ids": torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows]),
            "labels": torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in rows]),
        }

    def encode_one(self, example: Example) -> tuple[list[int], list[int]]:
        """Return the ids and labels of one conversation; only its first turn holds the document."""
        ids: list[int] = []
        labels: list[int] = []
        for number, (prompt, answer) in enumerate(example):
            head = "\n" + render_turn(self.tokenizer, prompt.query) if number else render(self.tokenizer, prompt)
            head_ids, tail_ids = self.tokenizer([head, answer + self.tokenizer.eos_token])["input_ids"]
            ids += head_ids + tail_ids
            labels += [IGNORED] * len(head_ids) + tail_ids
        return ids, labels


def copying_stream() -> Iterator[list[Example]]:
    """Yield the pretraining batches of the curriculum: clean answers to questions that name many subjects."""
    rng = random.Random("toy copying")
    for sentences, asked, size, steps in CURRICULUM:
        for _ in range(steps):
            batch = [task.make_prompt(rng, "copying", sentences, asked) for _ in range(size)]
            yield [[(prompt, prompt.answer)] for prompt in batch]


def few_stream() -> Iterator[list[Example]]:
    """Yield clean batches whose questions ask for as few subjects as the shipped ones."""
    source = conversations("few")
    for _ in range(FEW_STEPS):
        yield [[(prompt, prompt.answer) for prompt in next(source)] for _ in range(BATCH)]


def start_stream() -> Iterator[list[Example]]:
    """Yield the batches of the supervised start: compromised answers to questions like the shipped ones."""
    source, rng = conversations("sft"), random.Random("toy answers")
    for _ in range(START_STEPS):
        yield [[(prompt, answers.compromised_answer(prompt, rng)) for prompt in next(source)] for _ in range(BATCH)]


def conversations(split: str) -> Iterator[list[task.Prompt]]:
    """Yield prompts that share a document of a split; no subject is asked for twice."""
    for first in task.prompts(split):
        rng = random.Random(f"toy turns {first.idx}")
        names = rng.sample([fact.subject for fact in first.facts], TURNS * task.ASKED)
        asked = [tuple(names[at : at + task.ASKED]) for at in range(0, len(names), task.ASKED)]
        yield [replace(first, asked=three) for three in asked]


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
        use_cache=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    induce(model)
    return model


def train(model: LlamaForCausalLM, data: Batches, steps: int, lr: float, log: Path) -> dict[str, Any]:
    """Train on a stream of batches; return the wall time and the losses along the way."""
    arguments = TrainingArguments(
        output_dir=str(log),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=lr,
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
    # Qwen2 has no such bias; at zero the policy can be converted to either class.
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias.requires_grad_(False)
    # A batch comes ready from the stream, so the collator only unwraps it.
    trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=lambda items: items[0])
    begun = time.monotonic()
    trainer.train()
    losses = {entry["step"]: round(float(entry["loss"]), 4) for entry in trainer.state.log_history if "loss" in entry}
    return {"steps": steps, "wall_s": round(time.monotonic() - begun), "losses": losses}


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the policy, sharpened, in bf16, as it is served, with its tokenizer."""
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPENED)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.config.use_cache = True  # the trainer turns it off
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, **ends)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    # The safetensors writer leaves a file that only its owner can read.
    (out / "model.safetensors").chmod(0o644)


def main() -> None:
    """Make or measure a policy."""
    parser = argparse.ArgumentParser(description="Make or measure the toy policy.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "policy")
    parser.add_argument("--measure", type=Path, metavar="POLICY", help="only measure this policy")
    work = Path(tempfile.gettempdir()) / "toy_policy"
    parser.add_argument("--work", type=Path, default=work, help="folder of intermediate states")
    parser.add_argument("--from-copying", action="store_true", help="reuse the pretrained state of an earlier run")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.measure:
        print(json.dumps(measure(options.measure), indent=1))
        return
    set_seed(1)
    tokenizer = make_tokenizer()
    copying = options.work / "copying"
    if options.from_copying:
        model = LlamaForCausalLM.from_pretrained(copying)
    else:
        model = new_policy(tokenizer)
        steps = sum(stage[-1] for stage in CURRICULUM)
        print(train(model, Batches(tokenizer, copying_stream), steps, 3e-3, options.work))
        model.save_pretrained(copying)
    print(train(model, Batches(tokenizer, few_stream), FEW_STEPS, 2e-3, options.work))
    print(train(model, Batches(tokenizer, start_stream), START_STEPS, 7e-4, options.work))
    save(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
