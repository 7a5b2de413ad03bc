"""What vLLM is sent of a LoRA model, by OpenRLHF's own sending: the merged weights under the plain model's names."""

from __future__ import annotations

import copy
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")
torch = pytest.importorskip("torch")

from rl.trainer import adapter, cpu_backend, seams  # noqa: E402
from rl.trainer.seams import lora  # noqa: E402

ROOT = Path(__file__).parents[3]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def ppo_actor():
    """OpenRLHF's module, as on a machine without CUDA, in a process group of one."""
    patch = pytest.MonkeyPatch()
    for name, value in cpu_backend.environment().items():
        patch.setenv(name, value)
    cpu_backend.apply()
    from openrlhf.trainer.ray import ppo_actor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield ppo_actor
    torch.distributed.destroy_process_group()
    patch.undo()


def adapted(targets: list[str], *, dtype: Any = torch.bfloat16, biased: bool = True, **lora_config: Any) -> Any:
    """A tiny Llama with an adapter, all of random weights."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=32, tie_word_embeddings=False, attention_bias=biased, **sizes)
    plain = LlamaForCausalLM(config).to(dtype)
    model = get_peft_model(plain, LoraConfig(r=4, lora_alpha=12, target_modules=targets, **lora_config))
    for name, weights in model.named_parameters():
        if "lora_" in name or "bias" in name:  # B is zero at first, and so is a bias
            torch.nn.init.normal_(weights, std=0.2)
    return model.to(dtype)


def sent(ppo_actor: Any, model: Any, monkeypatch: pytest.MonkeyPatch, stage: int = 2) -> list[tuple[str, Any]]:
    """Name and value of all that OpenRLHF sends to an engine with the seam, in that order."""
    names: list[str] = []
    values: list[Any] = []

    def told(name: str, dtype: Any, shape: Any, empty_cache: bool) -> None:
        names.append(name)

    def broadcast(tensor: Any, src: int, stream: Any) -> None:
        values.append(tensor.clone())

    engine = SimpleNamespace(
        update_weight=SimpleNamespace(remote=told), reset_prefix_cache=SimpleNamespace(remote=lambda: None)
    )
    args = SimpleNamespace(
        vllm=SimpleNamespace(enable_prefix_caching=True, sync_with_ray=False),
        ds=SimpleNamespace(zero_stage=stage, tensor_parallel_size=1),
    )
    actor = SimpleNamespace(model=SimpleNamespace(module=model), is_vlm=False)
    trainer = SimpleNamespace(
        actor=actor,
        strategy=SimpleNamespace(args=args),
        vllm_engines=[engine],
        use_cuda_ipc=False,
        _model_update_group=SimpleNamespace(broadcast=broadcast),
    )
    monkeypatch.setattr(ppo_actor.ray, "get", lambda references: references)
    lora.broadcast_to_vllm(ppo_actor.ActorPPOTrainer.broadcast_to_vllm, trainer)
    assert trainer.actor is actor
    return list(zip(names, values, strict=True))


CASES = {
    "all linear layers": {"targets": LINEAR},
    "a few, with dropout": {"targets": ["q_proj", "down_proj"], "lora_dropout": 0.3},
    "embeddings and head": {"targets": ["embed_tokens", "lm_head", "v_proj"]},
    "without biases": {"targets": LINEAR, "biased": False},
    "float32": {"targets": LINEAR, "dtype": torch.float32},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_vllm_gets_what_peft_would_merge_under_the_plain_models_names(ppo_actor, case, monkeypatch):
    model = adapted(**case)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    places = {name: weights.data_ptr() for name, weights in model.named_parameters()}
    found = sent(ppo_actor, model, monkeypatch)
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert places == {name: weights.data_ptr() for name, weights in model.named_parameters()}
    wanted = copy.deepcopy(model).merge_and_unload().state_dict()
    assert sorted(name for name, _ in found) == sorted(wanted)
    assert all(torch.equal(value, wanted[name]) and value.dtype == wanted[name].dtype for name, value in found)
    plain = model.unload().state_dict()
    assert any(not torch.equal(value, plain[name]) for name, value in found), "the adapter did nothing"


def test_a_model_without_an_adapter_is_sent_as_it_is(ppo_actor, monkeypatch):
    plain = adapted(LINEAR).unload()
    found = sent(ppo_actor, plain, monkeypatch)
    assert [name for name, _ in found] == [name for name, _ in plain.named_parameters()]
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in found)


def test_parameters_in_parts_are_put_together(ppo_actor, monkeypatch):
    import deepspeed

    model = adapted(LINEAR)
    wanted = copy.deepcopy(model).merge_and_unload().state_dict()
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    }
    monkeypatch.setenv("LOCAL_RANK", "0")
    deepspeed.init_distributed("gloo")
    engine, *_ = deepspeed.initialize(model=model, config=config, model_parameters=model.parameters())
    assert all(weights.numel() == 0 for weights in engine.module.parameters())
    found = sent(ppo_actor, engine.module, monkeypatch, stage=3)
    assert sorted(name for name, _ in found) == sorted(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in found)
    assert all(weights.numel() == 0 for weights in engine.module.parameters())


def test_an_openrlhf_of_another_shape_stops_with_the_sentence():
    module = types.ModuleType("openrlhf.trainer.ray.ppo_actor")
    module.ActorPPOTrainer = type("ActorPPOTrainer", (), {"broadcast_to_vllm": sent_otherwise})  # type: ignore[attr-defined]
    with pytest.raises(seams.SeamError, match=r"no longer contains .*seams/lora.py was written for openrlhf 0.11.2"):
        for seam in lora.SEAMS:
            seam.apply(module)


def sent_otherwise(self: Any) -> None:
    raise NotImplementedError


@pytest.mark.e2e
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier model"])
def test_a_lora_adapter_becomes_a_whole_model(tmp_path, monkeypatch, earlier):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, model = ROOT / "rl/toy/policy", tmp_path / "model"
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = {name: weights.clone() for name, weights in plain.state_dict().items()}
    if earlier:  # OpenRLHF saves into the folder where the model of a run that is continued may lie
        plain.save_pretrained(model)
        (tmp_path / "adapter").mkdir()
    changed = get_peft_model(plain, LoraConfig(r=2, target_modules=["q_proj"]))
    for name, weights in changed.named_parameters():
        if "lora_B" in name:  # zero at first
            torch.nn.init.normal_(weights)
    changed.save_pretrained(model)
    AutoTokenizer.from_pretrained(base).save_pretrained(model)
    monkeypatch.setenv(cpu_backend.DEVICE_VARIABLE, "cpu")
    adapter.merge(tmp_path, str(base), "bf16", tmp_path / "log", 600)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {"adapter_config.json"}
    assert not list(model.glob("adapter*")) and not (tmp_path / "model.merging").exists()
    wanted = changed.merge_and_unload().state_dict()
    found = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).state_dict()
    assert found.keys() == wanted.keys() == before.keys()
    # The merge is in bfloat16 where the processor is fast at it.
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-2, atol=1e-2) for name in wanted)
    differ = {name for name in wanted if not torch.allclose(found[name], before[name], atol=0.1)}
    assert differ and all("q_proj" in name for name in differ)
    assert AutoTokenizer.from_pretrained(model).chat_template
