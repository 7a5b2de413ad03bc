"""What scores were made with, as short hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from longreward.config import RewardConfig
from longreward.judge.requests import REQUESTS
from longreward.prompts import NAMES, Prompts, closings
from longreward.schema import Dimension


def fingerprint(config: RewardConfig) -> str:
    """A hash of all settings that can change a score, and of the prompts: runs that share it score alike."""
    # Nothing of what is not used: files of scores from before there were these settings can be continued.
    names = [name for name in NAMES if name != "criteria" or config.uses_criteria]
    prompts = (*names, *closings(config.judge.form))
    without = {"judge", "cache"}
    optional = {"gates": config.gates, "copying": config.copying.used, "truncated_loss": config.truncated_loss}
    without |= {name for name, used in optional.items() if not used}
    scoring = config.model_dump(mode="json", exclude=without)
    scoring |= {"judge": _judge(config), "retrieval": _retrieval(config)}
    return _hash(scoring | {"prompts": Prompts(config.prompts).version(prompts)})


def of_dimensions(config: RewardConfig) -> dict[Dimension, str]:
    """For each dimension that is needed, a hash of the settings that can change its score: not of weights, gates and
    losses."""
    chunking, found = config.chunking.model_dump(), dict[Dimension, str]()
    own: dict[str, dict[str, Any]] = {
        "faithfulness": {
            "faithfulness": config.faithfulness.model_dump(),
            "retrieval": _retrieval(config),
            "chunks": chunking["evidence_tokens"],
        },
        "completeness": {"chunks": chunking["extraction_tokens"]},
    }
    prompts = Prompts(config.prompts)
    for name in config.needed:
        kinds = [request.kind for request in REQUESTS if request.dimension == name]
        version = prompts.version((*kinds, *closings(config.judge.form)))
        common = {"judge": _judge(config), "prompts": version, "strip_thoughts": config.strip_thoughts}
        found[name] = _hash(common | own.get(name, {}))
    return found


def _judge(config: RewardConfig) -> dict[str, Any]:
    return (
        config.judge.model_dump(include={"kind", "model", "temperature", "extra_body"}) | config.judge.form.parameters
    )


def _retrieval(config: RewardConfig) -> dict[str, Any]:
    found, embedder = config.retrieval.model_dump(mode="json", exclude={"embeddings"}), config.retrieval.embedder
    return found | (embedder.model_dump(include={"model", "query_prefix", "document_prefix"}) if embedder else {})


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
