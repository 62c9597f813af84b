"""The report tells the whole optimum: the goal solved for, the constraints and their prices, and whether to change."""

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
from mixscale.report import findings, load, sentences, summary
from mixscale.report.material import Material
from mixscale.report.terms import Beyond, terms
from mixscale.report.terms_said import decision, extrapolated, justified
from mixscale.run_table import RunTable


@pytest.fixture(scope="module")
def bound(material) -> Material:
    """The worst target above the natural mixture, which is in use, under constraints of several kinds."""
    first, second, third = material.domains
    current = {first: 1 / 6, second: 2 / 6, third: 3 / 6}
    constraints = Constraints(
        upper={first: 0.9}, groups={"pair": Group((first, second), 0.0, 0.45)}, keep={third: 0.01}
    )
    goal = Objective(weights={first: 2, second: 1, third: 1}, kind="worst", relative_to="current")
    return Material(
        material.table, material.fit, optimize(material.fit, objective=goal, constraints=constraints, current=current)
    )


def test_runs_are_compared_by_the_goal_that_was_solved_for(bound, planted):
    rows = planted.frame[planted.frame["origin"] == "uniform"]
    current_T = bound.fit.predict(np.array([list(bound.optimum.current.values())]))[0]
    above_RxT = rows[[f"loss/{d}" for d in planted.domains]].to_numpy() - current_T
    by_hand_R = (above_RxT * [1.5, 0.75, 0.75]).max(axis=1)
    found = findings(bound)
    assert found.objective == "weighted worst loss above current"
    np.testing.assert_allclose(list(found.candidates["uniform"].goal.observed.values()), by_hand_R)
    assert found.candidates["current"].goal.predicted == pytest.approx(0, abs=1e-12)
    assert len(found.candidates["current"].goal.observed) == 3  # the natural mixture was trained


def test_the_predicted_goal_is_the_optimums_own_and_lies_in_its_interval(bound):
    best = findings(bound).candidates["optimum"].goal
    assert best.predicted == pytest.approx(bound.optimum.value, abs=1e-6)
    assert best.interval[0] <= best.predicted < best.interval[1]


def test_the_interval_of_one_counted_target_is_that_targets_own(material):
    target = material.target_names[1]
    alone = Material(
        material.table, material.fit, optimize(material.fit, objective=Objective({target: 1}, kind="worst"))
    )
    h_1xK = np.full((1, 3), 1 / 3)
    value, low, high = (v[0] for v in alone.objective(h_1xK))
    lo_1xT, hi_1xT = material.fit.interval(h_1xK)
    assert high - low == pytest.approx(hi_1xT[0, 1] - lo_1xT[0, 1], rel=1e-6)
    assert value == pytest.approx(material.fit.predict(h_1xK)[0, 1])


def test_every_constraint_is_told_with_its_price_and_who_breaks_it(bound):
    found, prices = findings(bound), bound.optimum.solved
    assert [c.per_unit for c in found.terms.constraints] == [p.dual_value for p in prices]
    said = " ".join(sentences(found))
    group = f"pair ({bound.domains[0]} + {bound.domains[1]}) at most 45%"
    assert f"It is held by {group} (−" in said
    assert f"These do not hold it: {bound.domains[0]} at most 90%" in said
    assert group in found.candidates["uniform"].breaks
    assert group in found.candidates["current"].breaks
    assert found.candidates["unconstrained"].mixture == pytest.approx(dict(bound.optimum.unconstrained))
    assert found.terms.given_up == bound.optimum.cost_of_constraints > 0
    assert found.terms.expected_regret == bound.optimum.expected_regret[0]


def test_no_change_is_said_where_none_is_justified(material):
    best = optimize(material.fit)
    near = optimize(material.fit, current=dict(best.mixture))
    assert not near.justified
    found = findings(Material(material.table, material.fit, near))
    # After the answer, and that the planted runs refute it.
    assert sentences(found)[2].startswith("No change from the current mixture is justified")
    vertex = dict.fromkeys(material.domains, 0.0) | {material.domains[0]: 1.0}
    far = findings(Material(material.table, material.fit, optimize(material.fit, current=vertex)))
    assert far.terms.justified
    assert "a change is justified" in sentences(far)[2]


