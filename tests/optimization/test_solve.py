"""Optima of planted laws: location, bounds, regions, regret, files."""

import dataclasses

import numpy as np
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws.families import LAWS
from mixscale.mixture import Mixture
from mixscale.optimization import Optimum, optimize

DOMAINS = ("code", "web", "wiki", "news")


@pytest.mark.parametrize("name", ["linear", "exponential", "effective", "additive"])
@pytest.mark.parametrize("bounded", [False, True])
def test_optimum_beats_random_search(fits, name, bounded):
    lower, upper = ({"news": 0.1, "web": 0.2}, {"code": 0.25, "wiki": 0.4}) if bounded else ({}, {})
    best = optimize(fits[name], lower=lower, upper=upper)
    low_K = np.array([lower.get(d, 0.0) for d in DOMAINS])
    high_K = np.array([upper.get(d, 1.0) for d in DOMAINS])
    h_QxK = np.random.default_rng(1).dirichlet(np.full(4, 0.7), 200_000)
    h_QxK = h_QxK[((h_QxK >= low_K) & (h_QxK <= high_K)).all(axis=1)]
    assert len(h_QxK) > 1000
    assert best.mean[0] <= fits[name].predict(h_QxK).mean(axis=1).min() + 1e-9
    for h_K in (best.mixture.array(), *best.samples_SxK):
        assert h_K.sum() == pytest.approx(1, abs=1e-9)
        assert (h_K >= low_K - 1e-9).all()
        assert (h_K <= high_K + 1e-9).all()
    assert best.convex


@pytest.mark.parametrize("name", ["exponential", "effective", "additive"])
def test_planted_optimum_is_found_and_in_its_region(fits, exactly, truth, name):
    true = optimize(exactly(name, truth[name])).mixture
    best = optimize(fits[name])
    assert best.mixture.distance(true) < 0.05
    inside = [lo - 0.01 <= true[d] <= hi + 0.01 for d, (lo, hi) in best.interval.items()]
    assert sum(inside) >= 3
    assert all(hi - lo < 0.3 for lo, hi in best.interval.values())


def test_a_known_optimum_in_closed_form(exactly):
    """E + 1/(Σ C_j h_j^½) is smallest where h_j is proportional to C_j²."""
    price_C = np.array([1.0, 2.0, 3.0, 0.5])
    theta_TxP = np.tile(np.r_[1.0, -np.log(price_C), np.full(4, 0.5)], (3, 1))
    found_K = optimize(exactly("additive", theta_TxP)).mixture.array()
    np.testing.assert_allclose(found_K, price_C**2 / (price_C**2).sum(), atol=1e-6)


def test_regions_hold_the_true_optimum(planted, exactly, truth):
    true_K = optimize(exactly("effective", truth["effective"])).mixture.array()
    inside = []
    for seed in range(10):
        best = optimize(laws.fit(planted("effective", 0.005, seed), "effective", seed=seed, bootstrap=100))
        lo_K, hi_K = np.array(list(best.interval.values())).T
        inside.append((lo_K <= true_K) & (true_K <= hi_K))
        assert (hi_K - lo_K).max() < 0.2
    assert 0.8 <= np.mean(inside) <= 1


def test_regions_widen_with_the_errors_on_held_out_runs(fits):
    """Large out-of-fold errors widen the region and the regret but do not move the optimum."""
    fit = fits["effective"]
    seen_TxR = fit.dataset.y_TxR
    astray = dataclasses.replace(fit, oof_pred_TxR=seen_TxR + 9 * (fit.oof_pred_TxR - seen_TxR))
    best, uncertain = optimize(fit), optimize(astray)
    factor = astray.widening(uncertain.mixture.array()[None])
    assert fit.widening(best.mixture.array()[None]) < 1.5 < 2 < factor
    for domain, (lo, hi) in best.interval.items():
        assert uncertain.mixture[domain] == best.mixture[domain]
        low, high = uncertain.interval[domain]
        assert 0 <= low <= lo
        assert hi <= high <= 1
        assert hi == best.mixture[domain] or high - low > 1.3 * (hi - lo) or low == 0
    (_, lo, hi), (_, low, high) = (b.regret(Mixture.uniform(DOMAINS)) for b in (best, uncertain))
    assert high - low > 1.3 * (hi - lo)


def test_a_law_that_is_not_convex_is_solved_from_many_starts(fits):
    """The deeper of two minima is far from the first start."""

    def two_minima(theta, x):
        first_R = ((x.h_RxK - np.array([0.8, 0.2, 0.0, 0.0])) ** 2).sum(-1)
        second_R = ((x.h_RxK - np.array([0.0, 0.0, 0.1, 0.9])) ** 2).sum(-1)
        return 3 + theta[0] * 0 - 0.5 * np.e ** (-20 * first_R) - np.e ** (-20 * second_R)

    law = dataclasses.replace(LAWS["linear"], name="two minima", f=two_minima, convex=False, linear=False)
    best = optimize(dataclasses.replace(fits["linear"], family=law))
    assert not best.convex
    np.testing.assert_allclose(best.mixture.array(), [0, 0, 0.1, 0.9], atol=1e-3)


