"""Does an answer do what its criteria ask for? Its statements are the evidence for what a criterion says."""

from __future__ import annotations

from longreward.judge.offline.statements import is_statement
from longreward.judge.offline.support import verify
from longreward.judge.offline.words import sentences
from longreward.judge.requests import JudgeCriteria, VerifyStatement

_LITTLE = 0.3  # less in common is chance


def judge(request: JudgeCriteria) -> list[float]:
    """0..1 for each criterion. To repeat the question meets none, and what else an answer says changes nothing."""
    question = frozenset(word for part in sentences(request.query) for word in part.words)
    said = [s.text for s in sentences(request.answer) if is_statement(s.text) and s.words - question]
    found = [verify(VerifyStatement(request.language, text, said)) for text in request.criteria]
    return [much if much >= _LITTLE else 0.0 for much in found]
