"""A fit recovers the planted law, is reproducible, and its intervals have their nominal coverage."""

import os

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws import fitting
from mixscale.laws.cross_validation import split_mixtures
from mixscale.laws.dataset import build_dataset
from mixscale.laws.families import LAWS, Points
from mixscale.laws.uncertainty import LocalConformal
from mixscale.mixture import Mixture
from mixscale.run_table import RunTable

from .conftest import DOMAINS, planted_table, planted_theta

FRESH_QxK = np.random.default_rng(9).dirichlet(np.ones(3), 200)


@pytest.fixture(scope="module")
def noisy_fit(noisy_table):
    return laws.fit(noisy_table, bootstrap=100)


def test_same_seed_gives_the_same_fit(noisy_table, noisy_fit):
    again = laws.fit(noisy_table, bootstrap=100)
    assert again.law == noisy_fit.law
    np.testing.assert_array_equal(again.theta_SxTxP, noisy_fit.theta_SxTxP)
    np.testing.assert_array_equal(again.predict(FRESH_QxK), noisy_fit.predict(FRESH_QxK))
    other = laws.fit(noisy_table, noisy_fit.law, seed=1, bootstrap=100)
    assert not np.array_equal(other.theta_SxTxP, noisy_fit.theta_SxTxP)


def test_order_of_rows_and_columns_does_not_matter(noisy_table, noisy_fit):
    frame = noisy_table.frame
    turned = RunTable(frame[frame.columns[::-1]])
    fit = laws.fit(turned, noisy_fit.law, bootstrap=2)
    assert fit.domains == noisy_fit.domains[::-1]
    ours, theirs = fit.predict(FRESH_QxK[:, ::-1]), noisy_fit.predict(FRESH_QxK)
    for t, target in enumerate(fit.targets):
        np.testing.assert_allclose(ours[:, t], theirs[:, noisy_fit.targets.index(target)], rtol=1e-3)


def test_intervals_cover_new_runs():
    held, mean_held = [], []
    rng = np.random.default_rng(5)
    true_QxT = fitting.evaluate(LAWS["effective"], planted_theta("effective", 3), points_of(FRESH_QxK)).T
    for seed in range(6):
        fit = laws.fit(planted_table("effective", noise=0.01, seed=seed, replicates=3), "effective", bootstrap=100)
        new_QxT = true_QxT * (1 + 0.01 * rng.standard_normal(true_QxT.shape))
        lo_QxT, hi_QxT = fit.interval(FRESH_QxK)
        held.append((lo_QxT <= new_QxT) & (new_QxT <= hi_QxT))
        mean_Q, lo_Q, hi_Q = fit.objective(FRESH_QxK, {"code": 2, "web": 1})
        new_Q = new_QxT[:, :2] @ [2 / 3, 1 / 3]
        mean_held.append((lo_Q <= new_Q) & (new_Q <= hi_Q))
        # Wide enough is easy; the width must also stay near that of the noise alone (2 · 1.645 σ).
        assert (hi_QxT - lo_QxT).mean() < 2.2 * 2 * 1.645 * 0.01 * true_QxT.mean()
    assert 0.84 <= np.mean(held) <= 0.985
    assert 0.84 <= np.mean(mean_held) <= 0.99


def test_held_out_vertices_widen_only_intervals_at_vertices():
    rng = np.random.default_rng(0)
    inner, vertices = 0.01 * rng.standard_normal(30), rng.choice([-1.0, 1.0], 6)
    # Without its run a vertex is extrapolated to: draws that lack it spread, but a quarter of what they should.
    oof_bootstrap_VxR = np.concatenate([np.full(30, 0.003), np.full(6, 0.25)]) * rng.standard_normal((200, 36))
    residual_R, oof_residual_R = np.concatenate([inner, inner[:6]]), np.concatenate([inner, vertices])
    calibration = LocalConformal.of(residual_R, oof_residual_R, oof_bootstrap_VxR, np.ones(36), np.arange(36))
    draws_SxQ = np.array([0.003, 0.25]) * rng.standard_normal((200, 2))
    centre, vertex = calibration.half_width(draws_SxQ, np.ones(2), 0.9)
    assert 0.012 < centre < 0.03
    assert 0.8 < vertex < 2
    wide, narrow = (calibration.half_width(draws_SxQ, np.ones(2), level)[0] for level in (0.95, 0.5))
    assert narrow < centre <= wide


