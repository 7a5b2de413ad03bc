#!/usr/bin/env bash
# Serve a model as the judge: vLLM's OpenAI-compatible server with prefix caching, which the order of the prompts uses.
#   ./launch/judge_server.sh MODEL [any flag of vllm serve ...]
# MODEL is a hub name or a folder. Train against it with reward.judge.base_url=http://THIS_HOST:PORT/v1.
# PORT=8000; NAME=judge, the name in reward.judge.model; TENSOR_PARALLEL=1, the GPUs that share one copy of the model;
# MAX_MODEL_LEN=32768, room for what is extracted from a document of 64k tokens: the judge never reads it whole;
# VLLM=... the executable (default .venv/bin/vllm, else the one in PATH); VLLM_API_KEY=... makes the server ask for that
# key: give it to the trainer as OPENAI_API_KEY. It guards /v1 only, so keep the port inside your network.
# DRY_RUN=1 prints the command and starts nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PORT=${PORT:-8000}
NAME=${NAME:-judge}
TENSOR_PARALLEL=${TENSOR_PARALLEL:-1}
MAX_MODEL_LEN=${MAX_MODEL_LEN:-32768}
if [[ -z ${VLLM:-} ]]; then
  VLLM=vllm
  if [[ -x $here/.venv/bin/vllm ]]; then VLLM=$here/.venv/bin/vllm; fi
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
done
for name in PORT TENSOR_PARALLEL; do
  [[ ${!name} =~ ^[1-9][0-9]*$ ]] || fail "$name is '${!name}'; give a whole number"
done

model=$1
shift
# The details of prompt tokens let judge.price.cached_prompt_per_million and the summary count cached tokens.
command=("$VLLM" serve "$model" --served-model-name "$NAME" --port "$PORT" --tensor-parallel-size "$TENSOR_PARALLEL"
  --max-model-len "$MAX_MODEL_LEN" --enable-prefix-caching --enable-prompt-tokens-details "$@")
if [[ ${DRY_RUN:-} == 1 ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
command -v "$VLLM" >/dev/null || fail "$VLLM not found; pip install '.[gpu]', or set VLLM"
exec "${command[@]}"
