"""Values of all objectives, their optima against random draws, and Pareto fronts."""

import numpy as np
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.objective import tail_mean
from mixscale.optimization import Constraints, Group, Objective, optimize, pareto

DOMAINS = ("code", "web", "wiki", "news")
NOW = {"code": 0.4, "web": 0.2, "wiki": 0.1, "news": 0.3}
NOW_K = np.array(list(NOW.values()))


@pytest.fixture(scope="module")
def draws_QxK():
    return np.random.default_rng(2).dirichlet(np.full(4, 1.5), 20_000)


def by_hand(fit, objective, h_QxK):
    """The objective at mixtures, from the fit's public predictions."""
    # Of worst targets only the first bootstrap refits are averaged.
    first = 50 if objective.kind != "mean" and objective.robust in ("mean", "quantile") else 100
    loss_SxQxT = fit.predict(h_QxK)[None] if objective.robust == "point" else fit.draws(h_QxK)[:first]
    if objective.relative_to == "current":
        now_K = NOW_K[None]
        loss_SxQxT = loss_SxQxT - (fit.predict(now_K) if objective.robust == "point" else fit.draws(now_K)[:first])
    value_SxQ = loss_SxQxT.mean(axis=2) if objective.kind == "mean" else loss_SxQxT.max(axis=2)
    worst = {"point": 1, "mean": first, "worst": 1, "quantile": first // 10}[objective.robust]
    return np.sort(value_SxQ, axis=0)[::-1][:worst].mean(axis=0)


@pytest.mark.parametrize("robust", ["point", "mean", "quantile", "worst"])
@pytest.mark.parametrize("kind", ["mean", "worst"])
def test_the_value_is_the_objective_and_beats_random_draws(fits, draws_QxK, kind, robust):
    relative_to = "current" if (kind, robust) == ("worst", "mean") else None
    fit, objective = fits["effective"], Objective(kind=kind, robust=robust, relative_to=relative_to)
    best = optimize(fit, objective=objective, current=NOW)
    assert best.value == pytest.approx(by_hand(fit, objective, best.mixture.array()[None])[0], abs=1e-7)
    assert best.value <= by_hand(fit, objective, draws_QxK).min() + 1e-7
    assert best.convex


def test_minimax_equalizes_the_targets(fits):
    fit = fits["effective"]
    best_T = [optimize(fit, weights={t: 1}).mean[0] for t in fit.targets]
    for relative_to, since_T in (("current", fit.predict(NOW_K[None])[0]), ("best", best_T)):
        best = optimize(fit, kind="worst", relative_to=relative_to, current=NOW)
        above_T = fit.predict(best.mixture.array()[None])[0] - since_T
        np.testing.assert_allclose(above_T, best.value, atol=1e-5)


def test_the_robust_optimum_lowers_the_worst_case(fits):
    fit = fits["effective"]
    plain, robust = optimize(fit), optimize(fit, objective=Objective(robust="worst"))
    of = {name: fit.draws(b.mixture.array()[None])[:, 0].mean(axis=1) for name, b in (("p", plain), ("r", robust))}
    assert of["r"].max() <= of["p"].max() + 1e-9
    assert robust.value == pytest.approx(of["r"].max(), abs=1e-8)
    assert plain.mean[0] <= robust.mean[0] + 1e-9


def test_tail_mean_counts_the_last_value_in_part():
    value_Sx1 = np.arange(5.0)[:, None]
    assert tail_mean(value_Sx1, 1)[0] == 4
    assert tail_mean(value_Sx1, 1.5)[0] == pytest.approx((4 + 0.5 * 3) / 1.5)


def test_weights_of_the_worst_target_scale_it(fits):
    best = optimize(fits["effective"], objective=Objective({"code": 2, "web": 1}, kind="worst"))
    loss_T = fits["effective"].predict(best.mixture.array()[None])[0]
    assert loss_T[0] * 4 / 3 >= loss_T[1] * 2 / 3 - 1e-5
    assert best.value == pytest.approx(max(loss_T[0] * 4 / 3, loss_T[1] * 2 / 3), abs=1e-6)


def test_scores_are_maximized_and_kept(planted):
    """A table of scores that are ten minus the losses has the optimum that the losses have."""
    lost = laws.fit(planted("effective", 1e-4), "effective", bootstrap=20)
    columns = ("score/code", "score/web", "loss/wiki")
    fit = laws.fit(planted("effective", 1e-4, columns=columns), "exponential", columns, bootstrap=20)
    want = {"score/code": 1.0, "score/web": 1.0, "loss/wiki": 1.0}
    best = optimize(fit, weights=want)
    assert best.mixture.distance(optimize(lost).mixture) < 0.08
    code = optimize(fit, weights={"score/code": 1.0}).mixture
    assert fit.predict(code.array()[None])[0, 0] >= fit.predict(np.eye(4))[:, 0].max() - 1e-6
    h_QxK = np.random.default_rng(3).dirichlet(np.ones(4), 20_000)
    predicted_QxT = fit.predict(h_QxK)
    now_T = fit.predict(NOW_K[None])[0]
    kept = optimize(fit, weights=want, constraints=Constraints(keep={"score/code": 0.0}), current=NOW)
    score = fit.predict(kept.mixture.array()[None])[0]
    assert score[0] >= now_T[0] - 1e-6
    keeps_Q = predicted_QxT[:, 0] >= now_T[0]
    cost_Q = (-predicted_QxT[:, 0] - predicted_QxT[:, 1] + predicted_QxT[:, 2]) / 3
    assert kept.mean[0] <= cost_Q[keeps_Q].min() + 1e-6
    worst = optimize(fit, objective=Objective(want, kind="worst", relative_to="current"), current=NOW)
    assert worst.value <= ((predicted_QxT - now_T) * [-1, -1, 1]).max(axis=1).min() + 1e-6


def test_regret_and_gain(fits):
    fit = fits["effective"]
    best = optimize(fit, constraints=Constraints(upper={"code": 0.2}), current=NOW)
    mean, high = best.expected_regret
    assert 0 < mean < high < 0.05
    losses_SxQ = fit.draws(np.concatenate([best.mixture.array()[None], best.samples_SxK])).mean(axis=2)
    own_S = losses_SxQ[np.arange(100), 1 + np.arange(100)]
    assert mean == pytest.approx((losses_SxQ[:, 0] - own_S).mean(), abs=1e-7)
    assert (best.samples_SxK[:, 0] <= 0.2 + 1e-9).all()
    assert best.justified
    assert best.gain == best.regret(NOW)
    assert best.violated_by_current == ("upper code",)
    assert "A change is not justified" not in best.summary()
    same = optimize(fit, current=optimize(fit).mixture)
    assert same.justified is False
    assert "A change is not justified" in same.summary()
    near = optimize(fit, current=Mixture.normalized({d: w + 0.005 for d, w in optimize(fit).mixture.items()}))
    assert ("A change is not justified" in near.summary()) == (near.gain[1] <= 0)


def test_a_front_is_monotone_and_contains_both_optima(fits):
    fit = fits["effective"]
    constraints = Constraints(groups={"rare": Group(("news", "wiki"), 0.2, 0.9)}, keep={"wiki": 0.3})
    front = pareto(fit, "code", "web", constraints, points=7, current=NOW)
    assert len(front) == 7
    assert (np.diff(front["first"]) >= -1e-6).all()
    assert (np.diff(front["second"]) <= 1e-6).all()
    for target, end in (("code", 0), ("web", 6)):
        alone = optimize(fit, objective=Objective({target: 1}), constraints=constraints, current=NOW)
        assert front["first" if target == "code" else "second"][end] == pytest.approx(alone.mean[0], abs=1e-4)
    h_QxK = np.random.default_rng(4).dirichlet(np.ones(4), 50_000)
    loss_QxT = fit.predict(h_QxK)
    keeps_Q = (h_QxK[:, 2:].sum(axis=1) >= 0.2) & (h_QxK[:, 2:].sum(axis=1) <= 0.9)
    keeps_Q &= loss_QxT[:, 2] <= fit.predict(NOW_K[None])[0, 2] + 0.3
    for _, row in front.iterrows():
        better_Q = (loss_QxT[:, 0] < row["first"] - 1e-6) & (loss_QxT[:, 1] < row["second"] - 1e-6)
        assert not (better_Q & keeps_Q).any()
    worst = pareto(fit, Objective(kind="worst"), Objective({"wiki": 1}), points=4)
    assert (np.diff(worst["first"]) >= -1e-6).all()
    assert "first_lo" not in worst
    assert "second_lo" in worst


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fit: optimize(fit, kind="worst", relative_to="current"), "relative to the current mixture; give"),
        (lambda fit: Objective(relative_to="best"), "objective.relative_to has no effect"),
        (lambda fit: Objective(robust="best"), "objective.robust is 'best'; it must be one of"),
        (lambda fit: Objective(level=1.5), "objective.level is 1.5"),
        (lambda fit: pareto(fit, "code", "web", points=1), "points is 1; a Pareto front needs at least 2"),
        (lambda fit: pareto(fit, "code", Objective(robust="worst")), "a Pareto front uses only the fitted law"),
        (lambda fit: pareto(fit, "cod", "web"), "target 'cod' was not fitted; did you mean 'code'"),
    ],
)
def test_invalid_objectives_raise_input_errors(fits, call, message):
    with pytest.raises(InputError, match=message):
        call(fits["effective"])