def test_inner_mixtures_keep_narrow_intervals_in_a_design_with_vertices():
    held, widths = [], []
    theta_TxP = [np.r_[0.9, np.where(np.arange(6) == t, -1.2, 0.2), np.linspace(0.3, 0.8, 6)] for t in range(3)]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        h_RxK = np.concatenate([np.eye(6), rng.dirichlet(np.ones(6), 26), rng.dirichlet(np.full(6, 4), 100)])
        y_TxR = fitting.evaluate(LAWS["additive"], np.array(theta_TxP), points_of(h_RxK))
        y_TxR = y_TxR * (1 + 0.005 * rng.standard_normal(y_TxR.shape))
        frame = pd.DataFrame({f"mix/{k}": h_K for k, h_K in enumerate(h_RxK.T)} | {"run": range(132)})
        frame = frame.assign(**{f"loss/{t}": y_R for t, y_R in enumerate(y_TxR)})
        fit = laws.fit(RunTable(frame[:32]), "additive", bootstrap=60)
        mean_Q, lo_Q, hi_Q = fit.objective(h_RxK[32:])
        new_Q = y_TxR[:, 32:].mean(axis=0)
        held.append((lo_Q <= new_Q) & (new_Q <= hi_Q))
        widths.append((hi_Q - lo_Q).mean() / (2 * 1.645 * 0.005 / np.sqrt(3) * mean_Q.mean()))
    assert 0.85 <= np.mean(held) <= 0.99
    assert np.mean(widths) < 1.8  # times the width of the noise alone; 3 where vertices set the quantile


def points_of(h_QxK):
    return Points.of(h_QxK)


def test_interval_of_a_mean_is_narrower_than_the_mean_of_intervals(noisy_fit):
    lo_QxT, hi_QxT = noisy_fit.interval(FRESH_QxK)
    _, lo_Q, hi_Q = noisy_fit.objective(FRESH_QxK)
    assert (hi_Q - lo_Q).mean() < 0.9 * (hi_QxT - lo_QxT).mean()


def test_auto_finds_the_planted_family_and_gives_a_reason(noisy_fit):
    assert noisy_fit.law == "effective"
    ranking = noisy_fit.cross_validation.set_index("law")
    assert ranking.loc["effective", "error"] <= 1.02 * ranking["error"].min()
    assert "unseen mixtures" in noisy_fit.reason
    assert laws.fit(planted_table("linear", noise=0.002), bootstrap=2).law == "linear"


def test_seed_noise_comes_from_replicates(noisy_fit):
    assert noisy_fit.noise_dof == 4
    for target in noisy_fit.targets:
        assert 0.001 < noisy_fit.noise[target] < 0.04  # planted: 0.5 % of a loss of about 2
    assert laws.fit(planted_table("linear"), "linear", bootstrap=2).noise == dict.fromkeys(noisy_fit.targets)


def test_folds_keep_a_mixture_together():
    group_R = np.repeat(np.arange(23), 3)
    fold_R = split_mixtures(group_R, 0).fold_R
    assert all(len(set(fold_R[group_R == g])) == 1 for g in range(23))
    assert len(set(fold_R)) == 10


def test_saved_fit_predicts_the_same(noisy_fit, tmp_path):
    noisy_fit.save(tmp_path)
    loaded = laws.LawFit.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(FRESH_QxK), noisy_fit.predict(FRESH_QxK))
    np.testing.assert_array_equal(loaded.interval(FRESH_QxK), noisy_fit.interval(FRESH_QxK))
    assert loaded.params == noisy_fit.params
    assert loaded.summary() == noisy_fit.summary()
    next(tmp_path.glob("*.npz")).write_bytes(b"half")
    with pytest.raises(InputError, match="damaged"):
        laws.LawFit.load(tmp_path)
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(InputError, match="no format number.*mixscale fit .*--out"):
        laws.LawFit.load(tmp_path)
    with pytest.raises(InputError, match="contains no fit"):
        laws.LawFit.load(tmp_path / "nowhere")


