"""A report negates scores in the objective."""

import json

import numpy as np
import pandas as pd
import pytest

from mixscale import report
from mixscale.laws import fit
from mixscale.optimization import Objective, optimize
from mixscale.report import Inputs, analyse, load
from mixscale.run_table import RunTable

WEIGHTS = {"web": 1, "qa": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs whose web loss falls with web and whose accuracy grows with code, three times as important."""
    path = tmp_path_factory.mktemp("scores")
    rng = np.random.default_rng(0)
    h_RxK = rng.dirichlet(np.ones(3), 40)
    frame = pd.DataFrame(h_RxK, columns=["mix/web", "mix/code", "mix/wiki"])
    frame.insert(0, "run", [f"r{i}" for i in range(40)])
    frame["role"] = np.where(np.arange(40) < 30, "fit", "held_out")
    frame["loss/web"] = 2 + np.exp(h_RxK @ [-2.0, -0.2, -0.4]) + rng.normal(0, 0.002, 40)
    frame["score/qa"] = 0.9 - 0.5 * np.exp(h_RxK @ [-0.2, -2.0, -0.4]) + rng.normal(0, 0.001, 40)
    table = RunTable(frame)
    table.write(path / "runs.csv")
    fitted = fit(table, "exponential", targets=table.targets, bootstrap=20)
    fitted.save(path / "fit")
    optimize(fitted, weights=WEIGHTS).save(path / "optimum.json")
    return path


def test_means_agree_with_the_objective(folder):
    inputs = load(folder)
    rows = inputs.measured
    wanted_R = 0.25 * rows["loss/web"] - 0.75 * rows["score/qa"]
    np.testing.assert_allclose(rows["objective"], wanted_R)
    np.testing.assert_allclose(rows["plain"], 0.5 * rows["loss/web"] - 0.5 * rows["score/qa"])
    assert np.abs(inputs.predict(rows)[0][:, 0] - rows["objective"]).max() < 0.01
    best = rows[rows["role"] == "fit"]["objective"].idxmin()
    assert analyse(inputs).candidates["best"].mixture["code"] == pytest.approx(rows["mix/code"][best])


def test_the_worst_target_counts_a_score_negatively(folder):
    inputs = load(folder)
    now = {"web": 0.4, "code": 0.3, "wiki": 0.3}
    objective = Objective(kind="worst", relative_to="current")
    worst = Inputs(inputs.table, inputs.fit, optimize(inputs.fit, objective=objective, current=now))
    loss, score = inputs.fit.predict(worst.optimum.current.array(inputs.domains)[None])[0]
    rows = worst.measured
    np.testing.assert_allclose(rows["objective"], np.maximum(rows["loss/web"] - loss, score - rows["score/qa"]))
    assert worst.objective.name == "worst target (scores negated) above current"


def test_scores_are_negated_in_the_objective_and_named(folder):
    page = report.write(folder).read_text()
    result = json.loads((folder / "result.json").read_text())
    assert result["objective"] == "weighted mean objective (scores negated)"
    assert result["held_out"]["objective"]["spearman"] > 0.95
    assert result["held_out"]["plain"]["spearman"] > 0.95
    assert result["held_out"]["plain"]["mean_absolute_error"] < 0.01
    assert "weighted mean objective (scores negated) (qa 75% and web 25%)" in page
