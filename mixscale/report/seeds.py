"""What another seed does to a run: the seed noise of each column, and intervals that hold runs of new seeds.

A law's interval is for a run with a seed that the law was fitted to. What such a seed does is in the law, and in the
runs that were left out to size the interval, so that it cancels there. A run with a seed of its own differs by that,
and by its own seed's effect: what the interval does not hold of both is added here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mixscale.report.material import Material
from mixscale.report.statistics import LEVEL, Noise, pooled_noise


def noises(material: Material) -> dict[str, Noise | None]:
    """Seed noise of `goal`, `plain` and each target: rows of one mixture that differ in their seed, whatever their
    role."""
    rows = material.at_scale.assign(mixture=material.groups_R(material.at_scale))
    rows = rows.drop_duplicates(["mixture", "seed"])
    groups = rows["mixture"].to_numpy(), rows["seed"].to_numpy()
    return {c: pooled_noise(rows[c].to_numpy(), *groups) for c in ("goal", "plain", *material.targets)}


@dataclass(frozen=True)
class NewSeeds:
    """Widens the intervals of a law where runs have seeds that it was not fitted to.

    A mean over n new seeds differs from the law by what these do, of variance `sd² / n`, and by what the m fitted
    seeds do to all mixtures alike, `shared / m`. Of that the interval holds `sd² (1 - 1 / m)`: a run that was left out
    differs from the law by its seed as far as the others have other ones, so with a seed a run nothing is added. The
    number m is that of equally frequent seeds. Where the noise is not known, intervals stay as they are.
    """

    noise: Noise | None
    fitted: dict[float, int]
    """number of fitted runs by seed"""

    @classmethod
    def of(cls, material: Material, noise: Noise | None) -> NewSeeds:
        rows = material.predictable[material.predictable["role"] == "fit"]
        return cls(noise, {float(s): int(n) for s, n in rows["seed"].value_counts().items()})

    def of_mean(self, seeds: int, value, low, high) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of a mean over so many new seeds, from those of the law; arrays of one shape."""
        reach = self._reach(seeds)
        return value - np.hypot(value - low, reach), value + np.hypot(high - value, reach)

    def of_rows(self, seed_R, value_R, low_R, high_R) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of each run, from those of the law: wider where its seed is a new one."""
        new_R = ~np.isin(np.asarray(seed_R, float), list(self.fitted))
        ends = zip((low_R, high_R), self.of_mean(1, value_R, low_R, high_R), strict=True)
        return tuple(np.where(new_R, wider, own) for own, wider in ends)  # type: ignore

    def _reach(self, seeds: int) -> float:
        if self.noise is None or not self.noise.sd:
            return 0.0
        count_S = np.array(list(self.fitted.values()), float)
        fitted = count_S.sum() ** 2 / (count_S**2).sum() if len(count_S) else np.inf
        held = self.noise.sd**2 * (1 - 1 / fitted)
        missing = max(self.noise.sd**2 / seeds + self.noise.shared_variance / fitted - held, 0.0)
        return float(stats.t.ppf(0.5 + LEVEL / 2, self.noise.degrees_of_freedom) * np.sqrt(missing))


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
