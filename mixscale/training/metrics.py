"""What one run reports while it trains: loss spikes, divergence, speed and traces, and the observers that record them.

Observers are a TensorBoard event file and, if a project is given, Weights & Biases.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.config import to_json
from mixscale.errors import InputError
from mixscale.training.run import Run

WINDOW = 64  # losses that the next one is compared with
DEVIATIONS = 7.0  # standard deviations above them from which a loss is a spike
SIGMA = 1.4826  # standard deviation of a normal sample over its median absolute deviation
# Dense bfloat16 FLOP/s per JAX device, from data sheets. The first name that is part of a device's kind counts.
PEAKS = {
    "B200": 2.25e15, "H200": 989.4e12, "GH200": 989.4e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989.4e12,
    "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12,
    "TPU v6": 918e12, "TPU v5 lite": 197e12, "TPU v5e": 197e12, "TPU v5": 459e12, "TPU v4 lite": 138e12,
    "TPU v4": 275e12, "TPU v3": 61.5e12, "TPU v2": 22.5e12,
}  # fmt: skip
SKIPPED = 2  # dispatches before the first that is traced: they compile, and fill the device's queue


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


class Speed:
    """Speed of `devices` between two readings; `flops_per_token` are training FLOPs without recomputation.

    `mfu` is the share of the peak FLOP/s (Chowdhery et al., arXiv 2204.02311); None before the second reading, and if
    the peak is not known.
    """

    def __init__(self, flops_per_token: float, devices: Sequence[jax.Device], dtype: str):
        self._flops, self._peak = flops_per_token, peak_flops(devices, dtype)
        self._last: float | None = None
        self.mfu: float | None = None

    def read(self, tokens: int) -> dict[str, float]:
        """tokens_per_second and mfu, given the tokens of all runs since the last reading; empty at the first, which
        includes compilation."""
        now, last = time.perf_counter(), self._last
        self._last = now
        if last is None:
            return {}
        per_second = tokens / (now - last)
        if self._peak is None:
            return {"tokens_per_second": per_second}
        self.mfu = per_second * self._flops / self._peak
        return {"tokens_per_second": per_second, "mfu": self.mfu}


def peak_flops(devices: Sequence[jax.Device], dtype: str) -> float | None:
    """FLOP/s of all `devices`: an accelerator's peak in bfloat16, None if unknown; a CPU's, measured in `dtype`."""
    if devices[0].platform == "cpu":
        return _measured(dtype)  # all devices that XLA makes of a CPU share its cores
    kind = devices[0].device_kind
    return next((peak * len(devices) for name, peak in PEAKS.items() if name in kind), None)


@lru_cache
def _measured(dtype: str, size: int = 1024, times: int = 5) -> float:
    """FLOP/s of a product of square matrices on this process's cores, the best of several."""
    x = jnp.ones((size, size), dtype, device=jax.local_devices(backend="cpu")[0])
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(seconds)


class Profile:
    """Traces dispatches SKIPPED to SKIPPED + `dispatches` of this process, for TensorBoard and Perfetto."""

    def __init__(self, directory: Path, dispatches: int):
        self._directory, self._dispatches = directory, dispatches
        self._done, self._tracing = 0, False

    def __enter__(self) -> Profile:
        return self

    def step(self) -> None:
        """Call after each dispatch, while the device works on it."""
        self._done += 1
        if self._done == SKIPPED and self._dispatches:
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._tracing = True
        elif self._done == SKIPPED + self._dispatches:
            self.__exit__()

    def __exit__(self, *_: object) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()


class MetricLog:
    """Metrics of one run; `diverged_at` is its first step that diverged, over all segments, or None.

    A run diverges if its training loss reaches `limit` nats or is not finite. Only process 0 has observers. Every
    `every`-th step is recorded, but divergence is checked at each step.
    """

    def __init__(self, limit: float, observers: Sequence[Events | WandbRun] = (), every: int = 1):
        self._limit, self._observers, self._every = limit, observers, every
        self.diverged_at: int | None = None

    def record(self, values: Mapping[str, np.ndarray], before: int) -> int:
        """Records metrics (S,) of the steps after `before`; returns how many came before the first that diverged."""
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
    """TensorBoard's events and, for a `project`, a run on Weights & Biases; InputError if it is not installed."""
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
            problem = f"machine.wandb is {project!r}, but the package wandb is not installed"
            raise InputError(f"{problem}; pip install 'mixscale[wandb]', or leave the option out") from None
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
