"""Designs before any table: the reported variance is that of a Gaussian posterior, and planted laws fit better."""

import numpy as np
import pytest

from mixscale.config import Design
from mixscale.errors import InputError
from mixscale.laws import fitting
from mixscale.laws.families import LAWS, Points
from mixscale.mixture import Mixture
from mixscale.mixtures.acquisition import law_prior
from mixscale.mixtures.designs import NOISE, draw, optimal_design, optimal_subset, smooth_covariance
from mixscale.mixtures.information import Uncertainty, choose

DOMAINS = ("books", "code", "maths", "news", "web", "wiki")


def pool(count=150, k=6, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.4), count)


def average_variance(h_NxK, chosen):
    """Of a prediction anywhere in the pool after runs of the chosen, by the textbook's formula."""
    prior_NxN = smooth_covariance(h_NxK)
    some_RxN = prior_NxN[chosen]
    middle_RxR = prior_NxN[np.ix_(chosen, chosen)] + NOISE**2 * np.eye(len(chosen))
    return np.mean(np.diag(prior_NxN) - np.einsum("rn,rn->n", some_RxN, np.linalg.solve(middle_RxR, some_RxN)))


def test_the_reported_uncertainty_is_the_posterior_variance_and_below_random_designs():
    h_NxK = pool()
    chosen, left_R = optimal_subset(h_NxK, 12)
    assert len(set(chosen)) == 12
    np.testing.assert_allclose(left_R[-1], average_variance(h_NxK, chosen), rtol=1e-6)
    assert (np.diff(left_R) < 0).all()
    rng = np.random.default_rng(1)
    random = [average_variance(h_NxK, rng.choice(150, 12, replace=False)) for _ in range(200)]
    assert left_R[-1] < 0.9 * min(random)


def test_removing_a_run_undoes_adding_it():
    rng = np.random.default_rng(0)
    root_MxAxA = rng.normal(size=(2, 9, 9))
    whole_MxAxA = root_MxAxA @ root_MxAxA.transpose(0, 2, 1)
    uncertainty = Uncertainty(whole_MxAxA[:, :6, :6], whole_MxAxA[:, 6:, :6], 50.0, np.full((2, 6), 0.3))
    before, gain = uncertainty.cov_MxNxN.copy(), uncertainty.gains()
    uncertainty.add_run(2)
    assert uncertainty.variance == pytest.approx(50.0 - gain[2])
    uncertainty.add_run(4)
    uncertainty.remove_run(2)
    uncertainty.remove_run(4)
    np.testing.assert_allclose(uncertainty.cov_MxNxN, before, rtol=1e-6, atol=1e-8)
    assert uncertainty.variance == pytest.approx(50.0)


def test_the_design_is_no_worse_than_any_of_a_small_pool():
    from itertools import combinations

    h_NxK = pool(12, 3)
    chosen, _ = optimal_subset(h_NxK, 4)
    best = min(average_variance(h_NxK, list(c)) for c in combinations(range(12), 4))
    assert average_variance(h_NxK, chosen) < 1.02 * best


def test_choices_stay_within_the_budget_and_weigh_gain_against_cost():
    shared = np.ones((1, 4, 4))
    uncertainty = Uncertainty(shared, shared[:, :1], 1.0, np.array([[0.1, 1.0, 1.0, 1.0]]))
    chosen, left_R = choose(uncertainty, 4, cost_N=np.array([10.0, 1.0, 1.0, 1.0]), budget=3.0)
    assert sorted(chosen) == [1, 2, 3]
    assert left_R[-1] == pytest.approx(0.25)
    fresh = Uncertainty(shared, shared[:, :1], 1.0, uncertainty.noise_MxN)
    single, _ = choose(fresh, 4, uncertainty.noise_MxN[0], 0.15)
    assert single == [0]


def test_a_planted_law_fitted_on_the_design_predicts_better_than_on_random_designs():
    law, targets = LAWS["effective"], 6
    h_NxK, held_QxK = pool(160, seed=2), pool(200, seed=3)
    rng = np.random.default_rng(4)
    theta_TxP = np.column_stack([np.full(targets, 0.8), np.full(targets, 0.5), rng.normal(-1, 1, (targets, 6))])

    def error(chosen):
        y_TxR = fitting.evaluate(law, theta_TxP, Points.of(h_NxK[chosen])) * (
            1 + 0.02 * np.random.default_rng(5).standard_normal((targets, len(chosen)))
        )
        fitted_TxP, _ = fitting.fit_points(law, Points.of(h_NxK[chosen]), y_TxR, 0)
        at = Points.of(held_QxK)
        return np.abs(fitting.evaluate(law, fitted_TxP, at) - fitting.evaluate(law, theta_TxP, at)).mean()

    random = [error(rng.choice(160, 12, replace=False)) for _ in range(6)]
    assert error(optimal_subset(h_NxK, 12, prior=law_prior())[0]) < 0.85 * np.mean(random)


def test_the_prior_of_a_law_makes_a_design_too():
    h_NxK = pool(60, 3)
    chosen, left_R = optimal_subset(h_NxK, 6, prior=law_prior("additive", seed=1))
    assert chosen == optimal_subset(h_NxK, 6, prior=law_prior("additive", seed=1))[0]
    assert left_R[-1] < 0.2


def test_a_design_is_within_bounds_and_reproducible():
    lower, upper = {"web": 0.2}, {"code": 0.3, "maths": 0.05, "books": 0.0}
    one, again, other = (optimal_design(DOMAINS, 15, {"web": 8, "code": 2}, lower, upper, s) for s in (0, 0, 1))
    assert one.equals(again)
    assert not one.equals(other)
    weights = one[[f"mix/{d}" for d in DOMAINS]]
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert len(weights.drop_duplicates()) == 15
    # Weights are rounded to ten-thousandths, the bounds with them.
    assert (weights["mix/web"] >= 0.2 - 1e-9).all()
    for domain, most in upper.items():
        assert (weights[f"mix/{domain}"] <= most + 1e-9).all()


def test_every_domain_is_used():
    design = optimal_design(DOMAINS, 9)
    assert (design[[f"mix/{d}" for d in DOMAINS]] > 0.05).sum().min() >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((("web",), 4), ["two domains", "web"]),
        ((("web", "web"), 4), ["'web'", "twice"]),
        ((("web", "code"), 0), ["runs is 0", "1 or more"]),
        ((("web", "code"), 4, None, {"web": 1.0}), ["4 runs", "1 distinct", "widen"]),
        ((("web", "code"), 4, {"wob": 1.0}), ["'wob'"]),
        ((("web", "code"), 4, None, None, None, -1), ["seed is -1"]),
    ],
)
def test_impossible_designs_are_errors(arguments, words):
    with pytest.raises(InputError) as refusal:
        optimal_design(*arguments)
    assert all(word in str(refusal.value) for word in words)


def test_a_sweep_may_train_the_design():
    natural = Mixture.normalized({d: i + 1 for i, d in enumerate(DOMAINS)})
    design = Design(optimal=7, dirichlet=0, held_out=0, vertices=False, centre=False, natural=False)
    drawn = draw(design, natural)
    assert [d.origin for d in drawn] == ["optimal"] * 7
    assert [d.mixture for d in drawn] == [d.mixture for d in draw(design, natural)]
