"""rl/cpu_backend.py: its guards speak, it changes nothing where a GPU is, and it fits what is installed.

Patches are process-wide, so whatever is really applied is applied in a subprocess.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

from rl import cpu_backend
from rl.cpu_backend import SEAMS, Seam, SeamError

ROOT = Path(cpu_backend.__file__).parents[1]
PACKAGES = ("openrlhf", "vllm", "deepspeed", "torch")
needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="openrlhf, vllm or deepspeed not installed"
)
each_seam = pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: f"{seam.module}.{seam.name}")


def run(code: str, **variables: str) -> Any:
    """Run code in a fresh process and return the JSON that it printed last."""
    environment = {key: value for key, value in os.environ.items() if key != cpu_backend.DEVICE_VARIABLE}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def fake_module(seam: Seam, parameters: str) -> types.ModuleType:
    """A module that holds the seam's name and nothing else."""
    module = types.ModuleType(seam.module)
    names = "".join(f", {name}" for name in parameters.split())
    namespace: dict[str, Any] = {}
    exec(f"def function({names[2:]}): return 'original'", namespace)
    owner: Any = module
    *path, attribute = seam.name.split(".")
    for part in path:
        setattr(owner, part, type(part, (), {}))
        owner = getattr(owner, part)
    setattr(owner, attribute, namespace["function"])
    return module


@each_seam
def test_a_missing_name_is_named(seam: Seam) -> None:
    with pytest.raises(SeamError) as error:
        seam.apply(types.ModuleType(seam.module))
    package = seam.module.partition(".")[0]
    for part in (package, cpu_backend.WRITTEN_FOR[package], seam.module, "was not found", "Install", seam.why):
        assert part in str(error.value)


@each_seam
def test_changed_parameters_are_named(seam: Seam) -> None:
    with pytest.raises(SeamError, match=r"takes \(.*new_in_upgrade\) instead of"):
        seam.apply(fake_module(seam, f"{seam.parameters} new_in_upgrade"))


@pytest.mark.parametrize("seam", [seam for seam in SEAMS if seam.source], ids=lambda seam: f"{seam.module}.{seam.name}")
def test_a_changed_source_is_named(seam: Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_backend.inspect, "getsource", lambda function: "def function(): pass")
    module = fake_module(seam, seam.parameters)
    if seam.source_of:
        other = fake_module(dataclasses.replace(seam, name=seam.source_of), "")
        vars(module).update({key: value for key, value in vars(other).items() if not key.startswith("__")})
    with pytest.raises(SeamError, match="no longer contains"):
        seam.apply(module)


@each_seam
def test_a_seam_is_applied_once(seam: Seam) -> None:
    seam = dataclasses.replace(seam, source="")
    module = fake_module(seam, seam.parameters)
    found = []
    for _ in range(2):
        seam.apply(module)
        found.append(seam._find(module, seam.name))
    assert found[0] is found[1]
    assert getattr(found[0], "_longreward_seam", False) is (seam.replacement is not None)


@each_seam
def test_every_seam_says_why_and_for_which_version(seam: Seam) -> None:
    assert seam.why.endswith(".")
    assert seam.module.partition(".")[0] in cpu_backend.WRITTEN_FOR


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
        from rl import cpu_backend
        cpu_backend.apply(); cpu_backend.apply(); cpu_backend.apply_in_vllm()
        heavy = sorted({"torch", "ray", "vllm", "openrlhf", "transformers", "deepspeed"} & sys.modules.keys())
        finders = [finder for finder in sys.meta_path if type(finder).__name__ == "_SeamFinder"]
        print(json.dumps([heavy, len(finders)]))
        """,
        LONGREWARD_DEVICE="cpu",
    )
    assert seen == [[], 1]


def test_the_vllm_plugin_leaves_bystanders_alone() -> None:
    seen = run(
        """
        import json, sys
        from rl import cpu_backend
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
        from rl import cpu_backend
        sys.modules["openrlhf.utils.distributed_util"] = types.ModuleType("early")
        try:
            cpu_backend.apply()
        except RuntimeError as error:
            print(json.dumps(str(error)))
        """,
        LONGREWARD_DEVICE="cpu",
    )
    assert "call apply() before that import" in message


def test_a_flash_attn_name_the_stub_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("einops")
    before = {name: module for name, module in sys.modules.items() if name.startswith("flash_attn")}
    with pytest.raises(SeamError, match="cannot import name 'new_kernel'"), cpu_backend._flash_attn_stub():
        exec("from flash_attn.bert_padding import new_kernel")
    assert {name: module for name, module in sys.modules.items() if name.startswith("flash_attn")} == before


def test_the_flash_attn_stub_explains_itself() -> None:
    pytest.importorskip("einops")
    with cpu_backend._flash_attn_stub():
        unpad = sys.modules["flash_attn.bert_padding"].unpad_input
    with pytest.raises(RuntimeError, match=r"flash attention does not run without CUDA.*packing_samples"):
        unpad(1, 2)


@needs_packages
def test_the_installed_versions_are_those_it_was_written_for() -> None:
    assert cpu_backend.version_differences() == []


def test_another_version_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_backend, "installed_version", lambda package: "9.9")
    assert "openrlhf 9.9 is installed; rl/cpu_backend.py was written for 0.11.2." in cpu_backend.version_differences()


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
    from rl import cpu_backend
    originals = {{s.name: getattr(torch.cuda, s.name) for s in cpu_backend.SEAMS if s.module == "torch.cuda"}}
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
        from rl import cpu_backend
        cpu_backend.apply()
        applied = {}
        for seam in cpu_backend.SEAMS:
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")
def test_a_child_of_multiprocessing_ends_with_its_parent() -> None:
    code = """
        import multiprocessing, os, signal, sys, time
        from rl import cpu_backend

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
