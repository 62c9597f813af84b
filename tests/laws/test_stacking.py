"""A stack weights laws by their held-out errors, and is a law like any other."""

import dataclasses

import jax
import numpy as np
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws import fitting, stacking
from mixscale.laws.catalogue import get_law
from mixscale.laws.cross_validation import Candidate, split_mixtures
from mixscale.laws.dataset import build_dataset
from mixscale.laws.families import LAWS, Points

from .conftest import planted_table

FRESH_QXK = np.random.default_rng(9).dirichlet(np.ones(3), 50)


@pytest.fixture(scope="module")
def fitted(noisy_table):
    return laws.fit(noisy_table, "stack(additive, gp)", bootstrap=10)


def test_weights_lie_on_the_simplex_and_favour_the_best_law():
    rng = np.random.default_rng(0)
    for count in (2, 3, 6):
        size_M = 2.0 ** rng.permutation(count)
        weight_TxM = stacking.weights(size_M[:, None, None] * rng.standard_normal((count, 4, 50)), np.ones(50))
        np.testing.assert_allclose(weight_TxM.sum(axis=1), np.ones(4))
        assert (weight_TxM >= 0).all()
        np.testing.assert_array_equal(weight_TxM.argmax(axis=1), np.full(4, size_M.argmin()))


def test_a_law_that_adds_nothing_is_pruned():
    error_MxTxR = np.random.default_rng(0).standard_normal((3, 4, 60)) * [[[1]], [[10]], [[1]]]
    np.testing.assert_array_equal(stacking.useful(error_MxTxR, np.ones(error_MxTxR.shape[2])), [0, 2])


def test_weights_make_opposite_errors_cancel():
    error_TxR = np.random.default_rng(0).standard_normal((3, 40))
    weight_TxM = stacking.weights(np.stack([error_TxR, -3 * error_TxR]), np.ones(error_TxR.shape[1]))
    np.testing.assert_allclose(weight_TxM, np.tile([0.75, 0.25], (3, 1)), atol=1e-3)


def test_the_true_law_gets_most_of_the_weight():
    fit = laws.fit(planted_table("exponential", noise=0.002), "stack(linear, exponential, m3)", bootstrap=2)
    for params in fit.params.values():
        assert params["weight/exponential"] > 0.8
        assert sum(params[f"weight/{m.name}"] for m in fit.family.members) == pytest.approx(1)


def test_its_jax_formula_equals_evaluate_and_the_weighted_mean(fitted):
    points, law = Points.of(FRESH_QXK), fitted.family
    losses_TxQ = fitting.evaluate(law, fitted.theta_TxP, points)
    with jax.enable_x64(True):
        by_jax = np.stack([law.f(theta_P, points) for theta_P in fitted.theta_TxP])
    np.testing.assert_allclose(by_jax, losses_TxQ, rtol=1e-9)
    members = [fitting.evaluate(member, fitted.theta_TxP[:, at], points) for member, at in law.parts(3)]
    np.testing.assert_allclose(losses_TxQ, np.einsum("tm,mtq->tq", fitted.theta_TxP[:, :2], members), rtol=1e-12)


def test_a_named_stack_is_fitted_and_saved(fitted, tmp_path):
    assert fitted.law == "stack(additive, gp)"
    fitted.save(tmp_path)
    loaded = laws.LawFit.load(tmp_path)
    assert loaded.law == fitted.law
    np.testing.assert_array_equal(loaded.predict(FRESH_QXK), fitted.predict(FRESH_QXK))
    np.testing.assert_array_equal(loaded.interval(FRESH_QXK), fitted.interval(FRESH_QXK))
    assert loaded.params == fitted.params


def test_weights_of_a_fold_do_not_use_its_rows(noisy_table):
    dataset = build_dataset(noisy_table, False, None)
    split, rng = split_mixtures(dataset.group_R, 0), np.random.default_rng(0)

    def weights(seen_y):
        candidates = [
            Candidate(LAWS[name], np.ones((3, p)), np.ones(3), np.ones((3, 10, p)), split, oof_pred_TxR)
            for (name, p), oof_pred_TxR in zip({"linear": 3, "exponential": 4}.items(), held_MxTxR, strict=True)
        ]
        return stacking.stack(candidates, seen_y, prune=False).theta_TxFxP[:, :, :2]

    held_MxTxR = dataset.y_scaled_TxR * (1 + 0.02 * rng.standard_normal((2, *dataset.y_TxR.shape)))
    spoiled = dataclasses.replace(dataset, y_TxR=dataset.y_TxR * np.where(split.fold_R == 4, 1.5, 1))
    before_TxFxM, after_TxFxM = weights(dataset), weights(spoiled)
    np.testing.assert_array_equal(before_TxFxM[:, 4], after_TxFxM[:, 4])
    assert not np.allclose(before_TxFxM, after_TxFxM)


def test_impossible_stacks_are_errors():
    with pytest.raises(InputError, match="'stack.gp.' .*two laws or more"):
        get_law("stack(gp)")
    with pytest.raises(InputError, match="laws with and without scale"):
        get_law("stack(gp, joint)")
    scaled = planted_table("effective-scale", runs=8)
    two = scaled.where(scaled.frame["n_params"] < 2e6)
    with pytest.raises(InputError, match="needs two folds .*'larger-n' has one"):
        laws.fit(two, "stack(effective-scale, bimix)", holdout="larger-n", bootstrap=2)
