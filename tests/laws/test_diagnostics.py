"""Diagnostics name the problems of a fit, and none for a good one."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.cli import main
from mixscale.errors import InputError
from mixscale.laws import fitting
from mixscale.laws.diagnostics import NO_WARNINGS
from mixscale.laws.families import LAWS, Points
from mixscale.run_table import RunTable

from .conftest import DOMAINS, planted_table


@pytest.fixture(scope="module")
def well(noisy_table):
    return laws.fit(noisy_table, "effective", bootstrap=40)


def test_a_well_posed_fit_has_one_basin_and_no_warning(well):
    found = well.diagnostics()
    table = found.table()
    assert list(table["target"]) == list(well.targets)
    assert (table["basins"] == 1).all()
    assert (table["starts_at_best"] == table["starts"]).all()
    assert table["gradient"].max() < 1e-3
    assert table["newton_decrement"].max() < 1e-3
    assert not table[["at_bounds", "active_bounds", "unidentified"]].to_numpy().any()
    assert found.summary() == NO_WARNINGS


def test_a_domain_that_hardly_varies_is_reported_as_unidentified():
    rng = np.random.default_rng(0)
    web_R, wiki_R = rng.uniform(0, 1, 30), 1e-4 * rng.uniform(0, 1, 30)
    h_RxK = np.stack([1 - web_R - wiki_R, web_R, wiki_R], axis=1).clip(0)
    h_RxK /= h_RxK.sum(axis=1, keepdims=True)
    y_R = h_RxK @ [1.5, 2.5, 3.0] * (1 + 0.01 * rng.standard_normal(30))
    frame = pd.DataFrame({f"mix/{d}": h_RxK[:, k] for k, d in enumerate(DOMAINS)} | {"run": range(30), "loss/x": y_R})
    found = laws.fit(RunTable(frame), "linear", bootstrap=2).diagnostics()
    assert found.findings[0].unidentified == ("t/wiki",)
    assert found.summary() == "t of wiki is not identified by the data for target x"


def test_an_active_bound_is_reported(noisy_table):
    theta_1xP = np.r_[0.9, -0.5, 0.3, 0.1, 2.0, 0.5, 0.7][None]  # gamma of code beyond its bound of 1
    y_R = fitting.evaluate(LAWS["additive"], theta_1xP, Points.of(noisy_table.mixtures_RxK))[0]
    y_R = y_R * (1 + 0.002 * np.random.default_rng(0).standard_normal(len(y_R)))
    others = noisy_table.frame.drop(columns=["loss/code", "loss/web", "loss/wiki"])
    fit = laws.fit(RunTable(others.assign(**{"loss/x": y_R})), "additive", bootstrap=2)
    found = fit.diagnostics()
    assert fit.params["x"]["gamma/code"] == 1
    assert "gamma/code" in found.findings[0].at_bounds
    assert "gamma/code" in found.findings[0].active_bounds
    assert "gamma of code is at an active bound for target x" in found.summary()


def test_a_fit_that_has_not_converged_is_reported(well):
    moved = dataclasses.replace(well, theta_TxP=well.theta_TxP + [[0.1], [0.0], [0.0]])
    lines = moved.diagnostics().summary().splitlines()
    assert lines[0].startswith("the fit has not converged for target code")


def test_corrupted_rows_are_outliers(noisy_table):
    frame = noisy_table.frame.copy()
    frame.loc[[6, 11, 17, 20, 25], "loss/web"] *= 1.3
    found = laws.fit(RunTable(frame), "effective", targets=["web", "code"], bootstrap=2).diagnostics()
    web, code = found.findings
    assert web.outliers >= 5 > code.outliers
    assert "many rows are outliers with little weight for target web" in found.summary()


def test_a_stack_has_the_diagnostics_of_its_members(noisy_table):
    fit = laws.fit(noisy_table, "stack(effective, gp)", bootstrap=2)
    table = fit.diagnostics().table()
    assert list(table["law"]) == ["effective"] * 3 + ["gp"] * 3
    alone = laws.fit(noisy_table, "effective", bootstrap=2).diagnostics().table()
    pd.testing.assert_frame_equal(table.iloc[:3].drop(columns="noise"), alone.drop(columns="noise"))
    process = table.iloc[3:]
    assert process["noise"].between(0, 0.5).all()
    assert process["starts"].isna().all()
    assert process["newton_decrement"].max() < 0.1


def test_an_unidentified_length_scale_is_reported():
    """A domain that never matters and hardly varies keeps the length of the prior."""
    rng = np.random.default_rng(0)
    a_R, c_R = rng.uniform(0, 1, 40), 1e-5 * rng.uniform(0, 1, 40)
    frame = pd.DataFrame({"mix/a": a_R * (1 - c_R), "mix/b": (1 - a_R) * (1 - c_R), "mix/c": c_R, "run": range(40)})
    frame["loss/x"] = 2 + np.sin(5 * a_R) + 0.01 * rng.standard_normal(40)
    found = laws.fit(RunTable(frame), "gp", bootstrap=2).diagnostics()
    assert "length/c" in found.findings[0].unidentified
    assert "length of c is not identified by the data for target x" in found.summary()


def test_a_loaded_fit_has_the_same_diagnostics(well, tmp_path):
    well.save(tmp_path)
    pd.testing.assert_frame_equal(laws.LawFit.load(tmp_path).diagnostics().table(), well.diagnostics().table())


def test_parameter_intervals_cover_the_planted_values(well, tmp_path):
    bounds = well.param_intervals(0.98)
    assert bounds.keys() == well.params.keys()
    for target, params in well.params.items():
        assert bounds[target].keys() == params.keys()
        lo, hi = bounds[target]["E"]
        assert lo < 0.9 < hi
        lo, hi = bounds[target]["alpha"]
        assert lo < 0.6 < hi
    narrow, wide = (well.param_intervals(level)["code"]["E"] for level in (0.5, 0.9))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    with pytest.raises(InputError, match="level is 90; give a share"):
        well.param_intervals(90)
    well.save(tmp_path)
    saved = json.loads((tmp_path / "fit.json").read_text())["param_intervals"]
    assert saved["code"]["E"] == list(well.param_intervals()["code"]["E"])


def test_the_command_prints_and_saves_diagnostics(tmp_path, capsys):
    planted_table("effective-scale", noise=0.003, runs=8).frame.to_csv(tmp_path / "runs.csv", index=False)
    options = ["--law", "effective-scale", "--holdout", "larger-n", "--bootstrap", "4", "--diagnose"]
    assert main(["fit", str(tmp_path / "runs.csv"), "--out", str(tmp_path / "fit"), *options]) == 0
    printed = capsys.readouterr().out
    assert "4 bootstrap refits" in printed
    assert "larger sizes" in printed
    assert NO_WARNINGS in printed
    table = pd.read_csv(tmp_path / "fit" / "diagnostics.csv")
    assert list(table["target"]) == list(DOMAINS)
