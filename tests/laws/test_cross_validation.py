"""Folds hold out what will be predicted, and rows of one mixture stay on one side."""

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws.cross_validation import FOLDS, MAX_LEVELS, MIN_TRAIN, make_split
from mixscale.laws.dataset import build_dataset
from mixscale.run_table import RunTable

from .conftest import planted_table


@pytest.fixture(scope="module")
def scaled():
    """Ten mixtures, each at three sizes and, as steps of one run, at three token counts."""
    frame = planted_table("effective-scale", noise=0.003, runs=10).frame
    return RunTable(frame.assign(run=frame["run"].str.slice(0, -1) + frame["n_params"].astype(str)))


@pytest.fixture(scope="module")
def dataset(scaled):
    return build_dataset(scaled, True, None)


def sides(dataset, holdout):
    """For each fold that tests a row: which rows are fitted, and which are tested."""
    folds = make_split(dataset, holdout, 0)
    pairs = [(kept_R > 0, folds.fold_R == fold) for fold, kept_R in enumerate(folds.kept_FxR)]
    return [(kept_R, tested_R) for kept_R, tested_R in pairs if tested_R.any()]


@pytest.mark.parametrize("holdout", ["mixtures", "both"])
def test_rows_of_a_mixture_are_on_one_side(dataset, holdout):
    for kept_R, tested_R in sides(dataset, holdout):
        assert not set(dataset.group_R[kept_R]) & set(dataset.group_R[tested_R])
        assert not set(dataset.run_R[kept_R]) & set(dataset.run_R[tested_R])


def test_every_mixture_is_tested_once(dataset):
    folds = make_split(dataset, "mixtures", 0)
    assert folds.kept_FxR.shape == (FOLDS, dataset.points.count)
    np.testing.assert_array_equal(folds.kept_FxR.sum(axis=0), np.full(dataset.points.count, FOLDS - 1))
    assert folds.tested_R.all()


@pytest.mark.parametrize(("holdout", "scale"), [("larger-n", "n_R"), ("larger-d", "d_R"), ("both", "n_R")])
def test_tested_rows_are_larger_than_fitted_rows(dataset, holdout, scale):
    value_R = getattr(dataset.points, scale)
    tested = np.zeros(len(value_R), dtype=int)
    for kept_R, tested_R in sides(dataset, holdout):
        assert value_R[kept_R].max() < value_R[tested_R].min()
        assert kept_R.any()
        tested += tested_R
    np.testing.assert_array_equal(tested, value_R > value_R.min())


def test_many_token_counts_form_a_few_levels_with_enough_training_rows():
    table = planted_table("effective", runs=20)
    frame = pd.concat([table.frame.assign(n_tokens=1e8 * 1.2**i) for i in range(30)])
    dataset = build_dataset(RunTable(frame), True, None)
    pairs = sides(dataset, "larger-d")
    assert len(pairs) == MAX_LEVELS
    for kept_R, tested_R in pairs:
        assert kept_R.mean() >= MIN_TRAIN
        assert dataset.points.d_R[kept_R].max() < dataset.points.d_R[tested_R].min()


def test_holdouts_that_a_table_cannot_test_are_errors(noisy_table):
    with pytest.raises(InputError, match="holdout 'mixture' .*did you mean 'mixtures'"):
        laws.fit(noisy_table, "linear", holdout="mixture")
    for holdout, column in {"larger-n": "n_params", "both": "n_params", "larger-d": "n_tokens"}.items():
        with pytest.raises(InputError, match=f"too few rows below its largest {column}"):
            laws.fit(noisy_table, "linear", holdout=holdout)


@pytest.mark.parametrize("holdout", ["larger-n", "both"])
def test_a_fit_is_tested_on_the_holdout(scaled, holdout):
    fit = laws.fit(scaled, "effective-scale", holdout=holdout, bootstrap=2)
    assert "larger sizes" in fit.reason
    n_R = fit.dataset.points.n_R
    np.testing.assert_array_equal(np.isfinite(fit.oof_pred_TxR), np.tile(n_R > n_R.min(), (3, 1)))
    error_TxR = np.abs(fit.oof_pred_TxR / fit.dataset.y_TxR - 1)
    assert np.nanmedian(error_TxR) < 0.02
    lo_QxT, hi_QxT = fit.interval(scaled.mixtures_RxK, n_params=1.6e7, n_tokens=1e8)
    assert (lo_QxT < hi_QxT).all()


def test_one_larger_run_is_enough_for_a_holdout(scaled):
    small_R = scaled.frame["n_params"] < scaled.frame["n_params"].max()
    one_R = (scaled.frame["run"] == scaled.frame["run"][~small_R].iloc[0]).to_numpy()
    last_R = scaled.frame["n_tokens"] == scaled.frame["n_tokens"].max()
    fit = laws.fit(scaled.where(small_R | (one_R & last_R)), "effective-scale", holdout="larger-n", bootstrap=2)
    assert np.isfinite(fit.cross_validation["error"]).all()


def test_a_row_without_a_role_is_fitted(scaled):
    roles = pd.Series(None, index=scaled.frame.index, dtype=object)
    roles[:9] = "held_out"
    table = RunTable(scaled.frame.assign(role=roles))
    assert laws.dataset.fit_rows(table).frame["role"].isna().all()
    assert len(laws.dataset.fit_rows(table)) == len(scaled) - 9