def test_linear_law_is_solved_at_its_vertex(fits):
    best = optimize(fits["linear"], weights={"web": 1.0}, upper={"web": 0.6})
    assert best.mixture["web"] == pytest.approx(0.6)
    assert best.mixture["news"] == pytest.approx(0.4)


def test_bounds_that_meet_leave_one_mixture(fits):
    exact = {"code": 0.1, "web": 0.2, "wiki": 0.3, "news": 0.4}
    assert optimize(fits["additive"], lower=exact).mixture.distance(Mixture(exact)) < 1e-9
    assert optimize(fits["additive"], upper=exact).mixture.distance(Mixture(exact)) < 1e-9
    fixed = optimize(fits["additive"], lower={"code": 0.5}, upper={"code": 0.5})
    assert fixed.mixture["code"] == pytest.approx(0.5, abs=1e-9)
    assert fixed.interval["code"] == pytest.approx((0.5, 0.5), abs=1e-9)


def test_weights_move_the_optimum_towards_their_target(fits):
    equal, tilted = optimize(fits["effective"]), optimize(fits["effective"], weights={"code": 5, "web": 1})
    assert tilted.mixture["code"] > equal.mixture["code"] + 0.05
    assert optimize(fits["effective"], weights={"loss/code": 1}).weights == {"code": 1.0, "web": 0.0, "wiki": 0.0}


def test_regret_is_paired_and_positive(fits):
    best = optimize(fits["effective"])
    worse, lo, hi = best.regret(Mixture.vertex(DOMAINS, "news"))
    assert 0 < lo < worse < hi
    assert best.regret(best.mixture) == (0.0, 0.0, 0.0)
    near = best.regret(Mixture.uniform(DOMAINS))
    value_2, lo_2, hi_2 = fits["effective"].objective(np.stack([best.mixture.array(), np.full(4, 0.25)]))
    assert near[2] - near[1] < hi_2[1] - lo_2[1]
    assert near[0] == pytest.approx(value_2[1] - value_2[0])


def test_same_seed_gives_the_same_optimum(fits):
    np.testing.assert_array_equal(optimize(fits["additive"]).samples_SxK, optimize(fits["additive"]).samples_SxK)


def test_the_summary_has_no_negative_zero(fits):
    best = optimize(fits["effective"], upper={"code": 0.9})
    text = dataclasses.replace(best, cost_of_constraints=-1e-9).summary()
    assert "Cost of all constraints together: 0.0000 (" in text
    assert "-0.0000" not in text


def test_optimum_is_saved_and_loaded(fits, tmp_path):
    best = optimize(fits["effective"], upper={"code": 0.2})
    best.save(tmp_path / "optimum.json")
    loaded = Optimum.load(tmp_path / "optimum.json")
    assert loaded.mixture.distance(best.mixture) < 1e-12
    np.testing.assert_array_equal(loaded.samples_SxK, best.samples_SxK)
    assert (loaded.predicted, loaded.interval, loaded.constraints) == (best.predicted, best.interval, best.constraints)
    assert loaded.summary() == best.summary()
    assert "90% region" in loaded.summary()
    assert "upper 0.2" in loaded.summary()
    with pytest.raises(InputError, match="loaded"):
        loaded.regret(best.mixture)
    for text, message in (
        ('{"mixture": 3}', "has no format number; .* run `mixscale optimize` again"),
        ('{"mixture": 3, "format": 99}', "has format 99; .* newer version"),
        ('{"mixture": {"a": 1}, "format": 2}', "is not an optimum"),
        ("[1]", "is not an optimum"),
    ):
        (tmp_path / "optimum.json").write_text(text)
        with pytest.raises(InputError, match=message):
            Optimum.load(tmp_path / "optimum.json")
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        best.save(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"upper": {"wbe": 0.5}},
            "constraints.upper names 'wbe', .*; the domains are code, web, wiki, news; did you mean 'web'",
        ),
        ({"lower": {"web": 0.7, "code": 0.6}}, "lower bounds contradict each other: web 0.7 . code 0.6 = 1.3"),
        ({"upper": dict.fromkeys(DOMAINS, 0.2)}, "upper bounds contradict each other.*= 0.8, which is less than 1"),
        (
            {"lower": {"web": 0.5}, "upper": {"web": 0.4}},
            "'web' contradict each other: constraints.lower 0.5 is above constraints.upper 0.4",
        ),
        ({"upper": {"web": 1.2}}, "constraints.upper of 'web' is 1.2"),
        ({"weights": {"maths": 1}}, "target 'maths' was not fitted"),
        ({"weights": {"web": -1}}, "objective.weights of 'web' is -1"),
        ({"weights": {"web": 0}}, "all weights of targets are zero"),
        ({"seed": -1}, "seed is -1; seeds are not negative"),
    ],
)
def test_invalid_options_raise_input_errors(fits, options, message):
    with pytest.raises(InputError, match=message):
        optimize(fits["effective"], **options)
