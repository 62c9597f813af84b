"""What another seed does to a run: the seed noise of each column, and intervals that hold runs of new seeds.

A law's interval is for a run with a seed that the law was fitted to. What such a seed does is in the law, and in the
runs that were left out to size the interval, so that it cancels there. A run with a seed of its own differs by that,
and by its own seed's effect; a mean over several runs differs by less. Intervals that hold that are made here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mixscale.report.material import SCALE, Material
from mixscale.report.statistics import LEVEL, Noise, pooled_noise

UNKNOWN = -1.0
"""Seed of runs of which nobody wrote it down; `Material` numbers these down from it."""


def noises(material: Material) -> dict[str, Noise | None]:
    """Seed noise of `goal`, `plain` and each target: rows of one mixture that differ in their seed, whatever their
    role."""
    rows = material.at_scale.assign(mixture=material.groups_R(material.at_scale))
    rows = rows.drop_duplicates(["mixture", "seed"])
    groups = rows["mixture"].to_numpy(), rows["seed"].to_numpy()
    return {c: pooled_noise(rows[c].to_numpy(), *groups) for c in ("goal", "plain", *material.targets)}


@dataclass(frozen=True)
class NewSeeds:
    """Intervals of a law where runs have seeds that it was not fitted to, or are averaged over several.

    Of a seed's effect let A be the variance that all mixtures have in common, and E that of each alone. A mean over n
    seeds differs from a law fitted to m others by `(A + E) / n + A / m`, beside the law's own doubt. The law's
    interval holds `A (1 - 1 / m) + E` instead: a run that was left out differs from the law by its own effect, and by
    what is common as far as the others had other seeds. So the one goes, by the normal quantile, and the other comes,
    by Student's, which keeps the coverage where few runs tell A and E. Of any seeds, `1 / n + 1 / m` is the sum over
    seeds of the squared difference of their shares in the mean and in the fitted runs, and `1 / m` that of the
    squared shares in the fitted runs. Where the noise is not known, intervals stay as they are.
    """

    noise: Noise | None
    fitted: dict[float, int]
    """number of fitted runs by seed; UNKNOWN, and down from it, where it is not known"""

    @classmethod
    def of(cls, material: Material, noise: Noise | None) -> NewSeeds:
        rows = material.predictable[material.predictable["role"] == "fit"]
        seed_R = np.array(rows["seed"], float)
        unknown_R = seed_R < 0
        # Unknown seeds may all have been one, but for repeated runs of a mixture, which differed.
        same = rows[[c for c in SCALE if c in rows]].assign(mixture=material.groups_R(rows))[unknown_R]
        seed_R[unknown_R] = UNKNOWN - same.groupby(list(same), dropna=False).cumcount()
        found_S, count_S = np.unique(seed_R, return_counts=True)
        return cls(noise, dict(zip(found_S.tolist(), count_S.tolist(), strict=True)))

    def knows(self, seed_S) -> bool:
        """Whether the law was fitted to all of these seeds; of several that are unknown nobody can say."""
        seed_S = np.asarray(seed_S, float)
        return len(seed_S) > 0 and (seed_S < 0).sum() < 2 and bool(self._fitted(seed_S).all())

    def of_run(self, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of a run with a new seed, from those of the law; arrays of one shape."""
        return self._ends(1, np.zeros(0), value, low, high)

    def of_mean(self, seed_S, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of a mean over these seeds, from those of the law; arrays of one shape."""
        seed_S = np.asarray(seed_S, float)
        if len(seed_S) == 1 and self.knows(seed_S):
            return low, high
        return self._ends(len(seed_S), seed_S[(seed_S >= 0) & self._fitted(seed_S)], value, low, high)

    def of_rows(self, seed_R, value_R, low_R, high_R) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of each run, from those of the law: another one where its seed is new."""
        known_R = self._fitted(np.asarray(seed_R, float))
        ends = zip((low_R, high_R), self.of_run(value_R, low_R, high_R), strict=True)
        return tuple(np.where(known_R, own, other) for own, other in ends)  # type: ignore

    def _fitted(self, seed_S: np.ndarray) -> np.ndarray:
        return np.isin(np.where(seed_S < 0, UNKNOWN, seed_S), list(self.fitted))

    def _ends(self, count: int, known_S: np.ndarray, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """For a mean over `count` seeds, of which these were fitted."""
        if self.noise is None or not self.noise.sd:
            return low, high
        shared, own = self.noise.shared_variance, self.noise.sd**2 - self.noise.shared_variance
        total = max(sum(self.fitted.values()), 1)
        shares = {seed: runs / total for seed, runs in self.fitted.items()}
        alike = sum(share**2 for share in shares.values())
        apart = 1 / count + alike - 2 / count * sum(shares[seed] for seed in known_S)
        held = stats.norm.ppf(0.5 + LEVEL / 2) ** 2 * (shared * (1 - alike) + own)
        reach = stats.t.ppf(0.5 + LEVEL / 2, self.noise.degrees_of_freedom) ** 2
        comes = reach * (shared * apart + own / count)
        below, above = (np.sqrt(np.maximum(side**2 - held, 0.0) + comes) for side in (value - low, high - value))
        return value - below, value + above


def goal_of_rows(material: Material, rows: pd.DataFrame, noise: dict[str, Noise | None]) -> tuple[np.ndarray, ...]:
    """The goal predicted for each run, and the ends of its interval with that run's seed, each (R,)."""
    middle_R, *ends = material.row_objective(rows)
    return middle_R, *NewSeeds.of(material, noise["goal"]).of_rows(rows["seed"], middle_R, *ends)


def targets_of_rows(material: Material, rows: pd.DataFrame, noise: dict[str, Noise | None]) -> tuple[np.ndarray, ...]:
    """The targets predicted for each run, and the ends of their intervals with that run's seed, each (R, T)."""
    middle_RxT, law = material.predicted_RxT(rows), material.interval_RxT(rows)
    ends_Tx2xR = [
        NewSeeds.of(material, noise[t]).of_rows(rows["seed"], middle_RxT[:, i], *(end[:, i] for end in law))
        for i, t in enumerate(material.targets)
    ]
    return middle_RxT, *(np.stack(side, axis=1) for side in zip(*ends_Tx2xR, strict=True))
