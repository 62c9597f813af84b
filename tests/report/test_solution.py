"""The report shows objective, constraints, dual values and the recommendation."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mixscale import report
from mixscale.errors import InputError
from mixscale.laws import fit
from mixscale.optimization import Constraints, Group, Objective, Optimum, optimize
from mixscale.report import Action, Inputs, analyse, load, summary
from mixscale.report.analysis import Extrapolation, recommend
from mixscale.run_table import RunTable


@pytest.fixture(scope="module")
def bound(inputs) -> Inputs:
    """The worst target relative to the natural mixture, which is in use, under several kinds of constraints."""
    first, second, third = inputs.domains
    current = {first: 1 / 6, second: 2 / 6, third: 3 / 6}
    constraints = Constraints(
        upper={first: 0.9}, groups={"pair": Group((first, second), 0.0, 0.45)}, keep={third: 0.01}
    )
    objective = Objective(weights={first: 2, second: 1, third: 1}, kind="worst", relative_to="current")
    return Inputs(
        inputs.table, inputs.fit, optimize(inputs.fit, objective=objective, constraints=constraints, current=current)
    )


def test_runs_are_compared_by_the_solved_objective(bound, planted):
    rows = planted.frame[planted.frame["origin"] == "uniform"]
    current_T = bound.fit.predict(np.array([list(bound.optimum.current.values())]))[0]
    above_RxT = rows[[f"loss/{d}" for d in planted.domains]].to_numpy() - current_T
    by_hand_R = (above_RxT * [1.5, 0.75, 0.75]).max(axis=1)
    found = analyse(bound)
    assert found.objective == "weighted worst loss above current"
    assert "predicted weighted worst loss above current: " in bound.optimum._repr_html_()
    assert "if a bound is raised by 0.01 of weight or 0.01 in the target's unit\n" in bound.optimum.summary()
    np.testing.assert_allclose(list(found.candidates["uniform"].objective.observed.values()), by_hand_R)
    assert found.candidates["current"].objective.predicted == pytest.approx(0, abs=1e-12)
    assert len(found.candidates["current"].objective.observed) == 3  # the natural mixture was trained


def test_the_predicted_objective_is_that_of_the_optimum_and_in_its_interval(bound):
    best = analyse(bound).candidates["optimum"].objective
    assert best.predicted == pytest.approx(bound.optimum.value, abs=1e-6)
    assert best.interval[0] <= best.predicted < best.interval[1]


def test_the_interval_of_one_counted_target_is_that_targets_own(inputs):
    target = inputs.fit.targets[1]
    alone = Inputs(inputs.table, inputs.fit, optimize(inputs.fit, objective=Objective({target: 1}, kind="worst")))
    h_1xK = np.full((1, 3), 1 / 3)
    value, low, high = (v[0] for v in alone.objective_at_scale(h_1xK))
    lo_1xT, hi_1xT = inputs.fit.interval(h_1xK)
    assert high - low == pytest.approx(hi_1xT[0, 1] - lo_1xT[0, 1], rel=1e-6)
    assert value == pytest.approx(inputs.fit.predict(h_1xK)[0, 1])


def test_every_constraint_has_its_dual_value_and_who_violates_it(bound):
    found = analyse(bound)
    duals = [abs(c.dual_value) for c in found.bounds]
    assert duals == sorted(duals, reverse=True)
    [group] = [c.description for c in found.bounds if c.kind == "groups" and c.binding]
    assert group in found.candidates["uniform"].violated
    assert group in found.candidates["current"].violated
    text = " ".join(summary(found).split())
    assert text.index(f"Binding constraints: {group}") < text.index("Not binding:")
    assert found.candidates["unconstrained"].mixture == pytest.approx(dict(bound.optimum.unconstrained))
    assert found.solution.cost_of_constraints == bound.optimum.cost_of_constraints > 0
    assert found.solution.expected_regret[0] == bound.optimum.expected_regret[0]


def test_a_change_is_recommended_only_if_the_gain_is_significant(inputs):
    fitted = Inputs(RunTable(inputs.table.frame.query("role == 'fit'")), inputs.fit, inputs.optimum)
    best = optimize(inputs.fit)
    vertex = dict.fromkeys(inputs.domains, 0.0) | {inputs.domains[0]: 1.0}
    for current, action in ((dict(best.mixture), Action.KEEP), (vertex, Action.USE)):
        found = analyse(dataclasses.replace(fitted, optimum=optimize(inputs.fit, current=current)))
        r = found.recommendation
        assert (r.action, r.trained, r.baseline) == (action, False, "current")
        assert (r.difference, *r.interval) == found.solution.gain


@pytest.mark.parametrize("supported", [True, False])
def test_verification_overrules_the_law(inputs, supported):
    """The natural mixture, which was trained and won, is the current one."""
    natural = dict(zip(inputs.domains, (1 / 6, 2 / 6, 3 / 6), strict=True))
    found = analyse(Inputs(inputs.table, inputs.fit, optimize(inputs.fit, current=natural)))
    assert found.comparisons["current"].verdict == "worse"

    def action(verdict: str, interval=(0.0, 1.0)) -> tuple[Action, bool]:
        c = dataclasses.replace(found.comparisons["current"], verdict=verdict, interval=interval)
        r = recommend(found.candidates, {"current": c}, (0.1, 0.05, 0.2), supported)
        return r.action, r.trained

    assert action("better") == (Action.USE, True)
    assert action("worse") == (Action.REJECT, True)
    assert action("not significant") == (Action.KEEP, True)
    # With one seed the law decides.
    assert action("not significant", None) == (Action.USE if supported else Action.KEEP, False)


def test_what_was_not_trained_is_compared_by_the_law(inputs):
    foreign = inputs.table.complete().frame.query("role == 'fit'").drop(columns=["role", "origin"])
    found = analyse(Inputs(RunTable(foreign), inputs.fit, inputs.optimum))
    expected = inputs.optimum.regret(dict.fromkeys(inputs.domains, 1 / 3))
    assert found.candidates["uniform"].above == pytest.approx(expected)
    held, dataset = inputs.fit.oof_pred_TxR.mean(axis=0), inputs.fit.dataset.y_TxR.mean(axis=0)
    assert found.left_out["objective"].mean_absolute_error == pytest.approx(np.abs(held - dataset).mean())


@pytest.mark.parametrize("relative_to", ["current", "best"])
def test_a_saved_optimum_gives_the_same_regret(bound, inputs, tmp_path, relative_to):
    given = bound.optimum
    objective = dataclasses.replace(given.objective, relative_to=relative_to)
    solved = optimize(inputs.fit, objective=objective, constraints=given.constraints, current=given.current)
    solved.save(tmp_path / "optimum.json")
    again = Optimum.load(tmp_path / "optimum.json")
    assert again.constraints == given.constraints
    uniform = dict.fromkeys(inputs.domains, 1 / 3)
    assert again.of(inputs.fit).regret(uniform) == pytest.approx(solved.regret(uniform))


@pytest.fixture(scope="module")
def scaled(tmp_path_factory) -> RunTable:
    """Runs of three sizes."""
    rng = np.random.default_rng(0)
    h_RxK = np.repeat(rng.dirichlet(np.ones(2), 12), 3, axis=0)
    frame = pd.DataFrame(h_RxK, columns=["mix/web", "mix/code"])
    frame.insert(0, "run", [f"r{i}" for i in range(36)])
    frame["n_params"], frame["n_tokens"] = np.tile([1e6, 3e6, 1e7], 12), 1e9
    falls_R = np.exp(h_RxK @ [-1.0, -0.1]) + 3 * (frame["n_params"] / 1e6) ** -0.3
    frame["loss/web"] = 2 + falls_R + rng.normal(0, 0.003, 36)
    return RunTable(frame)


@pytest.mark.parametrize("holdout", ["mixtures", "larger-n"])
def test_extrapolation_is_named(scaled, holdout):
    fitted = fit(scaled, "exponential-scale", holdout=holdout, bootstrap=4)
    inside, outside = (Inputs(scaled, fitted, optimize(fitted, n_params=n, n_tokens=1e9)) for n in (1e7, 4e7))
    assert analyse(inside).extrapolation == {}
    found = analyse(outside)
    expected = Extrapolation(
        pytest.approx(4e7), pytest.approx(1e6), pytest.approx(1e7), validated=holdout == "larger-n"
    )
    assert found.extrapolation == {"n_params": expected}
    assert "N is 4 times the largest" in " ".join(summary(found).split())


def test_a_front_of_another_fit_is_refused(inputs, planted):
    front = pd.read_csv(planted.folder / "pareto.csv")
    with pytest.raises(InputError, match=r"pareto.csv was drawn from another fit.*--pareto` again"):
        dataclasses.replace(inputs, front=front.assign(first=front["first"] + 0.1))
    with pytest.raises(InputError, match=r"pareto.csv has no column 'first_objective'"):
        dataclasses.replace(inputs, front=front.drop(columns="first_objective"))


def test_page_and_summary_show_the_whole_solution(bound, planted, tmp_path):
    folder = tmp_path / "bound"
    shutil.copytree(planted.folder, folder, ignore=shutil.ignore_patterns("figures"))
    bound.optimum.save(folder / "optimum.json")
    (folder / "fit" / "diagnostics.txt").write_text("p is not identified for all targets\n")
    text = report.write(folder).read_text(encoding="utf-8")
    assert text.index('class="lead') < text.index("<img") < text.index('class="tiles"') < text.index("<table>")
    solved = json.loads((folder / "result.json").read_text())["solution"]["solved"]
    assert any(c["dual_value"] < 0 for c in solved if c["kind"] == "groups")
    for part in ("p is not identified for all targets", "<td>binding</td>", "<h2>Constraints</h2>"):
        assert part in text
    assert max(map(len, summary(analyse(load(folder))).splitlines())) <= 110
