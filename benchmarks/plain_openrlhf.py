"""OpenRLHF as anybody runs it, its reward from a server: no agent, and of rl/ only what OpenRLHF needs without a GPU.

    longreward serve --config reward.yaml serve.tokenizer=rl/toy/policy serve.group_size=8
    python benchmarks/plain_openrlhf.py --config configs/grpo_cpu.yaml --remote-url http://127.0.0.1:8400/get_reward

The policy, the data and OpenRLHF's flags are those of the configuration, whose reward and evaluation do not matter.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rl import config
from rl.data import prompt_files
from rl.run import planning
from rl.trainer import cpu_backend, openrlhf_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--remote-url", required=True, help="where the server scores answers")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()

    run = config.load(options.config, options.overrides)
    os.environ |= {cpu_backend.DEVICE_VARIABLE: "cpu"} | cpu_backend.environment()
    plan = planning.make(run.model_copy(update={"run": run.run.model_copy(update={"device": "cpu"})}), "online")
    argv, flags = plan.argv, plan.flags
    del argv[(agent := argv.index("--train.agent_func_path")) : agent + 2]
    tokenizer = prompt_files.load_tokenizer(flags.policy)
    prompt_files.prepare(run.data.train, run.prompts("train"), tokenizer, flags.prompt_tokens, "train")

    cpu_backend.apply()
    import ray

    env_vars = {name: os.environ[name] for name in (cpu_backend.DEVICE_VARIABLE, *cpu_backend.environment())}
    runtime_env = {"env_vars": env_vars, "worker_process_setup_hook": "rl.trainer.cpu_backend.apply"}
    room = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 10**9}
    ray.init(address="local", include_dashboard=False, runtime_env=runtime_env, **room)
    openrlhf_run.run([*argv, "--reward.remote_url", options.remote_url])


if __name__ == "__main__":
    main()
