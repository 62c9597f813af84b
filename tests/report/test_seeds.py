"""Intervals for runs with seeds that the law was not fitted to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mixscale.laws.uncertainty import LEVEL
from mixscale.report import Inputs, analyse, load
from mixscale.report.comparison import new_seeds, seed_noise
from mixscale.report.statistics import UNKNOWN, NewSeeds, Noise
from mixscale.run_table import RunTable

SHARED, OWN = 0.02, 0.015
"""Standard deviation of a seed's effect on all mixtures, and on each."""
KNOWN = Noise(np.hypot(SHARED, OWN), 10**6, np.sqrt(2) * OWN, 10**6)


@pytest.mark.parametrize("shared", [SHARED, 0.005])
@pytest.mark.parametrize(("fitted", "seeds"), [(1, 1), (1, 5), (3, 1), (3, 5), (14, 3), (100, 1), (100, 5)])
def test_intervals_cover_runs_with_new_seeds(fitted, seeds, shared):
    rng = np.random.default_rng(0)
    draws = 20_000
    # The law is exact but for the mean effect of its seeds, and its interval fits runs of these.
    shared_SxF = rng.normal(0, shared, (draws, fitted))
    law_S = shared_SxF.mean(axis=1)
    half = stats.norm.ppf(0.5 + LEVEL / 2) * np.std(shared_SxF[:, 0] - law_S + rng.normal(0, OWN, draws))
    new_S = rng.normal(0, np.hypot(shared, OWN), (draws, seeds)).mean(axis=1)
    known = Noise(np.hypot(shared, OWN), 10**6, np.sqrt(2) * OWN, 10**6)
    law = NewSeeds(known, dict.fromkeys(map(float, range(fitted)), 7))
    low_S, high_S = law.of_mean(1000.0 + np.arange(seeds), law_S, law_S - half, law_S + half)
    assert ((low_S <= new_S) & (new_S <= high_S)).mean() == pytest.approx(LEVEL, abs=0.015)
    both = min(fitted, seeds)  # as many fitted seeds as possible
    own_S = (shared_SxF[:, :both] + rng.normal(0, OWN, (draws, both))).mean(axis=1)
    low_S, high_S = law.of_mean(np.arange(both), law_S, law_S - half, law_S + half)
    assert ((low_S <= own_S) & (own_S <= high_S)).mean() == pytest.approx(LEVEL, abs=0.015)


@pytest.mark.parametrize("freedom", [2, 8])
def test_few_replicates_do_not_make_intervals_too_narrow(freedom):
    rng = np.random.default_rng(0)
    draws, law_sd = 3_000, 0.01
    law_S = rng.normal(0, SHARED, (draws, 14)).mean(axis=1) + rng.normal(0, law_sd, draws)
    half = stats.norm.ppf(0.5 + LEVEL / 2) * np.sqrt(law_sd**2 + SHARED**2 * 13 / 14 + OWN**2)
    new_S = rng.normal(0, np.hypot(SHARED, OWN), (draws, 3)).mean(axis=1)
    inside = 0
    for law, new, times in zip(law_S, new_S, np.sqrt(rng.chisquare(freedom, draws) / freedom), strict=True):
        known = Noise(times * np.hypot(SHARED, OWN), freedom, times * np.sqrt(2) * OWN, freedom)
        low, high = NewSeeds(known, dict.fromkeys(range(14), 7)).of_mean([90, 91, 92], law, law - half, law + half)
        inside += low <= new <= high
    assert inside / draws > LEVEL


def test_unknown_seeds_count_as_one(planted):
    inputs = load(planted.folder)
    fitted = planted.frame["role"] == "fit"
    unknown = planted.frame.assign(seed=planted.frame["seed"].where(~fitted))
    alone = unknown[~fitted | (planted.frame["seed"] == 0)]
    noise = dict.fromkeys(inputs.columns, KNOWN)
    one, several = (
        new_seeds(Inputs(RunTable(rows), inputs.fit, inputs.optimum), noise)["objective"] for rows in (alone, unknown)
    )
    assert list(one.fitted) == [UNKNOWN]
    # Five mixtures were trained twice, so these runs had another seed.
    assert several.fitted == {UNKNOWN: one.fitted[UNKNOWN], UNKNOWN - 1: 5}
    assert one.knows([-7.0])
    assert not one.knows([-7.0, -8.0])
    ends = np.zeros(2), np.full(2, -0.04), np.full(2, 0.04)
    low_R, _ = one.of_rows([-7.0, 11.0], *ends)
    assert low_R[0] == -0.04
    assert low_R[1] < -0.04


def test_intervals_do_not_change_without_noise_or_for_fitted_seeds():
    ends = np.array([1.0]), np.array([0.9]), np.array([1.2])
    for new in (NewSeeds(None, {0: 5}), NewSeeds(dataclasses.replace(KNOWN, sd=0.0, paired_sd=0.0), {0: 5})):
        np.testing.assert_array_equal(new.of_mean([9.0], *ends), (ends[1], ends[2]))
    low_R, high_R = NewSeeds(KNOWN, {0: 5}).of_rows([0.0, 9.0], *(np.repeat(e, 2) for e in ends))
    assert (low_R[0], high_R[0]) == (0.9, 1.2)
    assert low_R[1] < 0.9
    assert high_R[1] > 1.2


def test_intervals_of_verification_runs_include_seed_noise(planted):
    inputs = load(planted.folder)
    best = analyse(inputs).candidates["optimum"]
    for estimate in (best.objective, *best.targets.values()):
        assert estimate.of_run[0] < estimate.of_mean[0] <= estimate.interval[0]
        assert estimate.of_run[1] > estimate.of_mean[1] >= estimate.interval[1]
    frame = inputs.table.frame.assign(seed=inputs.table.frame["seed"].replace(dict.fromkeys(planted.seeds, 0)))
    known = analyse(Inputs(RunTable(frame), inputs.fit, inputs.optimum)).candidates["optimum"].objective
    assert known.of_run == known.of_mean == known.interval


def test_staged_runs_do_not_count_as_runs_of_their_mean_mixture(planted):
    inputs = load(planted.folder)
    fitted = planted.frame[planted.frame["role"] == "fit"].head(2)
    losses = [column for column in fitted if column.startswith("loss/")]
    staged = fitted.assign(run=["s0", "s1"], role="staged", seed=77, **{c: fitted[c] + 1.0 for c in losses})
    table = RunTable(pd.concat([planted.frame, staged], ignore_index=True))
    assert seed_noise(dataclasses.replace(inputs, table=table)) == seed_noise(inputs)
