"""Initial weights that start two layers near the copying of a document.

Copying needs two kinds of heads: one that looks a fixed number of tokens back, one that finds the place where the
tokens before were the same. Found by gradient alone from random weights they take most of the training on a CPU, so
``induce`` writes rough versions of both; everything stays trainable.
"""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM

# Squared strength of the fastest rotary frequencies in the heads that look back.
LOOK_STRENGTH = (50.0, 50.0, 40.0, 20.0, 10.0, 5.0)
# Share of the residual stream that the look-back heads write, against embeddings of norm about 1.
WRITTEN = 0.1
# Strength of a match, and the first rotary frequency slow enough to ignore how far away the match is.
MATCH, SLOW_FROM = 1.8, 6


@torch.no_grad()
def induce(model: LlamaForCausalLM) -> None:
    """Start layer 0 as a look back by 1, 2, ... tokens and layer 1 as a match on what was looked at.

    Head h of layer 0 brings the token h + 1 places back. Head h of layer 1 attends to where the token h + 1 places
    back is the one that stands h places back now, and copies what it finds there. Heads x their size must be the width,
    with as many key heads as heads.
    """
    config, layers = model.config, model.model.layers
    heads, size, hidden = config.num_attention_heads, config.head_dim, config.hidden_size
    for layer in layers:
        layer.mlp.down_proj.weight.mul_(WRITTEN)
    frequencies = model.model.rotary_emb.inv_freq
    look, match = layers[0].self_attn, layers[1].self_attn

    # With constant queries and keys a rotary score depends on the distance only.
    strength = torch.zeros_like(frequencies)
    strength[: len(LOOK_STRENGTH)] = torch.tensor(LOOK_STRENGTH).sqrt()
    turns = [frequencies * (head + 1) for head in range(heads)]
    look.q_proj.bias.copy_(torch.cat([torch.cat([strength * t.cos(), -strength * t.sin()]) for t in turns]))
    look.k_proj.bias.copy_(torch.cat([strength, torch.zeros_like(strength)]).repeat(heads))
    look.q_proj.weight.mul_(0.1)
    look.k_proj.weight.mul_(0.1)
    read = torch.nn.init.orthogonal_(torch.empty(size, hidden))
    write = torch.nn.init.orthogonal_(torch.empty(hidden, hidden))
    look.v_proj.weight.copy_(read.repeat(heads, 1))
    look.o_proj.weight.copy_(WRITTEN * write)

    slow = torch.zeros(size // 2)
    slow[SLOW_FROM:] = MATCH
    gain = slow.repeat(2)[:, None]
    looked = [write[:, head * size : (head + 1) * size].T for head in range(heads)]
    match.q_proj.weight.copy_(torch.cat([gain * rows for rows in [read, *looked[:-1]]]))
    match.k_proj.weight.copy_(torch.cat([gain * rows for rows in looked]))
    match.o_proj.weight.copy_(match.v_proj.weight.T)
