"""What an evaluation asks and of which policies, and how much that is, before it begins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from longreward import rows
from longreward.errors import ConfigError, InputError
from longreward.evaluation import EvaluationItem, Kind, load
from longreward.files import jsonlines
from longreward.preflight.finding import Finding
from longreward.report.reading.sources import POLICIES
from longreward.text.amounts import in_words
from rl.config import RunConfig
from rl.data import prompt_files
from rl.plan import RunPlan
from rl.rollout.evaluation_answers import Conversation, check_length, judge_name
from rl.rollout.heldout_scores import StoredHeldout
from rl.run import judge_estimate
from rl.trainer.model_folder import missing_model
from rl.trainer.seams import remote_code

MT_BENCH, ALPACA_EVAL = "mt_bench", "alpaca_eval"

_TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
_TEMPERATURES |= dict.fromkeys(("extraction", "math", "coding", "reasoning", "arena-hard-200"), 0.0)
"""FastChat's, by category."""
_OTHER_TEMPERATURE = 0.7


@dataclass(frozen=True)
class EvaluationSets:
    """All that policies are asked beside the held-out prompts."""

    graded: dict[Kind, list[EvaluationItem]] = field(default_factory=dict)
    """What our judge grades or compares."""
    others: dict[str, list[Conversation]] = field(default_factory=dict)
    """What the benchmark's own tools judge: `mt_bench` and `alpaca_eval`."""

    def in_words(self) -> Iterator[str]:
        """Each set with its size."""
        yield from (f"{kind}: {len(items):,}" for kind, items in self.graded.items())
        yield from (f"{kind}: {sum(len(one.turns) for one in asked):,}" for kind, asked in self.others.items())


@dataclass(frozen=True)
class Policy:
    """A policy and where its answers are, or will be."""

    name: str
    """In tables."""
    model: str
    directory: Path
    """Of the evaluation that has its answers."""
    file_name: str
    """What its files are named after there."""
    place: int
    """Among the policies of that evaluation, from 0."""
    answers: int
    """To each held-out prompt."""

    @property
    def heldout(self) -> StoredHeldout:
        return StoredHeldout.of(self.directory, self.file_name, self.place, self.answers)

    def sampled(self, kind: str) -> Path:
        """Its answers as they came."""
        return self.directory / "sampled" / f"{kind}-{self.file_name}.jsonl"

    def judged(self, kind: str) -> Path:
        """Its answers with their verdicts."""
        return self.directory / "answers" / f"{kind}-{self.file_name}.jsonl"


def unusable(model: str, config: RunConfig) -> list[Finding]:
    """Problems with a policy that is given on the command line."""
    found = missing_model("--model or --against", model)
    if not config.run.trust_remote_code:
        found += remote_code.problem("--model or --against", model)
    return found


def policies_of(plan: RunPlan[RunConfig], models: Sequence[str], earlier: Path | None = None) -> list[Policy]:
    """The policies to be evaluated, in the order of the tables: `models`, or the configuration's where there is none.
    First comes that of `earlier`, the directory of an evaluation that has its answers.

    ConfigError where that is not finished, or where an evaluation that is continued began with other policies.
    """
    config, models = plan.config, models or [plan.flags.policy]
    count = config.evaluation.n_samples_per_prompt
    made = [
        Policy(name, model, config.directory, name, place, count)
        for place, (name, model) in enumerate(zip(names_of(models), models, strict=True))
    ]
    there_already = begun(config.directory) if plan.before else []
    for there, policy in zip(there_already, list(made), strict=False):
        if there["model"] != policy.model:
            raise ConfigError(
                f"resume=true: the policy is {policy.model} and was {there['model']} when {config.directory} began; "
                "set it back, or begin another evaluation (run.name)"
            )
        made[policy.place] = replace(policy, name=there["name"], file_name=there["name"])
    if earlier is None:
        return made
    if not (earlier / "summary.json").is_file():
        raise ConfigError(f"--against {earlier} is an evaluation that has not ended; continue it with resume=true")
    rows = begun(earlier)
    last = rows[-1]
    name = last["name"] if last["name"] != made[0].name else f"{earlier.name}-{last['name']}"
    return [Policy(name, last["model"], earlier, last["name"], len(rows) - 1, count), *made]


def check_comparable(earlier: RunConfig, config: RunConfig, directory: Path) -> None:
    """ConfigError where the answers and verdicts of the evaluation in `directory` are of other files, another judge or
    other settings."""
    then, now = earlier.evaluated_by, config.evaluated_by
    for name, value in now.items():
        # Benchmarks that are not ours to judge are compared by nobody.
        alone = name in (f"evaluation.{MT_BENCH}", f"evaluation.{ALPACA_EVAL}")
        if value is not None and not alone and then.get(name) != value:
            raise ConfigError(
                f"--against {directory}: {name} was {then.get(name)!r} there and is {value!r} now, so the two cannot "
                "be compared; set it to the same, or give the policy's model"
            )


