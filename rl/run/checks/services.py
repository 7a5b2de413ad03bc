"""What a run needs from elsewhere: W&B's key, judge and reward server, which are asked something real."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from longreward.preflight import cache_check, judge_checks
from longreward.preflight.finding import Finding, Severity
from rl.config import RunConfig
from rl.reward_functions import remote
from rl.reward_functions.config import RewardSection

SHADOW, EVALUATION = "watch.shadow.", "evaluation."
"""Where the shadow judge and the judge of evaluations stand in the configuration."""
REPLY_S = 12
"""Seconds that a judge or a reward server has to answer: all checks of a run have to end within 20."""


def findings(config: RunConfig) -> list[Finding]:
    """Problems of W&B's key, of the judges that the run needs and does not start, and of the reward server."""
    found = keys(config)
    if config.needs_judge and not config.starts_judge:
        found += judge(config.reward, REPLY_S)
    if (grader := own_grader(config)) is not None:
        found += judge(grader, REPLY_S, EVALUATION)
    if (shadow := config.shadow_reward) is not None and shadow.asks_judge:
        found += judge(shadow, REPLY_S, SHADOW)
    return [*found, *(f for f in reward_server(config) if f.severity is Severity.PROBLEM)]


def own_grader(config: RunConfig) -> RewardSection | None:
    """A reward that asks short questions alone of `evaluation.judge`; None where that is not set or has nothing to
    do."""
    if config.evaluation.judge is None or not config.is_graded:
        return None
    return RewardSection(judge=config.evaluation.judge, weights={"helpfulness": 1.0})


def cache(config: RunConfig) -> list[Finding]:
    """Where the verdicts of the run's judge are kept, and what is there already."""
    found = cache_check.findings(config.reward, config.directory) if config.reward.asks_judge else ()
    return [finding.within("reward.") for finding in found]


def judge(reward: RewardSection, reply_s: float, section: str = "reward.") -> list[Finding]:
    """Problems of a judge that can be asked; each question has `reply_s` seconds. `section` is where it stands in the
    configuration."""
    problems = [problem.within(section) for problem in asyncio.run(judge_checks.unusable(reward, reply_s))]
    return [replace(problem, action=f"{problem.action}, or run rl/doctor.py") for problem in problems]


def keys(config: RunConfig) -> list[Finding]:
    """A problem where W&B would ask for its key on a terminal that the trainer does not have."""
    # On a cluster that runs already the trainer's environment is the node's: it cannot be looked at from here.
    has_key = os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file()
    if config.wandb.mode != "online" or not config.needs_own_cluster or has_key:
        return []
    sentence = "wandb.mode is online but WANDB_API_KEY is not set"
    return [Finding.problem("keys", sentence, "export it, or set wandb.mode=offline")]


def reward_server(config: RunConfig) -> list[Finding]:
    """What comes of one real answer that the reward server is asked to score; empty where the reward asks none."""
    if "remote" not in config.reward.parts:
        return []
    if why := asyncio.run(remote.problem(config.reward.remote, REPLY_S)):
        action = "check reward.remote.url, the server and reward.remote.token_env"
        return [Finding.problem("reward", f"the reward server gave no reward: {why}", action)]
    return [Finding.ok("reward", "the reward server scores an answer")]
