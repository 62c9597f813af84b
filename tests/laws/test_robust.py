"""A law that fails and a row that cannot be predicted do not stop the others, and outliers are named."""

import numpy as np
import pandas as pd
import pytest

from mixscale import laws, predict
from mixscale.cli import main
from mixscale.errors import InputError
from mixscale.laws import cross_validation, gp, uncertainty
from mixscale.laws.dataset import build_dataset
from mixscale.run_table import RunTable

from .conftest import DOMAINS, planted_table

MIX = [f"mix/{d}" for d in DOMAINS]


@pytest.fixture(scope="module")
def fitted(noisy_table):
    return laws.fit(noisy_table, "linear", bootstrap=2)


@pytest.fixture(scope="module")
def rows():
    """Four mixtures, of which the second and third cannot be predicted."""
    weights = [[0.2, 0.3, 0.5], [0.2, 0.2, 0.2], [0.5, np.nan, 0.5], [1.0, 0.0, 0.0]]
    return pd.DataFrame(weights, columns=MIX)


def failing(names, error, function):
    """The function, which raises the error for laws of these names."""

    def call(law, *arguments):
        if getattr(law, "law", law).name in names:
            raise error
        return function(law, *arguments)

    return call


def test_auto_leaves_out_laws_whose_fit_fails(noisy_table, monkeypatch):
    error = np.linalg.LinAlgError("singular")
    broken = failing({"gp", "additive"}, error, cross_validation.cross_validate)
    monkeypatch.setattr(cross_validation, "cross_validate", broken)
    fit = laws.fit(noisy_table, bootstrap=2)
    assert not set(fit.cross_validation["law"]) & {"gp", "additive"}
    assert "not compared: law 'gp' cannot be fitted to this table (singular)" in fit.notes
    with pytest.raises(InputError, match=r"law 'gp' cannot be fitted to this table \(singular\); look for"):
        laws.fit(noisy_table, "gp", bootstrap=2)
    with pytest.raises(InputError, match="law 'gp' cannot be fitted"):
        laws.fit(noisy_table, "stack(linear, gp)", bootstrap=2)
    stack = laws.fit(noisy_table, "stack(linear, effective, gp)", bootstrap=2)
    assert stack.law == "stack(linear, effective)"
    assert any("law 'gp'" in note for note in stack.notes)


def test_auto_takes_the_next_law_if_the_bootstrap_of_the_best_fails(noisy_table, monkeypatch):
    best = laws.fit(noisy_table, bootstrap=2)
    broken = failing({best.law}, FloatingPointError("overflow"), uncertainty.bootstrap_refits)
    monkeypatch.setattr(uncertainty, "bootstrap_refits", broken)
    fit = laws.fit(noisy_table, bootstrap=2)
    assert fit.law != best.law
    assert f"not compared: law '{best.law}' cannot be fitted to this table (overflow)" in fit.notes
    with pytest.raises(InputError, match="overflow"):
        laws.fit(noisy_table, best.law, bootstrap=2)


def test_fit_that_is_not_finite_is_a_failure(noisy_table):
    huge = RunTable(noisy_table.frame.assign(**{"loss/web": np.geomspace(1e-300, 1e300, len(noisy_table))}))
    with pytest.raises(InputError, match=r"cannot be fitted.*in loss/web, which ranges from 1e-300 to 1e\+300"):
        laws.fit(huge, "linear", bootstrap=2)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_unit_of_a_loss_does_not_change_its_fit(scale, noisy_table, fitted, rows):
    columns = list(noisy_table.targets)
    other = RunTable(noisy_table.frame.assign(**{c: noisy_table.frame[c] * scale for c in columns}))
    fit = laws.fit(other, "linear", bootstrap=2)
    h_QxK = rows[MIX].to_numpy()[[0, 3]]
    np.testing.assert_allclose(fit.predict(h_QxK) / scale, fitted.predict(h_QxK), rtol=1e-6)


def test_process_stays_within_its_bounds(noisy_table):
    """Also where the search first steps far outside, or rows are so alike that the kernel is singular."""
    dataset = laws.fit(noisy_table, "gp", bootstrap=2).dataset
    feature_RxK, log_R = gp._features(dataset.points.h_RxK), np.log(dataset.y_scaled_TxR[0])
    mean_H, std_H = gp._prior(feature_RxK, log_R)
    for direction in (-1, 1):
        for width in (10, 1000):
            cost, slope_H = gp._evidence(feature_RxK, log_R, mean_H, std_H, mean_H + direction * width * std_H)
            assert np.isfinite(cost)
            assert (np.sign(slope_H) == direction).all()  # leads back
    alike = noisy_table.frame[[*MIX]].to_numpy()[:1] + 1e-7 * np.random.default_rng(0).standard_normal((33, 3))
    frame = noisy_table.frame.assign(
        **dict(zip(MIX, (np.abs(alike) / np.abs(alike).sum(1, keepdims=True)).T, strict=True))
    )
    assert np.isfinite(laws.fit(RunTable(frame), "gp", bootstrap=2).predict(np.eye(3))).all()