def check_lengths(plan: RunPlan[RunConfig], policies: Sequence[Policy], sets: EvaluationSets, *, local: bool) -> None:
    """ConfigError where a conversation may not fit a policy, or where its chat template takes none. If `local` those
    policies are checked that are folders, else the others, whose tokenizers the network has."""
    config = plan.config
    for policy in policies:
        if not sets.others or policy.directory != config.directory or Path(policy.model).is_dir() != local:
            continue
        tokenizer = prompt_files.load_tokenizer(policy.model, trust_remote_code=config.run.trust_remote_code)
        for asked in sets.others.values():
            check_length(asked, tokenizer, plan.flags)


def begun(directory: Path) -> list[dict[str, Any]]:
    """The policies of an evaluation that has begun with them, as policies.json has them."""
    return list((jsonlines.read_json(directory / POLICIES) or {}).get("policies", []))


def load_sets(config: RunConfig) -> EvaluationSets:
    """The items of each evaluation that is configured; rows that cannot be used are named.

    ConfigError where there is nothing to evaluate on; InputError for a file without a usable row.
    """
    section, broken = config.evaluation, list[str]()
    paths: dict[Kind, Path | None] = {"longbench": section.longbench, "longbench_chat": section.longbench_chat}
    paths["short"] = section.short
    few_shots = {"longbench_chat": section.few_shots}
    given = [(kind, path) for kind, path in paths.items() if path is not None]
    graded = {kind: load(path, kind, broken, few_shots=few_shots.get(kind)) for kind, path in given}
    others = {}
    if section.mt_bench is not None:
        others[MT_BENCH] = _conversations(section.mt_bench, MT_BENCH, _of_mt_bench, broken)
    if section.alpaca_eval is not None:
        temperature = section.temperature
        others[ALPACA_EVAL] = _conversations(
            section.alpaca_eval, ALPACA_EVAL, lambda row, number: _of_alpaca_eval(row, number, temperature), broken
        )
    for problem in broken:
        print(f"evaluate: skipped: {problem}", file=sys.stderr)
    if not graded and not others and config.data.heldout is None:
        raise ConfigError(
            "there is nothing to evaluate on: set data.heldout, evaluation.longbench, longbench_chat, short, mt_bench "
            "or alpaca_eval"
        )
    return EvaluationSets(graded, others)


def expected(plan: RunPlan[RunConfig], sets: EvaluationSets, policies: Sequence[Policy]) -> Iterator[str]:
    """What will be sampled and judged, in sentences, and what that is expected to ask of the judges."""
    config, flags, asked = plan.config, plan.flags, list(sets.in_words())
    own = [policy.model for policy in policies if policy.directory == config.directory]
    if config.data.heldout is not None:
        reward, most = config.reward, config.evaluation.max_prompts or sys.maxsize
        prompts = prompt_files.count(config.data.heldout, most, reward.reference_field, criteria=reward.uses_criteria)
        asked.insert(0, f"held-out: {prompts * config.evaluation.n_samples_per_prompt:,}")
    yield f"answers to sample from {' and from '.join(own)}: {', '.join(asked)}"
    if config.data.heldout is not None and config.reward.asks_judge:
        yield judge_estimate.sentence(judge_estimate.of_heldout(config, flags).scaled(len(own)), config.reward.judge)
    if sets.graded and config.grader.asks_endpoints:
        usage = judge_estimate.of_grading(config, flags, sets.graded, len(own))
        kinds = ", ".join(sets.graded)
        yield f"{judge_name(config)} is expected to be asked about {in_words(usage, config.grader)} for {kinds}"


def names_of(models: Sequence[str]) -> list[str]:
    """Short and different: the last parts of the paths, as many as it takes. A last part `model`, which all runs'
    policies have, is left out where they differ without."""
    parts = [Path(model).parts for model in models]
    short = [part[:-1] if part[-1] == "model" and len(part) > 1 and part[-2] != "/" else part for part in parts]
    if len(set(short)) == len(short):
        parts = short
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return [name.replace("/", "") for name in names]
    raise ConfigError(f"--model and --against are the same policy, {models[0]}")


def _conversations(
    path: Path, kind: str, read: Callable[[dict[str, Any], int], Conversation], broken: list[str]
) -> list[Conversation]:
    found: dict[str, Conversation] = {}
    already = len(broken)
    for number, row in rows.read(path, broken):
        try:
            one = read(row, number)
            if one.id in found:
                raise ValueError(f"another row has the question_id {one.id} already")
        except ValueError as error:
            broken.append(f"{path}:{number}: {error}")
        else:
            found[one.id] = one
    if not found:
        first = f"; first problem: {broken[already]}" if len(broken) > already else ""
        raise InputError(f"evaluation.{kind} {path} holds no usable row{first}")
    return list(found.values())


def _of_mt_bench(row: dict[str, Any], number: int) -> Conversation:
    category, turns = row.get("category"), row.get("turns")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise ValueError(f"turns must be a list of texts, found {type(turns).__name__}")
    if not isinstance(category, str):
        raise ValueError(f"category must be text, found {type(category).__name__}")
    identity = rows.row_id(row, None, ("question_id",))
    return Conversation(identity, tuple(turns), _TEMPERATURES.get(category, _OTHER_TEMPERATURE), row)


def _of_alpaca_eval(row: dict[str, Any], number: int, temperature: float) -> Conversation:
    instruction = row.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        raise ValueError(f"instruction must be text, found {type(instruction).__name__}")
    return Conversation(str(number), (instruction,), temperature, row)
