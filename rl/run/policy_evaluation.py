"""Policies evaluated one after the other: their answers, what the judge says of them, and the page that shows it.

What is there is not asked for again: `sampled/` has the answers as they came, the store the held-out ones with their
scores, `answers/` what was judged of the others.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from longreward.errors import Reason
from longreward.evaluation import (
    EvaluationItem,
    ItemOutcome,
    Kind,
    compare,
    facts,
    paper_table,
    score,
    summarise,
    summarise_pairs,
)
from longreward.evaluation.scoring import NO_ANSWER
from longreward.files import jsonlines
from longreward.judge import Judge
from longreward.report.reading.sources import POLICIES
from rl.config import RunConfig
from rl.data.prompt_files import PromptReport, load_tokenizer, prepare
from rl.errors import JudgeDownError, SpendCapReachedError
from rl.monitor import progress
from rl.rollout import evaluation_answers, heldout_scores
from rl.rollout.engines import rollout_engines
from rl.rollout.evaluation_answers import Conversation
from rl.run import online_training, run_directory
from rl.run.evaluation_plan import MT_BENCH, EvaluationSets, Policy, begun, check_lengths
from rl.run.session import Session
from rl.trainer.seams import remote_code


def evaluate_policies(run: Session, policies: Sequence[Policy], sets: EvaluationSets) -> None:
    """Sample each policy's answers, have them judged, and write summary.json and evaluation.md."""
    config, names = run.config, [policy.name for policy in policies]
    rows = begun(config.directory)
    check_lengths(run.plan, policies, sets, local=False)
    for policy in policies:
        if policy.directory != config.directory:
            continue
        # The store has the answers of all of them: those of one were scored before the next one began.
        if policy.place == len(rows):
            rows.append({"name": policy.name, "model": policy.model, "begun": time.time()})
            jsonlines.write_json(config.directory / POLICIES, {"policies": rows})
        with online_training.watched(run):
            _sample(run, policy, sets)
    summary: dict[str, Any] = {"kind": "evaluation", "models": {policy.name: policy.model for policy in policies}}
    page = [f"# {' against '.join(reversed(names))}"]
    if config.data.heldout is not None:
        page.append(f"Judge of the held-out answers: {config.reward.judge.model or config.reward.judge.kind}.")
        summary |= _heldout(run, policies, page)
    if sets.graded:
        summary |= _graded(run, policies, sets.graded, page)
    for kind in sets.others:
        page.append(f"Answers for {kind}'s own tool: answers/{kind}-*.")
    run_directory.write_summary(config, summary)
    jsonlines.write_text(config.directory / "evaluation.md", "\n\n".join(page) + "\n")
    run.say(f"done; summary.json, evaluation.md and the answers are in {config.directory}")


def _sample(run: Session, policy: Policy, sets: EvaluationSets) -> None:
    """All answers that the policy still has to give, the held-out ones scored. Engines start if any is missing."""
    config, name = run.config, policy.name
    if config.data.heldout is not None:
        _prepare(run, policy)
    to_sample = policy.heldout.to_sample() if config.data.heldout is not None else 0
    missing: list[str] = [
        kind
        for kind, items in sets.graded.items()
        if len(evaluation_answers.kept(policy.sampled(kind), items)) < len(items)
    ]
    for kind, asked in sets.others.items():
        found = evaluation_answers.kept(policy.sampled(kind), asked)
        missing += [kind] if len(found) < sum(len(one.turns) for one in asked) else []
    with ExitStack() as stack:
        engines = None
        if to_sample or missing:
            engines = stack.enter_context(rollout_engines(config, policy.model, run.flags))
        if config.data.heldout is not None:
            run.say(f"scoring {name} on the held-out prompts, {to_sample:,} answers to sample")
            policy.heldout.complete(engines, run.workers, config.evaluation.temperature, run.flags.train_seed)
        for kind, items in sets.graded.items():
            if engines and kind in missing:
                run.say(f"sampling {name}'s answers to {kind}")
                temperature, file = config.evaluation.temperature, policy.sampled(kind)
                _, report = evaluation_answers.answers(items, engines, temperature, file)
                run.say(f"{kind}: {report.sentence()}")
        for kind, asked in sets.others.items():
            if engines and kind in missing:
                run.say(f"sampling {name}'s answers to {kind}")
                strip = config.reward.strip_thoughts
                evaluation_answers.conversations(asked, engines, policy.sampled(kind), strip_thoughts=strip)
    for kind, asked in sets.others.items():
        _write_for_their_tool(policy, kind, asked)


