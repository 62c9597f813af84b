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
        limit: training loss in nats above which, as where it is not finite, the run counts as diverged.
    """

    def __init__(self, directory: Path, done: int, limit: float):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=done, flush_secs=30)
        self._limit = limit
        self._pending: tuple[dict[str, jax.Array], int, int] | None = None
        self.diverged = False
        self.last_loss = float("nan")

    def add(self, metrics: dict[str, jax.Array], first: int, count: int, done: int) -> None:
        """Takes a dispatch of `count` steps from step `first`, and reads the one before."""
        self.flush()
        self._pending = metrics, count, done - count

    def flush(self) -> None:
        """Reads the dispatch that is pending."""
        if self._pending is None:
            return
        metrics, count, before = self._pending
        self._pending = None
        for name, value_S in jax.device_get(metrics).items():
            for s, value in enumerate(value_S[:count]):
                self._writer.add_scalar(f"train/{name}", float(value), before + s + 1)
        loss_S = np.asarray(metrics["loss"])[:count]
        self.last_loss = float(loss_S[-1])
        self.diverged |= not bool(np.all(loss_S < self._limit))

    def close(self) -> None:
        self._writer.close()
