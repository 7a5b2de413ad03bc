"""rl/trainer/cpu_backend.py: it changes nothing where a GPU is, and it and the seams fit what is installed.

Patches are process-wide, so whatever is really applied is applied in a subprocess.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rl.trainer import cpu_backend

ROOT = Path(cpu_backend.__file__).parents[1]
TOY = Path(cpu_backend.__file__).parents[1] / "toy" / "policy"
PACKAGES = ("openrlhf", "vllm", "deepspeed", "torch")
needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="openrlhf, vllm or deepspeed not installed"
)


def run(code: str, **variables: str) -> Any:
    """Run code in a fresh process and return the JSON that it printed last."""
    environment = {key: value for key, value in os.environ.items() if key != cpu_backend.DEVICE_VARIABLE}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_the_device_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu_backend.DEVICE_VARIABLE, "cpu")
    assert cpu_backend.is_needed() is True
    monkeypatch.setenv(cpu_backend.DEVICE_VARIABLE, "gpu")
    assert cpu_backend.is_needed() is False


@pytest.mark.parametrize("function", [cpu_backend.is_needed, cpu_backend.apply, cpu_backend.apply_in_vllm])
def test_an_unknown_device_is_refused(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu_backend.DEVICE_VARIABLE, "tpu")
    with pytest.raises(ValueError, match="LONGREWARD_DEVICE='tpu' is not known: set it to cpu or gpu"):
        function()


def test_apply_imports_nothing_heavy_and_repeats() -> None:
    seen = run(
        """
        import json, sys
        from rl.trainer import cpu_backend
        cpu_backend.apply(); cpu_backend.apply(); cpu_backend.apply_in_vllm()
        heavy = sorted({"torch", "ray", "vllm", "openrlhf", "transformers", "deepspeed"} & sys.modules.keys())
        finders = [finder for finder in sys.meta_path if type(finder).__name__ == "SeamFinder"]
        print(json.dumps([heavy, len(finders)]))
        """,
        LONGREWARD_DEVICE="cpu",
    )
    assert seen == [[], 1]


def test_the_vllm_plugin_leaves_bystanders_alone() -> None:
    seen = run(
        """
        import json, sys
        from rl.trainer import cpu_backend
        before = list(sys.meta_path), set(sys.modules)
        cpu_backend.apply_in_vllm()
        print(json.dumps([before[0] == sys.meta_path, sorted(set(sys.modules) - before[1])]))
        """
    )
    assert seen == [True, []]


def test_importing_openrlhf_first_is_refused() -> None:
    message = run(
        """
        import json, sys, types
        from rl.trainer import cpu_backend
        sys.modules["openrlhf.utils.distributed_util"] = types.ModuleType("early")
        try:
            cpu_backend.apply()
        except RuntimeError as error:
            print(json.dumps(str(error)))
        """,
        LONGREWARD_DEVICE="cpu",
    )
    assert "call apply() before that import" in message


@needs_packages
def test_the_installed_versions_are_those_it_was_written_for() -> None:
    assert cpu_backend.version_differences() == []


def test_another_version_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_backend, "installed_version", lambda package: "9.9")
    assert (
        "openrlhf 9.9 is installed; rl/trainer/cpu_backend.py was written for 0.11.2."
        in cpu_backend.version_differences()
    )


@needs_packages
def test_flags_exist_in_openrlhf() -> None:
    spec = importlib.util.find_spec("openrlhf")
    assert spec is not None and spec.origin is not None
    parser = (Path(spec.origin).parent / "cli" / "train_ppo_ray.py").read_text()
    for flag in (*cpu_backend.openrlhf_defaults(), *cpu_backend.UNSUPPORTED_FLAGS):
        assert f'"--{flag}"' in parser


def test_environment_holds_strings_and_the_decision() -> None:
    environment = cpu_backend.environment()
    assert environment[cpu_backend.DEVICE_VARIABLE] == "cpu"
    assert all(isinstance(value, str) for value in environment.values())


IDENTITIES = """
    import json, os, sys
    import torch
    {fake}
    from rl.trainer import cpu_backend
    from rl.trainer.seams import cpu as cpu_seams
    originals = {{s.name: getattr(torch.cuda, s.name) for s in cpu_seams.SEAMS if s.module == "torch.cuda"}}
    finders, modules, environment = list(sys.meta_path), set(sys.modules), dict(os.environ)
    cpu_backend.apply()
    cpu_backend.apply_in_vllm()
    changed = [name for name, value in originals.items() if getattr(torch.cuda, name) is not value]
    assert finders == sys.meta_path and environment == dict(os.environ)
    assert "flash_attn" not in sys.modules
    print(json.dumps([changed, sorted(name for name in set(sys.modules) - modules)]))