def test_save_that_is_killed_leaves_the_old_fit_whole(noisy_fit, noisy_table, tmp_path, monkeypatch):
    noisy_fit.save(tmp_path)
    other = laws.fit(noisy_table, "linear", bootstrap=2)
    replace, calls = os.replace, []

    def killed(*paths):
        calls.append(paths)
        if len(calls) > 1:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            other.save(tmp_path)
    loaded = laws.LawFit.load(tmp_path)
    assert loaded.law == noisy_fit.law
    np.testing.assert_array_equal(loaded.predict(FRESH_QxK), noisy_fit.predict(FRESH_QxK))
    other.save(tmp_path)
    assert laws.LawFit.load(tmp_path).law == "linear"
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="'.*file' is a file"):
            other.save(place)


def test_prediction_tables_match_domains_by_name(noisy_fit, noisy_table):
    frame = noisy_table.frame[["run", "mix/wiki", "mix/code", "mix/web"]]
    predicted = noisy_fit.predict_table(frame)
    np.testing.assert_array_equal(predicted["pred/web"], noisy_fit.predict(noisy_table.mixtures_RxK)[:, 1])
    assert (predicted["lo/web"] < predicted["pred/web"]).all()
    assert (predicted["pred/web"] < predicted["hi/web"]).all()


def test_only_fit_rows_that_are_complete_are_used(noisy_table):
    frame = noisy_table.frame.assign(role="fit", status="complete")
    frame.loc[:4, "role"] = "held_out"
    frame.loc[5, ["status", "loss/web"]] = ["diverged", np.nan]
    assert laws.fit(RunTable(frame), "linear", bootstrap=2).n_runs == len(frame) - 6


def test_run_that_diverged_later_is_not_fitted_by_its_last_good_step(noisy_table):
    frame = noisy_table.frame.assign(status="complete")
    early = frame.assign(n_tokens=frame["n_tokens"] / 2)
    early[["loss/code", "loss/web", "loss/wiki"]] += 1
    frame.loc[5, "status"] = "diverged"
    table = RunTable(pd.concat([early, frame]))
    fit = laws.fit(table, "linear", bootstrap=2)
    assert fit.n_runs == len(frame) - 1
    assert any("1 of 33 runs diverged" in n for n in fit.notes)
    alone = laws.fit(RunTable(frame), "linear", bootstrap=2)
    np.testing.assert_array_equal(fit.predict(FRESH_QxK), alone.predict(FRESH_QxK))
    assert len(build_dataset(table, True, None).run_R) == 2 * len(frame) - 1  # a law of D may use it
    with pytest.raises(InputError, match="is complete"):
        laws.fit(RunTable(pd.concat([early, frame.assign(status="diverged")])), "linear", bootstrap=2)


def test_law_without_scale_takes_the_largest_size(noisy_table):
    small = noisy_table.frame.assign(n_params=1e5, run=noisy_table.frame["run"] + "s")
    small[["loss/code", "loss/web", "loss/wiki"]] += 1
    both = RunTable(pd.concat([noisy_table.frame, small], ignore_index=True))
    fit = laws.fit(both, "linear", bootstrap=2)
    assert fit.n_runs == len(noisy_table)
    assert any("largest size" in n for n in fit.notes)
    alone = laws.fit(noisy_table, "linear", bootstrap=2)
    np.testing.assert_array_equal(fit.predict(FRESH_QxK), alone.predict(FRESH_QxK))


def test_importing_and_fitting_leaves_float32_alone(noisy_fit):
    assert jnp.ones(1).dtype == jnp.float32


def test_negative_metrics_can_be_fitted(noisy_table):
    frame = noisy_table.frame
    others = frame.drop(columns=["loss/web", "loss/wiki", "loss/code"])
    shifted = RunTable(others.assign(**{"metric/gap": frame["loss/web"] - 3}))
    fit = laws.fit(shifted, "effective", bootstrap=2)
    assert np.abs(fit.predict(shifted.mixtures_RxK)[:, 0] - shifted.losses("gap")).mean() < 0.03


def change(table, **columns):
    return RunTable(table.frame.assign(**columns))


def share(rows):
    code_R = np.linspace(0, 1, rows)
    return {"code": code_R, "web": 1 - code_R}