@pytest.mark.parametrize("unsupported", [None, "on 4 mixtures it does not beat the mean"])
def test_training_decides_against_the_law(material, unsupported):
    """The natural mixture, which was trained and won, is in use."""
    natural = dict(zip(material.domains, (1 / 6, 2 / 6, 3 / 6), strict=True))
    found = findings(Material(material.table, material.fit, optimize(material.fit, current=natural)))
    of_law = dataclasses.replace(found, terms=dataclasses.replace(found.terms, unsupported=unsupported))

    def decided(verdict: str, interval=(0.0, 1.0)) -> tuple[str, bool | None]:
        c = dataclasses.replace(of_law.comparisons["current"], verdict=verdict, interval=interval)
        judged = dataclasses.replace(of_law, comparisons=of_law.comparisons | {"current": c})
        return decision(judged)[0], justified(judged)

    assert found.comparisons["current"].verdict == "worse"
    for verdict, told in (
        ("better", "Trained, it beats the current mixture: a change is justified."),
        ("worse", "Trained, it loses to the current mixture: no change is justified."),
        ("not distinguishable", "Trained, it cannot be told from the current mixture: no change is justified."),
    ):
        said, change = decided(verdict)
        assert said.startswith(told)
        assert "support" not in said
        assert change == (verdict == "better")
    by_law, _ = decided("not distinguishable", interval=None)  # one seed, of which nothing can be told
    assert not by_law.startswith("Trained")


def test_what_was_not_trained_is_compared_by_the_law(material):
    foreign = material.table.complete().frame.query("role == 'fit'").drop(columns=["role", "origin"])
    found = findings(Material(RunTable(foreign), material.fit, material.optimum))
    expected = material.optimum.regret(dict.fromkeys(material.domains, 1 / 3))
    assert found.candidates["uniform"].above == pytest.approx(expected)
    assert any("lower than that of the uniform mixture" in s for s in sentences(found))
    held, dataset = material.fit.oof_pred_TxR.mean(axis=0), material.fit.dataset.y_TxR.mean(axis=0)
    assert found.left_out.mean_absolute_error == pytest.approx(np.abs(held - dataset).mean())


@pytest.mark.parametrize("relative_to", ["current", "best"])
def test_a_saved_optimum_answers_as_it_did(bound, material, tmp_path, relative_to):
    asked = bound.optimum
    goal = dataclasses.replace(asked.objective, relative_to=relative_to)
    solved = optimize(material.fit, objective=goal, constraints=asked.constraints, current=asked.current)
    solved.save(tmp_path / "optimum.json")
    again = Optimum.load(tmp_path / "optimum.json")
    assert again.constraints == asked.constraints
    uniform = dict.fromkeys(material.domains, 1 / 3)
    assert again.of(material.fit).regret(uniform) == pytest.approx(solved.regret(uniform))


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


@pytest.mark.parametrize("question", ["mixtures", "larger-n"])
def test_a_question_outside_of_the_table_is_told(scaled, question):
    fitted = fit(scaled, "exponential-scale", holdout=question, bootstrap=4)
    inside, outside = (Material(scaled, fitted, optimize(fitted, n_params=n, n_tokens=1e9)) for n in (1e7, 4e7))
    assert terms(inside).extrapolation == {}
    expected = {"n_params": Beyond(pytest.approx(4e7), pytest.approx(1e6), pytest.approx(1e7), question == "larger-n")}
    assert terms(outside).extrapolation == expected
    found = findings(outside)
    said = extrapolated(found)
    assert "N is 4 times its largest" in said
    assert ("which the fit was not asked for" in said) == (question == "mixtures")
    assert said in sentences(found)


def test_a_front_of_another_fit_is_refused(material, planted):
    front = pd.read_csv(planted.folder / "pareto.csv")
    with pytest.raises(InputError, match=r"pareto.csv was drawn from another fit.*--pareto` again"):
        dataclasses.replace(material, front=front.assign(first=front["first"] + 0.1))
    with pytest.raises(InputError, match=r"pareto.csv has no column 'first_goal'"):
        dataclasses.replace(material, front=front.drop(columns="first_goal"))


def test_page_and_summary_hold_all_of_it(bound, planted, tmp_path):
    folder = tmp_path / "bound"
    shutil.copytree(planted.folder, folder, ignore=shutil.ignore_patterns("figures"))
    bound.optimum.save(folder / "optimum.json")
    (folder / "fit" / "diagnostics.txt").write_text("p is not told by the data for all targets\n")
    text = report.write(folder).read_text(encoding="utf-8")
    assert text.index('class="decision') < text.index("<table>") < text.index('class="tiles"')
    assert "holds it" in text
    assert "p is not told by the data for all targets" in text
    told = json.loads((folder / "result.json").read_text())
    assert told["terms"]["constraints"][0]["said"].endswith("at most 90%")
    assert max(map(len, summary(findings(load(folder))).splitlines())) <= 110
