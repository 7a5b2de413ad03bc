#!/usr/bin/env bash
# Train a policy with LongReward on a machine without a GPU: the real OpenRLHF + vLLM + DeepSpeed loop.
#   ./launch/quickstart.sh [section.key=value ...]           a toy policy and a toy language, some seven minutes
#   ./launch/quickstart.sh smollm2 [section.key=value ...]   SmolLM2-135M-Instruct and real text, some 40 minutes
# Ends with a table of the held-out rewards before and after, and where the run directory is.
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/install.sh
python=${VENV:-.venv}/bin/python
config=configs/grpo_cpu.yaml
if [[ ${1:-} == smollm2 ]]; then
  shift
  config=configs/grpo_smollm2_cpu.yaml
  "$python" benchmarks/real/make_data.py --out data
fi
exec "$python" rl/train.py --config "$config" "$@"
