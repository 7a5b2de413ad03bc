"""Servers that cut a prompt to their context and answer as if nothing had happened (Ollama, LM Studio).

What shows it is the number of tokens that they report. Such a reply is about a text that the judge did not read.
"""

from __future__ import annotations

from longreward.errors import JudgeError, Reason
from longreward.schema import Usage
from longreward.text.tokens import fewest_tokens_in

_SURELY_CUT = 0.9  # of the fewest tokens that the prompt can have
_ORDINARY = 5  # characters to a token, at most: English has 4.3. Such prompts need no closer look, which takes time
_SAME = 0.02  # cut prompts of one endpoint have this much the same length
_SMALLEST_CONTEXT = 256  # of any server: a report below it is no count of a cut prompt, but of nothing at all


class SilentCuts:
    """What is known of one endpoint: to how many tokens it cuts, once it did."""

    def __init__(self) -> None:
        self._cut_to = 0

    def check(self, prompt: str, usage: Usage, text: str) -> None:
        """JudgeError (`context_length`) where the endpoint read much less than the prompt, or just as much as when it
        did before. `usage` and `text` are the reply's. An endpoint that reports no tokens tells nothing."""
        # Some report the tokens in their prefix cache apart.
        read = usage.prompt_tokens + usage.cached_tokens
        if read < _SMALLEST_CONTEXT:
            return
        if abs(read - self._cut_to) <= _SAME * self._cut_to:
            why = "again, as of a prompt that it has cut"
        elif len(prompt) <= _ORDINARY * read or read >= _SURELY_CUT * (fewest := fewest_tokens_in(prompt)):
            return
        else:
            self._cut_to = read
            why = f"of a prompt of at least {fewest:,.0f}"
        raise JudgeError(
            Reason.CONTEXT_LENGTH,
            detail=f"the endpoint read {read:,} tokens {why}: it cuts what is longer than its context without a word",
            usage=usage,
            text=text,
        )
