"""seams.py: the guards of all seams speak. That it fits what is installed is tested in test_cpu_backend.py."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any

import pytest

from rl.trainer import cpu_backend, seams
from rl.trainer.seams import Seam, SeamError, masking, remote_code
from rl.trainer.seams import cpu as cpu_seams
from rl.trainer.seams import lora as lora_seams

SEAMS = [*cpu_seams.SEAMS, *masking.SEAMS, *remote_code.SEAMS, *lora_seams.SEAMS]
each_seam = pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: f"{seam.module}.{seam.name}")


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
    for part in (package, seams.WRITTEN_FOR[package], seam.module, "was not found", "Install", seam.why):
        assert part in str(error.value)


@each_seam
def test_changed_parameters_are_named(seam: Seam) -> None:
    with pytest.raises(SeamError, match=r"takes \(.*new_in_upgrade\) instead of"):
        seam.apply(fake_module(seam, f"{seam.parameters} new_in_upgrade"))


@pytest.mark.parametrize("seam", [seam for seam in SEAMS if seam.source], ids=lambda seam: f"{seam.module}.{seam.name}")
def test_a_changed_source_is_named(seam: Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams.inspect, "getsource", lambda function: "def function(): pass")
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
    assert seam.module.partition(".")[0] in seams.WRITTEN_FOR


def test_a_flash_attn_name_the_stub_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("einops")
    before = {name: module for name, module in sys.modules.items() if name.startswith("flash_attn")}
    with pytest.raises(SeamError, match="cannot import name 'new_kernel'"), cpu_backend.flash_attn_stub():
        exec("from flash_attn.bert_padding import new_kernel")
    assert {name: module for name, module in sys.modules.items() if name.startswith("flash_attn")} == before


def test_the_flash_attn_stub_explains_itself() -> None:
    pytest.importorskip("einops")
    with cpu_backend.flash_attn_stub():
        unpad = sys.modules["flash_attn.bert_padding"].unpad_input
    with pytest.raises(RuntimeError, match=r"flash attention does not run without CUDA.*packing_samples"):
        unpad(1, 2)


def test_two_rooms_may_have_seams_in_the_same_module(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asked the other for the module, without end."""
    (tmp_path / "module_with_two_seams.py").write_text("def one(): return 1\ndef two(): return 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("one", "two"):
        seams.install([Seam("module_with_two_seams", name, "", "Why.", lambda original: 10 * original())])
    import module_with_two_seams as module  # type: ignore[import-not-found]

    assert (module.one(), module.two()) == (10, 20)
