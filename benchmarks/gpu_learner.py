"""Does the memory arithmetic in the comments of configs/paper/*.yaml hold? OpenRLHF's train_dpo on one GPU, measured.

    python benchmarks/gpu_learner.py                       # one GPU: Llama-3.2-1B's shape, 8k, 32k and 64k tokens
    python benchmarks/gpu_learner.py --device cpu          # tries the script alone: a tiny shape, a minute

The weights are random and the pairs made up, so nothing is downloaded. A length is what the GPU holds at once: the two
halves of one pair, each with its own copy of the prompt. Each runs in a process of its own: a first step, then --steps
that count. Printed are the arithmetic, term by term, and beside it the allocator's peak (without the CUDA context) and
the seconds of a step. Not measured: several GPUs, ring attention, whether anything is learned. On a CPU the memory is
that of the process, libraries included, and says nothing about a GPU.

It needs torch, transformers, datasets, peft and torchdata, and beside them openrlhf 0.11.2 and deepspeed 0.19.6 with
einops, hjson, msgpack, py-cpuinfo and pylatexenc: on a machine without a network they can be carried in a folder of
PYTHONPATH. DeepSpeed compiles its Adam at the start, with nvcc and ninja. Without flash attention torch's own is used
(sdpa); --attention names another.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GB = 1e9
CONTEXT = "CUDA context and NCCL (assumed)"
_WORDS = 500  # different words of the pairs


@dataclass(frozen=True)
class Shape:
    """A Llama."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    intermediate: int
    vocabulary: int
    tied: bool

    @property
    def parameters(self) -> int:
        attention = 2 * self.hidden * self.head * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * layer + self.hidden + self.vocabulary * self.hidden * (1 if self.tied else 2)


LLAMA_1B = Shape(16, 2048, 32, 8, 64, 8192, 128256, tied=True)
LLAMA_8B = Shape(32, 4096, 32, 8, 128, 14336, 128256, tied=False)
GLM_9B = Shape(40, 4096, 32, 2, 128, 13696, 151552, tied=False)  # without its few biases
TINY = Shape(2, 256, 4, 2, 64, 512, 2048, tied=True)


def arithmetic(shape: Shape, tokens: int, gpus: int = 1, reference: bool = True) -> dict[str, float]:
    """Bytes on each GPU by what they are for, as the comments of configs/paper/*.yaml count them: bf16, ZeRO-3 over all
    `gpus`, gradient checkpointing, and ring attention where there are several. `tokens` are those of one GPU."""
    n, kv = shape.parameters, shape.kv_heads * shape.head
    terms = {
        "weights, bf16": 2 * n / gpus,
        "gradients, bf16": 2 * n / gpus,
        "optimizer: fp32 weights and Adam": 12 * n / gpus,
        "reference, bf16": 2 * n / gpus if reference else 0.0,
        # DeepSpeed's own limits: 1e9 gathered parameters that live, a bucket of 5e8.
        "layers gathered by ZeRO-3 and its buckets": 2 * min(n, 1e9) + 2 * min(n, 5e8),
        "logits: fp32, their gradient in fp32 and bf16": 10.0 * tokens * shape.vocabulary,
        "activations: one per layer": 2.0 * tokens * shape.hidden * shape.layers,
        # For its backward: two norms, queries, keys and the attention's output, four tensors of the MLP; and four
        # gradients of the MLP.
        "activations: the layer at work": tokens * (20.0 * shape.hidden + 4 * kv + 16 * shape.intermediate),
    }
    if gpus > 1:
        heads = min(
            4, shape.kv_heads
        )  # ds.ring_attn_head_stride; keys and values, bf16, two buffers, and their gradients
        terms["keys and values of the ring"] = 2.0 * tokens * gpus * heads * shape.head * 2 * 2 * 2
    return terms | {CONTEXT: 2 * GB}


def settled(terms: dict[str, float]) -> float:
    """What stays between two steps."""
    return sum(list(terms.values())[:4])


