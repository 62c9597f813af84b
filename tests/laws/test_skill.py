"""A law that does not tell mixtures apart says so, and what cannot be compared does not count for it."""

import json

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.laws import LawFit
from mixscale.laws.skill import LEAST, Skill
from mixscale.runs import RunTable

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


def test_skill_is_that_over_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    y_R = rng.normal(3.0, 0.1, ROWS)
    perfect = Skill.of(y_R, y_R, ONE, EACH, ALIKE, 3)
    assert (perfect.r2, perfect.rho, perfect.error, perfect.warning) == (1.0, pytest.approx(1.0), 0.0, None)
    naive = Skill.of(y_R, mean_of_others(y_R), ONE, EACH, ALIKE, 3)
    assert naive.r2 <= 0
    assert naive.naive == pytest.approx(np.abs(y_R - mean_of_others(y_R)).mean())
    assert "do not act on this; train 30 more mixtures" in naive.warning
    half = Skill.of(y_R, y_R + rng.normal(0, 0.07, ROWS), ONE, EACH, ALIKE, 3)
    assert 0.2 < half.r2 < 0.8
    assert half.supported
    again = Skill.from_json(json.loads(json.dumps(half.to_json())))
    assert again == half


def test_a_few_mixtures_say_nothing_however_well_they_are_foretold():
    y_R = np.arange(float(LEAST))
    assert Skill.of(y_R, y_R, ONE[:LEAST], EACH[:LEAST], ALIKE[:LEAST], 2).supported
    few = Skill.of(y_R[:-1], y_R[:-1], ONE[: LEAST - 1], EACH[: LEAST - 1], ALIKE[: LEAST - 1], 2)
    assert few.warning.startswith("only 4 mixtures could be left out to test the law, and 5 are needed")
    assert few.warning.endswith("train 5 more mixtures")
    # Seeds of one mixture are one mixture.
    assert Skill.of(y_R, y_R, ONE[:LEAST], np.array([0, 0, 1, 2, 3]), ALIKE[:LEAST], 2).mixtures == 4


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
    told_R = np.r_[y_R[:-1] + rng.normal(0, 0.02, ROWS - 1), 1.0]
    assert not Skill.of(y_R, told_R, ONE, EACH, ALIKE, 3).supported
    assert Skill.of(y_R, told_R, ONE, EACH, np.r_[ALIKE[:-1], 1e-4], 3).r2 > 0.9
    lucky_R = np.r_[rng.permutation(y_R[:-1]), 6.0]
    assert Skill.of(y_R, lucky_R, ONE, EACH, ALIKE, 3).supported
    assert not Skill.of(y_R, lucky_R, ONE, EACH, np.r_[ALIKE[:-1], 1e-4], 3).supported


def test_a_fit_to_noise_says_so_and_one_to_an_effect_does_not(tmp_path):
    rng = np.random.default_rng(0)
    h_RxK = table(np.arange(ROWS, dtype=float)).mixtures_RxK
    for loss_R, warned in (
        (2.5 + rng.normal(0, 0.05, ROWS), True),
        (2 + h_RxK @ [0, 0.5, 1] + rng.normal(0, 0.05, ROWS), False),
    ):
        fit = laws.fit(table(loss_R), "linear", resamples=2)
        fit.save(tmp_path)
        saved = json.loads((tmp_path / "fit.json").read_text())["skill"]
        assert saved["supported"] is not warned
        assert fit.skill().said() in fit.summary()
        assert ("do not act on this" in fit.summary()) is warned
        assert LawFit.load(tmp_path).skill() == fit.skill()


def test_what_size_explains_is_no_skill_even_where_every_run_has_its_own():
    rng = np.random.default_rng(2)
    h_RxK, size_R = rng.dirichlet(np.ones(3), ROWS), np.exp(rng.uniform(15, 20, ROWS))
    frame = pd.DataFrame(h_RxK, columns=["mix/a", "mix/b", "mix/c"])
    frame = frame.assign(run=EACH.astype(str), n_params=size_R, n_tokens=20 * size_R)
    loss_R = 2 + 30 * size_R**-0.2
    for effect, supported in ((0.0, False), (0.3, True)):
        planted_R = loss_R + h_RxK @ [0, effect, 2 * effect] + rng.normal(0, 0.03, ROWS)
        fit = laws.fit(RunTable(frame.assign(**{"loss/x": planted_R})), "exponential-scale", resamples=2)
        assert fit.skill().mixtures == ROWS
        assert fit.skill().supported is supported
        assert np.corrcoef(fit.held_TxR[0], planted_R)[0, 1] > 0.8


def test_targets_that_are_not_fitted_are_named_with_the_reason():
    rng = np.random.default_rng(3)
    both = table(2 + rng.normal(0, 0.1, 8), rng.uniform(0.2, 0.4, 8))
    notes = laws.fit(both, "linear", resamples=2).notes
    assert any("score/qa is not fitted: where there are losses" in note for note in notes)
    notes = laws.fit(both, "linear", targets=["qa"], resamples=2).notes
    assert any("loss/x is not fitted: only others were asked for" in note for note in notes)
    assert not any("not fitted" in n for n in laws.fit(both, "linear", targets=["qa", "x"], resamples=2).notes)
