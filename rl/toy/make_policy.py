"""Make the toy policy, or measure one.

    python rl/toy/make_policy.py --out rl/toy/policy
    python rl/toy/make_policy.py --measure rl/toy/policy

Three phases: the policy learns to copy the sentences of many asked subjects, then of three; the supervised start then
teaches it answers of compromised quality.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
    set_seed,
)

from rl.toy import task
from rl.toy.answers import compromised_answer
from rl.toy.induction import induce
from rl.toy.measure import measure, render
from rl.toy.vocabulary import make_tokenizer

# (sentences, asked, prompts of a batch, steps): dense short documents first, since copying is found there soonest.
CURRICULUM = (
    (12, 12, 16, 120),
    (44, 16, 10, 250),
)
# Several questions on one document: the document is most of the cost of a batch, the answers are what teaches.
TURNS, BATCH = 6, 12
FEW_STEPS, START_STEPS = 120, 160
WARMUP_STEPS, LOGGED_STEPS = 30, 25
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
        use_cache=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    induce(model)
    return model


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    batches: Iterable[list[Conversation]],
    steps: int,
    learning_rate: float,
) -> None:
    """Train on a phase's batches, one a step; print the mean loss of an answer token every 25 steps."""
    # Qwen2 has no such bias; at zero the policy can be converted to either class.
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, steps)
    losses: list[float] = []
    for batch in batches:
        loss = model(**encode(tokenizer, batch), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if not len(losses) % LOGGED_STEPS:
            print(f"step {len(losses)} of {steps}: loss {sum(losses[-LOGGED_STEPS:]) / LOGGED_STEPS:.4f}", flush=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the policy, sharpened, in bf16, as it is served, with its tokenizer."""
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPENED)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
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
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.measure:
        print(json.dumps(measure(options.measure), indent=1))
        return
    set_seed(1)
    tokenizer = make_tokenizer()
    model = new_policy(tokenizer)
    train(model, tokenizer, copying_batches(), sum(steps for *_, steps in CURRICULUM), 3e-3)
    train(model, tokenizer, short_batches("few", FEW_STEPS, lambda prompt: prompt.answer), FEW_STEPS, 2e-3)
    rng = random.Random("toy answers")
    compromised = short_batches("sft", START_STEPS, lambda prompt: compromised_answer(prompt, rng))
    train(model, tokenizer, compromised, START_STEPS, 7e-4)
    save(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
