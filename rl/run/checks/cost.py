"""What the judge of a run will cost, and whether it can keep up."""

from __future__ import annotations

from collections.abc import Iterator

from longreward.preflight import settings_checks
from longreward.preflight.estimate import Estimate, throughput
from longreward.preflight.finding import Finding
from longreward.text.amounts import duration, in_words
from rl.config import RunConfig
from rl.rollout.judge_wait import WORTH_TELLING
from rl.run import judge_estimate, run_directory
from rl.trainer.openrlhf_flags import Flags


def findings(config: RunConfig, flags: Flags, prompts: int, latency_s: float | None) -> list[Finding]:
    """Cost and pace of a run over `prompts` an episode; `latency_s` is what a judge's call took, where one was made."""
    episode = judge_estimate.of_episode(config, flags)
    found = [*_cost(config, flags, episode, prompts), *_pace(config, flags, episode, prompts, latency_s)]
    return [finding.within("reward.") for finding in found]


def _cost(config: RunConfig, flags: Flags, episode: Estimate, prompts: int) -> Iterator[Finding]:
    judge, steps = config.reward.judge, flags.steps(prompts)
    whole = judge_estimate.expected(config, flags, episode)
    heldout = " and the held-out scores" if config.data.heldout else ""
    sentence = f"{steps} steps{heldout} take about {in_words(whole, judge)} of the judge, retries left out"
    yield Finding.ok("cost", sentence)
    yield from settings_checks.spend(whole, judge)


def _pace(
    config: RunConfig, flags: Flags, episode: Estimate, prompts: int, latency_s: float | None
) -> Iterator[Finding]:
    """Whether the judge can keep up. How long generation takes nobody knows before; so the other way round."""
    if latency_s is None:
        yield Finding.note("pace", "no judge call was measured, so the pace of judging is unknown")
        return
    batch, samples = flags.prompts_per_step, flags.rollout_n_samples_per_prompt
    step = episode.scaled(min(batch, prompts) / prompts)
    found = throughput(step, config.reward.judge, latency_s)
    seconds = duration(found.seconds)
    yield Finding.ok(
        "pace",
        f"a step of {batch} prompts x {samples} answers asks {in_words(step, config.reward.judge)}: at "
        f"{latency_s:.2g} s a call at least {seconds} of judging, by {found.limit}. Answers are judged while others "
        f"are generated, so the judge holds nothing up where generating a step takes longer than {seconds}; the last "
        f"ones add {duration(2 * latency_s)}",
    )
    summary = run_directory.read_summary(config)
    if summary.get("judge_wait_share", 0) >= WORTH_TELLING:
        waited = f"{summary['judge_wait_share']:.0%} of its time, {summary['judge_wait_s']:.1f} s a step"
        sentence = f"in the run that is in {config.directory} the judge held the GPUs for {waited}"
        what = f"raise {found.binding}" if found.seconds > 2 * latency_s else "use a faster judge"
        yield Finding.note("pace", sentence, f"{what}, or ask less (docs/how-to/pay-less.md)")
    if found.seconds > config.reward.answer_timeout_s:
        sentence = f"answers that wait longer than reward.answer_timeout_s={config.reward.answer_timeout_s:g} are void"
        action = f"raise it over {seconds}, or the limit that decides"
        yield Finding.note("pace", sentence, action)
