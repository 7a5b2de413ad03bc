"""Which checkpoint a run continues from, when it was killed at any moment of saving one."""

from __future__ import annotations

from pathlib import Path

import pytest

from longreward.errors import ConfigError
from rl.trainer import checkpoints


def save(folder: Path, model: str, tag: str, *, complete: bool = True, latest: bool = True) -> None:
    """A checkpoint as DeepSpeed and OpenRLHF leave it; not complete: killed while the other ranks were writing."""
    path = folder / model / tag
    path.mkdir(parents=True)
    (path / "mp_rank_00_model_states.pt").write_bytes(b"weights")
    if complete:
        (path / "metric.json").write_text("{}")
    if latest:
        (folder / model / "latest").write_text(tag)


def latest(folder: Path, model: str = "_actor") -> str:
    return (folder / model / "latest").read_text()


def test_the_newest_one_is_taken_by_number_not_by_name(tmp_path):
    for step in (8, 9, 10):
        save(tmp_path, "_actor", f"global_step{step}")
    assert checkpoints.last_complete(tmp_path) == 10
    assert checkpoints.prepare_resume(tmp_path) == 10
    assert latest(tmp_path) == "global_step10"


def test_a_half_written_one_is_passed_over_though_latest_names_it(tmp_path):
    save(tmp_path, "_actor", "global_step4")
    save(tmp_path, "_actor", "global_step6", complete=False)
    assert checkpoints.prepare_resume(tmp_path) == 4
    assert latest(tmp_path) == "global_step4"
    assert not (tmp_path / "_actor" / "global_step6").exists()
    assert (tmp_path / "_actor" / "global_step4" / "mp_rank_00_model_states.pt").exists()


def test_actor_and_critic_continue_at_the_same_step(tmp_path):
    for model in ("_actor", "_critic"):
        save(tmp_path, model, "global_step4")
    save(tmp_path, "_actor", "global_step6")  # killed before the critic's turn
    assert checkpoints.prepare_resume(tmp_path) == 4
    assert latest(tmp_path) == latest(tmp_path, "_critic") == "global_step4"


def test_latest_that_names_a_deleted_one_or_nothing_is_mended(tmp_path):
    save(tmp_path, "_actor", "global_step4")
    for text in ("global_step6", ""):
        (tmp_path / "_actor" / "latest").write_text(text)
        assert checkpoints.prepare_resume(tmp_path) == 4
        assert latest(tmp_path) == "global_step4"


def test_the_best_one_counts_if_it_is_the_newest(tmp_path):
    save(tmp_path, "_actor", "global_step4")
    save(tmp_path, "_actor", "best_global_step6")
    assert checkpoints.prepare_resume(tmp_path) == 6
    assert latest(tmp_path) == "best_global_step6"


def test_without_a_complete_one_nothing_is_left_that_openrlhf_would_load(tmp_path):
    save(tmp_path, "_actor", "global_step2", complete=False)
    assert checkpoints.prepare_resume(tmp_path) == 0
    assert not (tmp_path / "_actor").exists()
    assert checkpoints.prepare_resume(tmp_path) == checkpoints.last_complete(tmp_path / "none") == 0


def test_a_run_of_one_model_has_its_checkpoints_in_the_folder_itself(tmp_path):
    (tmp_path / "begun.json").write_text("{}")
    for step in (9, 10):
        save(tmp_path, "", f"global_step{step}")
    save(tmp_path, "", "global_step11", complete=False)
    (tmp_path / "global_step10_hf").mkdir()  # ckpt.save_hf
    assert checkpoints.last_complete(tmp_path) == checkpoints.prepare_resume(tmp_path) == 10
    assert latest(tmp_path, "") == "global_step10"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"begun.json", "global_step9", "global_step10", "global_step10_hf", "latest"}


def test_a_run_of_one_model_without_a_complete_one_begins_again(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, "", "global_step2", complete=False)
    assert checkpoints.prepare_resume(folder) == 0
    assert not folder.exists()


def test_a_checkpoint_of_steps_generated_ahead_continues_after_its_own_step(tmp_path):
    """torchdata's own loader: shuffled, 12 prompts, 8 drawn at once, the checkpoint is of the first step of 2."""
    torch = pytest.importorskip("torch")
    from torchdata.stateful_dataloader import StatefulDataLoader

    loader = StatefulDataLoader(list(range(12)), batch_size=1, shuffle=True)
    drawing = iter(loader)
    order = [int(next(drawing)) for _ in range(8)]
    save(tmp_path, "_actor", "global_step1")
    path = tmp_path / "_actor" / "global_step1" / "mp_rank_00_model_states.pt"
    states = {"module": {"weight": torch.ones(2)}, "data_loader_state_dict": loader.state_dict(), "global_step": 1}
    torch.save(states | {"episode": 0, "total_consumed_prompts": 8}, path)
    checkpoints.mend_position(tmp_path, 1, prompts=12, batch=2)
    mended = torch.load(path, weights_only=False)
    assert (mended["episode"], mended["total_consumed_prompts"], mended["global_step"]) == (0, 2, 1)
    assert torch.equal(mended["module"]["weight"], torch.ones(2))
    again = StatefulDataLoader(list(range(12)), batch_size=1, shuffle=True)
    again.load_state_dict(mended["data_loader_state_dict"])
    rest = [int(value) for value in again]
    assert rest[:6] == order[2:] and len(rest) == 10


def test_the_last_step_of_an_episode_is_left_as_it_is(tmp_path):
    save(tmp_path, "_actor", "global_step6")
    checkpoints.mend_position(tmp_path, 6, prompts=12, batch=2)  # no torch file: it would fail to read it


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    save(tmp_path, "_actor", "global_step1")
    torch.save({"module": Planted(tmp_path / "ran")}, tmp_path / "_actor/global_step1/mp_rank_00_model_states.pt")
    with pytest.raises(ConfigError, match="is not what OpenRLHF writes"):
        checkpoints.mend_position(tmp_path, 1, prompts=12, batch=2)
    assert not (tmp_path / "ran").exists()


class Planted:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._path,)
