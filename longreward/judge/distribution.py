"""A judge's distribution over what its verdict could be, from the probabilities of the verdict's first token.

The mean over the tokens of a score was used first by G-Eval (arXiv 2303.16634, section 2); it beats the written score
in most comparisons of arXiv 2503.03064. Here each verdict is known by its first token: a digit, or a label whose first
letter no other label has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from longreward.errors import VerdictError
from longreward.judge.said import Odds

MOST_ALTERNATIVES = 20  # that OpenAI and vLLM give
_VERDICT = re.compile(rb'[{,]\s*"verdict"\s*:\s*"?(?=[^\s\["{])')
"""Up to the verdict. Inside a text of JSON a quote has a backslash before it, so no analysis can hold this."""
_AROUND = b' \t\r\n":,}'
_LEAST = 0.01
"""Of the probability that must be on possible verdicts. Less is noise: the judge was about to say something else."""
_MOST_LIKELY = 0.5
"""The same where no server holds the judge to these verdicts."""
_DAMAGED = (AttributeError, KeyError, TypeError, ValueError)
_NONE = "the reply has no logprobs, which judge.verdict=distribution needs"


class Token(NamedTuple):
    """A token of a reply."""

    text: bytes
    told: Any
    """Of a reply's token: the likeliest tokens at its place, itself among them, as the endpoint tells them. There are
    twenty for each token of an analysis, of which nobody reads any: they are looked into where a verdict stands. Of a
    prompt's token: its log-likelihood."""


def tokens_in(choice: Mapping[str, Any]) -> list[Token]:
    """The tokens of a chat completion's choice; none where it has no `logprobs`, or damaged ones."""
    try:
        return [Token(_bytes(token), token["top_logprobs"]) for token in choice["logprobs"]["content"]]
    except _DAMAGED:
        return []


def odds_of(tokens: Sequence[Token], labels: Mapping[str, float], count: int) -> tuple[Odds, ...]:
    """Of each of the `count` verdicts at the end of a JSON reply the probability of each label.

    VerdictError where the reply has no probabilities, or they are not about these labels.
    """
    if not tokens:
        raise VerdictError(_NONE, "")
    text = b"".join(token.text for token in tokens)
    places = [match.end() for match in _VERDICT.finditer(text)][-count:]
    if len(places) < count:
        raise VerdictError(
            f"the logprobs are not those of a reply with {count} verdicts", text.decode(errors="replace")
        )
    return tuple(_odds(_token_at(tokens, place), labels) for place in places)


def odds_of_word(tokens: Sequence[Token], labels: Mapping[str, float]) -> Odds:
    """The probability of each label where a reply begins with one of them. VerdictError as for `odds_of`."""
    first = next((token for token in tokens if token.text.strip()), None)
    if first is None:
        raise VerdictError("the reply has no logprobs, which way=yes_no needs", "")
    return _odds(first, labels, _MOST_LIKELY)


def mean_likelihood(tokens: Sequence[Token], text: str) -> float:
    """The mean log-likelihood of the tokens in which a prompt that ends in `text` spells it.

    VerdictError where the last tokens do not spell it.
    """
    wanted, found, spelled = text.strip().encode(), list[float](), b""
    for token in reversed(tokens):
        if len(spelled.strip()) >= len(wanted):
            break
        spelled = token.text + spelled
        found.append(token.told)
    # A character of several tokens is spelled by the last of them.
    for token in reversed(tokens[: len(tokens) - len(found)]):
        if token.text:
            break
        found.append(token.told)
    if not found or not spelled.strip().endswith(wanted):
        raise VerdictError("the prompt's last tokens are not those of the statement", spelled.decode(errors="replace"))
    mean = sum(found) / len(found)
    if not math.isfinite(mean):
        raise VerdictError(f"the mean log-likelihood is {mean}, which is no number", "")
    return mean


def mean_and_deviation(odds: Odds, labels: Mapping[str, float]) -> tuple[float, float]:
    """The expected value and its standard deviation. VerdictError for odds of other labels."""
    if not odds or not odds.keys() <= labels.keys():
        raise VerdictError(f"the probabilities are of {', '.join(odds) or 'nothing'}, not of {', '.join(labels)}", "")
    mean = sum(share * labels[label] for label, share in odds.items())
    variance = sum(share * (labels[label] - mean) ** 2 for label, share in odds.items())
    return mean, math.sqrt(max(0.0, variance))


def _odds(token: Token, labels: Mapping[str, float], least: float = _LEAST) -> Odds:
    found = dict.fromkeys(labels, 0.0)
    try:
        alternatives = [(_bytes(other), _probability(other)) for other in token.told]
    except _DAMAGED:
        raise VerdictError(_NONE, token.text.decode(errors="replace")) from None
    for text, probability in alternatives:
        said = text.strip(_AROUND).decode(errors="replace")
        meant = [label for label in labels if said and label.casefold().startswith(said.casefold())]
        if len(meant) == 1:
            found[meant[0]] += probability
    whole = sum(found.values())
    if whole < least:
        raise VerdictError(
            f"the judge gives only {whole:.1%} of its probability to {', '.join(labels)}: it would say something else",
            token.text.decode(errors="replace"),
        )
    return {label: round(share / whole, 6) for label, share in found.items() if share / whole >= 5e-7}


def _probability(token: Mapping[str, Any]) -> float:
    """ValueError where the endpoint tells none."""
    logprob = float(token["logprob"])
    if math.isnan(logprob):
        raise ValueError("NaN is no probability")
    return math.exp(min(0.0, logprob))  # a rounding error may lie above


def _token_at(tokens: Sequence[Token], place: int) -> Token:
    end = 0
    for token in tokens:
        end += len(token.text)
        if end > place:
            return token
    raise AssertionError("the place is in the text of the tokens")


def _bytes(token: Mapping[str, Any]) -> bytes:
    """Some servers give a token's bytes, which is exact where a character has several tokens."""
    given = token.get("bytes")
    return bytes(given) if isinstance(given, list) else str(token["token"]).encode()
