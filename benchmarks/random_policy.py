"""A policy of Qwen2.5-0.5B-Instruct's shape with random weights and the toy's tokenizer, to measure memory and time.

    python benchmarks/random_policy.py /tmp/qwen05b
    python rl/train.py --config configs/grpo_qwen25_05b_cpu.yaml openrlhf.actor.model_name_or_path=/tmp/qwen05b \\
        data.train=rl/toy/data/train.jsonl data.heldout=null reward.judge.kind=offline ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

TOY = Path(__file__).parents[1] / "rl/toy/policy"


def main() -> None:
    folder = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(TOY)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_theta=1e6,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    # Random weights would nearly always sample tokens that the toy's tokenizer does not have.
    with torch.no_grad():
        model.model.embed_tokens.weight[len(tokenizer) :] = 0
        model.model.norm.weight.fill_(1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
