"""The stages of rl/dpo.py. Each works on the run's directory and can be repeated: what is done is not done again."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from longreward import store
from longreward.errors import ConfigError
from rl.data import prompt_files
from rl.data.chat_template import answer_lead
from rl.data.prompt_files import count_tokens, load_tokenizer
from rl.monitor import progress
from rl.offline import collect, finetune, pair_answers, pairs, published_files, rescoring, short_conversations
from rl.offline.config import DpoConfig
from rl.offline.pair_report import PairReport
from rl.offline.served_policy import served_policy
from rl.rollout import heldout_scores, judge_workers
from rl.rollout.engines import Engines, rollout_engines
from rl.rollout.heldout_scores import HeldoutScores
from rl.run import judge_estimate, online_training, session
from rl.run.session import Session
from rl.trainer.seams import remote_code


def collect_answers(run: Session, config: DpoConfig) -> None:
    """Into the store: the answers, each scored; and what the first policy gets on the held-out prompts."""
    flags, wanted, outstanding = run.flags, config.collect, None
    if wanted.pairs is not None:
        run.say(f"nothing to collect: the pairs are those of {wanted.pairs}")
    elif wanted.responses is not None:
        tokenizer = load_tokenizer(flags.policy, trust_remote_code=remote_code.allowed())
        with online_training.watched(run):
            if store.files(wanted.responses):
                rescoring.score_store(run, wanted.responses, flags.data_max_samples, wanted.answers_in_flight)
            else:
                rescoring.score_responses(run, wanted.responses, tokenizer, wanted.answers_in_flight)
    else:
        outstanding = collect.Outstanding.of(config, flags.rollout_n_samples_per_prompt, flags.data_max_samples)
    lacking = outstanding.to_generate if outstanding else 0
    if lacking and config.reward.asks_judge:
        run.say(judge_estimate.sentence(judge_estimate.expected(config, flags), config.reward.judge))
    with ExitStack() as stack:
        source = None
        if (lacking and wanted.served is None) or _first_scores_missing(config):
            run.say("starting the rollout engines")
            source = stack.enter_context(rollout_engines(config, flags.policy, flags))
            with online_training.watched(run):
                _first_scores(run, config, source)
        if outstanding is None:
            return
        if lacking and wanted.served is not None:
            source = stack.enter_context(served_policy(wanted.served, flags, config.run.deadline_start_s))
        with online_training.watched(run):
            collect.collect(
                run,
                source if lacking else None,
                outstanding,
                temperature=flags.rollout_temperature,
                seed=wanted.seed,
                at_once=wanted.answers_in_flight,
            )


def make_pairs(run: Session, config: DpoConfig) -> None:
    """From the stores to preference pairs, and a table of what was kept. InputError where there is none."""
    flags = run.flags
    tokenizer = load_tokenizer(flags.policy, trust_remote_code=remote_code.allowed())
    longest, eos = flags.data_max_len, pairs.require(tokenizer.eos_token)
    lead = answer_lead(tokenizer)

    def fits(prompt: str, answer: str) -> bool:
        return count_tokens(tokenizer, prompt + answer) <= longest

    long = config.examples.with_name("long.jsonl") if config.short.train else config.examples
    if config.collect.pairs is not None:
        budget = flags.prompt_tokens
        report = published_files.from_published(config.collect.pairs, long, tokenizer, budget, eos, fits)
    else:
        if "train" not in run.reports:
            session.prepare(run, ["train"])
        own, others = config.directory / "store", config.collect.stores
        supervised = None
        if config.pair.by == "contrast":
            reference, criteria = config.reward.reference_field, config.reward.uses_criteria
            data = prompt_files.rows(config.data.train, [], reference, criteria=criteria)
            supervised = pair_answers.supervised(
                data, partial(pair_answers.ended, eos=eos, lead=lead), lambda text: count_tokens(tokenizer, text)
            )
        report = pairs.make_pairs(
            [own, *others] if store.files(own) or not others else others,
            config.prompts("train"),
            long,
            config.pair,
            eos=eos,
            lead=lead,
            fits=fits,
            dimension_weights=config.reward.dimension_weights,
            supervised=supervised,
        )
    for what, count in report.rows():
        if count != "0":
            run.console.print(f"{count:>12}  {what}", highlight=False, markup=False, soft_wrap=True)
    for problem in report.broken[:10]:
        run.say(f"passed over: {problem}")
    if not report.pairs:
        raise ConfigError(f"no pair could be made ({report.sentence()}); collect more answers, or relax pair:")
    if config.short.train is not None:
        run.say(short_conversations.mix(long, config.short, config.examples, tokenizer, fits, config.collect.seed))


def end_reward_models(run: Session, config: DpoConfig) -> None:
    """End the judge workers where each has a GPU: train_dpo takes all there are."""
    if config.reward.gpus and run.workers.actors:
        run.say("the judge workers end for now: training takes their GPUs")
        run.workers.kill()
        run.workers = judge_workers.Workers([], run_id=run.workers.run_id)


def start_reward_models(run: Session, config: DpoConfig) -> None:
    """Start the judge workers that `end_reward_models` has ended, under the names that the engines know."""
    if run.workers.run_id and not run.workers.actors:
        run.workers = judge_workers.start(config, run.plan.tokenizer, run.workers.run_id)


def evaluate(run: Session, config: DpoConfig) -> dict[str, Any]:
    """Held-out scores and short instructions, the trained policy's against the first one's. For summary.json."""
    flags, model = run.flags, config.directory / "model"
    if not finetune.begun_and_done(config)[1]:
        raise ConfigError(f"{model} holds no model trained on {config.examples}; run the stage train first")
    summary: dict[str, Any] = {"steps": finetune.steps_done(config)}
    if report := PairReport.read(config.examples) or PairReport.read(config.examples.with_name("long.jsonl")):
        summary["pairs"] = report.pairs
    if not config.evaluates:
        return summary | online_training.judged(config)
    start_reward_models(run, config)
    if _first_scores_missing(config):
        with rollout_engines(config, flags.policy, flags) as engines, online_training.watched(run):
            _first_scores(run, config, engines)
    with rollout_engines(config, str(model), flags) as engines, online_training.watched(run):
        if config.data.heldout is not None:
            run.say("scoring the held-out prompts after training")
            before, after = HeldoutScores.read(_before(config)), heldout_scores.evaluate(config, engines)
            assert before is not None
            summary |= progress.show_heldout(run.console, [before, after])
        if config.short.heldout is not None:
            run.say("comparing answers to the short instructions")
            summary["short"] = short_conversations.compare(run.screen, config, engines)
    return summary | online_training.judged(config)


def _first_scores_missing(config: DpoConfig) -> list[Path]:
    """The files that `_first_scores` has still to write."""
    files = {_before(config): config.data.heldout, short_conversations.first_answers_path(config): config.short.heldout}
    return [path for path, wanted in files.items() if wanted is not None and not path.is_file()]


def _first_scores(run: Session, config: DpoConfig, engines: Engines) -> None:
    """What the first policy gets, unless that is known."""
    missing = _first_scores_missing(config)
    if _before(config) in missing:
        run.say("scoring the held-out prompts before training")
        heldout_scores.evaluate(config, engines).write(_before(config))
    if short_conversations.first_answers_path(config) in missing:
        short_conversations.take_first_answers(config, engines)


def _before(config: DpoConfig) -> Path:
    return config.directory / "heldout_before.json"
