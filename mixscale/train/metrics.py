"""Training metrics, fetched one dispatch late so that the device never waits for the host.

They go to TensorBoard, and tell when a run has diverged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np


class MetricLog:
    """Metrics of one run.

    Args:
        directory: of the TensorBoard events.
        done: steps already trained; what an earlier process wrote beyond them is not shown.
        limit: training loss in nats from which, as where it is not finite, the run counts as diverged.
    """

    def __init__(self, directory: Path, done: int, limit: float):
        # tensorboardX's SummaryWriter hands events to a thread, which a full disk kills and then blocks the run.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"))
        self._writer.write_event(
            Event(wall_time=time.time(), step=done, session_log=SessionLog(status=SessionLog.START))
        )
        self._limit = limit
        self._pending: tuple[dict[str, jax.Array], int, int] | None = None
        self.diverged = False

    def add(self, metrics: dict[str, jax.Array], learning_rate_S: np.ndarray, done: int) -> None:
        """Takes a dispatch that ends at step `done`, one step a learning rate, and reads the one before."""
        self.flush()
        count = len(learning_rate_S)
        self._pending = metrics | {"learning_rate": learning_rate_S}, count, done - count

    def flush(self) -> None:
        """Reads the dispatch that is pending."""
        if self._pending is None:
            return
        metrics, count, before = self._pending
        self._pending = None
        read = {name: value_S[:count] for name, value_S in jax.device_get(metrics).items()}
        for s in range(count):
            self.write({f"train/{name}": value_S[s] for name, value_S in read.items()}, before + s + 1)
        self._writer.flush()
        self.diverged |= not bool(np.all(read["loss"] < self._limit) and np.all(np.isfinite(read["grad_norm"])))

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Scalars of one step, for TensorBoard."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        self._writer.close()