def _prepare(run: Session, policy: Policy) -> None:
    """The held-out prompts, rendered with this policy's own chat template, which need not be the configuration's."""
    config, prompts = run.config, policy.heldout.prompts
    if PromptReport.read(prompts) is not None:
        return
    assert config.data.heldout is not None
    tokenizer = load_tokenizer(policy.model, trust_remote_code=remote_code.allowed())
    most, field, criteria = config.evaluation.max_prompts, config.reward.reference_field, config.reward.uses_criteria
    budget = run.flags.prompt_tokens
    prepare(config.data.heldout, prompts, tokenizer, budget, "heldout", most, field, criteria=criteria)


def _heldout(run: Session, policies: Sequence[Policy], page: list[str]) -> dict[str, Any]:
    """The held-out scores and facts onto the page and, as is returned, into the summary."""
    found = {policy.name: policy.heldout.scored() for policy in policies}
    scores = [each for each, _ in found.values()]
    page.append(heldout_scores.markdown(list(found), scores))
    summary = progress.show_heldout(run.console, scores, list(found))
    known = {name: each for name, (_, each) in found.items() if each is not None}
    if len(known) < len(found):
        return summary
    page.append(facts.markdown(known))
    run.console.print(page[-1], highlight=False, markup=False, soft_wrap=True)
    summary["facts"] = {name: each.to_json() for name, each in known.items()}
    if len(known) > 1:
        changes = facts.changes(*known.values())
        summary["facts_change"] = {name: each.to_json() for name, each in changes.items()}
    return summary


def _graded(
    run: Session, policies: Sequence[Policy], graded: Mapping[Kind, list[EvaluationItem]], page: list[str]
) -> dict[str, Any]:
    """What the judge says of the answers, onto the page and, as is returned, into the summary."""
    config, summary = run.config, dict[str, Any]()
    judge, published = evaluation_answers.judge_name(config), dict[str, list[ItemOutcome]]()
    for kind, items in graded.items():
        if kind == "short" and len(policies) < 2:
            page.append(
                "Short instructions are answered, and compared where another policy is evaluated --against this."
            )
            continue
        run.say(f"judging the answers to {kind}")
        if kind == "short":
            first, last = policies
            compared = asyncio.run(_compared(config, items, first, last))
            result: Any = summarise_pairs(first.name, last.name, compared, judge)
        else:
            scored = asyncio.run(_scored(config, kind, items, policies))
            result = summarise(scored, judge)
            for name, outcomes in scored.items():
                published.setdefault(name, []).extend(outcomes)
        summary[kind] = result.to_json()
        page.append(result.markdown())
        run.console.print(result.markdown(), highlight=False, markup=False, soft_wrap=True)
    if published:
        table = paper_table(published, judge)
        summary["paper"] = table.to_json()
        page.append(table.markdown())
        run.console.print(table.markdown(), highlight=False, markup=False, soft_wrap=True)
    return summary


async def _scored(
    config: RunConfig, kind: Kind, items: Sequence[EvaluationItem], policies: Sequence[Policy]
) -> dict[str, list[ItemOutcome]]:
    """Each policy's outcomes. What has a value already is not judged again, and nothing of an earlier evaluation."""
    found, strip = {}, config.reward.strip_thoughts
    async with evaluation_answers.opened_judge(config) as judge:
        for policy in policies:
            given, own = evaluation_answers.kept(policy.sampled(kind), items), policy.directory == config.directory
            checks = {item.id: _check(item, given) for item in items}
            there = _outcomes(policy.judged(kind), items, checks, void=not own)
            if not own:
                found[policy.name] = [there.get(item.id) or ItemOutcome(item, None, NO_ANSWER) for item in items]
                continue
            todo = [item for item in items if item.id not in there]
            there |= {one.item.id: one for one in await score(todo, given, judge, strip_thoughts=strip)}
            found[policy.name] = [there[item.id] for item in items]
            if todo:
                records = [
                    one.record() | {"answer": given.get(one.item.id), "crc": checks[one.item.id]}
                    for one in found[policy.name]
                ]
                _write(policy.judged(kind), records)
            _refuse_unjudged(found[policy.name], judge)
    return found


