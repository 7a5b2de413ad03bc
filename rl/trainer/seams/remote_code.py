"""A model's own Python code runs only where `run.trust_remote_code` allows it.

OpenRLHF 0.11.2 passes trust_remote_code=True wherever it loads a configuration, a tokenizer or a model, and to vLLM. So
a folder or a hub's repository would run whatever its `auto_map` names, with all keys of the process in reach.

`apply()` in every process of a run. All that transformers loads goes through the first two seams; vLLM is told by the
third, and asks transformers in processes of its own.
"""

from __future__ import annotations

import os
from typing import Any

from longreward.preflight.finding import Finding
from rl.trainer import seams
from rl.trainer.model_folder import looks_local

VARIABLE = "LONGREWARD_TRUST_REMOTE_CODE"
"""Set to 1 in all processes of a run whose configuration allows it, else to 0."""
_SETTING = "run.trust_remote_code"


def allowed() -> bool:
    """Whether this process may run a model's own code."""
    return os.environ.get(VARIABLE) == "1"


def problem(setting: str, model: str) -> list[Finding]:
    """A problem where `model`, the value of `setting`, is a folder that cannot be loaded without its own code. A hub's
    name is not looked up."""
    if not looks_local(model):
        return []
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # whatever else is wrong with it is told by other checks
        if "trust_remote_code" in str(error):
            action = f"read its .py files, then set {_SETTING}=true if you trust them; or take another model"
            return [Finding.problem("files", f"{setting} {model} is loaded by Python code of its own", action)]
    return []


def resolve(
    original: Any,
    trust_remote_code: Any,
    model_name: str,
    has_local_code: bool,
    has_remote_code: bool,
    error_message: str | None = None,
    upstream_repo: str | None = None,
) -> bool:
    """What transformers makes of `trust_remote_code`. Where nobody allowed it, transformers' own class is taken."""
    if has_remote_code and not has_local_code and not allowed():
        raise ValueError(_refusal(model_name))
    trusts = bool(trust_remote_code) and allowed()
    return bool(original(trusts, model_name, has_local_code, has_remote_code, error_message, upstream_repo))


def get_class(original: Any, class_name: str, module_path: Any, force_reload: bool = False) -> Any:
    """The place where transformers runs a model's file, also for modules that hold the other function as it was."""
    if not allowed():
        raise ValueError(_refusal(str(module_path)))
    return original(class_name, module_path, force_reload=force_reload)


def engine_arguments(original: Any, self: Any) -> None:
    """vLLM's engine trusts no more than the run does."""
    self.trust_remote_code = bool(self.trust_remote_code) and allowed()
    original(self)


def _refusal(model: str) -> str:
    return (
        f"{model} brings Python code of its own, which was not run; read it, then set {_SETTING}=true if you trust it, "
        "or take another model"
    )


_WHY = "OpenRLHF trusts every model's code."
_FROM_HERE = {
    "file": "rl/trainer/seams/remote_code.py",
    "purpose": "to run a model's own code only where that is allowed",
}
SEAMS = [
    seams.Seam(
        "transformers.dynamic_module_utils",
        "resolve_trust_remote_code",
        "trust_remote_code model_name has_local_code has_remote_code error_message upstream_repo",
        _WHY,
        resolve,
        **_FROM_HERE,
    ),
    seams.Seam(
        "transformers.dynamic_module_utils",
        "get_class_in_module",
        "class_name module_path force_reload",
        _WHY,
        get_class,
        source="module_spec.loader.exec_module(module)",
        **_FROM_HERE,
    ),
    seams.Seam(
        "vllm.engine.arg_utils",
        "EngineArgs.__post_init__",
        "self",
        _WHY,
        engine_arguments,
        **_FROM_HERE,
    ),
]


def apply() -> None:
    """Put it in place. Raises `seams.SeamError` where transformers or vLLM has another shape."""
    seams.install(SEAMS)
