#!/usr/bin/env bash
# Train a toy policy with LongReward on a machine without a GPU: the real OpenRLHF + vLLM + DeepSpeed loop.
#   ./launch/quickstart.sh [section.key=value ...]
# Ends with a table of the held-out rewards before and after, and where the run directory is.
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/install.sh
exec "${VENV:-.venv}/bin/python" rl/train.py --config configs/grpo_cpu.yaml "$@"
