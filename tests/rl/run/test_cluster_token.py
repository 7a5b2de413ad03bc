"""A cluster that a run starts for itself runs no commands of others on the network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Ray's agent listens on the address of the machine, not on loopback alone.
SUBMIT_TO_THE_AGENT = """
import functools, json, sys, urllib.error, urllib.request
from pathlib import Path
from rl import config
from rl.run import command

def work(_):
    import ray
    from ray._private import parameter
    # The agent's usual port may be that of another test's cluster.
    parameter.RayParams = functools.partial(parameter.RayParams, dashboard_agent_listen_port=0)
    room = {"num_cpus": 1, "object_store_memory": 80_000_000}
    there = ray.init(address="local", include_dashboard=False, logging_level="ERROR", **room).address_info
    url = f"http://{there['node_ip_address']}:{there['dashboard_agent_listen_port']}/api/job_agent/jobs/"
    body = json.dumps({"entrypoint": f"touch {sys.argv[1]}"}).encode()
    try:
        status = urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).status
    except urllib.error.HTTPError as refused:
        status = refused.code
    print("the agent says", status, "of", ray.get(ray.remote(lambda: "work").remote()))
    ray.shutdown()
    return 0

sys.exit(command.carry_out("probe", lambda: config.load(Path("configs/grpo_cpu.yaml"), []), work))
"""


@pytest.mark.parametrize(("users", "status"), [({}, 401), ({"RAY_AUTH_MODE": "disabled"}, 200)])
def test_nobody_else_runs_commands_on_the_runs_own_cluster(tmp_path, users, status):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    words = [sys.executable, "-c", SUBMIT_TO_THE_AGENT, str(tmp_path / "intruder")]
    told = subprocess.run(words, cwd=ROOT, env=clean | users, capture_output=True, text=True, timeout=600)
    assert told.returncode == 0, told.stderr
    assert f"the agent says {status} of work" in told.stdout
