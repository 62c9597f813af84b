"""The findings are the planted truth, and say so in words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixscale.report import findings, load, sentences
from mixscale.report.findings import CANDIDATES
from mixscale.report.material import Material
from mixscale.report.statistics import mean_interval, pooled_noise, spearman
from mixscale.runs import RunTable


@pytest.fixture(scope="module")
def material(planted) -> Material:
    return load(planted.folder)


@pytest.fixture(scope="module")
def found(material):
    return findings(material)


def without(material: Material, *columns: str, rows=None) -> Material:
    """The same material with columns taken out of its table."""
    frame = material.table.complete().frame
    frame = frame if rows is None else frame[rows(frame)]
    return Material(RunTable(frame.drop(columns=list(columns))), material.fit, material.optimum)


@pytest.mark.parametrize(
    ("baseline", "verdict"), [("uniform", "better"), ("natural", "worse"), ("best", "not distinguishable")]
)
def test_planted_differences_are_found(found, planted, baseline, verdict):
    lift = planted.lift[baseline]
    c = found.comparisons[baseline]
    assert c.verdict == verdict
    assert c.paired
    assert list(c.differences) == [str(s) for s in planted.seeds]
    np.testing.assert_allclose(list(c.differences.values()), lift, atol=1e-12)
    reach = stats.t.ppf(0.95, 2) * np.std(lift, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(c.interval, (c.mean - reach, c.mean + reach), atol=1e-12)
    assert c.over_noise == pytest.approx(c.mean / found.noise.sd)


def test_observed_losses_are_those_of_the_table(found, planted):
    rows = planted.frame[planted.frame["origin"] == "uniform"]
    expected = rows[[f"loss/{d}" for d in planted.domains]].mean(axis=1)
    estimate = found.candidates["uniform"].mean_loss
    np.testing.assert_allclose(list(estimate.observed.values()), expected, rtol=1e-12)
    assert estimate.standard_error == pytest.approx(expected.std() / np.sqrt(3))
    assert tuple(found.candidates) == CANDIDATES


def test_held_out_numbers_equal_those_computed_by_hand(found, material, planted):
    rows = planted.frame[planted.frame["role"] == "held_out"]
    losses = [f"loss/{d}" for d in planted.domains]
    predicted_RxT = material.fit.predict(rows[[f"mix/{d}" for d in planted.domains]].to_numpy())
    predicted, observed = predicted_RxT.mean(axis=1), rows[losses].to_numpy().mean(axis=1)
    assert (found.held_out.runs, found.held_out.mixtures) == (8, 8)
    assert found.held_out.spearman == pytest.approx(stats.spearmanr(predicted, observed).statistic)
    assert found.held_out.mean_absolute_error == pytest.approx(np.abs(predicted - observed).mean())
    code = found.held_out.targets["loss/$code$"]
    assert code["mean_absolute_error"] == pytest.approx(np.abs(predicted_RxT[:, 1] - rows[losses[1]]).mean())


def test_seed_noise_pools_every_mixture_trained_twice(found, planted):
    rows = planted.frame[planted.frame["status"] == "complete"]
    mean = rows[[f"loss/{d}" for d in planted.domains]].mean(axis=1)
    groups = [g for _, g in mean.groupby([rows[f"mix/{d}"].round(9) for d in planted.domains]) if len(g) > 1]
    freedom = sum(len(g) - 1 for g in groups)
    assert found.noise.degrees_of_freedom == freedom
    assert found.noise.sd == pytest.approx(np.sqrt(sum((len(g) - 1) * g.var() for g in groups) / freedom))


def test_sentences_say_what_was_found(found):
    told = " ".join(sentences(found))
    assert "The optimum beats the uniform mixture by 0.0500 ± 0.0051 nats a token (90% interval, 3 seeds)" in told
    assert "The optimum loses to the natural mixture by 0.0500 ± 0.0051" in told
    assert "The optimum and the best mixture of the grid are not distinguishable" in told
    assert f"1 of {sum(found.runs.values())} runs diverged" in told


def test_an_optimum_that_is_its_own_baseline_is_the_same_mixture(material):
    frame = material.table.complete().frame.query("origin != 'best'").copy()
    frame.loc[frame["origin"] == "optimum", "origin"] = "optimum+best"
    found = findings(Material(RunTable(frame), material.fit, material.optimum))
    assert found.comparisons["best"].verdict == "same mixture"
    assert "The optimum and the best mixture of the grid are the same mixture." in sentences(found)


def test_one_seed_is_judged_by_the_seed_noise(material):
    found = findings(without(material, rows=lambda f: (f["role"] != "verify") | (f["seed"] == 11)))
    c = found.comparisons["uniform"]
    reach = stats.t.ppf(0.95, found.noise.degrees_of_freedom) * found.noise.sd * np.sqrt(2)
    assert not c.paired
    np.testing.assert_allclose(c.interval, (0.05 - reach, 0.05 + reach))


def test_one_seed_without_seed_noise_claims_nothing(material):
    found = findings(without(material, rows=lambda f: (f["role"] == "verify") & (f["seed"] == 11)))
    assert found.noise is None
    assert {c.verdict for c in found.comparisons.values()} == {"not distinguishable"}
    assert any("cannot be told from one seed" in s for s in sentences(found))


def test_a_table_of_somebody_elses_gives_what_it_can(material):
    found = findings(without(material, "role", "origin", "seed", "status", "n_params", "n_tokens"))
    assert found.held_out is None
    assert not found.comparisons
    assert not found.candidates["optimum"].mean_loss.observed
    assert found.n_params is None
    assert any("was not trained" in s for s in sentences(found))


def test_statistics_refuse_what_too_little_data_cannot_say():
    assert mean_interval(np.array([1.0])) is None
    assert pooled_noise([np.array([1.0]), np.array([2.0])]) is None
    assert spearman(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert spearman(np.ones(5), np.arange(5.0)) is None
