"""A fine-tuning: OpenRLHF's train_dpo or train_sft on a run's examples, continued where it stopped."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from rich.text import Text

from longreward.errors import ConfigError
from longreward.files import jsonlines
from longreward.text.amounts import clock, duration
from rl.config import RunConfig
from rl.monitor.live_view import Screen
from rl.offline.config import FinetuneConfig
from rl.plan import RunPlan
from rl.run import run_directory
from rl.trainer import adapter, checkpoints, learner_process
from rl.trainer.learner_programs import Learners

_TELL_S = 5  # seconds between two lines of progress


def train(plan: RunPlan[FinetuneConfig], screen: Screen) -> None:
    """Train on the run's examples to the end, from the last complete checkpoint if it is of the same data and flags and
    `resume` is set.

    ConfigError for examples that do not fill a batch, and where no GPU is visible.
    """
    config, learners = plan.config, plan.learners
    assert learners is not None, "plans of rl/offline/planning.py have learners"
    flags, section = learners.flags, learners.program.section
    rows = min(sum(1 for _ in jsonlines.lines(config.examples)), flags.data_max_samples)
    batch = flags.train_batch_size
    if rows < batch:
        raise ConfigError(
            f"{config.examples} has {rows} examples to train on, less than {section}.train.batch_size={batch}; lower "
            "it, or add some"
        )
    if not learners.count:
        raise ConfigError("no GPU is visible here, and the learners run on the machine that this is started on")
    # What a training is: it is continued only where this is the same.
    deciding = json.loads(json.dumps(learners.deciding, default=str))
    this = {"data": digest(config.examples), "flags": deciding, "learners": learners.count}
    done, begun = _done(config), config.checkpoints / "begun.json"
    # OpenRLHF's windows of gradient accumulation go on from one epoch to the next.
    at_once = learners.examples_at_once
    steps = flags.train_max_epochs * (rows // at_once) // (batch // at_once)
    if (
        config.resume
        and (jsonlines.read_json(done) or {}).get("of") == this
        and (config.directory / "model/config.json").is_file()
    ):
        screen.say("the model is trained already, with these settings on these data")
        return
    step = 0
    if config.resume and jsonlines.read_json(begun) == this:
        step = checkpoints.prepare_resume(config.checkpoints)
    elif config.checkpoints.is_dir():
        aside = run_directory.move_aside(config.checkpoints)
        screen.say(f"training begins at the start: the checkpoints in {aside} are of other data or settings")
    done.unlink(missing_ok=True)
    config.checkpoints.mkdir(parents=True, exist_ok=True)
    jsonlines.write_json(begun, this)
    at = f", from the checkpoint of step {step}" if step else ""
    count = f"{learners.count} learner{'s' * (learners.count > 1)}"
    screen.say(f"training: {rows} examples, {steps} steps of {batch}, {count}{at}")
    seconds = _run(config, learners, ["--ckpt.load_enable"] * bool(step), screen)
    if flags.ds_lora_rank:
        base, dtype = flags.model_model_name_or_path, flags.ds_param_dtype
        adapter.merge(config.directory, base, dtype, config.log, config.run.stall_s)
    jsonlines.write_json(done, {"of": this, "steps": steps})
    screen.say(f"trained in {duration(seconds)}; the model is in {config.directory / 'model'}")


def _run(config: RunConfig, learners: Learners, more: list[str], screen: Screen) -> float:
    """Start the learners with `more` arguments and wait for their end. Returns how many seconds they took."""
    words = learner_process.command(learners.program.module, learners.argv + more, learners.count)
    run_directory.write_command(config.directory, words)
    last, latest = 0.0, "the learners start"

    def tell(line: str) -> None:
        nonlocal last, latest
        latest = line
        if time.monotonic() - last > _TELL_S and not screen.is_live:
            last = time.monotonic()
            screen.console.print(line, highlight=False, soft_wrap=True)

    begun_at = time.monotonic()
    with screen.showing(lambda: Text(f"{latest}  {clock(time.monotonic() - begun_at)}")):
        learner_process.start(words, config.log, tell, config.run.stall_s)
    return time.monotonic() - begun_at


def steps_done(config: RunConfig) -> int:
    """Steps of the model that is trained to the end; 0 where it is not. With W&B on, OpenRLHF's programs write no
    TensorBoard files where they could be counted."""
    state = jsonlines.read_json(_done(config))
    return int(state["steps"]) if state else 0


def begun_and_done(config: FinetuneConfig) -> tuple[bool, bool]:
    """Whether training on the very examples that are there has begun, and whether it is done."""
    data = config.examples
    if not data.is_file():
        return False, False
    now = digest(data)
    begun = (jsonlines.read_json(config.checkpoints / "begun.json") or {}).get("data") == now
    done = ((jsonlines.read_json(_done(config)) or {}).get("of") or {}).get("data") == now
    return begun or done, done and (config.directory / "model" / "config.json").is_file()


def _done(config: RunConfig) -> Path:
    return config.directory / "trained.json"


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
