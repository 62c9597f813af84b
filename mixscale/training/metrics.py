"""The training metrics of one run, as arrays of the host: handed to observers, and judged for divergence.

Fetching them from the devices, one dispatch late, is the loop's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mixscale.training.observers import Observer


class MetricLog:
    """Metrics of one run.

    Args:
        limit: training loss in nats from which, as where it is not finite, the run counts as diverged.
        observers: who is told; nobody, in processes of a run other than the first.
        every: steps from one point that observers are given to the next; divergence is judged at every step.

    Attributes:
        diverged_at: the first step that diverged, counted over all segments; None while none has.
    """

    def __init__(self, limit: float, observers: Sequence[Observer] = (), every: int = 1):
        self._limit, self._observers, self._every = limit, observers, every
        self.diverged_at: int | None = None

    def record(self, values: Mapping[str, np.ndarray], before: int) -> int:
        """Takes metrics of steps `before` + 1 to `before` + S, (S,) each, with loss and grad_norm among them.

        Returns:
            How many of them were before the first that diverged.
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
        """Scalars of one step."""
        for observer in self._observers:
            observer.write(scalars, step)

    def close(self) -> None:
        for observer in self._observers:
            observer.close()
