"""Optima of laws that count repeats, with and without a cap on epochs."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.laws import fitting
from mixscale.laws.catalogue import get_law
from mixscale.laws.families import Points
from mixscale.optimization import Constraints, optimize
from mixscale.run_table import RunTable

DOMAINS = ("code", "web", "wiki")


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    law = get_law("effective-scale+repeats")
    h_RxK = rng.dirichlet(np.ones(3), 80)
    d_R = np.tile([1e8, 4e8, 16e8, 16e8], 20)
    unique_RxK = np.where(rng.random((80, 3)) < 0.5, 5e7, 1e11)
    theta_P = law.starts(rng, 3, 1)[0]
    theta_P[law.names(DOMAINS).index("w/code")] -= 1.0
    y_R = fitting.evaluate(law, theta_P[None], Points.of(h_RxK, np.ones(80), d_R / 5e8, unique_RxK / 5e8))[0]
    frame = {f"mix/{d}": h_RxK[:, k] for k, d in enumerate(DOMAINS)}
    frame |= {f"unique_tokens/{d}": unique_RxK[:, k] for k, d in enumerate(DOMAINS)}
    frame |= {"run": np.arange(80), "n_params": np.tile([1e8, 2e8], 40), "n_tokens": d_R}
    frame["loss/code"] = y_R * (1 + 0.001 * rng.standard_normal(80))
    return laws.fit(RunTable(pd.DataFrame(frame)), law.name, bootstrap=10)


def test_scarce_text_is_repeated_while_that_helps_or_until_the_cap(fit):
    at = {"n_params": 2e8, "n_tokens": 1e9}
    plenty = optimize(fit, **at).mixture
    scarce = Constraints(available={"code": 1e7}, epochs=np.inf)
    repeated = optimize(fit, constraints=scarce, **at)
    capped = optimize(fit, constraints=Constraints(available={"code": 1e7}, epochs=4), **at)
    assert repeated.mixture["code"] < plenty["code"]
    assert capped.mixture["code"] <= 0.04 + 1e-9
    h_QxK = np.random.default_rng(1).dirichlet(np.ones(3), 20_000)
    loss_Q = fit.predict(h_QxK, unique_tokens={"code": 1e7}, **at)[:, 0]
    assert repeated.mean[0] <= loss_Q.min() + 1e-7
    assert capped.mean[0] <= loss_Q[h_QxK[:, 0] <= 0.04].min() + 1e-7
    assert repeated.solved == ()


@pytest.mark.parametrize("epochs", [4.0, 60.0])
def test_the_dual_value_of_text_includes_fewer_repeats(fit, epochs):
    def best(code):
        at = {"n_params": 2e8, "n_tokens": 1e9}
        return optimize(fit, constraints=Constraints(available={"code": code}, epochs=epochs), **at)

    [solved] = best(1e7).solved
    measured = (best(1.01e7).value - best(0.99e7).value) / 2e5
    assert solved.binding == (epochs == 4)
    assert solved.per_unique_token == pytest.approx(measured, rel=0.02)
    assert solved.per_unique_token < 0


def test_unique_tokens_default_to_those_of_the_table(fit):
    points = fit.dataset.points._replace(u_RxK=np.tile([0.1, 0.2, 0.3], (80, 1)))
    alike = dataclasses.replace(fit, dataset=dataclasses.replace(fit.dataset, points=points))
    h_1xK, at = np.array([[0.5, 0.3, 0.2]]), {"n_params": 2e8, "n_tokens": 1e9}
    tokens_K = fit.dataset.scale.d * np.array([0.1, 0.2, 0.3])
    by_name = {"code": 1e6}
    whole_K = np.r_[1e6, tokens_K[1:]]
    np.testing.assert_allclose(
        alike.predict(h_1xK, unique_tokens=by_name, **at), alike.predict(h_1xK, unique_tokens=whole_K, **at)
    )
    frame = pd.DataFrame({f"mix/{d}": h_1xK[:, k] for k, d in enumerate(DOMAINS)} | at, index=[0])
    predicted = alike.predict_table(frame.assign(**{"unique_tokens/code": 1e6}))["pred/code"]
    np.testing.assert_allclose(predicted, alike.predict(h_1xK, unique_tokens=whole_K, **at)[:, 0])
    assert alike.predict(h_1xK, **at)[0, 0] != fit.predict(h_1xK, **at)[0, 0]
