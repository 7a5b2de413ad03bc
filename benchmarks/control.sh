#!/usr/bin/env bash
# Is the gain of the quickstart due to the reward? The same run with rewards shuffled among siblings must not improve.
#   ./benchmarks/control.sh [section.key=value ...]           the toy, some ten minutes on two cores
#   ./benchmarks/control.sh smollm2 [section.key=value ...]   SmolLM2 on real text, an hour and more
set -euo pipefail
cd "$(dirname "$0")/.."
word=()
if [[ ${1:-} == smollm2 ]]; then
  word=(smollm2)
  shift
fi
for shuffle in false true; do
  ./launch/quickstart.sh "${word[@]}" "run.name=control_shuffle_$shuffle" "reward.shuffle=$shuffle" "$@"
done
"${VENV:-.venv}/bin/python" - <<'PY'
import json
from pathlib import Path

for shuffle in ("false", "true"):
    summary = json.loads(Path(f"runs/control_shuffle_{shuffle}/summary.json").read_text())
    print(f"shuffle={shuffle}: before {summary['before']['total']}, after {summary['after']['total']}, gain {summary['gain']}")
PY
