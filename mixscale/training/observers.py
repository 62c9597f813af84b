"""Who is told of a run's metrics: a TensorBoard event file, and Weights & Biases where that is asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mixscale.config import to_json
from mixscale.errors import InputError
from mixscale.training.run import Run


class Observer(Protocol):
    """Takes scalars by name, of steps counted over all segments of a run."""

    def write(self, scalars: Mapping[str, float], step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def observers(run: Run, directory: Path, done: int, project: str) -> list[Observer]:
    """Those of one run.

    Args:
        directory: of the run.
        done: steps already trained.
        project: on Weights & Biases; empty for none.

    Raises:
        InputError: a project is given and the package `wandb` is not installed.
    """
    events: list[Observer] = [Events(directory / "tensorboard", done)]
    return [*events, WandbRun(project, run, directory)] if project else events


class Events:
    """TensorBoard events in `directory`; what an earlier process wrote of steps beyond `done` is not shown."""

    def __init__(self, directory: Path, done: int):
        # tensorboardX's SummaryWriter hands events to a thread, which a full disk kills and then blocks the run.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"))
        self._writer.write_event(
            Event(wall_time=time.time(), step=done, session_log=SessionLog(status=SessionLog.START))
        )

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
    """A run on Weights & Biases under our own id, so that one that goes on after a kill is the same run there.

    With WANDB_MODE=offline it stays in `directory`/wandb until `wandb sync`.
    """

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
            # The runs of a population are open side by side, and what is printed is the sweep's.
            reinit="create_new", settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip
        # Steps are a metric of ours: after a kill those since the checkpoint come again, and the package's only go up.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log({**scalars, "step": step})

    def flush(self) -> None:
        """Nothing to do: the package sends from a process of its own."""

    def close(self) -> None:
        self._run.finish()
