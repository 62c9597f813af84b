"""Training metrics, fetched one dispatch late so that the device never waits for the host.

They go to TensorBoard, and tell when a run has diverged.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np


class MetricLog:
    """Metrics of one run.

    Args:
        directory: of the TensorBoard events.
        done: steps already trained; events after it, from before a kill, are purged.
        limit: training loss in nats from which, as where it is not finite, the run counts as diverged.
    """

    def __init__(self, directory: Path, done: int, limit: float):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=done, flush_secs=30)
        self._limit = limit
        self._pending: tuple[dict[str, jax.Array], int, int] | None = None
        self.diverged = False

    def add(self, metrics: dict[str, jax.Array], count: int, done: int) -> None:
        """Takes a dispatch of `count` steps that ends at step `done`, and reads the one before."""
        self.flush()
        self._pending = metrics, count, done - count

    def flush(self) -> None:
        """Reads the dispatch that is pending."""
        if self._pending is None:
            return
        metrics, count, before = self._pending
        self._pending = None
        read = {name: value_S[:count] for name, value_S in jax.device_get(metrics).items()}
        for name, value_S in read.items():
            for s, value in enumerate(value_S, start=before + 1):
                self._writer.add_scalar(f"train/{name}", float(value), s)
        self.diverged |= not bool(np.all(read["loss"] < self._limit))

    def close(self) -> None:
        self._writer.close()