def make_model(folder: Path, shape: Shape, device: str) -> None:
    """A random Llama of this shape, and a tokenizer with a token for each word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head,
        max_position_embeddings=131072,
        rope_parameters=rope,
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.device(device):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    words = {"<pad>": 0, "<eos>": 1} | {f"w{number}": number + 2 for number in range(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)


def make_pairs(path: Path, tokens: int, count: int) -> None:
    """Pairs of `tokens` tokens in all, both halves equally long: none of them is padding."""
    half = tokens // 2
    answer = min(256, half // 4)

    def text(length: int, start: int) -> str:
        return "".join(f" w{(start + 7 * place) % _WORDS}" for place in range(length))

    with path.open("w") as file:
        for number in range(count):
            # train_dpo adds the end mark, a token.
            chosen, rejected = text(answer - 1, number), text(answer - 1, number + 3)
            row = {"prompt": text(half - answer, 5 * number), "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(row) + "\n")


def learn(settings: dict[str, Any]) -> None:
    """In a process of its own: train_dpo, and what it took as JSON in `settings["result"]`."""
    from rl.trainer import cpu_backend

    cpu_backend.apply()
    import torch

    if not cpu_backend.is_needed() and importlib.util.find_spec("flash_attn") is None:
        with cpu_backend.flash_attn_stub():
            importlib.import_module(cpu_backend.FLASH_ATTN_USER)
    from openrlhf.trainer.dpo_trainer import DPOTrainer
    from openrlhf.utils.deepspeed.deepspeed import DeepspeedStrategy

    memory, found = Memory(cpu=settings["device"] == "cpu"), {"out_of_memory": False}
    ends: list[float] = []
    step, fit = DeepspeedStrategy.optimizer_step, DPOTrainer.fit

    def timed_step(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        memory.wait()
        ends.append(time.monotonic())
        if len(ends) == 1:  # this one compiles and allocates
            found["settled"] = memory.now()
            memory.forget_peak()

    def measured_fit(*args: Any, **kwargs: Any) -> None:
        try:
            fit(*args, **kwargs)
        except torch.cuda.OutOfMemoryError:
            found["out_of_memory"] = True
        found["peak"], found["seconds"] = memory.peak(), [after - before for before, after in pairwise(ends)]
        Path(settings["result"]).write_text(json.dumps(found))
        raise SystemExit(0)  # it would save the model

    DeepspeedStrategy.optimizer_step, DPOTrainer.fit = timed_step, measured_fit
    sys.argv = ["train_dpo", *settings["argv"]]
    runpy.run_module("openrlhf.cli.train_dpo", run_name="__main__")


@dataclass(frozen=True)
class Memory:
    """Bytes of the GPU's allocator, or of this process where there is none."""

    cpu: bool

    def wait(self) -> None:
        import torch

        if not self.cpu:
            torch.cuda.synchronize()

    def now(self) -> int:
        import torch

        return self._of_process("VmRSS") if self.cpu else torch.cuda.memory_allocated()

    def peak(self) -> int:
        import torch

        return self._of_process("VmHWM") if self.cpu else torch.cuda.max_memory_allocated()

    def forget_peak(self) -> None:
        import torch

        if self.cpu:
            Path("/proc/self/clear_refs").write_text("5")
        else:
            torch.cuda.reset_peak_memory_stats()

    @staticmethod
    def _of_process(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def measure(folder: Path, tokens: int, options: argparse.Namespace) -> dict[str, Any]:
    """What train_dpo took for pairs of this length. RuntimeError with the end of its log where it failed."""
    pairs, result = folder / f"{tokens}.jsonl", folder / f"{tokens}.json"
    make_pairs(pairs, tokens, options.steps + 1)
    # As configs/paper/llama31_8b_dpo.yaml has them.
    flags = ["--model.beta=0.15", "--model.nll_loss_coef=0.1", "--model.gradient_checkpointing_enable"]
    flags += ["--adam.lr=1e-6", "--train.batch_size=1", "--train.micro_batch_size=1", "--train.max_epochs=1"]
    flags += [f"--ds.zero_stage={options.zero_stage}", f"--ds.attn_implementation={options.attention}"]
    flags += ["--ds.packing_samples"] if "flash" in options.attention else []
    flags += [f"--model.model_name_or_path={folder / 'model'}", f"--data.dataset={pairs}", "--data.prompt_key=prompt"]
    flags += [f"--data.max_len={tokens // 2}", f"--ckpt.output_dir={folder / 'out'}"]
    settings = {"device": options.device, "argv": flags, "result": str(result)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    device = {"LONGREWARD_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"} if options.device == "cpu" else {}
    command = [sys.executable, __file__, "--learn", json.dumps(settings)]
    done = subprocess.run(
        command, env=os.environ | one | device | {"PYTHONPATH": path}, capture_output=True, text=True, errors="replace"
    )
    if not result.exists():
        raise RuntimeError(f"train_dpo ended with {done.returncode} at {tokens} tokens: {done.stderr[-3000:]}")
    return dict(json.loads(result.read_text()))


def report(shape: Shape, tokens: int, found: dict[str, Any]) -> None:
    """A table for one length, in GB."""
    terms = arithmetic(shape, tokens)
    print(f"\n{tokens:,} tokens: a pair of 2 x {tokens // 2:,}\n\n| GB | arithmetic | measured |\n|---|---|---|")
    for name, amount in terms.items():
        print(f"| {name} | {amount / GB:.3g} | |")
    stays = f"{found['settled'] / GB:.3g}" if "settled" in found else "not reached"
    print(f"| between two steps: weights, gradients, optimizer, reference | {settled(terms) / GB:.3g} | {stays} |")
    peak = f"out of memory above {found['peak'] / GB:.3g}" if found["out_of_memory"] else f"{found['peak'] / GB:.3g}"
    print(f"| peak, without the context | {(sum(terms.values()) - terms[CONTEXT]) / GB:.3g} | {peak} |")
    if found["seconds"]:
        each = statistics.median(found["seconds"])
        spread = f"{min(found['seconds']):.2f} to {max(found['seconds']):.2f}"
        print(f"\n{each:.2f} s a step ({spread}, {len(found['seconds'])} steps), {tokens / each:,.0f} tokens a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tokens", type=int, nargs="+", help="of a pair; 8192 32768 65536, on a CPU 512 1024")
    parser.add_argument("--steps", type=int, default=3, help="that count, after a first one (default 3)")
    parser.add_argument("--zero-stage", type=int, default=3, help="DeepSpeed's (default 3, as in the configurations)")
    parser.add_argument("--attention", help="OpenRLHF's ds.attn_implementation; flash_attention_2 where it is, or sdpa")
    parser.add_argument("--learn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.learn:
        return learn(json.loads(options.learn))
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_learner: no GPU is found here; run it on a machine with one, or try it with --device cpu")
    on_cpu = options.device == "cpu"
    flash = not on_cpu and importlib.util.find_spec("flash_attn") is not None
    options.attention = options.attention or ("flash_attention_2" if flash else "sdpa")
    shape, name = (TINY, "CPU") if on_cpu else (LLAMA_1B, "")
    name = name or torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, {options.attention}, ZeRO-{options.zero_stage}, {shape}")
    print(f"{shape.parameters / GB:.3f}e9 parameters; 1 GB = 1e9 bytes")
    if on_cpu:
        print("No GPU was used: this tries the script. The memory is that of a process, libraries included.")
    with tempfile.TemporaryDirectory(prefix="gpu-learner-") as folder:
        make_model(Path(folder, "model"), shape, options.device)
        for tokens in options.tokens or ([512, 1024] if on_cpu else [8192, 32768, 65536]):
            report(shape, tokens, measure(Path(folder), tokens, options))


if __name__ == "__main__":
    main()
