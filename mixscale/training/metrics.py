"""The training metrics of one run on the host: loss spikes, divergence, and the observers that record them.

Observers are a TensorBoard event file and, if a project is given, Weights & Biases.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixscale.config import to_json
from mixscale.errors import InputError
from mixscale.training.run import Run

WINDOW = 64  # Number of losses that the next one is compared with.
DEVIATIONS = 7.0  # Standard deviations above them from which a loss is a spike.
SIGMA = 1.4826  # Standard deviation of a normal sample over its median absolute deviation.


@dataclass
class Spikes:
    """Counts the spikes of a training loss; JSON-ready, so that an interruption does not change the count.

    A spike is a sequence of steps with a loss more than seven standard deviations above the `WINDOW` losses before.
    This is OLMo 2's spike score (arXiv 2501.00656), but with the median and the median absolute deviation, which a
    spike does not raise.
    """

    count: int = 0
    inside: bool = False  # whether the newest step is part of a spike
    recent: list[float] = field(default_factory=list)  # losses of the newest steps, `WINDOW` at most

    def take(self, loss_S: np.ndarray) -> None:
        """Adds the losses of the next steps; those with fewer than WINDOW before them are not judged."""
        all_N = np.concatenate([self.recent, np.asarray(loss_S, np.float64)])
        self.recent = all_N[-WINDOW:].tolist()
        judged = min(len(loss_S), len(all_N) - WINDOW)
        if judged <= 0:
            return
        before_JxW = np.lib.stride_tricks.sliding_window_view(all_N[:-1], WINDOW)[-judged:]
        median_J = np.median(before_JxW, axis=1)
        spread_J = SIGMA * np.median(np.abs(before_JxW - median_J[:, None]), axis=1)
        above_J = all_N[-judged:] > median_J + DEVIATIONS * spread_J
        self.count += int((above_J & ~np.concatenate([[self.inside], above_J[:-1]])).sum())
        self.inside = bool(above_J[-1])


class MetricLog:
    """Metrics of one run; `diverged_at` is its first step that diverged, over all segments, or None.

    Args:
        limit: training loss in nats from which the run counts as diverged, as it does if it is not finite.
        observers: what records them; none in processes other than the first.
        every: steps between two recorded points; divergence is checked at every step.
    """

    def __init__(self, limit: float, observers: Sequence[Events | WandbRun] = (), every: int = 1):
        self._limit, self._observers, self._every = limit, observers, every
        self.diverged_at: int | None = None

    def record(self, values: Mapping[str, np.ndarray], before: int) -> int:
        """Records metrics (S,), loss and grad_norm among them, of steps `before` + 1 to `before` + S.

        Returns how many of these steps came before the first that diverged.
        """
        bad_S = ~((values["loss"] < self._limit) & np.isfinite(values["grad_norm"]))
        if bad_S.any() and self.diverged_at is None:
            self.diverged_at = before + 1 + int(bad_S.argmax())
        for s in range(-(before + 1) % self._every, len(bad_S), self._every):
            self.write({f"train/{name}": float(value_S[s]) for name, value_S in values.items()}, before + s + 1)
        for observer in self._observers:
            observer.flush()
        return int(bad_S.argmax()) if bad_S.any() else len(bad_S)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Scalars of one step, counted over all segments."""
        for observer in self._observers:
            observer.write(scalars, step)

    def close(self) -> None:
        for observer in self._observers:
            observer.close()


def observers(run: Run, directory: Path, done: int, project: str) -> list[Events | WandbRun]:
    """The observers of one run that has trained `done` steps; an empty `project` is none on Weights & Biases.

    Raises:
        InputError: a project is given and the package `wandb` is not installed.
    """
    events = Events(directory / "tensorboard", done)
    return [events, WandbRun(project, run, directory)] if project else [events]


class Events:
    """TensorBoard events in `directory`; TensorBoard hides events of steps beyond `done` from earlier processes."""

    def __init__(self, directory: Path, done: int):
        # Not tensorboardX's SummaryWriter: on a full disk its thread dies, which blocks the run.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"))
        started = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=done, session_log=started))

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbRun:
    """A run on Weights & Biases under our own id, so that a resumed run is the same run there."""

    def __init__(self, project: str, run: Run, directory: Path):
        try:
            import wandb
        except ImportError:
            raise InputError(
                f"machine.wandb is {project!r}, but the package wandb is not installed; "
                "pip install 'mixscale[wandb]', or leave the option out"
            ) from None
        directory.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=project, id=run.id, name=run.id, resume="allow", config=to_json(run.config), dir=str(directory),
            # The runs of a population are open together, and the sweep prints their progress.
            reinit="create_new", settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip
        # Our own step metric: a resumed run repeats the steps since its checkpoint, and wandb's steps only increase.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log({**scalars, "step": step})

    def flush(self) -> None:
        """Does nothing: wandb sends from its own process."""

    def close(self) -> None:
        self._run.finish()
