"""Dual values equal finite differences of the optimum by the bound or by tokens."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.laws import fitting
from mixscale.laws.families import LAWS, Points
from mixscale.optimization import Constraints, Group, Objective, Optimum, optimize
from mixscale.run_table import RunTable

DOMAINS = ("code", "web", "wiki", "news")
PRIOR = {"code": 0.1, "web": 0.4, "wiki": 0.2, "news": 0.3}
BASE = Constraints()


def changed(name, by):
    """Constraints of one kind, its bound moved."""
    return {
        "upper code": dataclasses.replace(BASE, upper={"code": 0.15 + by}),
        "lower news": dataclasses.replace(BASE, lower={"news": 0.2 + by}),
        "fixed wiki": dataclasses.replace(BASE, fixed={"wiki": 0.15 + by}),
        "fixed news": dataclasses.replace(BASE, fixed={"news": 0.0 + max(by, 0)}),
        "group text at most": dataclasses.replace(BASE, groups={"text": Group(("code", "wiki"), 0.1, 0.3 + by)}),
        "group text": dataclasses.replace(BASE, groups={"text": Group(("code", "wiki"), 0.3 + by, 0.3 + by)}),
        "max_kl": dataclasses.replace(BASE, prior=PRIOR, max_kl=0.05 + by),
        "max_tv": dataclasses.replace(BASE, prior=PRIOR, max_tv=0.1 + by),
        "keep web": dataclasses.replace(BASE, keep={"web": 0.01 + by}),
        "available code": dataclasses.replace(BASE, available={"code": (0.15 + by) * 1e10}, epochs=10),
    }[name]


KINDS = [
    "upper code", "lower news", "fixed wiki", "fixed news", "group text at most", "group text", "max_kl", "max_tv",
    "keep web", "available code",
]  # fmt: skip
CASES = [(Objective(), kind) for kind in KINDS]
CASES += [(Objective(kind="worst", relative_to="current"), kind) for kind in ("upper code", "fixed wiki", "max_kl")]
CASES += [(Objective(robust="worst"), kind) for kind in ("lower news", "max_tv", "keep web")]


@pytest.mark.parametrize(("objective", "name"), CASES, ids=[f"{k}, {o.kind}, {o.robust}" for o, k in CASES])
def test_dual_values_equal_finite_differences(fits, objective, name):
    def value(by):
        return optimize(
            fits["effective"], objective=objective, constraints=changed(name, by), current=PRIOR, n_tokens=1e11
        )

    step = 1e-4
    ahead, behind, best = value(step), value(-step), value(0.0)
    width = step if name == "fixed news" else 2 * step
    measured = (ahead.value - behind.value) / width
    solved = {p.name: p for p in best.solved}[name]
    assert solved.dual_value == pytest.approx(measured, rel=0.02, abs=2e-4)
    if name == "available code" and solved.binding:
        assert solved.per_unique_token == pytest.approx(solved.dual_value * 10 / 1e11)


def test_the_dual_value_of_a_tie_is_the_gain_without_it(fits):
    tied = Constraints(prior=PRIOR, groups={"text": Group(("web", "news"), tied=True)})
    best = optimize(fits["effective"], constraints=tied)
    solved = best.solved[0]
    assert solved.name == "tie text"
    moved_K = best.mixture.array() + 1e-5 * np.array([0, 1, 0, -1])
    slope = (fits["effective"].predict(moved_K[None]).mean() - best.mean[0]) / 1e-5
    assert solved.dual_value == pytest.approx(-abs(slope), rel=0.01)


def test_constraints_that_do_not_bind_have_dual_value_zero(fits):
    best = optimize(fits["effective"], constraints=Constraints(upper={"code": 0.9}, lower={"web": 0.01}))
    assert [p.dual_value for p in best.solved] == [0, 0]
    assert best.cost_of_constraints == pytest.approx(0, abs=1e-8)
    for text in ("web at least 1%: 0 (not binding)", "code at most 90%: 0 (not binding)"):
        assert text in best.summary()
    assert optimize(fits["effective"]).solved == ()
    assert optimize(fits["effective"]).unconstrained is None


@pytest.fixture(scope="module")
def scaled():
    rng = np.random.default_rng(0)
    h_RxK = rng.dirichlet(np.ones(4), 60)
    d_R = np.tile([1e9, 4e9, 16e9], 20)
    law = LAWS["effective-scale"]
    theta_2xP = np.array(
        [[0.5, -3, 0.3, 0.4, *np.log([0.4, 1.4, 1.6, 1.5])], [0.5, -3, 0.3, 0.4, *np.log([1.5, 0.5, 1.1, 1.0])]]
    )
    y_2xR = fitting.evaluate(law, theta_2xP, Points.of(h_RxK, np.ones(60), d_R / 4e9))
    y_2xR = y_2xR * (1 + 0.002 * rng.standard_normal(y_2xR.shape))
    frame = {f"mix/{d}": h_RxK[:, k] for k, d in enumerate(DOMAINS)}
    frame |= {"run": np.arange(60), "n_params": np.tile([1e8, 2e8], 30), "n_tokens": d_R}
    return laws.fit(
        RunTable(pd.DataFrame(frame | {"loss/code": y_2xR[0], "loss/web": y_2xR[1]})), law.name, bootstrap=20
    )


def test_tokens_save_as_much_as_the_bound(scaled):
    at = {"n_params": 2e8, "n_tokens": 1e10}
    best = optimize(scaled, upper={"code": 0.2}, **at)
    [solved] = best.solved
    h_1xK = best.mixture.array()[None]
    more = scaled.predict(h_1xK, n_params=2e8, n_tokens=1e10 + 1e7).mean()
    less = scaled.predict(h_1xK, n_params=2e8, n_tokens=1e10 - 1e7).mean()
    assert solved.tokens == pytest.approx(0.01 * abs(solved.dual_value) / ((less - more) / 2e7), rel=1e-3)
    assert f"worth {solved.tokens:.3g} training tokens" in best.summary()


def test_a_saved_optimum_has_the_same_summary(scaled, tmp_path):
    constraints = Constraints(
        upper={"code": 0.2}, prior=PRIOR, max_kl=0.3, groups={"a": Group(("wiki", "news"), 0.1, 0.6)},
        available={"wiki": 1e9}, keep={"code": 0.5},
    )  # fmt: skip
    best = optimize(
        scaled,
        objective=Objective({"code": 2, "web": 1}, kind="worst"),
        constraints=constraints,
        current=PRIOR,
        n_params=2e8,
        n_tokens=1e10,
    )
    best.save(tmp_path / "optimum.json")
    loaded = Optimum.load(tmp_path / "optimum.json")
    assert loaded.summary() == best.summary()
    assert loaded.solved == best.solved
    assert loaded.objective == best.objective
    assert (loaded.gain, loaded.expected_regret, loaded.kept) == (best.gain, best.expected_regret, best.kept)
    assert loaded.justified == best.justified
