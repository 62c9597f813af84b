"""A law that does not distinguish mixtures warns, and only comparable mixtures count."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.laws import LawFit, fitting
from mixscale.laws.skill import MIN_MIXTURES, Skill
from mixscale.run_table import RunTable

ROWS = 30
ONE = np.zeros(ROWS, dtype=int)
EACH = np.arange(ROWS)
ALIKE = np.ones(ROWS)


def table(loss_R, score_R=None, seed=0):
    h_RxK = np.random.default_rng(seed).dirichlet(np.ones(3), len(loss_R))
    frame = pd.DataFrame(h_RxK, columns=["mix/a", "mix/b", "mix/c"]).assign(**{"loss/x": loss_R})
    frame["run"] = [f"r{i}" for i in range(len(frame))]
    return RunTable(frame if score_R is None else frame.assign(**{"score/qa": score_R}))


def mean_of_others(y_R):
    return (y_R.sum() - y_R) / (len(y_R) - 1)


def test_skill_is_relative_to_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    y_R = rng.normal(3.0, 0.1, ROWS)
    perfect = Skill.of(y_R, y_R, ONE, EACH, ALIKE, 3)
    assert (perfect.r2, perfect.rho, perfect.error, perfect.warning) == (1.0, pytest.approx(1.0), 0.0, None)
    naive = Skill.of(y_R, mean_of_others(y_R), ONE, EACH, ALIKE, 3)
    assert naive.r2 <= 0
    assert naive.mean_error == pytest.approx(np.abs(y_R - mean_of_others(y_R)).mean())
    assert "do not act on this; train 30 more mixtures" in naive.warning
    half = Skill.of(y_R, y_R + rng.normal(0, 0.07, ROWS), ONE, EACH, ALIKE, 3)
    assert 0.2 < half.r2 < 0.8
    assert half.supported
    again = Skill.from_json(json.loads(json.dumps(half.to_json())))
    assert again == half


def test_fewer_than_five_mixtures_never_support_a_law():
    y_R = np.arange(float(MIN_MIXTURES))
    assert Skill.of(y_R, y_R, ONE[:MIN_MIXTURES], EACH[:MIN_MIXTURES], ALIKE[:MIN_MIXTURES], 2).supported
    few = Skill.of(y_R[:-1], y_R[:-1], ONE[: MIN_MIXTURES - 1], EACH[: MIN_MIXTURES - 1], ALIKE[: MIN_MIXTURES - 1], 2)
    assert few.warning.startswith("only 4 mixtures could be held out")
    assert few.warning.endswith("train 5 more mixtures")
    # Seeds of one mixture are one mixture.
    assert Skill.of(y_R, y_R, ONE[:MIN_MIXTURES], np.array([0, 0, 1, 2, 3]), ALIKE[:MIN_MIXTURES], 2).mixtures == 4


def test_only_differences_between_mixtures_of_one_size_count():
    rng = np.random.default_rng(1)
    y_R, level_R, group_R = rng.normal(3.0, 0.1, ROWS), EACH // 15, EACH % 15
    missed = y_R + np.where(level_R == 1, 0.5, 0.0)
    assert Skill.of(y_R, missed, level_R, group_R, ALIKE, 3).r2 == pytest.approx(1.0)
    assert Skill.of(y_R, missed, ONE, EACH, ALIKE, 3).r2 < 0
    sized = y_R + np.where(level_R == 1, 5.0, 0.0)
    blind = np.where(level_R == 1, 8.0, 3.0) + rng.normal(0, 0.01, ROWS)
    assert not Skill.of(sized, blind, level_R, group_R, ALIKE, 3).supported


def test_a_mixture_far_from_all_others_does_not_decide():
    rng = np.random.default_rng(4)
    y_R = np.r_[rng.normal(3.0, 0.1, ROWS - 1), 6.0]
    predicted_R = np.r_[y_R[:-1] + rng.normal(0, 0.02, ROWS - 1), 1.0]
    assert not Skill.of(y_R, predicted_R, ONE, EACH, ALIKE, 3).supported
    assert Skill.of(y_R, predicted_R, ONE, EACH, np.r_[ALIKE[:-1], 1e-4], 3).r2 > 0.9
    lucky_R = np.r_[rng.permutation(y_R[:-1]), 6.0]
    assert Skill.of(y_R, lucky_R, ONE, EACH, ALIKE, 3).supported
    assert not Skill.of(y_R, lucky_R, ONE, EACH, np.r_[ALIKE[:-1], 1e-4], 3).supported


def test_a_run_with_many_checkpoints_is_one_mixture():
    rng = np.random.default_rng(0)
    y_G = rng.normal(0, 0.1, 20)
    predicted_G = y_G + rng.normal(0, 0.2, 20)
    once = Skill.of(y_G, predicted_G, ONE[:20], EACH[:20], ALIKE[:20], 3)
    assert once.r2 < 0
    # Three mixtures that are predicted exactly have a hundred more rows each, at levels of their own.
    group_R = np.r_[np.arange(20), np.tile(np.arange(3), 100)]
    level_R = np.r_[np.zeros(20, dtype=int), np.repeat(np.arange(1, 101), 3)]
    predicted_R = np.r_[predicted_G, y_G[group_R[20:]]]
    found = Skill.of(y_G[group_R], predicted_R, level_R, group_R, np.ones(320), 3)
    assert found.mixtures == 20
    assert found.r2 < 0
    assert found.error > 0.75 * once.error
    assert found.rho == pytest.approx(once.rho, abs=0.2)
    # The same rows again at other levels change nothing.
    level_R, group_R = np.repeat(np.arange(4), 20), np.tile(np.arange(20), 4)
    again = Skill.of(y_G[group_R], predicted_G[group_R], level_R, group_R, np.ones(80), 3)
    assert (again.r2, again.r2_standard_error, again.error, again.rho) == pytest.approx(
        (once.r2, once.r2_standard_error, once.error, once.rho)
    )


def test_skill_needs_significance():
    assert not Skill(20, 3, r2=0.3, r2_standard_error=0.2).supported
    assert Skill(20, 3, r2=0.4, r2_standard_error=0.2).supported


@pytest.mark.filterwarnings("error")
def test_a_constant_objective_has_no_skill():
    flat = Skill.of(np.full(ROWS, 2.5) + 4e-16 * EACH, np.full(ROWS, 2.5), ONE, EACH, ALIKE, 3)
    assert not flat.supported
    assert flat.warning.startswith("the objective is the same for the 30 mixtures")
    assert Skill.from_json(json.loads(json.dumps(flat.to_json()))).warning == flat.warning
    # Others that hardly count still have a mean.
    y_R = np.linspace(2.0, 3.0, ROWS)
    assert np.isfinite(Skill.of(y_R, y_R[::-1], ONE, EACH, np.r_[1.0, np.full(ROWS - 1, 1e-18)], 3).r2)


def test_a_law_without_the_mixture_has_no_skill():
    table_of = table(np.linspace(2, 3, ROWS)).frame
    size_R = np.tile([1e6, 1e7, 1e8], ROWS // 3)
    frame = table_of.assign(n_params=size_R, n_tokens=20 * size_R, **{"loss/x": 2 + 20 * size_R**-0.2})
    found = laws.fit(RunTable(frame), "chinchilla", bootstrap=2).skill()
    assert found.warning == "the law does not use the mixture: do not act on this; fit a law that uses it"
    assert Skill.from_json(json.loads(json.dumps(found.to_json()))).warning == found.warning
    old = {name: value for name, value in Skill(12, 3, 0.5, 0.1).to_json().items() if name != "uses_mixture"}
    assert Skill.from_json(old).supported


def at_sizes(count, effect, own):
    """Each mixture at four sizes; `own` is the same at all of them and has nothing to do with the mixture."""
    rng = np.random.default_rng(1)
    h_GxK, own_G = rng.dirichlet(np.ones(4), count), rng.normal(0, own, count)
    frame = pd.concat(
        pd.DataFrame(h_GxK, columns=["mix/a", "mix/b", "mix/c", "mix/d"]).assign(
            run=[f"{g}-{n:g}" for g in range(count)],
            n_params=n,
            n_tokens=20 * n,
            **{"loss/x": 2 + 20 * n**-0.2 + effect * h_GxK @ np.arange(4) + own_G + rng.normal(0, 0.003, count)},
        )
        for n in (1e6, 1e7, 1e8, 1e9)
    )
    return RunTable(frame)


def test_larger_sizes_of_fitted_mixtures_do_not_test_mixtures(tmp_path):
    table_of = at_sizes(8, 0.0, 0.1)
    fit = laws.fit(table_of, "additive-scale", bootstrap=2, holdout="larger-n")
    # It knows every mixture at smaller sizes, and has parameters enough to remember it.
    assert dataclasses.replace(fit, mixture_oof_TxR=None).skill().supported
    assert not fit.skill().supported
    assert fit.skill() == laws.fit(table_of, "additive-scale", bootstrap=2).skill()
    fit.save(tmp_path)
    assert LawFit.load(tmp_path).skill() == fit.skill()
    found = laws.fit(at_sizes(16, 0.3, 0.02), "additive-scale", bootstrap=2, holdout="larger-n").skill()
    assert found.supported
    assert found.mixtures == 16


def test_a_stack_is_refitted_without_each_fold_member_by_member():
    fit = laws.fit(table(2 + np.random.default_rng(5).normal(0, 0.1, ROWS)), "stack(linear, effective)", bootstrap=2)
    kept_FxR = (np.arange(3)[:, None] != EACH % 3).astype(float)
    about = (fit.dataset.points, fit.dataset.y_scaled_TxR, kept_FxR)
    stacked_TxFxP = fitting.leave_out(fit.family, *about, fit.sigma_T, fit.theta_TxP)
    assert stacked_TxFxP.shape == (1, 3, fit.theta_TxP.shape[1])
    for i, (member, at) in enumerate(fit.family.parts(3)):
        alone_TxFxP = fitting.leave_out(member, *about, fit.theta_TxP[:, 2 + i], fit.theta_TxP[:, at])
        np.testing.assert_allclose(stacked_TxFxP[:, :, at], alone_TxFxP)
        assert np.ptp(alone_TxFxP, axis=1).max() > 1e-3


def test_a_fit_warns_about_noise_and_not_about_an_effect(tmp_path):
    rng = np.random.default_rng(0)
    h_RxK = table(np.arange(ROWS, dtype=float)).mixtures_RxK
    for loss_R, warned in (
        (2.5 + rng.normal(0, 0.05, ROWS), True),
        (2 + h_RxK @ [0, 0.5, 1] + rng.normal(0, 0.05, ROWS), False),
    ):
        fit = laws.fit(table(loss_R), "linear", bootstrap=2)
        fit.save(tmp_path)
        saved = json.loads((tmp_path / "fit.json").read_text())["skill"]
        assert saved["supported"] is not warned
        assert fit.skill().describe() in fit.summary()
        assert ("do not act on this" in fit.summary()) is warned
        assert LawFit.load(tmp_path).skill() == fit.skill()


def test_differences_due_to_size_are_no_skill():
    rng = np.random.default_rng(2)
    h_RxK, size_R = rng.dirichlet(np.ones(3), ROWS), np.exp(rng.uniform(15, 20, ROWS))
    frame = pd.DataFrame(h_RxK, columns=["mix/a", "mix/b", "mix/c"])
    frame = frame.assign(run=EACH.astype(str), n_params=size_R, n_tokens=20 * size_R)
    loss_R = 2 + 30 * size_R**-0.2
    for effect, supported in ((0.0, False), (0.3, True)):
        planted_R = loss_R + h_RxK @ [0, effect, 2 * effect] + rng.normal(0, 0.03, ROWS)
        fit = laws.fit(RunTable(frame.assign(**{"loss/x": planted_R})), "exponential-scale", bootstrap=2)
        assert fit.skill().mixtures == ROWS
        assert fit.skill().supported is supported
        assert np.corrcoef(fit.oof_pred_TxR[0], planted_R)[0, 1] > 0.8


def test_targets_that_are_not_fitted_are_named_with_the_reason():
    rng = np.random.default_rng(3)
    both = table(2 + rng.normal(0, 0.1, 8), rng.uniform(0.2, 0.4, 8))
    notes = laws.fit(both, "linear", bootstrap=2).notes
    assert any("score/qa" in note and "only losses" in note for note in notes)
    notes = laws.fit(both, "linear", targets=["qa"], bootstrap=2).notes
    assert any("loss/x" in note and "you chose others" in note for note in notes)
    assert not any("not fitted" in n for n in laws.fit(both, "linear", targets=["qa", "x"], bootstrap=2).notes)
