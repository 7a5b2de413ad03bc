"""The word-level tokenizer of the toy policy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from toy.answers import FILLERS
from toy.task import GOODS, PLACES, RECEIVERS, SUBJECTS, VERBS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END = "<|pad|>", "<|unk|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
FRAME_WORDS = "What did and do to in".split()


def words() -> list[str]:
    """Return the vocabulary in the order of its ids."""
    filler_words = re.findall(r"\w+", " ".join(FILLERS))
    listed = [PAD, UNKNOWN, END, *ROLES, "\n", ".", ",", "?", *FRAME_WORDS]
    return list(dict.fromkeys([*listed, *SUBJECTS, *RECEIVERS, *VERBS, *GOODS, *PLACES, *filler_words]))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer: one token for each word, each punctuation mark and each newline."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words())}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(" +"), "removed"), pre_tokenizers.Split(Regex(r"[.,?\n]"), "isolated")]
    )
    # Tokens hold no spaces, so that a word is the same token wherever it stands; the decoder puts the spaces back.
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(r"^(?=[^.,?\n])"), " "),
            decoders.Fuse(),
            decoders.Replace("\n ", "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, UNKNOWN, END, *ROLES)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        model_max_length=1024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
