"""What scores were made with, as short hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from longreward.config import PAPER_WEIGHTS, CopyingConfig, ModelConfig, RewardConfig
from longreward.judge.requests import REQUESTS, RewardRequest, VerifyStatements
from longreward.judge.requests.writing import WriteQuestions
from longreward.prompts import NAMES, WRITING_NAMES, Prompts, closings
from longreward.schema import Dimension
from longreward.tokenizer import content_hash


def fingerprint(config: RewardConfig) -> str:
    """A hash of all settings that can change a score, and of the prompts: runs that share it score alike. ConfigError
    where `chunking.tokenizer` cannot be read."""
    asked = _asked(config)
    prompts = (*_names(asked), *_of_forms(config, asked))
    # No key for what is not used: files of scores from before there were these settings can be continued.
    without = {"judge", "cache"}
    optional = {"gates": config.gates, "copying": config.copying.used, "truncated_loss": config.truncated_loss}
    optional |= {"completeness": config.completeness.used, "helpfulness": config.ranks}
    without |= {name for name, used in optional.items() if not used}
    scoring = config.model_dump(mode="json", exclude=without)
    scoring |= {"judge": _judge(config, asked), "retrieval": _retrieval(config)}
    scoring |= {"faithfulness": config.faithfulness.used, "chunking": _chunking(config)}
    return _hash(scoring | {"prompts": Prompts(config.prompts).version(prompts)})


def of_questions(config: RewardConfig) -> str:
    """A hash of what the judge is asked, whatever the weights, gates and losses: the `fingerprint` of the same settings
    with the default ones, and a weight for criteria where they count."""
    weights = PAPER_WEIGHTS | ({"criteria": 1.0} if config.uses_criteria else {})
    rules = {"weights": weights, "gates": {}, "truncated_loss": 0.0, "copying": CopyingConfig()}
    return fingerprint(config.model_copy(update=rules))


def of_record(config: RewardConfig, mark: str = "") -> dict[str, str]:
    """The fields of a record that say what it was scored with: `config`, and `asked` where that differs. A `mark` ends
    the config of records that only the same command can use."""
    ours, asked = fingerprint(config), of_questions(config)
    return {"config": ours + mark} | ({} if mark or asked == ours else {"asked": asked})


def of_dimensions(config: RewardConfig) -> dict[Dimension, str]:
    """For each dimension that is needed, a hash of the settings that can change its score: not of weights, gates and
    losses."""
    chunking, found = _chunking(config), dict[Dimension, str]()
    counted = {"tokenizer": chunking["tokenizer"]} if "tokenizer" in chunking else {}
    own: dict[str, dict[str, Any]] = {
        "faithfulness": {
            "faithfulness": config.faithfulness.used,
            "retrieval": _retrieval(config),
            "chunks": chunking["evidence_tokens"],
        }
        | counted,
        "completeness": {"chunks": chunking["extraction_tokens"]} | counted | config.completeness.used,
    }
    if config.ranks:
        own["helpfulness"] = {"way": config.helpfulness.way}
    prompts = Prompts(config.prompts)
    for name in config.needed:
        asked = [request for request in _asked(config) if request.dimension == name]
        version = prompts.version((*_names(asked), *_of_forms(config, asked)))
        common = {"judge": _judge(config, asked), "prompts": version, "strip_thoughts": config.strip_thoughts}
        found[name] = _hash(common | own.get(name, {}))
    return found


def of_writer(config: RewardConfig, questions: int) -> str:
    """A hash of all settings that can change what `longreward instruct` has written: so many questions a document."""
    model = config.model_for(WriteQuestions.kind)
    prompts = Prompts(config.prompts).version((*WRITING_NAMES, *closings(model.form)))
    return _hash({"writer": _model(model), "prompts": prompts, "questions": questions})


def _asked(config: RewardConfig) -> list[type[RewardRequest[Any]]]:
    """All kinds that a reward with these ways asks, whatever its weights; several statements in one call always were
    among them."""
    return [request for request in REQUESTS if request.asked(config) or request is VerifyStatements]


def _names(asked: Iterable[type[RewardRequest[Any]]]) -> list[str]:
    """The prompts that the questions have for themselves."""
    return [request.kind for request in asked if request.kind in NAMES]


def _judge(config: RewardConfig, asked: Iterable[type[RewardRequest[Any]]]) -> dict[str, Any]:
    """The judge, and the models of the routes that these questions take; no key for those where there are none."""
    used = {config.route_of(request.kind) for request in asked}
    routes = {name: _model(config.judge.route(name)) for name in used if name is not None}
    return _model(config.judge) | ({"routes": routes} if routes else {})


def _model(model: ModelConfig) -> dict[str, Any]:
    form = model.form
    curve = {"curve": form.curve} if form.way == "likelihood" else {}
    shown = {} if model.examples else {"examples": False}
    return model.model_dump(include={"kind", "model", "temperature", "extra_body"}) | form.parameters | curve | shown


def _of_forms(config: RewardConfig, asked: Iterable[type[RewardRequest[Any]]]) -> list[str]:
    """The names of the prompts that a model's form adds."""
    forms = [config.judge.form, *(config.model_for(request.kind).form for request in asked)]
    return list(dict.fromkeys(name for form in forms for name in closings(form)))


def _retrieval(config: RewardConfig) -> dict[str, Any]:
    found, embedder = config.retrieval.model_dump(mode="json", exclude={"embeddings"}), config.retrieval.embedder
    return found | (embedder.model_dump(include={"model", "query_prefix", "document_prefix"}) if embedder else {})


def _chunking(config: RewardConfig) -> dict[str, Any]:
    """With the tokenizer by its content, as its folder may have moved."""
    folder, sizes = config.chunking.tokenizer, config.chunking.model_dump(exclude={"tokenizer"})
    return sizes if folder is None else sizes | {"tokenizer": content_hash(folder)}


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
