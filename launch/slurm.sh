#!/usr/bin/env bash
# Train on a Slurm cluster: Ray on the nodes of the job, and rl/train.py as a Ray job in it.
#   sbatch [--nodes=2 ...] launch/slurm.sh [section.key=value ...]     from the repository, on a shared file system
# A job that is preempted or loses a node is queued again and continues at the last checkpoint; one that ran out of time
# continues when the same command is given again. Edit the #SBATCH lines, or give sbatch the same flags. Keys
# (OPENAI_API_KEY, WANDB_API_KEY, HF_TOKEN) are taken from the environment of sbatch.
# CONFIG=configs/grpo_llama31_8b_64k.yaml; VENV=.venv, where the project is installed (else what PATH has);
# HEAD_PORT=6379 and DASHBOARD_PORT=8265; JOIN_TIMEOUT_S=600, the longest wait for Ray on all nodes.
# DRY_RUN=1 prints what would run and starts nothing; outside of a job it assumes two nodes.
#SBATCH --job-name=longreward
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,/^#SBATCH/s/^# //p' "${BASH_SOURCE[0]}"
  exit 0
fi
fail() { echo "slurm: $1" >&2; exit "${2:-2}"; }
# Slurm runs a copy of this script from a folder of its own.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
CONFIG=${CONFIG:-configs/grpo_llama31_8b_64k.yaml}
VENV=${VENV:-.venv}
HEAD_PORT=${HEAD_PORT:-6379}
DASHBOARD_PORT=${DASHBOARD_PORT:-8265}
JOIN_TIMEOUT_S=${JOIN_TIMEOUT_S:-600}
DRY_RUN=${DRY_RUN:-}
for name in HEAD_PORT DASHBOARD_PORT JOIN_TIMEOUT_S; do
  [[ ${!name} =~ ^[1-9][0-9]*$ ]] || fail "$name is '${!name}'; give a whole number"
done
[[ -f rl/train.py ]] || fail "$PWD is not the repository (no rl/train.py); run sbatch there"
[[ -f $CONFIG ]] || fail "CONFIG $CONFIG does not exist in $PWD; see configs/"

if [[ -n ${SLURM_JOB_NODELIST:-} ]]; then
  nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
elif [[ $DRY_RUN == 1 ]]; then
  nodes=$'node1\nnode2'
else
  fail "no Slurm job (SLURM_JOB_NODELIST is not set); start this with: sbatch launch/slurm.sh"
