"""Scored answers -> preference pairs, in the format that OpenRLHF's and TRL's DPO read: prompt, chosen, rejected.

Of each prompt's answers the best is chosen and the worst rejected, or the data's own is chosen and a sampled one
rejected. The stores are read once without being held; the texts that make a pair are read again where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from longreward.config import Section
from longreward.errors import ConfigError
from longreward.files import jsonlines
from longreward.schema import Dimension
from rl.data.prompts import Label, document_hash
from rl.offline import pair_answers
from rl.offline.pair_answers import DIGITS, Candidate, Candidates, PromptKey, SupervisedAnswer, Weights, Written, crc
from rl.offline.pair_report import PairReport

Fits = Callable[[str, str], bool]
"""Whether a prompt and an answer, its end-of-text token included, are within the trainer's length."""


Supervised = Mapping[PromptKey, SupervisedAnswer]
Pair = tuple[Candidate | SupervisedAnswer, Candidate]
"""Chosen and rejected."""
_OF_SCORES = ("min_answers", "min_margin", "weights", "per_prompt")
"""Settings that say nothing where scores do not matter."""


class PairSection(Section):
    min_answers: int = Field(5, ge=2)
    """Number of scored answers that a prompt must have. Void answers do not count (paper: 5)."""
    by: Literal["total", "per_dimension", "contrast"] = "total"
    """What the answers to a prompt are ranked by. `total`: their scores. `per_dimension`: each dimension is normalised
    over the prompt's answers before they are weighed and added up, as with reward.advantage, by `weights` or else those
    of the reward. `contrast`: by nothing; the `answer` of the prompt's row in data.train is chosen, and one sampled
    answer is rejected, scored or not: the first by its rollout's id that can be used."""
    min_margin: float = Field(0.0, ge=0, lt=10)
    """The chosen answer's score must exceed the rejected one's by more than this (0..10). With `by: per_dimension` it
    is a number of standard deviations of the prompt's answers."""
    weights: dict[Dimension, float] | None = None
    """Pair by the weighted mean of these dimensions; a dimension that is not named has the weight 0. Null: by the
    stored total."""
    max_length_ratio: float | None = Field(None, ge=1)
    """Against a length bias: pair the two answers that differ most in score among those where the longer has at most
    this many times the tokens of the shorter. Null: the best and the worst, however long. With `by: contrast` the first
    sampled answer for which that holds is rejected."""
    per_prompt: int = Field(1, ge=1)
    """The most pairs per prompt: the best against the worst, the second best against the second worst, and so on. No
    answer is used twice."""
    skip_truncated: bool = False
    """Do not pair answers that were cut at max_new_tokens. False: such an answer may be the rejected one. It is never
    the chosen one, because that would teach the policy to end in the middle of a sentence."""

    @field_validator("weights")
    @classmethod
    def _weights_make_a_mean(cls, value: dict[Dimension, float] | None) -> dict[Dimension, float] | None:
        if value is None:
            return None
        if any(not 0 <= weight < float("inf") for weight in value.values()) or not sum(value.values()) > 0:
            raise ValueError(f"weights must be finite, not negative, and at least one above 0; got {value}")
        return {name: weight for name, weight in value.items() if weight > 0}

    @model_validator(mode="after")
    def _contrast_asks_no_score(self) -> PairSection:
        for name in _OF_SCORES if self.by == "contrast" else ():
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is {value}, and by=contrast looks at no score; leave {name} out")
        return self


def make_pairs(
    stores: Sequence[Path],
    prompts: Path,
    out: Path,
    config: PairSection,
    *,
    eos: str,
    lead: str = "",
    fits: Fits | None,
    dimension_weights: Weights | None = None,
    supervised: Supervised | None = None,
) -> PairReport:
    """Write the pairs of `stores` (folders with answers-*.jsonl) to `out`, and the report beside it.

    `prompts` is the prepared prompt file, `eos` the tokenizer's end-of-text token, `lead` the white space that a policy
    writes before its answers, `dimension_weights` those of the reward, `supervised` the data's own answers where the
    pairs are a contrast. What is written depends only on the answers and the order of the prompts; it may be nothing at
    all, and the report tells why. InputError where a file cannot be read, ConfigError for weights of dimensions that no
    answer was scored for.
    """
    report = PairReport()
    parts: Weights = {}
    if config.by == "per_dimension":
        parts = config.weights or dimension_weights or {}
        if not parts:
            raise ConfigError("pair.by is per_dimension and the reward has no weights; set pair.weights")
    written = partial(pair_answers.ended, eos=require(eos), lead=lead)
    groups = pair_answers.read(stores, config.weights, parts, written, report)
    weights = list(parts.values())
    if config.by == "contrast":
        report.void = 0

    def pairs_of(key: PromptKey, answers: Iterable[Candidate]) -> tuple[Sequence[Pair], str]:
        if config.by == "contrast":
            return contrast((supervised or {}).get(key), answers, config)
        return choose(answers, config, weights)

    return write(out, _pairs(groups, prompts, pairs_of, written, fits, report), report)