@pytest.mark.parametrize(
    ("spoil", "law", "message"),
    [
        (lambda t: t.where(np.arange(len(t)) < 5), "additive", "fewer runs than parameters.*'additive' has 7.*has 5 "),
        (lambda t: t.where(np.isin(np.arange(len(t)), [3, 4])), "auto", "fewer runs than parameters"),
        (lambda t: t, "aditive", "'aditive' .*did you mean 'additive'"),
        (lambda t: t, "additive-scale", "several sizes"),
        (lambda t: RunTable(t.frame.drop(columns="n_params")), "additive-scale", "needs column 'n_params'"),
        (lambda t: change(t, **{"loss/web": 2.0}), "linear", "target 'loss/web' is 2 in every row"),
        (lambda t: change(t, **{"mix/code": 0.5, "mix/web": 0.5, "mix/wiki": 0.0}), "linear", "the same mixture"),
        (
            lambda t: change(t, **{f"mix/{d}": 0.9 * w for d, w in share(len(t)).items()}, **{"mix/wiki": 0.1}),
            "linear",
            "domain 'wiki' has weight 0.1 in every row",
        ),
        (lambda t: change(t, role="verify"), "linear", "no row has role 'fit'"),
        (lambda t: change(t, status="stopped"), "linear", "is complete"),
    ],
)
def test_tables_that_cannot_be_fitted_are_errors(noisy_table, spoil, law, message):
    with pytest.raises(InputError, match=message):
        laws.fit(spoil(noisy_table), law, bootstrap=2)


def test_auto_skips_laws_with_too_many_parameters_with_a_note(noisy_table):
    fit = laws.fit(noisy_table.where(np.arange(len(noisy_table)) < 6), bootstrap=2)
    assert "additive" not in set(fit.cross_validation["law"])
    assert any("'additive'" in n for n in fit.notes)


def test_queries_that_do_not_match_are_errors(noisy_fit, noisy_table):
    frame = noisy_table.frame[["mix/code", "mix/web", "mix/wiki"]]
    with pytest.raises(InputError, match="missing web; extra webb"):
        noisy_fit.predict_table(frame.rename(columns={"mix/web": "mix/webb"}))
    with pytest.raises(InputError, match="mixture 1: .*sum to 1.5;.*Normalized they are: code=0.3333, web=0.3333"):
        noisy_fit.predict(np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]))
    with pytest.raises(InputError, match="column 'mix/web' has 'half', which is not a number"):
        noisy_fit.predict_table(frame.astype(object).replace({"mix/web": {frame["mix/web"][3]: "half"}}))
    with pytest.raises(InputError, match="-0.1 of 'code'"):
        noisy_fit.predict(np.array([[-0.1, 0.6, 0.5]]))
    with pytest.raises(InputError, match="has 2 weights; the fit has 3"):
        noisy_fit.predict(np.array([[0.5, 0.5]]))
    with pytest.raises(InputError, match="'wbe' was not fitted; did you mean 'web'"):
        noisy_fit.objective(FRESH_QxK, {"wbe": 1.0})
    scaled = laws.fit(planted_table("effective-scale", runs=8), "effective-scale", bootstrap=2)
    with pytest.raises(InputError, match="needs 'n_tokens'"):
        scaled.predict(Mixture.uniform(DOMAINS).array(), n_params=1e6)


@pytest.mark.parametrize("level", [90, 1.0, 0.0, -0.1, np.nan])
def test_level_is_a_share(noisy_fit, noisy_table, level):
    for call in (
        lambda: noisy_fit.interval(FRESH_QxK, level),
        lambda: noisy_fit.objective(FRESH_QxK, level=level),
        lambda: noisy_fit.predict_table(noisy_table.frame, level),
    ):
        with pytest.raises(InputError, match=f"level is {level:g}; give a share between 0 and 1, such as 0.9"):
            call()


def test_options_out_of_range_are_errors(noisy_table):
    with pytest.raises(InputError, match="seed is -1"):
        laws.fit(noisy_table, seed=-1)
    with pytest.raises(InputError, match="bootstrap is 1"):
        laws.fit(noisy_table, bootstrap=1)


def test_scaled_table_takes_scale_laws_by_itself():
    table = planted_table("effective-scale", noise=0.003, runs=8)
    fit = laws.fit(table, bootstrap=2)
    assert fit.uses_scale
    assert set(fit.cross_validation["law"]) == {f.name for f in LAWS.values() if f.uses_scale and f.auto}
    assert build_dataset(table, True, None).distinct == len(table)
