"""Commands that serve their judge themselves: SmolLM2-135M-Instruct, which follows no format, on vLLM's real server."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.e2e

ANSWERS = Path(__file__).parents[3] / "docs" / "examples" / "answers.jsonl"
LONG_S = 1400  # no machine is so slow


@pytest.fixture
def longreward(launcher, smollm2) -> Callable[..., str]:
    """Runs a command of longreward with that judge to its good end; gives its screen. Nothing is left of the judge."""
    judge = {
        "kind": "vllm",
        "model": str(smollm2),
        "args": {"dtype": "float32", "max-model-len": 4096},
        "verdict": "constrained",
        "max_tokens": 512,
        "extra_body": {"repetition_penalty": 1.1},
        **dict.fromkeys(("start_timeout_s", "attempt_timeout_s", "call_timeout_s"), LONG_S),
    }
    config = launcher.directory / "reward.yaml"
    config.write_text(yaml.safe_dump({"judge": judge, "chunking": {"extraction_tokens": 256}}))

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "longreward", words[0], "--config", str(config), *words[1:]]
        code, screen = launcher.run(*command)
        assert code == 0, screen
        (log,) = re.findall(rf"vLLM loads the judge {re.escape(str(smollm2))} \(log: (\S+)\)", screen)
        launcher.wait_until_gone()
        assert not Path(log).parent.exists()
        return screen

    return run


def test_doctor_asks_every_kind_of_question_and_all_are_read(longreward):
    screen = longreward("doctor")
    assert "answers all 6 kinds of question readably" in screen
    assert re.search(r"this check took \d+ calls", screen)
    assert "no problems" in screen


def test_score_scores_or_says_why_not(longreward, tmp_path):
    out = tmp_path / "scored.jsonl"
    longreward("score", str(ANSWERS), "weights={helpfulness: 1, faithfulness: 1}", "--out", str(out))
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["idx"] for row in scored] == [json.loads(line)["idx"] for line in ANSWERS.read_text().splitlines()]
    for row in scored:
        assert set(row["status"]) == {"helpfulness", "faithfulness"}
        # This judge now and then repeats itself without end: then there is a reason, and no score.
        for name, status in row["status"].items():
            score = row["scores"][name]
            assert 0 <= score <= 10 if status == "ok" else score is None, row
        assert (row["total"] is None) == (set(row["status"].values()) != {"ok"}), row
        assert row["usage"]["calls"] >= 2
    assert any(row["total"] is not None for row in scored)
