#!/usr/bin/env bash
# Is the gain of the quickstart due to the reward? The same run with rewards shuffled among siblings must not improve.
#   ./benchmarks/control.sh [section.key=value ...]      some ten minutes on two cores
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/install.sh
python=${VENV:-.venv}/bin/python
for shuffle in false true; do
  "$python" rl/train.py --config configs/grpo_cpu.yaml "run.name=control_shuffle_$shuffle" "reward.shuffle=$shuffle" "$@"
done
"$python" - <<'PY'
import json
from pathlib import Path

for shuffle in ("false", "true"):
    summary = json.loads(Path(f"runs/control_shuffle_{shuffle}/summary.json").read_text())
    print(f"shuffle={shuffle}: before {summary['before']['total']}, after {summary['after']['total']}, gain {summary['gain']}")
PY
