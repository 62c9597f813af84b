"""Optima satisfy their constraints and beat random draws; contradictions are named."""

import dataclasses

import numpy as np
import pytest

from mixscale.errors import InputError
from mixscale.laws.families import LAWS
from mixscale.mixture import Mixture
from mixscale.optimization import Constraints, Group, Objective, build_problem, optimize, solution

DOMAINS = ("code", "web", "wiki", "news")
PRIOR = {"code": 0.1, "web": 0.4, "wiki": 0.2, "news": 0.3}
PRIOR_K = np.array(list(PRIOR.values()))


def kl(h_QxK):
    return (h_QxK * np.log(np.maximum(h_QxK, 1e-300) / PRIOR_K)).sum(axis=-1)


def tv(h_QxK):
    return 0.5 * np.abs(h_QxK - PRIOR_K).sum(axis=-1)


CASES = {
    "group": ({"groups": {"text": Group(("wiki", "news"), 0.3, 0.35)}}, lambda h: h[:, 2:].sum(axis=1) - 0.35),
    "available": ({"available": {"code": 2e9}, "epochs": 5}, lambda h: h[:, 0] - 0.1),
    "kl": ({"prior": PRIOR, "max_kl": 0.05}, lambda h: kl(h) - 0.05),
    "tv": ({"prior": PRIOR, "max_tv": 0.12}, lambda h: tv(h) - 0.12),
    "keep": ({"keep": {"web": 0.01}}, None),
    "all": (
        {
            "groups": {"text": Group(("wiki", "news"), 0.3, 0.9)}, "available": {"code": 4e9}, "epochs": 5,
            "prior": PRIOR, "max_kl": 0.2, "max_tv": 0.25, "upper": {"web": 0.35}, "keep": {"web": 0.1},
        },
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("law", "name"), [*(("effective", name) for name in CASES), ("linear", "group"), ("linear", "all")]
)
def test_optimum_satisfies_constraints_and_beats_random_draws(fits, law, name):
    options, excess = CASES[name]
    fit = fits[law]
    best = optimize(fit, constraints=Constraints(**options), n_tokens=1e11, current=PRIOR)
    h_QxK = np.random.default_rng(1).dirichlet(6 * PRIOR_K, 400_000)
    keeps_Q = np.ones(len(h_QxK), dtype=bool)
    check_QxK = np.concatenate([h_QxK, best.mixture.array(DOMAINS)[None]])
    over_Q = np.full(len(check_QxK), -1.0) if excess is None else excess(check_QxK)
    if name == "all":
        over_Q = np.max(
            [0.3 - check_QxK[:, 2:].sum(axis=1), check_QxK[:, 0] - 0.2, kl(check_QxK) - 0.2, tv(check_QxK) - 0.25,
             check_QxK[:, 1] - 0.35], axis=0,
        )  # fmt: skip
    if name in ("keep", "all"):
        tolerance = options["keep"]["web"]
        over_Q = np.maximum(over_Q, (fit.predict(check_QxK) - fit.predict(PRIOR_K[None]))[:, 1] - tolerance)
    if name == "group":
        over_Q = np.maximum(over_Q, 0.3 - check_QxK[:, 2:].sum(axis=1))
    keeps_Q = over_Q[:-1] <= 0
    assert keeps_Q.sum() > 500
    assert over_Q[-1] <= 1e-6
    assert best.mean[0] <= fit.predict(h_QxK[keeps_Q]).mean(axis=1).min() + 1e-7
    assert best.convex
    if best.cost_of_constraints > 1e-4:
        assert any(p.binding for p in best.solved)
        assert best.unconstrained.distance(best.mixture) > 1e-3
    if name != "all" and any(p.binding for p in best.solved):
        assert over_Q[-1] >= -1e-5


def test_fixed_tied_and_near_prior_constraints_hold(fits):
    tied = Constraints(prior=PRIOR, groups={"text": Group(("web", "news"), tied=True)}, fixed={"wiki": 0.25})
    best = optimize(fits["effective"], constraints=tied)
    assert best.mixture["wiki"] == pytest.approx(0.25, abs=1e-9)
    assert best.mixture["web"] / best.mixture["news"] == pytest.approx(4 / 3)
    one = Constraints(
        prior=PRIOR, fixed={"wiki": 0.25, "web": 0.4}, groups={"text": Group(("web", "news"), tied=True)}
    )
    assert optimize(fits["effective"], constraints=one).mixture["news"] == pytest.approx(0.3, abs=1e-9)
    nothing = optimize(fits["effective"], constraints=Constraints(fixed={"code": 0.0}))
    assert nothing.mixture["code"] == 0
    near = optimize(fits["effective"], constraints=Constraints(prior=PRIOR, max_tv=0.0, max_kl=0.0))
    assert near.mixture.distance(Mixture(PRIOR)) < 1e-3
    pulled = [
        optimize(fits["effective"], constraints=Constraints(prior=PRIOR, kl_weight=w)).mixture for w in (0.01, 1.0)
    ]
    assert pulled[1].distance(Mixture(PRIOR)) < 0.5 * pulled[0].distance(Mixture(PRIOR))


def test_a_domain_outside_the_prior_gets_no_weight(fits):
    without = {"code": 0.0, "web": 0.5, "wiki": 0.2, "news": 0.3}
    best = optimize(fits["effective"], constraints=Constraints(prior=without, max_kl=0.3))
    assert best.mixture["code"] == 0
    assert best.convex


def test_keeping_all_targets_at_the_optimum_leaves_that_mixture(fits):
    """At a Pareto optimum only that mixture keeps all targets, so the interior is empty."""
    fit = fits["effective"]
    now = optimize(fit).mixture
    again = optimize(fit, constraints=Constraints(keep=dict.fromkeys(fit.targets, 0.0)), current=now)
    assert again.mixture.distance(now) < 5e-3
    assert (fit.predict(again.mixture.array()) <= fit.predict(now.array()) + 1e-6).all()


def test_regions_include_the_uncertainty_of_kept_targets(fits):
    """With one free weight, which the target limits, the fitted law alone would give a region of one point."""
    fit, now = fits["exponential"], Mixture({"code": 0.3, "web": 0.4, "wiki": 0.1, "news": 0.2})
    others, weights = {"wiki": 0.2, "news": 0.1}, {"code": 1.0}
    best = optimize(fit, weights=weights, constraints=Constraints(keep={"web": 0.02}, fixed=others), current=now)
    [solved] = [p for p in best.solved if p.name == "keep web"]
    assert solved.binding
    low, high = best.interval["code"]
    assert low + 1e-4 < best.mixture["code"] < high - 1e-4
    web_SxN = fit.draws(np.concatenate([now.array()[None], best.samples_SxK]))[..., 1]
    np.testing.assert_allclose(np.diag(web_SxN[:, 1:]), web_SxN[:, 0] + 0.02, atol=1e-5)


@pytest.mark.parametrize("tolerance", [0.08, 0.1])
def test_only_bootstrap_laws_that_a_limit_moves_are_solved_again(fits, monkeypatch, tolerance):
    """The result equals that of solving all of them under their own limits."""
    fit = fits["effective"]
    now, objective = optimize(fit).mixture, Objective({"code": 2, "web": 1, "wiki": 1})
    problem = build_problem(fit, objective, Constraints(keep={"web": tolerance}), now)
    theta_Sx1xTxP, own = fit.theta_SxTxP[:, None], problem.limits_by(fit.theta_SxTxP)
    each = solution.Job(problem, theta_Sx1xTxP, problem.starts(np.random.default_rng(0)), problem.limits)
    [alike], [whole] = solution.solve_jobs(each), solution.solve_jobs(dataclasses.replace(each, limits=own))
    solved, solve_jobs = [], solution.solve_jobs
    monkeypatch.setattr(solution, "TOGETHER", 1)
    monkeypatch.setattr(solution, "solve_jobs", lambda *jobs: solved.extend(jobs) or solve_jobs(*jobs))
    found = solution.solve_under(each, alike, own)
    np.testing.assert_allclose(found.h_BxK, whole.h_BxK, atol=2e-5)
    np.testing.assert_allclose(found.value_B, whole.value_B, atol=1e-7)
    moved = int((np.abs(whole.h_BxK - alike.h_BxK).max(axis=1) > 1e-4).sum())
    assert moved <= sum(len(job.theta_BxSxTxP) for job in solved) < 100
    assert (moved > 0) == (tolerance == 0.08)


def test_bootstrap_laws_without_a_feasible_mixture_are_left_out_and_counted(fits):
    fit, now = fits["exponential"], Mixture({"code": 0.3, "web": 0.4, "wiki": 0.1, "news": 0.2})
    most_K = np.array([0.3, 0.4, 0.2, 0.1])
    worse = fit.predict(most_K[None])[0, 1] - fit.predict(now.array()[None])[0, 1]
    constraints = Constraints(
        keep={"web": max(worse, 0.0) + 1e-4}, fixed={"wiki": 0.2, "news": 0.1}, upper={"web": 0.4}
    )
    best = optimize(fit, constraints=constraints, current=now)
    lost = 100 - len(best.samples_SxK)
    assert 0 < lost < 100
    assert f"under {lost} of 100 bootstrap laws no mixture keeps every target; regions leave them out" in best.notes


def test_a_law_with_two_minima_satisfies_constraints(fits):
    def two_minima(theta, x):
        first_R = ((x.h_RxK - np.array([0.8, 0.2, 0.0, 0.0])) ** 2).sum(-1)
        second_R = ((x.h_RxK - np.array([0.0, 0.0, 0.1, 0.9])) ** 2).sum(-1)
        return 3 + theta[0] * 0 - 0.5 * np.e ** (-20 * first_R) - np.e ** (-20 * second_R)

    law = dataclasses.replace(LAWS["linear"], name="two minima", f=two_minima, convex=False, linear=False)
    fit = dataclasses.replace(fits["linear"], family=law)
    best = optimize(fit, constraints=Constraints(groups={"rare": Group(("wiki", "news"), 0.0, 0.5)}))
    assert not best.convex
    np.testing.assert_allclose(best.mixture.array(), [0.8, 0.2, 0, 0], atol=1e-3)


TIED = {"t": Group(("web", "news"), tied=True)}
MUCH_CODE = {"fixed": {"code": 0.9}, "prior": PRIOR, "upper": {"news": 0.9}}
CONTRADICTIONS = [
    (
        {"lower": {"code": 0.6}, "upper": {"web": 0.9}, "groups": {"text": Group(("web", "wiki"), 0.5)}},
        ("code at least 60%", "text (web + wiki) at least 50%"),
        ("90%",),
    ),
    (
        {"fixed": {"code": 0.5}, "available": {"code": 1e9}, "lower": {"web": 0.1}},
        ("code exactly 50%", "code at most 4% (4 epochs"),
        ("web",),
    ),
    ({**MUCH_CODE, "max_tv": 0.2}, ("code exactly 90%", "at most 20% of the weight moved"), ("news",)),
    ({**MUCH_CODE, "max_kl": 0.2}, ("code exactly 90%", "at most 0.2 nats"), ("news",)),
    (
        {"upper": {"code": 0.01, "news": 0.9}, "keep": {"code": 0.0}},
        ("code at most 1%", "code no worse than"),
        ("news",),
    ),
    ({"available": dict.fromkeys(DOMAINS, 1e9)}, ("code at most 4%", "news at most 4%"), ()),
    (
        {"fixed": {"web": 0.3, "news": 0.3}, "groups": TIED, "prior": PRIOR},
        ("in the proportions of the prior", "web exactly 30%", "news exactly 30%"),
        (),
    ),
]


@pytest.mark.parametrize(("options", "named", "unnamed"), CONTRADICTIONS)
@pytest.mark.parametrize("objective", [Objective(), Objective(kind="worst")])
def test_contradictions_name_a_smallest_set(fits, options, named, unnamed, objective):
    current = {"code": 0.5, "web": 0.2, "wiki": 0.2, "news": 0.1}
    with pytest.raises(InputError, match="no mixture satisfies") as caught:
        optimize(
            fits["effective"], constraints=Constraints(**options), n_tokens=1e11, current=current, objective=objective
        )
    for text in named:
        assert text in str(caught.value)
    for text in unnamed:
        assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_kl": 0.1}, "max_kl is 0.1, but there is no prior"),
        ({"prior": PRIOR, "max_tv": -1}, "constraints.max_tv is -1.0; it must be at least 0"),
        (
            {"prior": {"web": 0.5, "cod": 0.5}, "max_tv": 0.1},
            "prior names 'cod', which is not a domain; .*; did you mean 'code'",
        ),
        ({"prior": {"web": 0.5, "code": 0.6}, "max_tv": 0.1}, "constraints.prior: mixture weights sum to 1.1"),
        ({"fixed": {"code": 1.2}}, "constraints.fixed of 'code' is 1.2"),
        ({"groups": {"x": Group(("code", "wbe"))}}, "group 'x' names 'wbe'"),
        (
            {"groups": {"x": Group(("code", "web"), tied=True)}},
            "group 'x' is tied, but there are no proportions to keep; give prior",
        ),
        ({"groups": {"x": Group(("code",), 0.5, 0.4)}}, "bounds of group 'x' contradict each other: 0.5 is above 0.4"),
        ({"groups": {"x": Group(())}}, "group 'x' has no domain"),
        ({"groups": {"x": Group(("code", "code"))}}, "group 'x' names 'code' twice"),
        ({"available": {"code": 1e9}}, "give n_tokens"),
        ({"keep": {"code": 0.0}}, "give current"),
        ({"keep": {"code": -1.0}}, "constraints.keep of 'code' is -1"),
        ({"lower": {"code": 0.5}, "fixed": {"code": 0.4}}, "fixed is 0.4, and constraints.lower is 0.5; remove one"),
        ({"upper": {"code": 0.5}, "fixed": {"code": 0.6}}, "fixed is 0.6, and constraints.upper is 0.5; remove one"),
        ({"epochs": 2.0}, "constraints.epochs has no effect without constraints.available"),
        ({"prior": PRIOR}, "constraints.prior has no effect without"),
    ],
)
def test_invalid_constraints_raise_input_errors(fits, options, message):
    with pytest.raises(InputError, match=message):
        optimize(fits["effective"], constraints=Constraints(**options))


def test_options_given_twice_are_rejected(fits):
    with pytest.raises(InputError, match="upper is given together with constraints"):
        optimize(fits["effective"], upper={"code": 0.1}, constraints=Constraints())
    with pytest.raises(InputError, match="weights is given together with objective"):
        optimize(fits["effective"], weights={"code": 1}, objective=Objective())
    with pytest.raises(InputError, match="no option 'uper'; did you mean 'upper'"):
        optimize(fits["effective"], uper={"code": 0.1})
