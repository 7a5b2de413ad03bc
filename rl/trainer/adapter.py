"""A LoRA adapter, as OpenRLHF leaves it at the end of a training, made into a whole model."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rl.trainer import learner_process


def merge(directory: Path, base: str, dtype: str, log: Path, stall_s: float) -> None:
    """Make the adapter in the run's `model` folder a whole model there, with OpenRLHF's lora_combiner; the adapter is
    then in `adapter`. OpenRLHF saves it alone, and vLLM and the next training need the whole model.

    `base` is the model that was adapted, `dtype` bf16 or fp16. PartDiedError or StalledError where it fails; what it
    said is in `log`.
    """
    model, adapter, whole = (directory / name for name in ("model", "adapter", "model.merging"))
    shutil.rmtree(whole, ignore_errors=True)
    shutil.rmtree(adapter, ignore_errors=True)
    adapter.mkdir()
    for path in model.glob("adapter_*"):
        path.rename(adapter / path.name)
    flags = ["--model_path", base, "--lora_path", adapter, "--output_path", whole, "--ds.param_dtype", dtype]
    words = [sys.executable, "-m", "rl.trainer.learner", "openrlhf.cli.lora_combiner", *map(str, flags)]
    learner_process.start(words, log, lambda line: None, stall_s)
    shutil.rmtree(model)  # OpenRLHF's tokenizer and config.json; or an earlier model, if the run was continued
    whole.rename(model)
