"""What became of a store's answers when pairs were made of them: what was kept, and why the rest was not."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl.data.prompt_files import FileReport

REASONS = {
    "no_answers": "no answer in the store",
    "no_supervised": "no answer in data.train for pair.by=contrast to choose",
    "too_few_answers": "fewer scored answers than pair.min_answers",
    "too_close": "best and worst no further apart than pair.min_margin",
    "length": "only with lengths further apart than pair.max_length_ratio",
    "unusable": "only with an answer that was cut, holds the end-of-text mark or is the other's equal",
    "too_long": "prompt and answer are longer than the trainer takes",
    "no_prompt": "answers whose prompt or document is not in the prompt file",
}
"""Why a prompt has no pair; each such prompt has one reason, the first that applies."""


@dataclass
class PairReport(FileReport):
    """What was kept and why not."""

    prompts: int = 0
    """Those of the prompt file, and those that only the store knows: `prompts_kept` + the sum of `left_out`."""
    prompts_kept: int = 0
    """With a pair at least."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Prompts without a pair, by the keys of REASONS."""
    pairs: int = 0
    pairs_too_long: int = 0
    """Pairs that the trainer would have cut or dropped; their prompt may have others."""
    answers: int = 0
    """Answers of the split, each rollout once."""
    void: int = 0
    """Answers without a score; they enter no pair. 0 where pairs need no score."""
    cut: int = 0
    """Answers cut at max_new_tokens; they are never chosen."""
    unwritable: int = 0
    """Answers that hold the end-of-text mark inside; they enter no pair."""
    twice: int = 0
    """Records of a rollout that has one already."""
    shortened: int = 0
    """Prompts whose context was cut in the middle, where prompts were rendered for the pairs."""
    chosen_score: float | None = None
    """Mean, 0..10; None without scores."""
    rejected_score: float | None = None
    chosen_tokens: float = 0.0
    """Mean length."""
    rejected_tokens: float = 0.0
    chosen_longer: int = 0
    """Pairs whose chosen answer is the longer: far from half of them, and the length is learned too."""

    def enter(self, tokens: tuple[int, int], scores: tuple[float, float] | None = None) -> None:
        """A pair that is kept: length and score of the chosen and of the rejected answer."""
        self.pairs += 1
        self.chosen_tokens += (tokens[0] - self.chosen_tokens) / self.pairs
        self.rejected_tokens += (tokens[1] - self.rejected_tokens) / self.pairs
        self.chosen_longer += tokens[0] > tokens[1]
        if scores is not None:
            high, low = self.chosen_score or 0.0, self.rejected_score or 0.0
            self.chosen_score = high + (scores[0] - high) / self.pairs
            self.rejected_score = low + (scores[1] - low) / self.pairs

    def settle(self, kept: int, why: str) -> None:
        """A prompt is done, with so many pairs; `why` counts where there are none."""
        self.prompts += 1
        if kept:
            self.prompts_kept += 1
        else:
            assert why in REASONS, why
            self.left_out[why] = self.left_out.get(why, 0) + 1

    def sentence(self) -> str:
        void = f", {self.void:,} void" if self.void else ""
        parts = [f"{self.pairs:,} pairs from {self.prompts_kept:,} of {self.prompts:,} prompts"]
        parts[0] += f" ({self.answers:,} answers{void})"
        if self.pairs:
            scores = "" if self.chosen_score is None else f"score {self.chosen_score:.2f} against "
            scores += "" if self.rejected_score is None else f"{self.rejected_score:.2f}, "
            parts.append(f"{scores}{self.chosen_tokens:,.0f} against {self.rejected_tokens:,.0f} tokens")
        parts += [f"{self.left_out[why]:,} prompts: {words}" for why, words in REASONS.items() if why in self.left_out]
        if self.broken:
            parts.append(f"{len(self.broken):,} unreadable lines skipped ({self.broken[0]})")
        return "; ".join(parts)

    def rows(self) -> list[tuple[str, str]]:
        """(what, how many), in the order in which a person asks."""
        counts = {
            "prompts": self.prompts,
            "- with a pair": self.prompts_kept,
            **{f"- {words}": self.left_out.get(why, 0) for why, words in REASONS.items()},
            "prompts cut in the middle of the context": self.shortened,
            "answers": self.answers,
            "- void, in no pair": self.void,
            "- cut at max_new_tokens, never chosen": self.cut,
            "- with the end-of-text mark inside, in no pair": self.unwritable,
            "- scored twice, counted once": self.twice,
            "unreadable lines": len(self.broken),
            "pairs": self.pairs,
            "- left out: longer than the trainer takes": self.pairs_too_long,
        }
        found = [(what, f"{count:,}") for what, count in counts.items()]
        if self.chosen_score is not None and self.rejected_score is not None:
            found.append(("- mean score, chosen / rejected", f"{self.chosen_score:.2f} / {self.rejected_score:.2f}"))
        if self.pairs:
            tokens = f"{self.chosen_tokens:,.0f} / {self.rejected_tokens:,.0f}"
            found.append(("- mean tokens, chosen / rejected", tokens))
            found.append(("- chosen answer is the longer", f"{self.chosen_longer / self.pairs:.0%}"))
        return found
