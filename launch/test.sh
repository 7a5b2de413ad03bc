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
# One process for the end-to-end tests, one for the fast ones, which mostly wait.
exec "$bin/python" -m pytest -n 2 "$@"
