"""Intervals widen with the extrapolation distance, and are no narrower than replicates imply."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.laws import uncertainty
from mixscale.laws.cross_validation import make_split
from mixscale.laws.dataset import build_dataset
from mixscale.laws.families import Points
from mixscale.laws.uncertainty import RESIDUAL_SEED_DOF, seed_noise
from mixscale.run_table import RunTable

from .conftest import DOMAINS, planted_table

SLOPES_2xT = np.array([[0.1], [0.2]])
"""Of one target."""


@pytest.fixture(scope="module")
def bent_fit():
    """A power of tokens fitted to what is no power: a parabola in their logarithm."""
    return laws.fit(bent(1e8 * 2.0 ** np.arange(6)), "chinchilla", holdout="larger-d", bootstrap=40)


def bent(tokens_D):
    n_params, n_tokens = (x.reshape(-1) for x in np.meshgrid([1e6, 4e6, 1.6e7], tokens_D))
    rng = np.random.default_rng(0)
    far_R = np.log(n_tokens / 1e8)
    loss_R = 2.5 + (n_params / 1e6) ** -0.3 - 0.2 * far_R + 0.012 * far_R**2
    loss_R *= 1 + 0.001 * rng.standard_normal(len(loss_R))
    frame = pd.DataFrame({"run": np.arange(len(loss_R)), "n_params": n_params, "n_tokens": n_tokens})
    return RunTable(frame.assign(**{"mix/a": 1.0, "loss/a": loss_R}))


def missed(fit, table):
    """How far each row is from its prediction, and the half width of its interval."""
    scale = table.frame["n_params"].to_numpy(), table.frame["n_tokens"].to_numpy()
    lo_QxT, hi_QxT = fit.interval(table.mixtures_RxK, 0.9, *scale)
    error_Q = np.abs(table.losses("a") - fit.predict(table.mixtures_RxK, *scale)[:, 0])
    return error_Q, (hi_QxT - lo_QxT)[:, 0] / 2


def test_extrapolation_distance_is_zero_inside_and_counts_epochs_like_tokens():
    h_QxK, ones_Q = np.full((2, 2), 0.5), np.ones(2)
    known = Points.of(h_QxK, np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    inside = Points.of(h_QxK, np.array([2.0, 4.0]), np.array([1.5, 1.0]))
    np.testing.assert_array_equal(uncertainty.extrapolation_distance(SLOPES_2xT, known, inside), np.zeros((1, 2)))
    longer = Points.of(h_QxK, ones_Q, np.array([2 * np.e, 2 * np.e**2]))
    np.testing.assert_allclose(uncertainty.extrapolation_distance(SLOPES_2xT, known, longer), [[0.2, 0.4]])
    again = Points.of(h_QxK, ones_Q, 2 * ones_Q, np.exp([[-1.0, -1.0], [-2.0, -2.0]]))
    np.testing.assert_allclose(uncertainty.extrapolation_distance(SLOPES_2xT, known, again), [[0.2, 0.4]])
    smaller = Points.of(h_QxK, np.exp([-1.0, -2.0]), ones_Q)
    np.testing.assert_allclose(uncertainty.extrapolation_distance(SLOPES_2xT, known, smaller), [[0.1, 0.2]])


@pytest.mark.parametrize(("missed", "least", "most"), [(0.6, 0.4, 0.8), (0.05, 0.02, 0.15)])
def test_the_error_rate_follows_held_out_levels(missed, least, most):
    rng = np.random.default_rng(0)
    fold_R, distance_TxR = np.repeat(np.arange(12), 20), np.full((2, 240), 0.3)
    residual_TxR = missed * distance_TxR * rng.standard_normal((2, 12))[:, fold_R]
    assert least < uncertainty.error_rate(residual_TxR, np.full((2, 240), 1e-3), distance_TxR, fold_R) < most


def test_the_error_rate_without_data_is_the_prior_mode():
    none_TxR, fold_R = np.zeros((1, 6)), np.repeat([0, 1], 3)
    assert uncertainty.error_rate(none_TxR, none_TxR + 0.1, none_TxR, fold_R) == pytest.approx(
        uncertainty.USUAL_RATE, rel=0.05
    )


def test_intervals_of_a_law_with_wrong_curvature_widen_and_cover(bent_fit):
    far = bent(1e8 * 2.0 ** np.arange(6, 11))
    error_Q, half_Q = missed(bent_fit, far)
    assert (error_Q <= half_Q).mean() > 0.8
    assert (np.diff(half_Q.reshape(5, 3).mean(axis=1)) > 0).all()
    blind = dataclasses.replace(
        bent_fit, extrapolation_rate=0.0, oof_extrapolation_TxR=np.zeros_like(bent_fit.oof_extrapolation_TxR)
    )
    error_Q, half_Q = missed(blind, far)
    assert (error_Q <= half_Q).mean() < 0.3


def test_more_tokens_of_one_text_are_tested_by_fewer_tokens_and_epochs():
    frame = bent(1e8 * 2.0 ** np.arange(6)).frame.assign(**{"unique_tokens/a": 1e11})
    short = frame[frame["n_tokens"] == 2e8]
    frame = pd.concat([frame, *(short.assign(**{"unique_tokens/a": 2e8 / 2.0**k}) for k in range(1, 6))])
    dataset = build_dataset(RunTable(frame.assign(run=np.arange(len(frame)))), True, None, False, True)
    folds, epochs_R = make_split(dataset, "larger-d", 0), dataset.points.log_epochs_RxK[:, 0]
    for fold, kept_R in enumerate(folds.kept_FxR > 0):
        tested_R = folds.fold_R == fold
        longer_R = dataset.points.d_R > dataset.points.d_R[kept_R].max()
        again_R = epochs_R > epochs_R[kept_R].max()
        assert (longer_R | again_R)[tested_R].all()
        assert (again_R & ~longer_R)[tested_R].any()
        assert (longer_R & ~again_R)[tested_R].any()


def test_intervals_include_seed_noise_that_runs_of_one_seed_hide():
    # All mixtures share a seed, so they lie on the law exactly; only the replicates show what another seed does.
    rng = np.random.default_rng(3)
    table = planted_table("effective", noise=0.0002)
    frame = pd.concat([table.frame, *[table.frame.iloc[[5]]] * 12], ignore_index=True)
    frame["run"] = np.arange(len(frame))
    columns = [f"loss/{d}" for d in DOMAINS]
    frame.loc[len(table) :, columns] *= 1 + 0.02 * rng.standard_normal((12, 3))
    fit = laws.fit(RunTable(frame), "effective", bootstrap=40)
    h_QxK = rng.dirichlet(np.ones(3), 100)
    new_QxT = fit.predict(h_QxK) * (1 + 0.02 * rng.standard_normal((100, 3)))
    lo_QxT, hi_QxT = fit.interval(h_QxK)
    assert 0.8 < ((lo_QxT <= new_QxT) & (new_QxT <= hi_QxT)).mean() < 0.98
    mean_Q, lo_Q, hi_Q = fit.objective(h_QxK)
    assert ((hi_Q - lo_Q) / mean_Q).mean() == pytest.approx(2 * 1.645 * 0.02 / np.sqrt(3), rel=0.5)


def test_few_replicates_are_shrunk_towards_the_residuals():
    assert seed_noise(0.01, None) == 0
    few, many = (seed_noise(0.01, (0.04**2, freedom)) for freedom in (1, 100))
    assert 0.01 < few < 0.025
    assert many == pytest.approx(0.04, rel=0.05)
    assert seed_noise(0.1, (0.04**2, RESIDUAL_SEED_DOF)) == pytest.approx(0.04)  # errors of the law are not seed noise
