"""What a person looks at while a run goes on, beyond OpenRLHF's own curves: answers with their verdicts, how long steps
wait for the judge, canaries, the judge's noise and the shadow judge.

All of it goes to TensorBoard, as a run of its own beside OpenRLHF's, and to W&B likewise: OpenRLHF's W&B run lives in
the trainer's process.
"""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray

from longreward.openrlhf_logs import PREFIX
from longreward.schema import ScoredAnswer
from rl.config import RunConfig
from rl.errors import JudgeDriftError
from rl.monitor import answer_samples, canaries, second_scores
from rl.monitor.live_view import Screen
from rl.plan import RunPlan
from rl.reward_functions import registry
from rl.rollout.judge_wait import JudgeWait
from rl.rollout.judge_workers import Workers

_LEAVE_S = 5.0
_UPLOAD_S = 3.0  # at the end, for what W&B has not sent yet
_REACH_S = 30.0  # for W&B to answer; a process that ends in the meantime waits for it


class StepWatch:
    """Use as a context around training. A failure in here is logged and never ends the run. A judge
    that has drifted ends it, where `watch.on_drift` is stop."""

    def __init__(
        self,
        plan: RunPlan[RunConfig],
        screen: Screen,
        workers: Workers,
        stop: Callable[[Exception], None],
        *,
        first_step: int = 0,
    ) -> None:
        """`stop` ends the run with an error, from any thread; `first_step` is the step that the run continues from."""
        self._plan, self._config, self._screen, self._workers = plan, plan.config, screen, workers
        self._stop, self._first_step = stop, first_step
        self._samples: answer_samples.Samples | None = None
        self._canaries: canaries.Canaries | None = None
        self._second: second_scores.SecondScores | None = None
        self._boards: list[TensorBoard | Wandb] = []
        self._waited = JudgeWait()
        self._told: set[tuple[str, type]] = set()
        self._step = first_step
        self._shown = self._scored = self._step
        self._wake, self._ended, self._leaving = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> StepWatch:
        config, watch = self._config, self._config.watch
        if watch.samples:
            with self._noted("samples"):
                self._samples = answer_samples.Samples(config.directory / "store", self._plan.flags.answers_per_step)
        if watch.canaries is not None:
            with self._noted("canaries"):
                reward = config.reward
                found = canaries.load(watch.canaries, reward.reference_field, criteria=reward.uses_criteria)
                self._canaries = canaries.Canaries(config, found, self._workers.actors[0], self._ended)
        if watch.noise_share or watch.shadow is not None:
            with self._noted("second scores"):
                self._second = second_scores.SecondScores(config.directory, self._first_step)
        # In the main thread: two threads that import torch at once can see half of it.
        for kind in (TensorBoard, Wandb) if config.wandb.mode != "disabled" else (TensorBoard,):
            with self._noted(kind.name):
                self._boards.append(kind(config, self._first_step))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._leaving:
            self._ended.set()
        self._wake.set()
        self._thread.join(_LEAVE_S)

    def on_step(self, step: int) -> None:
        """The run has reached `step`, counted from the run's first one. From any thread; returns at once."""
        self._step = step
        self._wake.set()

    def summary(self) -> dict[str, Any]:
        """For summary.json."""
        parts = [part.summary() for part in (self._canaries, self._second) if part is not None]
        return {name: value for part in parts for name, value in part.items()}

    def _run(self) -> None:
        self._score_canaries()
        while not self._ended.is_set():
            self._wake.wait()
            self._wake.clear()
            if not self._ended.is_set():
                self._show_judge_wait()
                self._show_samples()
            self._show_second_scores()
            if self._is_due(self._scored, self._config.watch.canaries_every):
                self._score_canaries()
        for board in self._boards:
            with self._noted(board.name):
                board.close()

    def _is_due(self, last: int, every: int) -> bool:
        """Steps may be passed over, so it need not be a multiple."""
        return not self._ended.is_set() and self._step // every > last // every

    def _show_judge_wait(self) -> None:
        with self._noted("judge wait"), suppress(ray.exceptions.RayError):  # busy: told with a later step
            waited = self._workers.judge_wait()
            since, self._waited = waited - self._waited, waited
            if since.steps:
                values = {f"{PREFIX}judge_wait_s": since.mean_s, f"{PREFIX}judge_wait_share": since.share}
                for board in self._boards:
                    with self._noted(board.name):
                        board.log(self._step, values)

    def _show_samples(self) -> None:
        if self._samples is None:
            return
        with self._noted("samples"):
            # At each step: what is forgotten at once need not be read in one go later.
            self._samples.read()
            if not self._is_due(self._shown, self._config.watch.every):
                return
            step = self._shown = self._step
            if chosen := self._samples.choose(self._config.watch.samples):
                for board in self._boards:
                    with self._noted(board.name):
                        board.answers(step, chosen)

    def _show_second_scores(self) -> None:
        """Also after the last step: those of the last answers come late."""
        if self._second is None:
            return
        with self._noted("second scores"):
            if values := self._second.scalars(self._step):
                for board in self._boards:
                    with self._noted(board.name):
                        board.log(self._step, values)
                if alarm := self._second.alarm():
                    self._warn(alarm)

    def _warn(self, alarm: str) -> None:
        self._screen.console.print(alarm, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _score_canaries(self) -> None:
        if self._canaries is None or self._ended.is_set():
            return
        with self._noted("canaries"):
            step = self._step
            try:
                outcome = self._canaries.score(step)
            finally:
                # A round that was due in the meantime is left out.
                self._scored = max(step, self._step)
            if outcome is not None:
                self._tell(*outcome)
            elif not self._ended.is_set():
                limit = f"{self._config.reward.answer_timeout_s:g} s (reward.answer_timeout_s)"
                self._screen.say(f"canaries at step {step}: given up, not all were scored within {limit}")

    def _tell(self, found: canaries.Round, alarm: str | None) -> None:
        self._screen.say(found.sentence())
        for board in self._boards:
            with self._noted(board.name):
                board.log(found.step, found.scalars())
        if alarm is not None:
            self._warn(alarm)
            # After the end nobody is there to be interrupted.
            with self._leaving:
                if self._config.watch.on_drift == "stop" and not self._ended.is_set():
                    self._stop(JudgeDriftError(alarm))

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """What fails in here is logged, once: what fails now will fail at each step."""
        try:
            yield
        except Exception as error:
            if (name, type(error)) not in self._told:
                self._told.add((name, type(error)))
                print(f"longreward: {name} failed; the run continues, and this is not reported again:", flush=True)
                traceback.print_exc()


class TensorBoard:
    """Event files in a folder beside OpenRLHF's own."""

    name = "TensorBoard"

    def __init__(self, config: RunConfig, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = config.directory / "tensorboard" / f"{config.run.name}-watch"
        # A continued run does again what came after its checkpoint.
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if config.resume else None)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def answers(self, step: int, chosen: Sequence[ScoredAnswer]) -> None:
        self._writer.add_text("watch/samples", answer_samples.markdown(chosen), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A second W&B run, in the group of OpenRLHF's."""

    name = "W&B"

    def __init__(self, config: RunConfig, first_step: int) -> None:
        import wandb

        self._wandb, self._config = wandb, config
        self._run: Any = None

    def answers(self, step: int, chosen: Sequence[ScoredAnswer]) -> None:
        names = registry.dimensions(self._config.reward)
        table = self._wandb.Table(columns=answer_samples.columns(names), data=answer_samples.rows(step, chosen, names))
        self.log(step, {"watch/samples": table})

    def log(self, step: int, values: dict[str, Any]) -> None:
        # Begun with the first figures: it waits for the network, and is tried again with the next ones.
        self._run = self._run or self._begin()
        # Not W&B's own step, which can only grow: a continued run goes back to its checkpoint.
        self._run.log({"watch/step": step, **values})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()

    def _begin(self) -> Any:
        config = self._config
        run = self._wandb.init(
            project=config.wandb.project,
            entity=config.wandb.entity,
            group=config.wandb.group or config.run.name,
            name=f"{config.run.name}-watch",
            # The environment's WANDB_RUN_ID is OpenRLHF's run.
            id=f"{config.wandb.run_id or uuid.uuid4().hex[:8]}-watch",
            resume="allow",
            reinit="create_new",
            mode=config.wandb.mode,
            dir=str(config.directory),
            settings=self._wandb.Settings(
                console="off",  # what this process prints is not about the samples
                disable_code=True,
                disable_git=True,
                x_disable_stats=True,
                finish_timeout=_UPLOAD_S,
                init_timeout=_REACH_S,
            ),
        )
        run.define_metric("watch/step")
        for name in ("watch/*", f"{PREFIX}*"):
            run.define_metric(name, step_metric="watch/step")
        return run
