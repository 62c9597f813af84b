"""Intervals hold runs of seeds that the law was not fitted to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from mixscale.report import findings, load
from mixscale.report.material import Material
from mixscale.report.seeds import NewSeeds
from mixscale.report.statistics import LEVEL, Noise
from mixscale.runs import RunTable

SHARED, OWN = 0.02, 0.015
"""Standard deviation of what a seed does to all mixtures alike, and to each alone."""
KNOWN = Noise(np.hypot(SHARED, OWN), 10**6, np.sqrt(2) * OWN, 10**6)


@pytest.mark.parametrize(("fitted", "seeds"), [(1, 1), (1, 5), (3, 1), (3, 5), (100, 1)])
def test_intervals_hold_their_share_of_runs_with_new_seeds(fitted, seeds):
    rng = np.random.default_rng(0)
    draws = 20_000
    # The law knows the truth but for the mean of what its seeds share; its interval was sized on runs of these.
    shared_SxF = rng.normal(0, SHARED, (draws, fitted))
    law_S = shared_SxF.mean(axis=1)
    half = stats.norm.ppf(0.5 + LEVEL / 2) * np.std(shared_SxF[:, 0] - law_S + rng.normal(0, OWN, draws))
    new_S = rng.normal(0, np.hypot(SHARED, OWN), (draws, seeds)).mean(axis=1)
    low_S, high_S = NewSeeds(KNOWN, dict.fromkeys(range(fitted), 7)).of_mean(seeds, law_S, law_S - half, law_S + half)
    assert ((low_S <= new_S) & (new_S <= high_S)).mean() > LEVEL - 0.01
    if fitted == 100:  # each left-out run had a seed of its own, so the law's interval holds what a seed does
        assert (high_S - low_S).mean() < 2.2 * half
    if fitted == seeds == 1:  # the law's own interval does not hold them
        assert (np.abs(new_S - law_S) < half).mean() < 0.7


def test_nothing_is_added_that_is_not_known_or_held_already():
    ends = np.array([1.0]), np.array([0.9]), np.array([1.2])
    for new in (NewSeeds(None, {0: 5}), NewSeeds(dataclasses.replace(KNOWN, sd=0.0, paired_sd=0.0), {0: 5})):
        np.testing.assert_array_equal(new.of_mean(1, *ends), (ends[1], ends[2]))
    low_R, high_R = NewSeeds(KNOWN, {0: 5}).of_rows([0.0, 9.0], *(np.repeat(e, 2) for e in ends))
    assert (low_R[0], high_R[0]) == (0.9, 1.2)
    assert low_R[1] < 0.9
    assert high_R[1] > 1.2


def test_verification_runs_are_judged_with_the_noise_of_their_seeds(planted):
    material = load(planted.folder)
    best = findings(material).candidates["optimum"]
    for estimate in (best.goal, *best.targets.values()):
        assert estimate.of_run[0] < estimate.of_mean[0] <= estimate.interval[0]
        assert estimate.of_run[1] > estimate.of_mean[1] >= estimate.interval[1]
    frame = material.table.frame.assign(seed=material.table.frame["seed"].replace(dict.fromkeys(planted.seeds, 0)))
    known = findings(Material(RunTable(frame), material.fit, material.optimum)).candidates["optimum"].goal
    assert known.of_run == known.of_mean == known.interval