"""


@needs_packages
@pytest.mark.parametrize(
    ("fake", "variables"),
    [("torch.cuda.is_available = lambda: True", {}), ("", {"LONGREWARD_DEVICE": "gpu"})],
    ids=["detected", "requested"],
)
def test_with_a_gpu_nothing_changes(fake: str, variables: dict[str, str]) -> None:
    assert run(IDENTITIES.format(fake=fake), **variables) == [[], []]


@needs_packages
def test_every_seam_fits_the_installed_packages() -> None:
    seen = run(
        """
        import importlib, json, sys
        from rl.trainer import cpu_backend
        from rl.trainer.seams import cpu as cpu_seams
        cpu_backend.apply()
        applied = {}
        for seam in cpu_seams.SEAMS:
            module = importlib.import_module(seam.module)
            value = seam._find(module, seam.name)
            applied[f"{seam.module}.{seam.name}"] = getattr(value, "_longreward_seam", False) == bool(seam.replacement)
        import torch, transformers
        from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer
        from openrlhf.trainer.ray import ppo_actor
        from openrlhf.utils import distributed_util
        assert ppo_actor.stateless_init_process_group is distributed_util.stateless_init_process_group
        assert NaiveReplayBuffer(1).target_device == torch.cuda.current_device() == torch.device("cpu")
        assert "flash_attn" not in sys.modules and not transformers.utils.is_flash_attn_2_available()
        assert distributed_util.__spec__.loader.get_source(distributed_util.__name__)
        print(json.dumps([name for name, ok in applied.items() if not ok]))
        """,
        **cpu_backend.environment(),
    )
    assert seen == []


@needs_packages
@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, "torch.bfloat16"), (False, "torch.float32")])
def test_learner_and_engine_take_float32_where_bfloat16_is_slow(has_bfloat16: bool, dtype: str) -> None:
    seen = run(
        f"""
        import json
        from rl.trainer import cpu_backend
        cpu_backend.apply()
        import torch, vllm
        torch.ops.mkldnn._is_mkldnn_bf16_supported = lambda: {has_bfloat16}
        from openrlhf.models import actor
        from openrlhf.utils.deepspeed import deepspeed
        from openrlhf.utils import utils
        model = {str(TOY)!r}
        engine = vllm.AsyncEngineArgs(model=model, dtype="bfloat16").create_model_config().dtype
        learner = actor.Actor(model, attn_implementation="sdpa", param_dtype="bf16").model.dtype
        configs = [deepspeed.get_train_ds_config(False, param_dtype="bf16"), deepspeed.get_eval_ds_config(False)]
        print(json.dumps([str(engine), str(learner), [config["bf16"]["enabled"] for config in configs]]))
        """,
        **cpu_backend.environment(),
    )
    assert seen == [dtype, dtype, [has_bfloat16, has_bfloat16]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")
def test_a_child_of_multiprocessing_ends_with_its_parent() -> None:
    code = """
        import multiprocessing, os, signal, sys, time
        from rl.trainer import cpu_backend

        def child(queue):
            cpu_backend.apply_in_vllm()
            queue.put(os.getpid())
            time.sleep(60)

        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        context.Process(target=child, args=(queue,), daemon=True).start()
        print(queue.get(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), cpu_backend.DEVICE_VARIABLE: "cpu"}
    # The pipe reaches its end only when the child, which inherited it, is gone too.
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=15
    )
    assert result.stdout.strip().isdigit()