fi
mapfile -t nodes <<<"$nodes"
head=${nodes[0]}
workers=$((${#nodes[@]} - 1))
# The job is started with the `python` that is first in PATH where Ray was started.
if [[ -x $VENV/bin/ray ]]; then PATH=$(cd "$VENV/bin" && pwd):$PATH; fi
if [[ $DRY_RUN != 1 ]]; then
  command -v ray >/dev/null ||
    fail "no ray in $VENV/bin or PATH; install the project there (docs/how-to/train-on-a-cluster.md), or set VENV"
fi

# Ray asks for this token at every port of every node; srun passes it on in the environment, where other users of a node
# cannot read it.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}
# The head's own folder below /tmp: the usual one may belong to another user of the node.
ray_start=(ray start --temp-dir="/tmp/ray-${SLURM_JOB_ID:-0}" --disable-usage-stats --block)
# A step gets one core unless it asks for more.
step=(srun --ntasks-per-node=1 --cpu-bind=none)
if [[ -n ${SLURM_CPUS_ON_NODE:-} ]]; then step+=(--cpus-per-task="$SLURM_CPUS_ON_NODE"); fi
# Who can use the dashboard can run commands: it asks for the token, and only this node reaches it.
start_head=("${step[@]}" --nodes=1 --ntasks=1 --nodelist="$head" "${ray_start[@]}" --head --node-name="$head"
  --port="$HEAD_PORT" --dashboard-host=127.0.0.1 --dashboard-port="$DASHBOARD_PORT")
# shellcheck disable=SC2016  # the name is each node's own
start_workers=("${step[@]}" --nodes="$workers" --ntasks="$workers" --exclude="$head"
  bash -c 'exec "$@" --node-name="$SLURMD_NODENAME"' worker "${ray_start[@]}" --address="$head:$HEAD_PORT")
dashboard=http://127.0.0.1:$DASHBOARD_PORT
job=longreward-${SLURM_JOB_ID:-0}-${SLURM_RESTART_COUNT:-0}
submit=(ray job submit --address "$dashboard" --submission-id "$job" --
  python rl/train.py --config "$CONFIG" resume=true "$@")
stop=(ray job stop --address "$dashboard" "$job")

if [[ $DRY_RUN == 1 ]]; then
  show() { printf '%q ' "$@"; echo; }
  show "${start_head[@]}"
  echo "# wait up to $JOIN_TIMEOUT_S s for: $head"
  if ((workers)); then
    show "${start_workers[@]}"
    echo "# wait up to $JOIN_TIMEOUT_S s for: ${nodes[*]}"
  fi
  show "${submit[@]}"
  exit 0
fi

steps=()
submitted=
# Ray holds a file open for each of its connections.
ulimit -Sn hard
# The dashboard is on this machine; a proxy could not reach it.
export no_proxy="127.0.0.1${no_proxy:+,$no_proxy}"
stop_ray() {
  trap '' TERM INT
  ((${#steps[@]} == 0)) || kill -TERM "${steps[@]}" 2>/dev/null || true
  wait
}
stop_job() {
  trap '' TERM INT
  echo "slurm: stopping the run; started again, it continues at its last checkpoint" >&2
  if [[ -n $submitted ]]; then
    "${stop[@]}" || echo "slurm: the run could not be stopped through Ray; it ends when Ray ends" >&2
    kill -TERM "$submitted" 2>/dev/null || true
  fi
  exit 143
}
trap stop_ray EXIT
trap stop_job TERM INT
# How long Ray gives a stopped run to clean up; Slurm itself waits 30 s by default.
export RAY_JOB_STOP_WAIT_TIME_S=${RAY_JOB_STOP_WAIT_TIME_S:-25}

names_in_ray() {
  ray list nodes --address "$dashboard" --filter state=ALIVE --limit 10000 --timeout 10 --format json 2>/dev/null |
    python -c 'import json, sys; print(*(node["node_name"] for node in json.load(sys.stdin)), sep="\n")' 2>/dev/null
}
wait_for() {
  local deadline=$((SECONDS + JOIN_TIMEOUT_S)) told='' there missing node pid
  while true; do
    there=$(names_in_ray) || there=
    missing=()
    for node in "$@"; do
      grep -qxF -- "$node" <<<"$there" || missing+=("$node")
    done
    if ((${#missing[@]} == 0)); then return; fi
    for pid in "${steps[@]}"; do
      kill -0 "$pid" 2>/dev/null || fail "ray start ended before Ray was up on ${missing[*]}; see its reason above" 1
    done
    if ((SECONDS >= deadline)); then
      there="no Ray on ${missing[*]} after $JOIN_TIMEOUT_S s"
      fail "$there; is $head:$HEAD_PORT open to them? else raise JOIN_TIMEOUT_S" 1
    fi
    if [[ $told != "${missing[*]}" ]]; then
      told=${missing[*]}
      echo "slurm: waiting for Ray on $told"
    fi
    sleep 2
  done
}

"${start_head[@]}" &
steps+=($!)
wait_for "$head"
if ((workers)); then
  "${start_workers[@]}" &
  steps+=($!)
  wait_for "${nodes[@]}"
fi
echo "slurm: Ray is up on ${#nodes[@]} nodes; submitting $CONFIG"
# In the background: bash runs a trap only between commands, or while it waits.
"${submit[@]}" &
submitted=$!
wait "$submitted"
