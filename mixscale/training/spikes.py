"""Counts the spikes of a training loss: the same ones however a run is cut."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

WINDOW = 64
"""Losses that the next one is compared with."""
DEVIATIONS = 7.0
"""Standard deviations above them from which a loss is a spike."""
SIGMA = 1.4826
"""Standard deviation of a normal sample over its median absolute deviation."""


@dataclass
class Spikes:
    """Where the count stands; JSON-ready, so that a run that goes on after a kill counts as if it had not been cut.

    A spike is a stretch of steps whose loss lies more than seven standard deviations above those before it: OLMo 2's
    spike score (arXiv 2501.00656), but with the median and the median absolute deviation for mean and
    standard deviation, which a spike itself would raise, and a window that suits runs of hundreds of steps.
    """

    count: int = 0
    inside: bool = False
    """whether the newest step is part of a spike"""
    recent: list[float] = field(default_factory=list)
    """losses of the newest steps, `WINDOW` at most"""

    def take(self, loss_S: np.ndarray) -> None:
        """Counts on through the losses of the next steps; those with fewer than WINDOW before them are not judged."""
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