def write(out: Path, rows: Iterable[dict[str, Any]], report: PairReport) -> PairReport:
    """`rows` are made while they are written, and enter themselves into `report`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    PairReport.path(out).unlink(missing_ok=True)  # so that a report is always that of the pairs beside it
    jsonlines.rewrite(out, rows)
    report.write(out)
    return report


def row(
    identity: str, prompt: str, texts: Sequence[str], scores: tuple[float | None, float | None] = (None, None)
) -> dict[str, Any]:
    """A line of the preference format; `texts` and `scores` are the chosen answer's, then the rejected one's."""
    content = {"id": identity, "prompt": prompt, "chosen": texts[0], "rejected": texts[1]}
    return content | {"chosen_score": scores[0], "rejected_score": scores[1]}


def require(eos: str) -> str:
    """ConfigError without an end-of-text token."""
    if not eos:
        raise ConfigError(f"the end-of-text token is {eos!r}; set eos_token in the model's tokenizer_config.json")
    return eos


def choose(
    answers: Iterable[Candidate], config: PairSection, weights: Sequence[float] = ()
) -> tuple[list[tuple[Candidate, Candidate]], str]:
    """(chosen, rejected) of one prompt's answers, those furthest apart first; or none, and the reason in REASONS.

    `weights` are those of the answers' parts, where they are ranked by them."""
    scored = pair_answers.ranked(answers, weights)
    if len(scored) < config.min_answers:
        return [], "too_few_answers"
    # The rollout's id settles ties, as neither the time nor the file in which an answer stands may matter.
    scored.sort(key=lambda one: (-one[0], one[1].rollout, one[1].check))
    if round(scored[0][0] - scored[-1][0], DIGITS) <= config.min_margin:
        return [], "too_close"
    usable = [one for one in scored if one[1].writable and not (config.skip_truncated and one[1].truncated)]
    left = usable
    pairs: list[tuple[Candidate, Candidate]] = []
    while len(pairs) < config.per_prompt and (
        pair := _furthest_apart(left, config.min_margin, config.max_length_ratio)
    ):
        pairs.append(pair)
        left = [one for one in left if one[1] is not pair[0] and one[1] is not pair[1]]
    if pairs:
        return pairs, ""
    return [], "length" if _furthest_apart(usable, config.min_margin, None) else "unusable"


def contrast(
    supervised: SupervisedAnswer | None, answers: Iterable[Candidate], config: PairSection
) -> tuple[list[tuple[SupervisedAnswer, Candidate]], str]:
    """As `choose`: the data's own answer to a prompt and a sampled one, whatever their scores."""
    if supervised is None:
        return [], "no_supervised"
    usable = [
        one
        for one in sorted(answers, key=lambda one: (one.rollout, one.check))
        if one.writable and one.check != crc(supervised.answer) and not (config.skip_truncated and one.truncated)
    ]
    if not usable or not supervised.answer:
        return [], "unusable"
    close = (one for one in usable if _close(supervised, one, config.max_length_ratio))
    rejected = next(close, None)
    return ([(supervised, rejected)], "") if rejected else ([], "length")


def _close(one: Candidate | SupervisedAnswer, other: Candidate, ratio: float | None) -> bool:
    """Whether the longer has at most `ratio` times the tokens of the shorter."""
    short, long = sorted((one.tokens, other.tokens))
    return ratio is None or long <= ratio * short


def _furthest_apart(
    ranked: Sequence[tuple[float, Candidate]], margin: float, ratio: float | None
) -> tuple[Candidate, Candidate] | None:
    """The pair with the largest margin above `margin` among those that may be made; of equals, the one with the best
    chosen answer, then with the worst rejected one."""
    found = None
    for high, chosen in ranked:
        if round(high - ranked[-1][0], DIGITS) <= margin:
            break
        if chosen.truncated:
            continue
        for low, rejected in reversed(ranked):
            difference = round(high - low, DIGITS)
            if difference <= margin:
                break
            if chosen.check != rejected.check and _close(chosen, rejected, ratio):
                found, margin = (chosen, rejected), difference
                break
    return found


def _pairs(
    groups: Candidates,
    prompts: Path,
    pairs_of: Callable[[PromptKey, Iterable[Candidate]], tuple[Sequence[Pair], str]],
    written: Written,
    fits: Fits | None,
    report: PairReport,
) -> Iterator[dict[str, Any]]:
    seen = set()
    shared = _shared(prompts) if any(not document for _, _, document in groups) else set()
    for number, prepared in jsonlines.read(prompts, report.broken):
        try:
            prompt, label = prepared["input"], Label.from_json(prepared["label"])
            key = (label.id, crc(prompt[slice(*label.query)]), _document(prompt, label))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            report.broken.append(f"{prompts}:{number}: its label is not that of a prepared prompt ({error!r})")
            continue
        if key in seen:
            report.broken.append(f"{prompts}:{number}: id {label.id!r} stands there before with the same question")
            continue
        seen.add(key)
        answers = groups.pop(key, {})
        if key[:2] not in shared:
            answers = groups.pop((*key[:2], ""), {}) | answers
        pairs, why = pairs_of(key, answers.values()) if answers else ([], "no_answers")
        kept = 0
        for chosen, rejected in pairs:
            texts = chosen.text(written), rejected.text(written)
            if fits is not None and not all(fits(prompt, text) for text in texts):
                report.pairs_too_long += 1
                why = "too_long"
                continue
            kept += 1
            high, low = chosen.score, rejected.score
            scores = None if high is None or low is None else (high, low)
            report.enter((chosen.tokens, rejected.tokens), scores)
            yield row(label.id, prompt, texts, scores or (None, None))
        report.settle(kept, why)
    for _ in groups:
        report.settle(0, "no_prompt")


def _document(prompt: str, label: Label) -> str:
    return label.document or document_hash(prompt[slice(*label.context)])


def _shared(prompts: Path) -> set[tuple[str, int]]:
    """Ids and questions that stand for several documents: whose an answer of before the document was kept is, nobody
    knows."""
    documents: dict[tuple[str, int], set[str]] = {}
    for _, prepared in jsonlines.read(prompts, []):
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            prompt, label = prepared["input"], Label.from_json(prepared["label"])
            key = label.id, crc(prompt[slice(*label.query)])
            documents.setdefault(key, set()).add(_document(prompt, label))
    return {key for key, found in documents.items() if len(found) > 1}
