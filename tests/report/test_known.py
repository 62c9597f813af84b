"""A report predicts only domains that the law knows, with the unique tokens of each run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mixscale import report
from mixscale.laws import fit
from mixscale.optimization import Constraints, optimize
from mixscale.report import Inputs, load
from mixscale.run_table import RunTable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of code and of little or much web; wiki is used by one held-out run only."""
    path = tmp_path_factory.mktemp("known")
    rng = np.random.default_rng(0)
    web_R = rng.uniform(0.05, 0.95, 40)
    unique_R = np.where(rng.random(40) < 0.5, 1e8, 1e11)
    frame = pd.DataFrame({"run": [f"r{i}" for i in range(40)], "n_tokens": 1e9})
    frame["role"] = np.where(np.arange(40) < 32, "fit", "held_out")
    for domain, weight_R in (("web", web_R), ("code", 1 - web_R), ("wiki", 0 * web_R)):
        frame[f"mix/{domain}"] = weight_R
        frame[f"unique_tokens/{domain}"] = unique_R if domain == "web" else 1e11
    fresh_R = np.where(unique_R < 1e9, 0.3 * web_R, web_R)
    frame["loss/web"] = 2 + np.exp(-2 * fresh_R - 0.5 * (1 - web_R)) + rng.normal(0, 0.002, 40)
    frame.loc[39, ["mix/web", "mix/code", "mix/wiki"]] = 0.2, 0.2, 0.6
    table = RunTable(frame)
    table.write(path / "runs.csv")
    fitted = fit(table, "exponential+repeats", bootstrap=4)
    fitted.save(path / "fit")
    scarce = Constraints(available={"web": 1e8}, epochs=np.inf)
    optimize(fitted, constraints=scarce, n_tokens=1e9).save(path / "optimum.json")
    return path


def test_a_domain_that_no_fitted_run_used_is_left_out_and_named(folder):
    page = report.write(folder).read_text()
    result = json.loads((folder / "result.json").read_text())
    assert result["held_out"]["runs"] == 7
    assert result["unpredictable"] == {"wiki": 1}
    assert "1 run with wiki" in page


def test_each_run_is_predicted_with_its_own_text(folder):
    inputs = load(folder)
    rows = inputs.predictable
    wanted = inputs.fit.predict_table(rows)
    columns = ["pred/web", "lo/web", "hi/web"]  # the objective is that target
    for side, column in zip(inputs.predict(rows), columns, strict=True):
        np.testing.assert_allclose(side, wanted[[column, column]])


def test_mixtures_are_compared_with_the_text_that_the_optimum_was_solved_with(folder):
    inputs = load(folder)
    h_1xK = np.array([[0.5, 0.5, 0.0]])
    plenty, scarce = (
        inputs.fit.predict(h_1xK, n_tokens=1e9, unique_tokens=text)[0, 0] for text in (None, {"web": 1e8})
    )
    assert scarce > plenty + 0.01
    assert inputs.predict_at_scale(h_1xK)[0][0] == pytest.approx([scarce] * 2)
    longer = optimize(inputs.fit, constraints=inputs.optimum.constraints, n_tokens=1e10)
    trained = Inputs(inputs.table, inputs.fit, longer)
    assert trained.objective_at_scale(h_1xK)[0][0] == pytest.approx(plenty)
