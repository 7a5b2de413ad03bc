"""What a toy policy does on the held-out prompts: copying, and the faults of its sampled answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from toy import answers, task

MAX_NEW_TOKENS = 64
SAMPLES = 8


def load(policy: Path) -> tuple[Any, Any]:
    """Load a policy and its tokenizer in bf16, as it is served."""
    if not (policy / "model.safetensors").is_file():
        command = f"python benchmarks/toy/make_policy.py --out {policy}"
        raise FileNotFoundError(f"no policy in {policy}: make one with `{command}`")
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.bfloat16).eval()
    return model, AutoTokenizer.from_pretrained(policy, use_fast=True)


def render(tokenizer: Any, content: str) -> str:
    """Return the text of one user turn up to where the assistant answers."""
    turn = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)


def answer(model: Any, tokenizer: Any, prompts: Iterable[task.ToyPrompt], samples: int = 0) -> list[tuple[str, int]]:
    """Return texts and token counts: one greedy answer of each prompt, or ``samples`` drawn at temperature 1."""
    texts = [render(tokenizer, prompt.message) for prompt in prompts]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": samples}
    with torch.inference_mode():
        out = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=MAX_NEW_TOKENS,
            **(how if samples else {"do_sample": False}),
        )
    tails = out[:, inputs["input_ids"].shape[1] :]
    lengths = (tails != tokenizer.pad_token_id).sum(dim=1).tolist()
    return list(zip(tokenizer.batch_decode(tails, skip_special_tokens=True), lengths, strict=True))


def measure(policy: Path) -> dict[str, Any]:
    """Measure a policy on every held-out prompt, greedily and with ``SAMPLES`` answers at temperature 1."""
    torch.manual_seed(0)
    model, tokenizer = load(policy)
    prompts = list(islice(task.prompts("heldout"), task.SPLITS["heldout"]))
    greedy: list[tuple[task.ToyPrompt, str]] = []
    drawn: list[tuple[task.ToyPrompt, str]] = []
    lengths: list[int] = []
    for start in range(0, len(prompts), 16):
        part = prompts[start : start + 16]
        greedy += zip(part, (text for text, _ in answer(model, tokenizer, part)), strict=True)
        for number, (text, length) in enumerate(answer(model, tokenizer, part, SAMPLES)):
            drawn.append((part[number // SAMPLES], text))
            lengths.append(length)
    faults = [answers.faults(prompt, text) for prompt, text in drawn]
    counts = Counter(name for found in faults for name in found or {"clean"})
    clean_in_group = [sum(not found for found in faults[i : i + SAMPLES]) for i in range(0, len(faults), SAMPLES)]
    return {
        "answers_sampled": len(drawn),
        "sampled_shares": {name: round(count / len(drawn), 3) for name, count in sorted(counts.items())},
        "sampled_asked_facts_exact": asked_exact(drawn),
        "sampled_said_facts_exact": said_exact(drawn),
        "sampled_tokens": {"min": min(lengths), "mean": round(sum(lengths) / len(lengths), 1), "max": max(lengths)},
        "prompts_with_clean_and_other_answers": round(
            sum(0 < clean < SAMPLES for clean in clean_in_group) / len(prompts), 3
        ),
        "greedy_clean": round(sum(text == prompt.answer for prompt, text in greedy) / len(greedy), 3),
        "greedy_asked_facts_exact": asked_exact(greedy),
        "greedy_said_facts_exact": said_exact(greedy),
    }


def asked_exact(answered: Sequence[tuple[task.ToyPrompt, str]]) -> float:
    """Return the share of the asked facts that the answers say word for word."""
    said = sum(answers.exact_facts(prompt, text) for prompt, text in answered)
    return round(said / sum(len(prompt.asked) for prompt, _ in answered), 3)


def said_exact(answered: Sequence[tuple[task.ToyPrompt, str]]) -> float:
    """Return the share of the fact sentences said that stand in their document word for word."""
    said = [(prompt, match[0]) for prompt, text in answered for match in answers.FACT.finditer(text)]
    return round(sum(sentence in prompt.context for prompt, sentence in said) / max(1, len(said)), 3)
