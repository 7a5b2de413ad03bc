"""A model's own Python code: run by no command and in no process of a run, unless it was allowed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from rl.trainer.seams import remote_code

ROOT = Path(__file__).parents[3]
ALLOWED = "run.trust_remote_code=true"


class Model:
    """A folder whose configuration, tokenizer and model are Python code. Each leaves a mark where it runs."""

    def __init__(self, folder: Path, *, native: bool) -> None:
        """`native`: transformers has classes for it, too."""
        self.folder, self.marks = folder / "model", folder / "marks"
        self.cache = folder / "modules"
        shutil.copytree(ROOT / "rl" / "toy" / "policy", self.folder)
        code = f"""
            import os
            from pathlib import Path
            from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
            Path({str(self.marks)!r}).touch()
            class OwnConfig(LlamaConfig):
                model_type = "llama" if {native} else "ours"
            class OwnModel(LlamaForCausalLM):
                config_class = OwnConfig
            class OwnTokenizer(PreTrainedTokenizerFast):
                pass
            """
        (self.folder / "own.py").write_text(textwrap.dedent(code))
        models = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
        self._change("config.json", auto_map=models, **({} if native else {"model_type": "ours"}))
        self._change(
            "tokenizer_config.json",
            auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
            **({} if native else {"tokenizer_class": "OwnTokenizer"}),
        )

    def _change(self, name: str, **values: object) -> None:
        path = self.folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    @property
    def ran(self) -> bool:
        return self.marks.exists()

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"HF_MODULES_CACHE": str(self.cache), "LONGREWARD_DEVICE": "cpu"} | variables
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    def in_a_worker(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `code` in a process set up as Ray sets up a run's; `model` is the folder."""
        begin = f"from rl.trainer import ray_worker; ray_worker.set_up()\nmodel = {str(self.folder)!r}\n"
        return self.run("-c", begin + textwrap.dedent(code), **variables)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path, native=False)


def prepare(model: Model, *more: str) -> subprocess.CompletedProcess[str]:
    source, out = model.folder.parent / "in.jsonl", model.folder.parent / "out.jsonl"
    source.write_text('{"idx": "1", "context": "Mara sold copper.", "query": "What?"}\n')
    words = ["rl/prepare_data.py", str(source), str(out), "--model", str(model.folder), "--max-prompt-tokens", "500"]
    return model.run(*words, *more)


def test_prepare_data_runs_it_only_when_asked(model: Model) -> None:
    refused = prepare(model)
    assert (refused.returncode, model.ran) == (2, False), refused.stderr
    assert str(model.folder) in refused.stderr and "--trust-remote-code" in refused.stderr
    done = prepare(model, "--trust-remote-code")
    assert (done.returncode, model.ran) == (0, True), done.stderr


def test_a_class_of_transformers_is_taken_before_it(tmp_path: Path) -> None:
    model = Model(tmp_path, native=True)
    done = prepare(model)
    assert (done.returncode, model.ran) == (0, False), done.stderr
    code = """
        import vllm
        from openrlhf.models import Actor
        from openrlhf.utils import get_tokenizer
        print(type(get_tokenizer(model, None)).__name__, type(Actor(model, attn_implementation="sdpa").model).__name__)
        vllm.AsyncEngineArgs(model=model, trust_remote_code=True, dtype="bfloat16").create_model_config()
        """
    done = model.in_a_worker(code)
    assert (done.returncode, model.ran) == (0, False), done.stderr
    assert "LlamaForCausalLM" in done.stdout and "Own" not in done.stdout


@pytest.mark.parametrize(
    ("program", "code", "key"), [(["rl/doctor.py"], 1, "actor"), (["rl/train.py", "--dry-run"], 2, "critic")]
)
def test_it_is_refused_before_a_run_without_running_it(
    model: Model, tmp_path: Path, program: list[str], code: int, key: str
) -> None:
    setting = f"openrlhf.{key}.model_name_or_path={model.folder}"
    words = ["--config", f"configs/{'grpo' if key == 'actor' else 'ppo'}_cpu.yaml", setting, f"run.dir={tmp_path}"]
    refused = model.run(program[0], *words, *program[1:])
    said = " ".join((refused.stdout + refused.stderr).split())
    assert (refused.returncode, model.ran) == (code, False), said
    assert ALLOWED in said and f"openrlhf.{key}.model_name_or_path" in said


@pytest.mark.parametrize(
    "early", ["", "import transformers.models.auto.tokenization_auto, transformers.models.auto.modeling_auto"]
)
def test_no_process_of_a_run_loads_it(model: Model, early: str) -> None:
    code = f"""{early}
from rl.trainer.seams import remote_code
remote_code.apply()
import transformers
for what in ("Config", "Tokenizer", "ModelForCausalLM"):
    try:  # as OpenRLHF does
        getattr(transformers, "Auto" + what).from_pretrained({str(model.folder)!r}, trust_remote_code=True)
    except ValueError as error:
        print(what, error)
"""
    done = model.run("-c", code)
    assert (done.stdout.count(ALLOWED), model.ran) == (3, False), done.stdout + done.stderr


def test_openrlhf_loads_it_in_a_run_that_allows_it(model: Model) -> None:
    code = """
        from openrlhf.utils import get_tokenizer
        print(type(get_tokenizer(model, None)).__name__)
        """
    refused = model.in_a_worker(code)
    assert (refused.returncode, model.ran) == (1, False), refused.stderr
    assert ALLOWED in refused.stderr
    done = model.in_a_worker(code, **{remote_code.VARIABLE: "1"})
    assert "OwnTokenizer" in done.stdout and model.ran, done.stderr


def test_vllm_is_told_what_the_run_allows(model: Model) -> None:
    code = """
        import vllm
        arguments = vllm.AsyncEngineArgs(model=model, trust_remote_code=True, dtype="bfloat16")
        print("trusts", arguments.trust_remote_code)
        arguments.create_model_config()
        """
    refused = model.in_a_worker(code)
    assert "trusts False" in refused.stdout and not model.ran, refused.stderr
    assert refused.returncode == 1
    done = model.in_a_worker(code, **{remote_code.VARIABLE: "1"})
    assert "trusts True" in done.stdout and model.ran, done.stderr
