#!/usr/bin/env bash
# Serve a model as the judge: vLLM's OpenAI-compatible server with prefix caching, which the order of the prompts uses.
#   export VLLM_API_KEY=$(openssl rand -hex 32)      # every path but /health needs it
#   ./launch/judge_server.sh MODEL [any flag of vllm serve ...]
# MODEL is a hub name or a folder. Train against it with reward.judge.base_url=http://THIS_HOST:PORT/v1 and the same key
# as OPENAI_API_KEY. The server has an environment of its own, with the newest vLLM: the trainer's has the one that
# OpenRLHF pins, with known holes that only a server shows (docs/security.md).
#   python3.11 -m venv .venv-judge && .venv-judge/bin/pip install vllm==0.33.0
# HOST=0.0.0.0, where it listens; with HOST=127.0.0.1 it needs no key. PORT=8000; NAME=judge, the name in
# reward.judge.model; TENSOR_PARALLEL=1, the GPUs that share one copy of the model; MAX_MODEL_LEN=32768, room for what
# is extracted from a document of 64k tokens: the judge never reads it whole; VLLM=... the executable (default
# .venv-judge/bin/vllm, else the one in PATH, else the one in .venv). DRY_RUN=1 prints the command and starts nothing.
# Without a GPU the vLLM of launch/install.sh serves a small model, with what that model has of MAX_MODEL_LEN and
# VLLM_CPU_KVCACHE_SPACE=2, GB for its cache.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HOST=${HOST:-0.0.0.0}
PORT=${PORT:-8000}
NAME=${NAME:-judge}
TENSOR_PARALLEL=${TENSOR_PARALLEL:-1}
if [[ -z ${VLLM:-} ]]; then
  VLLM=vllm
  for folder in .venv-judge .venv; do
    if [[ $folder == .venv-judge || ! -x $(command -v vllm) ]] && [[ -x $here/$folder/bin/vllm ]]; then
      VLLM=$here/$folder/bin/vllm
      break
    fi
  done
fi

fail() { echo "judge_server: $*" >&2; exit 2; }
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
  "") fail "no model given; ./launch/judge_server.sh MODEL, a hub name or a folder" ;;
  -*) fail "the model comes first, got $1; ./launch/judge_server.sh MODEL $1 ..." ;;
esac
for word in "$@"; do
  # ps shows every command line to everyone on the machine.
  [[ $word != --api-key* && $word != --api_key* ]] || fail "${word%%=*} would show the key in ps; export VLLM_API_KEY"
  [[ $word != --host* ]] || fail "set HOST instead of $word, so that a server without a key is noticed"
done
for name in PORT TENSOR_PARALLEL; do
  [[ ${!name} =~ ^[1-9][0-9]*$ ]] || fail "$name is '${!name}'; give a whole number"
done

model=$1
shift
# The details of prompt tokens let judge.price.cached_prompt_per_million and the summary count cached tokens. No web page
# may use the server from a visitor's browser.
start=("$VLLM" serve "$model")
bin=$(dirname "$(command -v "$VLLM" || true)")
if compgen -G "$bin/../lib/python3*/site-packages/vllm_cpu-*" >/dev/null; then
  # `vllm serve` looks for a package called vllm, which is vllm-cpu there. Compiling takes minutes, and without a limit
  # the cache takes nearly all of the memory. -P: not what lies in the folder where the script is called. 0: one process
  # less that imports vLLM.
  start=("$bin/python" -P -m vllm.entrypoints.openai.api_server --model "$model" --enforce-eager)
  export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-2} TORCH_COMPILE_DISABLE=${TORCH_COMPILE_DISABLE:-1}
  export VLLM_ENABLE_V1_MULTIPROCESSING=${VLLM_ENABLE_V1_MULTIPROCESSING:-0}
  MAX_MODEL_LEN=${MAX_MODEL_LEN:-auto}
fi
command=("${start[@]}" --served-model-name "$NAME" --host "$HOST" --port "$PORT"
  --tensor-parallel-size "$TENSOR_PARALLEL" --max-model-len "${MAX_MODEL_LEN:-32768}" --enable-prefix-caching
  --enable-prompt-tokens-details --allowed-origins '[]')
if [[ -n ${VLLM_API_KEY:-} ]]; then
  command+=(--middleware judge_key.KeyOnEveryPath)
  export PYTHONPATH=$here/longreward/judge/own_server${PYTHONPATH:+:$PYTHONPATH}
elif [[ ! $HOST =~ ^(127\.[0-9.]+|::1|localhost)$ ]]; then
  fail "no key, and HOST=$HOST is open to others; export VLLM_API_KEY=\$(openssl rand -hex 32), or set HOST=127.0.0.1"
fi
command+=("$@")
if [[ ${DRY_RUN:-} == 1 ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
command -v "$VLLM" >/dev/null ||
  fail "$VLLM not found; python3.11 -m venv .venv-judge && .venv-judge/bin/pip install vllm==0.33.0, or set VLLM"
exec "${command[@]}"
