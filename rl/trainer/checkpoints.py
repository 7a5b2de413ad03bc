"""A run's checkpoints on disk, as OpenRLHF and DeepSpeed write them: which are complete, and which to continue from.

DeepSpeed writes `latest` when its first rank is done, whatever the others do, and actor and critic are saved one after
the other: after a kill at the wrong moment it points at half a checkpoint. OpenRLHF writes a checkpoint's `metric.json`
after a barrier of all ranks, so that is the sign of a complete one.
"""

from __future__ import annotations

import math
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

from longreward.errors import ConfigError
from longreward.files import jsonlines

_COMPLETE = "metric.json"
_RANK_0_OF_ZERO_3 = "zero_pp_rank_0_mp_rank_00_model_states.pt"
_TAG = re.compile(r"(?:best_)?global_step(\d+)")


def last_complete(folder: Path) -> int:
    """The step of the newest complete checkpoint in the run's `checkpoints/`; 0 where there is none."""
    return max(_complete(folder), default=0)


def prepare_resume(folder: Path) -> int:
    """Make the newest complete checkpoint the one that OpenRLHF loads, and remove half-written ones. Returns its step.

    0 where there is none: then nothing is left that OpenRLHF would take for one.
    """
    complete = _complete(folder)
    step = max(complete, default=0)
    for model in _models(folder):
        if not step:
            shutil.rmtree(model)
            continue
        for path in model.iterdir():
            # Other folders stay: ckpt.save_hf writes one beside the checkpoints of a run with one model.
            if path.is_dir() and _TAG.fullmatch(path.name) and not (path / _COMPLETE).is_file():
                shutil.rmtree(path)
        jsonlines.write_text(model / "latest", complete[step])
    return step


def mend_position(folder: Path, step: int, prompts: int, batch: int) -> None:
    """Make the checkpoint of `step` know its position in data of `prompts` an episode, `batch` a step.

    An asynchronous run that generates several steps at once saves the position of the last of them with each.
    """
    import torch

    episode, steps = divmod(step, math.ceil(prompts / batch))
    if not steps:
        return  # the last step of an episode: whatever was generated with it is trained on
    checkpoint = folder / "_actor" / _complete(folder)[step]
    # Rank 0's is the one that OpenRLHF reads; the name depends on the ZeRO stage.
    path = next(checkpoint.glob("*mp_rank_00_model_states.pt"), None)
    if (checkpoint / _RANK_0_OF_ZERO_3).is_file():
        path = checkpoint / _RANK_0_OF_ZERO_3
    if path is None:
        raise ConfigError(f"{checkpoint} holds no model states; resume from another checkpoint, or without")
    # No object of Python's is in what OpenRLHF and DeepSpeed write there; in the optimizer's states there are some.
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(
            f"{path} is not what OpenRLHF writes ({first}); resume from a checkpoint that a run of yours has written"
        ) from None
    states["data_loader_state_dict"] = loader_at(states["data_loader_state_dict"], steps * batch)
    states |= {"episode": episode, "total_consumed_prompts": episode * prompts + steps * batch}
    with jsonlines.replacing(path) as file:
        torch.save(states, file)


def loader_at(state: dict[str, Any], yielded: int) -> dict[str, Any]:
    """The data loader's state when it had yielded so many prompts of its episode, from a later one.

    KeyError where torchdata's state has another shape, as with `data.dataloader_num_workers`.
    """
    sampler = state["_sampler_iter_state"]
    counts = [(state, "_num_yielded"), (state, "_sampler_iter_yielded"), (sampler, "samples_yielded")]
    counts.append((sampler["sampler_iter_state"], "yielded"))
    for part, name in counts:
        if part[name] < yielded:
            raise KeyError(f"the data loader has yielded {part[name]} prompts, which is before the {yielded} used")
        part[name] = yielded
    state["_iterator_finished"] = False
    return state


def _models(folder: Path) -> list[Path]:
    """The actor's folder, and the critic's if there is one; the folder itself where there is only one model."""
    parts = [path for path in (folder / "_actor", folder / "_critic") if path.is_dir()]
    return parts or [folder] * folder.is_dir()


def _complete(folder: Path) -> dict[int, str]:
    """Step -> tag of the checkpoints that are complete for every model."""
    found = [
        {int(match[1]): tag for tag in tags if (match := _TAG.fullmatch(tag))}
        for tags in (sorted(path.parent.name for path in model.glob(f"*/{_COMPLETE}")) for model in _models(folder))
    ]
    if not found:
        return {}
    return {step: tag for step, tag in found[0].items() if all(other.get(step) == tag for other in found)}
