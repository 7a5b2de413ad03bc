"""The prompts as they would be prepared: how many, how long, how many cut."""

from __future__ import annotations

from collections.abc import Iterator

from longreward.errors import LongRewardError
from longreward.preflight.finding import Finding
from rl.config import RunConfig
from rl.data import prompt_files
from rl.run.checks import policy_tokenizer
from rl.run.checks.files import about_rows
from rl.trainer.openrlhf_flags import Flags


def findings(config: RunConfig, flags: Flags) -> list[Finding]:
    """What preparing the prompts would report. Reads all of the data with the policy's tokenizer."""
    found: list[Finding] = []
    budget = flags.prompt_tokens
    try:
        tokenizer = prompt_files.load_tokenizer(flags.policy, trust_remote_code=config.run.trust_remote_code)
        found += policy_tokenizer.notes(tokenizer)
        if config.reward.tokenizer == "policy" and not tokenizer.is_fast:
            sentence = f"the tokenizer of {flags.policy} tells no character offsets"
            found.append(Finding.problem("data", sentence, "set reward.tokenizer=words"))
        for key, source, most in (
            ("data.train", config.data.train, None),
            ("data.heldout", config.data.heldout, config.evaluation.max_prompts),
        ):
            if source is not None:
                reference, criteria = config.reward.reference_field, config.reward.uses_criteria
                report = prompt_files.prepare(
                    source, None, tokenizer, budget, "train", most, reference, criteria=criteria
                )
                found += _about_prompts(key, report, budget, flags)
                if key == "data.train":
                    prompts = min(report.kept, flags.data_max_samples)
                    if prompts < report.kept:
                        sentence = f"the first {prompts:,} of {report.kept:,} prompts are trained on"
                        found.append(Finding.note("data", sentence, "that is openrlhf.data.max_samples"))
    except LongRewardError as error:
        found.append(Finding.problem("data", str(error)))
    return found


def _about_prompts(key: str, report: prompt_files.PromptReport, budget: int, flags: Flags) -> Iterator[Finding]:
    longest = f"the longest has {report.longest_uncut:,} tokens, the budget is {budget:,}"
    yield Finding.ok("data", f"{key}: {report.kept:,} prompts kept; {longest}")
    if report.cut:
        whole = report.longest_uncut + flags.rollout_max_new_tokens
        sentence = f"{key}: {report.cut:,} prompts over the budget are cut in the middle of the document"
        yield Finding.note("data", sentence, f"openrlhf.data.max_len={whole} would keep all of them whole")
    yield from about_rows(key, report.broken, report.shared)