async def _compared(
    config: RunConfig, items: Sequence[EvaluationItem], first: Policy, last: Policy
) -> list[ItemOutcome]:
    """The outcomes of comparing two policies' answers. What has a value already is not judged again."""
    file = config.directory / "answers" / "short-compared.jsonl"
    first_said, last_said = (evaluation_answers.kept(policy.sampled("short"), items) for policy in (first, last))
    checks = {item.id: _check(item, first_said, last_said) for item in items}
    there, strip = _outcomes(file, items, checks), config.reward.strip_thoughts
    async with evaluation_answers.opened_judge(config) as judge:
        todo = [item for item in items if item.id not in there]
        there |= {one.item.id: one for one in await compare(todo, first_said, last_said, judge, strip_thoughts=strip)}
        found = [there[item.id] for item in items]
        _write(file, [one.record() | {"crc": checks[one.item.id]} for one in found])
        _refuse_unjudged(found, judge)
    return found


def _check(item: EvaluationItem, *given: Mapping[str, str]) -> int:
    """Of what a verdict belongs to."""
    answers = [answers.get(item.id, "") for answers in given]
    return evaluation_answers.check_of(item.turn, item.query, *item.references, *answers)


def _outcomes(
    file: Path, items: Sequence[EvaluationItem], checks: Mapping[str, int], *, void: bool = False
) -> dict[str, ItemOutcome]:
    """Those outcomes of items in a file of `answers/` that have a value, or all if `void`. Each is of the same question
    and answers as now; files of before do not tell."""
    by_id = {item.id: item for item in items}
    rows = (row for _, row in jsonlines.read(file, [])) if file.is_file() else ()
    known = (row for row in rows if row["idx"] in by_id and (void or row["value"] is not None))
    usable = (row for row in known if row.get("crc") in (None, checks[row["idx"]]))
    return {row["idx"]: ItemOutcome.of_record(by_id[row["idx"]], row) for row in usable}


def _refuse_unjudged(outcomes: Sequence[ItemOutcome], judge: Judge) -> None:
    """An error that ends the evaluation, to be continued, where the judge has stopped answering altogether."""
    for one in outcomes:
        if one.status == Reason.SPEND_CAP:
            raise SpendCapReachedError(f"{one.detail}; raise the cap and continue with resume=true")
    if (why := judge.status().given_up) and any(one.value is None for one in outcomes):
        raise JudgeDownError(f"the judge is down: {why}; bring it back and continue with resume=true")


def _write_for_their_tool(policy: Policy, kind: str, asked: Sequence[Conversation]) -> None:
    given = evaluation_answers.kept(policy.sampled(kind), asked)
    if kind == MT_BENCH:
        _write(policy.judged(kind), _for_fastchat(policy.name, asked, given))
        return
    path = policy.judged(kind).with_suffix(".json")
    path.parent.mkdir(exist_ok=True)
    kept = ("instruction", "dataset", "datasplit")
    rows = [
        {name: one.row[name] for name in kept if name in one.row}
        | {"output": given[one.key(0)], "generator": policy.name}
        for one in asked
    ]
    jsonlines.write_json(path, rows)


def _for_fastchat(name: str, asked: Sequence[Conversation], given: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for one in asked:
        turns = [given[one.key(turn)] for turn in range(len(one.turns))]
        yield {
            "question_id": one.row["question_id"],
            "answer_id": uuid.uuid4().hex,
            "model_id": name,
            "choices": [{"index": 0, "turns": turns}],
            "tstamp": time.time(),
        }


def _write(path: Path, rows: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    jsonlines.rewrite(path, rows)
