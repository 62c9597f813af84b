"""A law that counts repeats is solved with the text there is, with and without a cap on it."""

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.laws import engine
from mixscale.laws.families import Points
from mixscale.laws.selection import named
from mixscale.optimum import Constraints, solve
from mixscale.runs import RunTable

DOMAINS = ("code", "web", "wiki")


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    law = named("effective-scale+repeats")
    h_RxK = rng.dirichlet(np.ones(3), 80)
    d_R = np.tile([1e8, 4e8, 16e8, 16e8], 20)
    unique_RxK = np.where(rng.random((80, 3)) < 0.5, 5e7, 1e11)
    theta_P = law.starts(rng, 3, 1)[0]
    theta_P[law.names(DOMAINS).index("w/code")] -= 1.0
    y_R = engine.evaluate(law, theta_P[None], Points.of(h_RxK, np.ones(80), d_R / 5e8, unique_RxK / 5e8))[0]
    frame = {f"mix/{d}": h_RxK[:, k] for k, d in enumerate(DOMAINS)}
    frame |= {f"unique_tokens/{d}": unique_RxK[:, k] for k, d in enumerate(DOMAINS)}
    frame |= {"run": np.arange(80), "n_params": np.tile([1e8, 2e8], 40), "n_tokens": d_R}
    frame["loss/code"] = y_R * (1 + 0.001 * rng.standard_normal(80))
    return laws.fit(RunTable(pd.DataFrame(frame)), law.name, resamples=10)


def test_scarce_text_is_repeated_as_far_as_it_pays_and_capped_where_asked(fit):
    at = {"n_params": 2e8, "n_tokens": 1e9}
    plenty = solve(fit, **at).mixture
    scarce = Constraints(available={"code": 1e7}, epochs=np.inf)
    repeated = solve(fit, constraints=scarce, **at)
    capped = solve(fit, constraints=Constraints(available={"code": 1e7}, epochs=4), **at)
    assert repeated.mixture["code"] < plenty["code"]
    assert capped.mixture["code"] <= 0.04 + 1e-9
    h_QxK = np.random.default_rng(1).dirichlet(np.ones(3), 20_000)
    loss_Q = fit.predict(h_QxK, unique_tokens={"code": 1e7}, **at)[:, 0]
    assert repeated.objective[0] <= loss_Q.min() + 1e-7
    assert capped.objective[0] <= loss_Q[h_QxK[:, 0] <= 0.04].min() + 1e-7
    assert repeated.prices == ()
