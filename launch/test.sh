#!/usr/bin/env bash
# Run all checks and all tests, the end-to-end ones on real Ray, vLLM and DeepSpeed included.
#   ./launch/test.sh               everything
#   ./launch/test.sh -m 'not e2e'  the fast ones; any pytest arguments go here
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/install.sh
bin=${VENV:-.venv}/bin
"$bin/ruff" check --quiet .
"$bin/ruff" format --check --quiet .
"$bin/mypy" --no-error-summary
"$bin/lint-imports" --no-cache --no-logo
# Two processes: an end-to-end test waits for one thing after another and leaves half of two cores idle.
exec "$bin/python" -m pytest -n 2 "$@"
