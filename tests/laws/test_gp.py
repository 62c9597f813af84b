"""A Gaussian process follows functions without a formula, and never uses the rows that test it."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws import fitting, gp
from mixscale.laws.cross_validation import split_mixtures
from mixscale.laws.families import LAWS, Points
from mixscale.laws.gp import GP, MAX_RUNS
from mixscale.run_table import RunTable

RNG = np.random.default_rng(2)
H_RXK, FRESH_QXK = RNG.dirichlet(np.ones(4), 80), RNG.dirichlet(np.ones(4), 60)


def smooth(h_RxK):
    """Two losses with a bend and an interaction, shape (2, R)."""
    a_R, b_R, c_R, d_R = h_RxK.T
    return np.stack([2 + np.sin(4 * a_R) + b_R * c_R, 3 + 0.5 * np.cos(5 * b_R) - d_R**2])


def table(h_RxK=H_RXK):
    y_TxR = smooth(h_RxK) * (1 + 0.002 * np.random.default_rng(0).standard_normal((2, len(h_RxK))))
    frame = pd.DataFrame({f"mix/{d}": h_R for d, h_R in zip("abcd", h_RxK.T, strict=True)})
    return RunTable(frame.assign(run=range(len(h_RxK)), **{"loss/x": y_TxR[0], "loss/y": y_TxR[1]}))


@pytest.fixture(scope="module")
def fitted():
    return laws.fit(table(), "gp", bootstrap=20)


def test_it_follows_a_smooth_function_that_a_linear_law_cannot(fitted):
    error, linear = (
        np.abs(fit.predict(FRESH_QXK).T - smooth(FRESH_QXK)).mean(axis=1)
        for fit in (fitted, laws.fit(table(), "linear", bootstrap=2))
    )
    assert (error < 0.3 * linear).all()
    lo_QxT, hi_QxT = fitted.interval(FRESH_QXK)
    assert ((smooth(FRESH_QXK) >= lo_QxT.T) & (smooth(FRESH_QXK) <= hi_QxT.T)).mean() > 0.8


def test_its_jax_formula_equals_evaluate(fitted):
    points = Points.of(FRESH_QXK)
    with jax.enable_x64(True):
        by_jax = np.stack([fitted.family.f(theta_P, points) for theta_P in fitted.theta_TxP])
    np.testing.assert_allclose(by_jax, fitting.evaluate(fitted.family, fitted.theta_TxP, points), rtol=1e-9)


def test_gradient_of_the_evidence_is_that_of_finite_differences():
    feature_NxK, log_N = gp._features(H_RXK[:30]), np.log(smooth(H_RXK[:30])[0])
    mean_H, std_H = gp._prior(feature_NxK, log_N)

    def evidence(log_H):
        return gp._evidence(feature_NxK, log_N - log_N.mean(), mean_H, std_H, log_H)

    for log_H in (mean_H, mean_H + std_H * np.random.default_rng(1).standard_normal(len(mean_H))):
        np.testing.assert_allclose(
            evidence(log_H)[1], approx_fprime(log_H, lambda at: evidence(at)[0], 1e-6), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("law", [GP, LAWS["additive"]])
def test_losses_of_held_out_rows_have_no_influence(law):
    split, points, y_TxR = split_mixtures(np.arange(80), 0), Points.of(H_RXK), smooth(H_RXK)
    law = law.bound(points)
    theta_TxP, sigma_T = fitting.fit_points(law, points, y_TxR, 0)
    out_R = split.fold_R == 3
    one, other = (
        fitting.leave_out(law, points, losses_TxR, split.kept_FxR, sigma_T, theta_TxP)[:, 3]
        for losses_TxR in (y_TxR, np.where(out_R, 2 * y_TxR, y_TxR))
    )
    np.testing.assert_array_equal(one, other)
    held_TxN = fitting.evaluate(law, one, Points.of(H_RXK[out_R]))
    assert np.abs(held_TxN / y_TxR[:, out_R] - 1).max() < 0.3


def test_same_seed_gives_the_same_fit(fitted):
    again = laws.fit(table(), "gp", bootstrap=20)
    np.testing.assert_array_equal(again.theta_SxTxP, fitted.theta_SxTxP)
    np.testing.assert_array_equal(again.oof_pred_TxR, fitted.oof_pred_TxR)


def test_saved_process_predicts_the_same(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = laws.LawFit.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(FRESH_QXK), fitted.predict(FRESH_QXK))
    np.testing.assert_array_equal(loaded.interval(FRESH_QXK), fitted.interval(FRESH_QXK))
    assert loaded.params == fitted.params


def test_too_many_runs_are_an_error():
    many = table(np.random.default_rng(0).dirichlet(np.ones(4), MAX_RUNS + 1))
    with pytest.raises(InputError, match=f"'gp' takes at most {MAX_RUNS} runs, and the table has {MAX_RUNS + 1}"):
        laws.fit(many, "gp")
