"""The analysis of planted runs: differences, recommendation, accuracy and seed noise."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mixscale.errors import InputError
from mixscale.laws import fit
from mixscale.optimization import optimize
from mixscale.report import Action, Inputs, accuracy, analyse, load, summary
from mixscale.report.accuracy import Score
from mixscale.report.analysis import recommend
from mixscale.run_table import RunTable


def without(inputs: Inputs, *columns: str, rows=None) -> Inputs:
    """The same inputs without some columns, or with some rows only."""
    frame = inputs.table.complete().frame
    frame = frame if rows is None else frame[rows(frame)]
    return Inputs(RunTable(frame.drop(columns=list(columns))), inputs.fit, inputs.optimum)


@pytest.mark.parametrize(
    ("baseline", "verdict"), [("uniform", "better"), ("natural", "worse"), ("best", "not significant")]
)
def test_planted_differences_are_found(found, planted, baseline, verdict):
    lift = planted.lift[baseline]
    c = found.comparisons[baseline]
    assert c.verdict == verdict
    assert c.paired
    assert list(c.differences) == [str(s) for s in planted.seeds]
    np.testing.assert_allclose(list(c.differences.values()), lift, atol=1e-12)
    lifts_MxS = np.array(list(planted.lift.values()))
    left_MxS = lifts_MxS - lifts_MxS.mean(axis=1, keepdims=True) - lifts_MxS.mean(axis=0) + lifts_MxS.mean()
    reach = stats.t.ppf(0.95, 6) * np.sqrt(2 / 3 * (left_MxS**2).sum() / 6)
    np.testing.assert_allclose(c.interval, (c.mean - reach, c.mean + reach), atol=1e-12)
    assert c.degrees_of_freedom == 6
    assert c.over_noise == pytest.approx(c.mean / found.noise.sd)


def test_observed_losses_equal_the_table(found, planted):
    rows = planted.frame[planted.frame["origin"] == "uniform"]
    expected = rows[[f"loss/{d}" for d in planted.domains]].mean(axis=1)
    estimate = found.candidates["uniform"].objective
    np.testing.assert_allclose(list(estimate.observed.values()), expected, rtol=1e-12)
    assert estimate.standard_error == pytest.approx(expected.std() / np.sqrt(3))
    assert tuple(found.candidates) == ("optimum", "natural", "uniform", "best")


def test_held_out_numbers_equal_those_computed_by_hand(found, inputs, planted):
    rows = planted.frame[planted.frame["role"] == "held_out"]
    losses = [f"loss/{d}" for d in planted.domains]
    predicted_RxT = inputs.fit.predict(rows[[f"mix/{d}" for d in planted.domains]].to_numpy())
    predicted, observed = predicted_RxT.mean(axis=1), rows[losses].to_numpy().mean(axis=1)
    assert (found.held_out.runs, found.held_out.mixtures) == (8, 8)
    assert found.held_out.objective.spearman == pytest.approx(stats.spearmanr(predicted, observed).statistic)
    assert found.held_out.objective.mean_absolute_error == pytest.approx(np.abs(predicted - observed).mean())
    code = found.held_out.targets["loss/$code$"]
    assert code.mean_absolute_error == pytest.approx(np.abs(predicted_RxT[:, 1] - rows[losses[1]]).mean())


def test_seed_noise_pools_every_mixture_trained_twice(found, planted):
    rows = planted.frame[planted.frame["status"] == "complete"]
    mean = rows[[f"loss/{d}" for d in planted.domains]].mean(axis=1)
    groups = [g for _, g in mean.groupby([rows[f"mix/{d}"].round(9) for d in planted.domains]) if len(g) > 1]
    freedom = sum(len(g) - 1 for g in groups)
    assert found.noise.degrees_of_freedom == freedom
    assert found.noise.sd == pytest.approx(np.sqrt(sum((len(g) - 1) * g.var() for g in groups) / freedom))


def test_the_summary_starts_with_the_planted_difference(found):
    r, text = found.recommendation, " ".join(summary(found).split())
    assert (r.action, r.trained, r.baseline, r.seeds, r.better) == (Action.REJECT, True, "natural", 3, ["natural"])
    assert r.difference == pytest.approx(-0.05)
    assert "0.0500 ± 0.0097 nats per token" in text.partition(".  ")[0][:300]
    assert f"1 of {sum(found.runs.values())} runs diverged" in text


def test_an_optimum_that_is_its_own_baseline_is_the_same_mixture(inputs):
    frame = inputs.table.complete().frame.query("origin != 'best'").copy()
    frame.loc[frame["origin"] == "optimum", "origin"] = "optimum+best"
    found = analyse(Inputs(RunTable(frame), inputs.fit, inputs.optimum))
    assert found.comparisons["best"].verdict == "same mixture"


def test_one_seed_is_judged_by_the_seed_noise(inputs):
    found = analyse(without(inputs, rows=lambda f: (f["role"] != "verify") | (f["seed"] == 11)))
    c = found.comparisons["uniform"]
    reach = stats.t.ppf(0.95, found.noise.degrees_of_freedom) * found.noise.sd * np.sqrt(2)
    assert not c.paired
    np.testing.assert_allclose(c.interval, (0.05 - reach, 0.05 + reach))


def test_one_seed_without_seed_noise_claims_nothing(inputs):
    found = analyse(without(inputs, rows=lambda f: (f["role"] == "verify") & (f["seed"] == 11)))
    assert found.noise is None
    assert {c.verdict for c in found.comparisons.values()} == {"not significant"}
    assert all(c.interval is None for c in found.comparisons.values())
    assert found.target_baseline is None


def test_a_table_without_optional_columns_is_analysed(inputs):
    found = analyse(without(inputs, "role", "origin", "seed", "status", "n_params", "n_tokens"))
    assert found.held_out is None
    assert not found.comparisons
    assert not found.candidates["optimum"].objective.observed
    assert found.n_params is None
    assert not found.trained


def test_runs_of_an_earlier_optimum_are_not_credited_to_this_one(inputs):
    heavy = inputs.domains[0]
    other = optimize(inputs.fit, lower={heavy: 0.6})
    found = analyse(Inputs(inputs.table, inputs.fit, other))
    assert found.earlier_optimum
    assert not found.candidates["optimum"].objective.observed
    assert not found.comparisons


def test_of_two_verified_optima_only_this_one_counts(inputs, planted):
    frame = inputs.table.frame.copy()
    old = frame[(frame["role"] == "verify") & (frame["origin"] == "uniform")]
    old = old.assign(origin="optimum", run=[f"old{i}" for i in range(len(old))])
    found = analyse(Inputs(RunTable(pd.concat([frame, old], ignore_index=True)), inputs.fit, inputs.optimum))
    expected = analyse(inputs).candidates["optimum"].objective
    assert found.candidates["optimum"].objective == expected
    assert not found.earlier_optimum


def test_a_mixture_rounded_for_training_is_still_the_same(inputs):
    frame = inputs.table.complete().frame.query("origin != 'best'").copy()
    mixtures = [f"mix/{d}" for d in inputs.domains]
    rows = frame["origin"] == "optimum"
    rounded = frame.loc[rows, mixtures].round(4)
    assert rounded.to_numpy() != pytest.approx(frame.loc[rows, mixtures].to_numpy(), abs=1e-6)
    rounded[mixtures[0]] += 1 - rounded.sum(axis=1)
    frame.loc[rows, mixtures] = rounded
    frame.loc[rows, "origin"] = "optimum+best"
    found = analyse(Inputs(RunTable(frame), inputs.fit, inputs.optimum))
    assert len(found.candidates["optimum"].objective.observed) == 3
    assert found.comparisons["best"].verdict == "same mixture"


def test_an_optimum_of_another_law_is_refused(inputs):
    other = dataclasses.replace(inputs.optimum, law="linear")
    with pytest.raises(InputError, match="linear.*exponential"):
        Inputs(inputs.table, inputs.fit, other)


def test_an_optimum_of_another_fit_of_the_same_law_is_refused(inputs):
    moved = dataclasses.replace(inputs.fit, theta_TxP=inputs.fit.theta_TxP * 1.001)
    with pytest.raises(InputError, match="is from another fit.*run `mixscale optimize` again"):
        Inputs(inputs.table, moved, inputs.optimum)
    fewer = dict(list(inputs.optimum.predicted.items())[:-1])
    with pytest.raises(InputError, match="solved for targets .*run `mixscale optimize` again"):
        Inputs(inputs.table, inputs.fit, dataclasses.replace(inputs.optimum, predicted=fewer))


def test_the_best_of_the_grid_is_the_best_over_seeds(inputs):
    frame = inputs.table.complete().frame.query("role == 'fit'").copy()
    losses = list(inputs.targets)
    twice = frame[frame["seed"] == 1]
    lucky = (frame[[f"mix/{d}" for d in inputs.domains]].to_numpy() == _mixtures(inputs, twice)[0]).all(axis=1)
    lowest = frame[losses].to_numpy().mean(axis=1).min()
    frame.loc[lucky & (frame["seed"] == 1), losses] = lowest - 0.05
    frame.loc[lucky & (frame["seed"] == 0), losses] = lowest + 0.50
    best = Inputs(RunTable(frame), inputs.fit, inputs.optimum)
    by_mixture = frame.assign(mean=frame[losses].mean(axis=1)).groupby([f"mix/{d}" for d in inputs.domains])
    expected = np.array(by_mixture["mean"].mean().idxmin())
    np.testing.assert_allclose(list(analyse(best).candidates["best"].mixture.values()), expected, atol=1e-9)


def test_the_summary_describes_every_result_of_validation(found):
    held = found.held_out

    def text(score: dict, **changes) -> str:
        changes["objective"] = dataclasses.replace(held.objective, **score)
        changed = dataclasses.replace(found, held_out=dataclasses.replace(held, **changes))
        return " ".join(summary(changed).split())

    good = {"spearman": 0.97, "error_over_noise": 1.5}
    assert "meets the accuracy threshold" in text(good, ranks_met=True, error_met=True)
    missed = {"ranks_met": True, "error_met": False, "bias": 0.013, "error_without_bias": 0.004}
    error = text(good | {"error_over_noise": 2.6}, **missed)
    for number in (
        "misses the accuracy threshold",
        "2.60 times",
        "too high by 0.013",
        "0.0040",
        f"{held.parameters} parameters",
    ):
        assert number in error
    ranks = text(good | {"spearman": 0.9}, ranks_met=False, error_met=True, spread=0.5)
    assert "0.900" in ranks
    assert "0.50 nats per token" in ranks
    assert "unknown" in text(good, ranks_met=True, error_met=None)


@pytest.mark.parametrize(("rho", "error", "met"), [(0.95, 2.0, True), (0.949, 2.001, False)])
def test_validation_thresholds(inputs, monkeypatch, rho, error, met):
    monkeypatch.setattr(accuracy, "_score", lambda *_, **__: Score(rho, 0.1, error, 0.9))
    held = analyse(inputs).held_out
    assert (held.ranks_met, held.error_met) == (met, met)


def test_seeds_that_held_out_runs_share_with_fitted_ones_are_known(found, inputs):
    assert found.held_out.shared_seeds == ["0"]
    frame = inputs.table.complete().frame.copy()
    frame.loc[frame["role"] == "held_out", "seed"] = 77
    assert analyse(Inputs(RunTable(frame), inputs.fit, inputs.optimum)).held_out.shared_seeds == []
    assert analyse(without(inputs, "seed")).held_out.shared_seeds == []


def test_unequal_weights_add_the_accuracy_of_the_plain_mean(found, inputs, planted):
    weights = dict(zip(inputs.fit.targets, (3, 1, 1), strict=True))
    weighted = analyse(Inputs(inputs.table, inputs.fit, optimize(inputs.fit, weights=weights)))
    held, rows = weighted.held_out, planted.frame[planted.frame["role"] == "held_out"]
    predicted = inputs.fit.predict(rows[[f"mix/{d}" for d in planted.domains]].to_numpy()).mean(axis=1)
    observed = rows[list(inputs.targets)].to_numpy().mean(axis=1)
    assert held.plain.mean_absolute_error == pytest.approx(np.abs(predicted - observed).mean())
    assert held.plain.error_over_noise == pytest.approx(held.plain.mean_absolute_error / found.noise.sd)
    assert held.objective.mean_absolute_error != pytest.approx(held.plain.mean_absolute_error)
    assert (weighted.objective, found.objective) == ("weighted mean loss", "mean loss")
    assert found.held_out.plain is None
    text = summary(weighted)
    assert "60%, $code$ 20% and books & 'more' 20%" in " ".join(text.split())
    assert text.count("mean loss") == text.count("weighted mean loss")
    assert "weighted" not in summary(found).replace("all targets weighted equally", "")


@pytest.mark.parametrize(("count", "rest"), [(8, "d7"), (9, "d8"), (10, "6.0% in 2 other domains")])
def test_a_single_remaining_domain_is_named(found, count, rest):
    weights = {f"d{i}": w for i, w in enumerate([0.15] * 6 + [0.04] * 2 + [0.04] + [0.02])}
    kept = dict(list(weights.items())[:count])
    text = " ".join(
        summary(dataclasses.replace(found, optimum=kept, optimum_interval=dict.fromkeys(kept, (0, 1)))).split()
    )
    lead = text.partition(")")[0]
    assert all(f"d{i}" in lead for i in range(8))
    assert rest in lead


def test_targets_that_become_better_and_worse_are_named(inputs, planted):
    frame = inputs.table.complete().frame.copy()
    natural = frame["origin"] == "natural"
    first, second, third = inputs.targets
    seeds = {11: 0.002, 12: -0.003, 13: 0.001}
    optimum = frame[frame["origin"] == "optimum"].set_index("seed")
    for target, lift in ((first, 0.3), (second, -0.2), (third, 0.0)):
        frame.loc[natural, target] = [optimum[target][s] + lift + seeds[s] for s in frame.loc[natural, "seed"]]
    found = analyse(Inputs(RunTable(frame), inputs.fit, inputs.optimum))
    verdicts = {t: c.verdict for t, c in found.by_target["natural"].items()}
    assert verdicts == {first: "better", second: "worse", third: "not significant"}
    assert found.target_baseline == "natural"
    for target, verdict, value in ((first, "better", "(−0.3000 ±"), (second, "worse", "(+0.2000 ±")):
        assert list(found.targets_by_verdict(verdict)) == [target]
        assert f"{target.removeprefix('loss/')} {value}" in " ".join(summary(found).split())
    assert not analyse(without(inputs, rows=lambda f: f["role"] == "fit")).by_target


@pytest.mark.parametrize(("moved", "text"), [(0, "All bootstrap fits"), (3, "37 of 40 bootstrap fits")])
def test_bootstrap_fits_with_the_same_optimum_are_counted(found, moved, text):
    same = {d: (w, w) for d, w in found.optimum.items()}
    changed = dataclasses.replace(found, optimum_interval=same, bootstrap_moved=moved)
    assert found.weights_vary
    assert not changed.weights_vary
    assert text in summary(changed)
    assert "bootstrap fits" not in summary(found)


def test_bootstrap_fits_with_another_optimum_are_counted(inputs):
    samples_SxK = np.tile(list(inputs.optimum.mixture.values()), (20, 1))
    samples_SxK[0] = np.eye(3)[0]
    one_apart = dataclasses.replace(inputs.optimum, samples_SxK=samples_SxK)
    found = analyse(Inputs(inputs.table, inputs.fit, one_apart))
    assert (found.bootstrap, found.bootstrap_moved) == (20, 1)


def test_a_rank_correlation_of_three_held_out_runs_is_not_judged(inputs):
    few = without(inputs, rows=lambda f: (f["role"] != "held_out") | ((f["role"] == "held_out").cumsum() < 4))
    assert analyse(few).held_out.runs == 3
    assert analyse(few).held_out.ranks_met is None


def test_seeds_are_known_to_be_new_or_fitted(found, inputs, planted):
    seeds = inputs.table.frame["seed"].replace(dict.fromkeys(planted.seeds, 0))
    known = analyse(Inputs(RunTable(inputs.table.frame.assign(seed=seeds)), inputs.fit, inputs.optimum))
    assert found.new_seeds
    assert not known.new_seeds


def test_a_trained_baseline_is_compared(planted, tmp_path):
    shutil.copytree(planted.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("figures"))
    frame = planted.frame.assign(origin=planted.frame["origin"].replace({"natural": "unimax"}))
    RunTable(frame).write(tmp_path / "copy" / "runs.parquet")
    found = analyse(load(tmp_path / "copy"))
    assert found.comparisons["unimax"].mean == pytest.approx(-0.05, abs=1e-6)  # the lift planted for `natural`
    assert "given" not in found.candidates  # it was not trained
    assert "UniMax" in summary(found)


def _mixtures(inputs: Inputs, rows) -> np.ndarray:
    return rows[[f"mix/{d}" for d in inputs.domains]].to_numpy()


def test_bounds_and_the_mixtures_that_violate_them_are_named(planted, tmp_path):
    """An optimum held away from a domain may be predicted worse than a mixture that was not."""
    folder = tmp_path / "bounded"
    shutil.copytree(planted.folder, folder, ignore=shutil.ignore_patterns("figures"))
    domain = planted.domains[0]
    optimize(load(folder).fit, upper={domain: 0.05}).save(folder / "optimum.json")
    found = analyse(load(folder))
    [constraint] = [c for c in found.bounds if c.binding]
    assert constraint.dual_value < 0
    assert found.candidates["uniform"].violated == [constraint.description]
    assert constraint.description in summary(found)


def test_an_optimum_that_verification_contradicts_is_rejected(found):
    def action(verdict: str, violated: list[str]) -> Action:
        comparisons = {name: dataclasses.replace(c, verdict=verdict) for name, c in found.comparisons.items()}
        compared = {name: dataclasses.replace(c, violated=violated) for name, c in found.candidates.items()}
        return recommend(compared, comparisons, None, supported=True).action

    assert action("worse", []) == Action.REJECT
    assert action("worse", ["docs at most 1%"]) != Action.REJECT  # a mixture that violates constraints may be better
    assert action("better", []) == Action.USE
    assert action("not significant", []) == Action.UNCLEAR


def test_an_unsupported_optimum_is_not_recommended_unless_verified(planted, tmp_path):
    folder = tmp_path / "noise"
    folder.mkdir()
    table = RunTable.read(planted.folder)
    fitted = table.frame[table.frame["role"] == "fit"].copy()
    losses = [c for c in fitted if c.startswith("loss/")]
    fitted[losses] = 2 + 0.1 * np.random.default_rng(0).standard_normal(fitted[losses].shape)
    fitted.to_csv(folder / "runs.csv", index=False)
    blind = fit(RunTable(fitted), law="exponential", bootstrap=4)
    blind.save(folder / "fit")
    optimize(blind, current=dict.fromkeys(planted.domains, 1 / len(planted.domains))).save(folder / "optimum.json")
    found = analyse(load(folder))
    assert found.recommendation.action == Action.UNSUPPORTED
    assert found.solution.warning
    assert summary(found).count("failed" if "failed" in found.solution.warning else found.solution.warning[:20]) >= 1
    best = found.candidates["optimum"]
    trained = dataclasses.replace(best, objective=dataclasses.replace(best.objective, observed={"11": 2.0}))
    compared = found.candidates | {"optimum": trained}
    assert recommend(compared, {}, found.solution.gain, supported=False).action == Action.KEEP
