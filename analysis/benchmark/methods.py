"""Named methods: `fit(table, seed, bootstrap, holdout)` returns something that predicts the rows of another table.

Every law of the package is one, by its name; `mean` is the baseline; `trees` has LightGBM. A method sees only the rows
that it is given to fit, except `lightgbm-leak`, which shows the effect of stopping on the test set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mixscale import laws
from mixscale.laws.result import LawFit
from mixscale.run_table import RunTable

LEVEL = 0.9
"""Of every interval."""
Bounds = tuple[np.ndarray, np.ndarray] | None


class Fitted(Protocol):
    """What a method gives back.

    Attributes:
        chosen: the family, where the method chose one; otherwise empty.
    """

    chosen: str

    def predict(self, rows: RunTable) -> np.ndarray:
        """Losses, shape (Q, T), in the order of the fitted table's targets."""
        ...

    def interval(self, rows: RunTable) -> Bounds:
        """Bounds at `LEVEL` for the loss of a new run, each (Q, T); None where the method has none."""
        ...


Method = Callable[[RunTable, int, int, str], Fitted]


def named(name: str, stop_on: RunTable | None = None) -> Method:
    """The method of that name.

    Args:
        stop_on: rows that `lightgbm-leak` stops on.
    """
    if name == "mean":
        return lambda table, seed, bootstrap, holdout: Mean.of(table)
    if name.startswith("lightgbm"):
        from benchmark.trees import Trees

        if name == "lightgbm-cv":
            return lambda table, seed, bootstrap, holdout: Trees.tuned(table, seed)
        leak = stop_on if name == "lightgbm-leak" else None
        return lambda table, seed, bootstrap, holdout: Trees.of(table, seed, leak)
    return lambda table, seed, bootstrap, holdout: FittedLaw.of(name, table, seed, bootstrap, holdout)


@dataclass(frozen=True)
class FittedLaw:
    """A law of the package."""

    fit: LawFit
    chosen: str

    @classmethod
    def of(cls, name: str, table: RunTable, seed: int, bootstrap: int, holdout: str) -> FittedLaw:
        fit = laws.fit(table, law=name, targets=table.targets, seed=seed, bootstrap=bootstrap, holdout=holdout)
        return cls(fit, fit.law if name == "auto" else "")

    def predict(self, rows: RunTable) -> np.ndarray:
        return self.fit.predict(rows.mixtures_RxK, *self._scale(rows))

    def interval(self, rows: RunTable) -> Bounds:
        return self.fit.interval(rows.mixtures_RxK, LEVEL, *self._scale(rows))

    def _scale(self, rows: RunTable) -> list[np.ndarray | None]:
        """n_params, n_tokens and unique tokens of the rows, where the law may use them."""
        unique = [f"unique_tokens/{d}" for d in self.fit.domains]
        known = all(c in rows.frame for c in unique)
        scale: list[np.ndarray | None] = [
            rows.frame[c].to_numpy(dtype=np.float64) if c in rows.frame else None for c in ("n_params", "n_tokens")
        ]
        return [*scale, rows.frame[unique].to_numpy(dtype=np.float64) if known else None]


@dataclass(frozen=True)
class Mean:
    """Predicts the mean of the fitted runs; its interval holds that share of the fitted runs themselves."""

    y_RxT: np.ndarray
    chosen: str = ""

    @classmethod
    def of(cls, table: RunTable) -> Mean:
        return cls(losses(table))

    def predict(self, rows: RunTable) -> np.ndarray:
        return np.tile(self.y_RxT.mean(axis=0), (len(rows), 1))

    def interval(self, rows: RunTable) -> Bounds:
        lo_T, hi_T = np.quantile(self.y_RxT, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return np.tile(lo_T, (len(rows), 1)), np.tile(hi_T, (len(rows), 1))


def losses(table: RunTable) -> np.ndarray:
    """All targets of all rows, shape (R, T)."""
    return table.frame[list(table.targets)].to_numpy(dtype=np.float64)
