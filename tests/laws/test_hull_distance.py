"""Isolated mixtures have little weight in the comparison of laws, and others have full weight."""

import numpy as np
import pandas as pd
import pytest

from mixscale.laws import cross_validation
from mixscale.laws.cross_validation import hull_weights
from mixscale.laws.dataset import build_dataset
from mixscale.laws.families import LAWS
from mixscale.run_table import RunTable

INNER_G = np.array([0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5])


def pairs(weight_G):
    return np.stack([weight_G, 1 - weight_G], axis=1)


def test_mixtures_inside_the_hull_have_full_weight():
    h_GxK = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    corner_GxK = np.concatenate([h_GxK, np.eye(3)])
    fold_G = np.append(np.arange(40) % 10, [-1, -1, -1])
    np.testing.assert_array_equal(hull_weights(corner_GxK, fold_G), 1.0)


def test_an_isolated_mixture_has_the_inverse_square_of_its_distance_as_weight():
    h_GxK = pairs(np.append(INNER_G, 1.0))
    count_G = hull_weights(h_GxK, np.arange(10))
    np.testing.assert_allclose(count_G[:-1], 1.0, rtol=1e-6)
    assert count_G[-1] == pytest.approx((0.05 / 0.5) ** 2, rel=1e-4)


def test_nearly_equal_mixtures_count_as_one():
    """As where weights are those that each seed realized."""
    rng = np.random.default_rng(0)
    h_GxK = rng.dirichlet(np.ones(4), 18)
    twins_GxK = np.concatenate([h_GxK, h_GxK[:12] + 1e-4 * rng.standard_normal((12, 4))])
    expected_G = hull_weights(h_GxK, np.arange(18))
    assert expected_G.min() < 0.9
    np.testing.assert_allclose(hull_weights(twins_GxK, np.arange(30))[12:18], expected_G[12:], rtol=0.2)


def test_a_hull_of_many_corners_is_that_of_all_of_them():
    """Mixtures that their nearest neighbours alone do not surround."""
    rng = np.random.default_rng(0)
    h_GxK = np.concatenate([rng.dirichlet(np.full(3, 30.0), 200), rng.dirichlet(np.full(3, 0.3), 40)])
    found_G = hull_weights(h_GxK, np.arange(240) % 10)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cross_validation, "NEAREST", 1000)
        np.testing.assert_allclose(found_G, hull_weights(h_GxK, np.arange(240) % 10), rtol=1e-6)
    assert found_G.min() < 1


def test_mixtures_that_are_never_held_out_have_full_weight():
    np.testing.assert_array_equal(hull_weights(np.eye(3), np.full(3, -1)), 1.0)


def test_in_many_domains_typical_mixtures_have_full_weight():
    h_GxK = np.random.default_rng(0).dirichlet(np.ones(17), 40)
    assert np.median(hull_weights(h_GxK, np.arange(40) % 10)) == 1.0
    assert hull_weights(h_GxK, np.arange(40) % 10).min() > 0.5


def test_a_lucky_prediction_of_a_vertex_does_not_choose_the_law():
    """One law is near every mixture among the others and far from the vertex; the other has it the other way round."""
    h_RxK = pairs(np.append(np.linspace(0.3, 1.0, 15), 0.0))
    frame = pd.DataFrame(h_RxK, columns=["mix/a", "mix/b"]).assign(run=range(16))
    rows = RunTable(frame.assign(**{"loss/x": 3 - h_RxK[:, 0]}))
    dataset = build_dataset(rows, uses_scale=False, targets=None)
    split = cross_validation.make_split(dataset, "mixtures", 0)
    far_R, vertex_R = np.full(16, 0.05), np.arange(16) == 15
    errors = {"additive": np.where(vertex_R, 1.0, far_R / 5), "exponential": np.where(vertex_R, 0.0, far_R)}
    candidates = [
        cross_validation.Candidate(LAWS[name], np.zeros((1, 1)), np.ones(1), np.zeros((1, 1, 1)), split, oof_pred_TxR)
        for name, oof_pred_TxR in ((name, dataset.y_scaled_TxR + error_R) for name, error_R in errors.items())
    ]
    ranking, chosen, _ = cross_validation.rank(candidates, dataset, "mixtures")
    assert chosen.law.name == "additive"
    assert ranking["law"].tolist() == ["additive", "exponential"]
