"""Everything about a training run that can be known before a GPU is taken: files, GPUs, data, disk, judge, cost, pace.

    python rl/doctor.py --config configs/grpo_cpu.yaml [section.key=value ...]

Takes nothing and changes nothing; asks the judge some 16 short questions per endpoint. Exit code 0, 1 where there is a
problem that would end the run, 2 for a configuration that cannot be read. `rl/train.py --dry-run` lets OpenRLHF itself
check its flags besides.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from longreward.commands.doctor import check_judge, show, verdict
from longreward.errors import LongRewardError
from longreward.preflight.finding import Finding
from longreward.redaction import keep_environment
from rl.config import RunConfig
from rl.offline.config import load_any


def main(argv: list[str] | None = None) -> int:
    """Check one configuration. Returns 0; 1 where there is a problem; 2 for a user's error; 130 if stopped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True, help="a YAML file, see configs/")
    options, overrides = parser.parse_known_args(argv)
    keep_environment()
    try:
        return check_run(load_any(options.config, overrides), Console())
    except LongRewardError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def check_run(config: RunConfig, out: Console) -> int:
    """Print what is found out about a run. Returns 0, or 1 where there is a problem.

    ConfigError for flags that OpenRLHF's parser does not take, or an unknown reward.
    """
    from rl.offline.planning import plan_any
    from rl.run.checks import cluster_size, cost, prompts, services

    with out.status("checking the configuration"):
        plan = plan_any(config, counts_prompts=True)
    config = plan.config
    findings = show(out, [*plan.findings, *services.keys(config)])
    if plan.kind == "sft":
        return verdict(out, findings)
    with out.status("looking for GPUs"):
        gpus = list(cluster_size.findings(plan))
    findings += show(out, gpus)
    if plan.prompts is not None:
        with out.status("reading the data with the policy's tokenizer"):
            data = [found for found in prompts.findings(config, plan.flags) if found not in plan.findings]
        findings += show(out, data)
    latency_s: float | None = None
    if config.starts_judge:
        sentence = f"the run serves {config.reward.judge.model} itself; nothing was asked"
        action = "longreward doctor --judge vllm --model NAME starts it here and asks it"
        findings += show(out, [Finding.note("judge", sentence, action)])
    elif config.needs_judge:
        found, latency_s = check_judge(out, config.reward, "reward.")
        findings += [*found, *show(out, services.cache(config))]
    else:
        findings += show(out, [Finding.ok("judge", "no judge is asked")])
    if (grader := services.own_grader(config)) is not None:
        findings += check_judge(out, grader, services.EVALUATION)[0]
    if config.shadow_reward is not None and config.shadow_reward.asks_judge:
        findings += check_judge(out, config.shadow_reward, services.SHADOW)[0]
    if "remote" in config.reward.parts:
        with out.status("asking the reward server"):
            server = services.reward_server(config)
        findings += show(out, server)
    if plan.prompts and config.reward.asks_judge:
        with out.status("counting what the judge will be asked"):
            costs = cost.findings(config, plan.flags, plan.prompts, latency_s)
        findings += show(out, costs)
    return verdict(out, findings)


if __name__ == "__main__":
    sys.exit(main())
