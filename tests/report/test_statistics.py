"""Coverage of intervals, and planted noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixscale.plots import spearman
from mixscale.report.statistics import pooled_noise, residual, t_interval


def layout(values_MxS: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, mixtures and seeds of a full layout, each (R,)."""
    mixtures, seeds = np.indices(values_MxS.shape)
    return values_MxS.ravel(), mixtures.ravel(), seeds.ravel()


def test_the_pooled_interval_of_a_difference_has_its_coverage():
    rng = np.random.default_rng(5)
    true_M, covered, reach = np.array([3.9, 3.95, 4.0, 4.1]), [], []
    for _ in range(300):
        values_MxS = true_M[:, None] + rng.normal(0, 0.05, 3) + rng.normal(0, 0.02, (4, 3))
        left = residual(*layout(values_MxS))
        mean = float((values_MxS[1] - values_MxS[0]).mean())
        low, high = t_interval(mean, left.standard_error(3), left.degrees_of_freedom)
        covered.append(low <= true_M[1] - true_M[0] <= high)
        reach.append((high - low) / 2)
        assert left.degrees_of_freedom == 6
    assert 0.85 <= np.mean(covered) <= 0.95
    assert np.mean(reach) < 0.05  # twice as wide with the common effect of a seed


def test_with_two_mixtures_it_is_the_paired_interval():
    values_MxS = np.random.default_rng(0).normal(4, 0.1, (2, 5))
    difference_S = values_MxS[1] - values_MxS[0]
    left = residual(*layout(values_MxS))
    interval = t_interval(difference_S.mean(), left.standard_error(5), left.degrees_of_freedom)
    expected = stats.ttest_rel(values_MxS[1], values_MxS[0]).confidence_interval(0.9)
    np.testing.assert_allclose(interval, expected)


def test_noise_with_and_without_the_common_effect_of_a_seed():
    rng = np.random.default_rng(1)
    values_MxS = rng.normal(4, 1, (40, 1)) + rng.normal(0, 0.3, 40) + rng.normal(0, 0.05, (40, 40))
    noise = pooled_noise(*layout(values_MxS))
    assert noise.sd == pytest.approx(0.3, rel=0.25)
    assert noise.paired_sd == pytest.approx(np.sqrt(2) * 0.05, rel=0.1)
    assert (noise.degrees_of_freedom, noise.paired_degrees_of_freedom) == (40 * 39, 39 * 39)


def test_mixtures_with_one_run_do_not_change_the_noise():
    values, mixtures, seeds = layout(np.random.default_rng(2).normal(4, 0.1, (3, 3)))
    more = [np.append(column, extra) for column, extra in ((values, 9.0), (mixtures, 7), (seeds, 0))]
    assert pooled_noise(*more) == pooled_noise(values, mixtures, seeds)


def test_statistics_of_too_little_data_are_none():
    one = np.array([1.0, 2.0]), np.array([0, 1]), np.array([0, 0])
    assert pooled_noise(*one) is None
    assert residual(*one) is None
    lone = pooled_noise(np.array([1.0, 2.0]), np.array([0, 0]), np.array([0, 1]))
    assert (lone.degrees_of_freedom, lone.paired_sd) == (1, None)
    assert spearman(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert spearman(np.ones(5), np.arange(5.0)) is None
