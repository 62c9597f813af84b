"""Whether a law tells mixtures apart: what it says of those it was not fitted to, beside their mean.

The one place that decides when an optimum may be acted on. It knows numbers of rows, not laws: a goal as it was
measured, as it was predicted unseen, and which rows can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.stats import rankdata

LEAST = 5
"""Mixtures left out, fewer than which say nothing of a law."""
CLEARLY = 1.65
"""Standard errors by which a law's squared error must be below that of the mean.

Of simulated tables without an effect it passes in about 1 of 60 with 20 to 40 mixtures and in 1 of 20 with 8 to 12
where the law was chosen by 'auto', which looks for luck among several, and in 1 of 100 with 12 mixtures where it was
named ('linear').
"""
FAINT = 1e-6
"""Least weight of a mixture in the mean of the others at its level."""
FLAT = 1e-12
"""Differences between mixtures below this share of the goal, or below it itself, are rounding."""


@dataclass(frozen=True)
class Skill:
    """How well a law foretells how mixtures it has not seen differ from each other in a goal.

    Attributes:
        mixtures: that were left out and can be compared. domains: of the table.
        r2: share of their variance that the law explains: zero for a law no better than the mean of the others.
        noise: its standard error. rho: rank correlation. error: mean absolute error. naive: that of the mean of the
            others. All are NaN where there is nothing to compare, the first three also where the goal does not differ.
        uses_mixture: whether the law is one of the mixture at all.
    """

    mixtures: int
    domains: int
    r2: float = math.nan
    noise: float = math.nan
    rho: float = math.nan
    error: float = math.nan
    naive: float = math.nan
    uses_mixture: bool = True

    @classmethod
    def of(
        cls,
        y_R: np.ndarray,
        held_R: np.ndarray,
        level_R: np.ndarray,
        group_R: np.ndarray,
        count_R: np.ndarray,
        domains: int,
    ) -> Skill:
        """From a goal of R rows and what a law without their mixture predicted.

        Only differences within a level count: what a law misses of all its mixtures alike does not change which is
        best, and what size and tokens explain says nothing of mixtures.

        Args:
            level_R: number of the size and token count at which rows can be compared, from 0. group_R: of the mixture.
            count_R: how much each mixture counts (`isolation.counts`).
        """
        cell_C, of_R = np.unique(np.column_stack([level_R, group_R]), axis=0, return_inverse=True)
        of_R, (level_C, group_C) = of_R.reshape(-1), cell_C.T
        y_C, held_C, count_C = (np.bincount(of_R, x_R) / np.bincount(of_R) for x_R in (y_R, held_R, count_R))
        company_C = np.bincount(level_C)[level_C] > 1
        y_C, held_C, count_C, level_C, group_C = (x_C[company_C] for x_C in (y_C, held_C, count_C, level_C, group_C))
        mixtures, group_C = np.unique(group_C, return_inverse=True)
        if not len(mixtures):
            return cls(0, domains)
        flat = FLAT * max(1.0, float(np.abs(y_C).max()))
        y_C, told_C = (_from_others(x_C, level_C, count_C) for x_C in (y_C, held_C))
        missed_C = told_C - y_C
        # A mixture with many checkpoints is one mixture: it counts by their mean.
        share_C = 1 / np.bincount(group_C)[group_C]
        count_C = count_C * share_C
        error, naive = (float(np.average(np.abs(x_C), weights=count_C)) for x_C in (missed_C, y_C))
        if naive <= flat:
            return cls(len(mixtures), domains, error=error, naive=naive)
        r2, noise = _explained(*(np.bincount(group_C, count_C * x_C**2) for x_C in (y_C, missed_C)))
        rho = _correlation(rankdata(told_C), rankdata(y_C), share_C)
        return cls(len(mixtures), domains, r2, noise, rho, error, naive)

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold of it; numbers that are not known are None."""
        told = {name: None if value != value else value for name, value in asdict(self).items()}
        return told | {"supported": self.supported, "said": self.warning or self.said()}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Skill:
        """What `to_json` wrote."""
        known = {f.name: written[f.name] for f in fields(cls) if f.name in written}
        return cls(**{name: math.nan if value is None else value for name, value in known.items()})

    @property
    def supported(self) -> bool:
        """Whether a choice of mixture may rest on the law."""
        return self.mixtures >= LEAST and self.r2 > CLEARLY * self.noise

    @property
    def more(self) -> int:
        """Mixtures to train before the question is worth asking again: up to 3 (K + 1), or as many again."""
        start = 3 * (self.domains + 1)
        return start - self.mixtures if self.mixtures < start else self.mixtures

    def said(self) -> str:
        """What was found, in a sentence without an end."""
        if not self.uses_mixture:
            return "the law does not use the mixture"
        if self.mixtures < LEAST:
            left = f"only {self.mixtures} mixtures" if self.mixtures else "no mixture"
            return f"{left} could be left out to test the law, and {LEAST} are needed"
        if math.isnan(self.r2):
            return f"the goal does not differ between the {self.mixtures} mixtures left out to test the law"
        told = f"on {self.mixtures} mixtures left out the law orders the goal with rank correlation {self.rho:.2f} and"
        if self.supported:
            return f"{told} explains {self.r2:.0%} ± {self.noise:.0%} of how it differs"
        return f"{told} misses it by {self.error:.3g}, not clearly less than the {self.naive:.3g} of their mean"

    @property
    def warning(self) -> str | None:
        """Why nothing may be chosen by the law and what to do; None where something may."""
        if self.supported:
            return None
        remedy = f"train {self.more} more mixtures" if self.uses_mixture else "fit a law that uses it"
        return f"{self.said()}: do not act on this; {remedy}"


def _from_others(x_C: np.ndarray, level_C: np.ndarray, count_C: np.ndarray) -> np.ndarray:
    """What each value differs from the mean of the others at its level."""
    at_C = np.unique(level_C, return_inverse=True)[1].reshape(-1)
    # Beside a mixture that counts fully, others that hardly count would be lost in rounding.
    count_C = np.maximum(count_C, FAINT)
    whole_C, sum_C = np.bincount(at_C, count_C)[at_C], np.bincount(at_C, count_C * x_C)[at_C]
    return x_C - (sum_C - count_C * x_C) / (whole_C - count_C)


def _explained(naive_G: np.ndarray, missed_G: np.ndarray) -> tuple[float, float]:
    """One less the ratio of two sums over the same mixtures, and its standard error."""
    count, whole = len(naive_G), float(naive_G.sum())
    ratio = float(missed_G.sum()) / whole
    return 1 - ratio, float(np.sqrt(count / (count - 1) * ((missed_G - ratio * naive_G) ** 2).sum()) / whole)


def _correlation(x_C: np.ndarray, y_C: np.ndarray, share_C: np.ndarray) -> float:
    if not (np.ptp(x_C) > 0 and np.ptp(y_C) > 0):
        return 0.0
    (x, both), (_, y) = np.cov(x_C, y_C, aweights=share_C, ddof=0)
    return float(both / np.sqrt(x * y))