def test_rows_that_can_be_predicted_are(fitted, rows):
    with pytest.warns(UserWarning, match="2 of 4 rows cannot be predicted: mixture 1.*sum to 0.6"):
        predicted = fitted.predict_table(rows)
    values = predicted[[c for c in predicted if c.startswith(("pred/", "lo/", "hi/"))]]
    assert values.notna().all(axis=1).tolist() == values.notna().any(axis=1).tolist() == [True, False, False, True]
    assert predicted["note"].isna().tolist() == [True, False, False, True]
    assert "nan of 'web'" in predicted["note"][2]
    np.testing.assert_array_equal(predicted["pred/web"][[0, 3]], fitted.predict(rows.to_numpy()[[0, 3]])[:, 1])
    assert "note" not in fitted.predict_table(rows.iloc[[0, 3]])
    with pytest.raises(InputError, match="none of 2 rows can be predicted: mixture 0"):
        fitted.predict_table(rows.iloc[1:3])


def test_domains_that_no_run_used_empty_only_their_rows(noisy_table, fitted, rows):
    fine = rows.iloc[[0, 3, 0]]
    other = fine.assign(**{"mix/web": fine["mix/web"] - [0.1, 0, 0], "mix/books": [0.1, 0, 0]})
    with pytest.warns(UserWarning, match="1 of 3 rows.*0.1 of 'books', which no fitted run used"):
        predicted = fitted.predict_table(other)
    assert predicted["pred/web"].isna().tolist() == [True, False, False]
    unused = RunTable(noisy_table.frame.assign(**{"mix/books": 0.0}))
    with pytest.warns(UserWarning, match="1 of 3 rows.*0.1 of 'books', which no fitted run used"):
        predicted = laws.fit(unused, "linear", bootstrap=2).predict_table(other)
    assert predicted["pred/web"].isna().tolist() == [True, False, False]


def test_sizes_that_are_missing_empty_only_their_rows():
    fit = laws.fit(planted_table("effective-scale", runs=8), "effective-scale", bootstrap=2)
    frame = pd.DataFrame(np.full((3, 3), 1 / 3), columns=MIX).assign(n_params=[1e6, np.nan, 0.0], n_tokens=1e8)
    with pytest.warns(UserWarning, match="2 of 3 rows"):
        predicted = fit.predict_table(frame)
    assert predicted["pred/web"].isna().tolist() == [False, True, True]
    assert predicted["note"][1] == "mixture 1: 'n_params' is nan; it must be positive"


def test_python_predicts_the_mixtures_it_can(fitted):
    mixtures = [{"web": 0.5, "code": 0.5}, {"web": 0.5, "books": 0.5}, {"web": 0.5}, {"web": 1.0, "books": 0.0}]
    with pytest.warns(UserWarning, match="2 of 4 rows"):
        predicted = predict(fitted, mixtures)
    assert predicted["pred/web"].isna().tolist() == [False, True, True, False]
    assert "0.5 of 'books', which no fitted run used" in predicted["note"][1]
    assert "sum to 0.5" in predicted["note"][2]
    with pytest.raises(InputError, match="mixture 0: mixture weights sum to 0.5"):
        predict(fitted, {"web": 0.5})


def test_command_predicts_the_rows_it_can(fitted, rows, tmp_path, capsys):
    fitted.save(tmp_path / "fit")
    rows.assign(note="mine").to_csv(tmp_path / "mixtures.csv", index=False)
    out = tmp_path / "predicted.csv"
    assert main(["predict", str(tmp_path / "fit"), str(tmp_path / "mixtures.csv"), "--out", str(out)]) == 0
    assert "warning: 2 of 4 rows cannot be predicted: mixture 1: " in capsys.readouterr().err
    predicted = pd.read_csv(out)
    assert predicted["pred/web"].notna().tolist() == [True, False, False, True]
    assert predicted["note"][0] == "mine"
    assert "sum to 0.6" in predicted["note"][1]


@pytest.mark.parametrize("law", ["effective", "gp"])
def test_runs_far_from_what_the_others_say_are_named(law):
    for seed in range(5):
        frame = planted_table("effective", runs=14, noise=0.005, seed=seed).frame
        assert not any("expects about" in note for note in laws.fit(RunTable(frame), law, bootstrap=2).notes)
        for factor in (0.1, 10.0):
            wrong = frame.assign(**{"loss/web": frame["loss/web"] * np.where(frame["run"] == "r6", factor, 1.0)})
            fit = laws.fit(RunTable(wrong), law, bootstrap=2)
            expected = f"run 'r6' has loss/web = {wrong['loss/web'][6]:.4g}, but the law expects about 1."
            assert any(note.startswith(expected) for note in fit.notes)


def test_run_with_weights_of_another_mixture_is_named(noisy_table):
    frame = noisy_table.frame.copy()
    at = int((frame["mix/code"] - frame["mix/web"]).iloc[4:].abs().idxmax())
    frame.loc[at, ["mix/code", "mix/web"]] = frame.loc[at, ["mix/web", "mix/code"]].to_list()
    [note] = [note for note in laws.fit(RunTable(frame), "effective", bootstrap=2).notes if "expects about" in note]
    assert f"run 'r{at}' has loss/" in note


def test_folds_that_leave_nothing_to_fit_are_left_out():
    frame = planted_table("effective-scale", runs=5).frame.query("n_tokens == 1e8")
    rows = frame[(frame["mix/web"] == 1) | (frame["n_params"] == frame["n_params"].max())]
    split = cross_validation.make_split(build_dataset(RunTable(rows), True, None), "both", 0)
    assert split.kept_FxR.any(axis=1).all()
    assert (split.fold_R[rows["mix/web"] == 1] < 0).all()
    assert (split.fold_R[rows["mix/web"] < 1] >= 0).all()
