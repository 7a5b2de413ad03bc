"""Errors that end a run at no fault of the policy. `resume=true` continues it at its last checkpoint."""

from __future__ import annotations

from longreward.errors import LongRewardError, TooManyVoidsError


class RunFailedError(LongRewardError):
    """The run cannot go on as things are."""


class RunStoppedError(RunFailedError):
    """Raised in a rollout, it ends OpenRLHF's loop between two updates."""


class SpendCapReachedError(RunStoppedError):
    """`judge.spend` is used up and `reward.on_spend_cap` is stop."""


class JudgeDownError(RunStoppedError):
    """No endpoint of the judge has worked for `judge.max_outage_s`, or all of them refuse us."""


class JudgeDriftError(RunFailedError):
    """The judge scores the canaries differently than at the start, and `watch.on_drift` is stop."""


class PartDiedError(RunFailedError):
    """The process of an engine, a learner or another part of OpenRLHF is gone."""


class StalledError(RunFailedError):
    """Nothing has moved for `run.stall_s`; the message names what is being waited for."""


class ClusterLostError(RunFailedError):
    """Ray's head is gone, and every process of the run with it."""


RUN_FAILED = (RunFailedError, TooManyVoidsError)
"""For isinstance: the errors that a run ends with when its user has made no mistake."""


def last_line(error: BaseException) -> str:
    """What an error comes to: the end of its message (Ray's begin with a traceback), or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
