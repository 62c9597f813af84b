"""The findings are the planted truth, and say so in words."""

from __future__ import annotations

import dataclasses
import re
import shutil

import numpy as np
import pytest
from scipy import stats

from mixscale.errors import InputError
from mixscale.laws import LawFit, fit
from mixscale.optimization import optimize
from mixscale.report import captions, findings, load, sentences, summary
from mixscale.report.held_out import Score
from mixscale.report.material import Material
from mixscale.run_table import RunTable


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
    lifts_MxS = np.array(list(planted.lift.values()))
    left_MxS = lifts_MxS - lifts_MxS.mean(axis=1, keepdims=True) - lifts_MxS.mean(axis=0) + lifts_MxS.mean()
    reach = stats.t.ppf(0.95, 6) * np.sqrt(2 / 3 * (left_MxS**2).sum() / 6)
    np.testing.assert_allclose(c.interval, (c.mean - reach, c.mean + reach), atol=1e-12)
    assert c.degrees_of_freedom == 6
    assert c.over_noise == pytest.approx(c.mean / found.noise.sd)


def test_observed_losses_are_those_of_the_table(found, planted):
    rows = planted.frame[planted.frame["origin"] == "uniform"]
    expected = rows[[f"loss/{d}" for d in planted.domains]].mean(axis=1)
    estimate = found.candidates["uniform"].goal
    np.testing.assert_allclose(list(estimate.observed.values()), expected, rtol=1e-12)
    assert estimate.standard_error == pytest.approx(expected.std() / np.sqrt(3))
    assert tuple(found.candidates) == ("optimum", "natural", "uniform", "best")


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
    assert "The optimum beats the uniform mixture by 0.0500 ± 0.0097 nats a token (90% interval, 3 seeds)" in told
    assert "The optimum loses to the natural mixture by 0.0500 ± 0.0097" in told
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
    assert not found.candidates["optimum"].goal.observed
    assert found.n_params is None
    assert any("was not trained" in s for s in sentences(found))


def test_runs_of_an_earlier_optimum_are_not_credited_to_this_one(material):
    heavy = material.domains[0]
    other = optimize(material.fit, lower={heavy: 0.6})
    found = findings(Material(material.table, material.fit, other))
    told = sentences(found)
    assert found.earlier_optimum
    assert not found.candidates["optimum"].goal.observed
    assert not found.comparisons
    assert any(s.startswith("This optimum was not trained; the verification runs are of an earlier one") for s in told)
    assert "training gave" not in " ".join(told)


def test_of_two_verified_optima_only_this_one_counts(material, planted):
    frame = material.table.frame.copy()
    old = frame[(frame["role"] == "verify") & (frame["origin"] == "uniform")]
    old = old.assign(origin="optimum", run=[f"old{i}" for i in range(len(old))])
    found = findings(Material(RunTable(_stacked(frame, old)), material.fit, material.optimum))
    expected = findings(material).candidates["optimum"].goal
    assert found.candidates["optimum"].goal == expected
    assert not found.earlier_optimum


def test_a_mixture_rounded_for_training_is_still_the_same(material):
    frame = material.table.complete().frame.query("origin != 'best'").copy()
    mixtures = [f"mix/{d}" for d in material.domains]
    rows = frame["origin"] == "optimum"
    rounded = frame.loc[rows, mixtures].round(4)
    assert rounded.to_numpy() != pytest.approx(frame.loc[rows, mixtures].to_numpy(), abs=1e-6)
    rounded[mixtures[0]] += 1 - rounded.sum(axis=1)
    frame.loc[rows, mixtures] = rounded
    frame.loc[rows, "origin"] = "optimum+best"
    found = findings(Material(RunTable(frame), material.fit, material.optimum))
    assert len(found.candidates["optimum"].goal.observed) == 3
    assert found.comparisons["best"].verdict == "same mixture"


def test_an_optimum_of_another_law_is_refused(material):
    other = dataclasses.replace(material.optimum, law="linear")
    with pytest.raises(InputError, match="solved for law linear, but the fit has exponential; run"):
        Material(material.table, material.fit, other)


def test_an_optimum_of_another_fit_of_the_same_law_is_refused(material):
    moved = dataclasses.replace(material.fit, theta_TxP=material.fit.theta_TxP * 1.001)
    with pytest.raises(InputError, match="solved from another fit.*run `mixscale optimize` again"):
        Material(material.table, moved, material.optimum)
    fewer = dict(list(material.optimum.predicted.items())[:-1])
    with pytest.raises(InputError, match="solved for targets .*run `mixscale optimize` again"):
        Material(material.table, material.fit, dataclasses.replace(material.optimum, predicted=fewer))


def test_a_convex_law_that_was_not_solved_is_not_called_one_that_is_not_convex(found):
    unsolved = dataclasses.replace(found, terms=dataclasses.replace(found.terms, is_global=False))
    assert any(s.startswith("It may not be the optimum, because the solver did not") for s in sentences(unsolved))


def test_the_best_of_the_grid_is_the_best_over_seeds(material):
    frame = material.table.complete().frame.query("role == 'fit'").copy()
    losses = list(material.targets)
    twice = frame[frame["seed"] == 1]
    lucky = (frame[[f"mix/{d}" for d in material.domains]].to_numpy() == _mixtures(material, twice)[0]).all(axis=1)
    lowest = frame[losses].to_numpy().mean(axis=1).min()
    frame.loc[lucky & (frame["seed"] == 1), losses] = lowest - 0.05
    frame.loc[lucky & (frame["seed"] == 0), losses] = lowest + 0.50
    best = Material(RunTable(frame), material.fit, material.optimum)
    by_mixture = frame.assign(mean=frame[losses].mean(axis=1)).groupby([f"mix/{d}" for d in material.domains])
    expected = np.array(by_mixture["mean"].mean().idxmin())
    np.testing.assert_allclose(list(findings(best).candidates["best"].mixture.values()), expected, atol=1e-9)


def test_the_bar_for_held_out_mixtures_is_judged_in_words(found):
    held = found.held_out

    def told(**changes) -> str:
        return " ".join(sentences(dataclasses.replace(found, held_out=dataclasses.replace(held, **changes))))

    good = {"spearman": 0.97, "ranks_met": True, "error_over_noise": 1.5, "error_met": True}
    assert "That meets the bar for held-out mixtures: a rank correlation of 0.95 or more" in told(**good)
    error = told(**{**good, "error_over_noise": 2.6, "error_met": False, "bias": 0.013, "error_without_bias": 0.004})
    assert "misses the bar" in error
    assert "the error is 2.60 times the seed noise. The predictions are too high by 0.013" in error
    assert f"without that shift the error would be 0.0040. The law has {held.parameters} parameters" in error
    ranks = told(**{**good, "spearman": 0.9, "ranks_met": False, "spread": 10 * found.noise.sd})
    assert "the rank correlation is 0.900. The order of only 8 runs is compared" in ranks
    assert "10.0 times the seed noise" in ranks
    assert "cannot be said: the seed noise is not known" in told(**{**good, "error_met": None})


@pytest.mark.parametrize(("rho", "error", "met"), [(0.95, 2.0, True), (0.949, 2.001, False)])
def test_the_bar_lies_where_it_should(material, monkeypatch, rho, error, met):
    from mixscale.report import held_out

    monkeypatch.setattr(held_out, "_score", lambda *_: Score(rho, 0.1, error))
    held = findings(material).held_out
    assert (held.ranks_met, held.error_met) == (met, met)


def test_seeds_that_held_out_runs_share_with_fitted_ones_are_told(found, material):
    from mixscale.report.sentences import shared_seeds

    assert found.held_out.shared_seeds == ["0"]
    assert "Held-out runs share seed 0 with fitted ones" in shared_seeds(found)
    frame = material.table.complete().frame.copy()
    frame.loc[frame["role"] == "held_out", "seed"] = 77
    apart = findings(Material(RunTable(frame), material.fit, material.optimum))
    assert apart.held_out.shared_seeds == []
    assert shared_seeds(apart) is None
    assert shared_seeds(findings(without(material, "seed"))) is None


def test_unequal_weights_are_shown_and_the_plain_mean_is_told_beside_them(found, material, planted):
    weights = dict(zip(material.target_names, (3, 1, 1), strict=True))
    weighted = findings(Material(material.table, material.fit, optimize(material.fit, weights=weights)))
    held, rows = weighted.held_out, planted.frame[planted.frame["role"] == "held_out"]
    predicted = material.fit.predict(rows[[f"mix/{d}" for d in planted.domains]].to_numpy()).mean(axis=1)
    observed = rows[list(material.targets)].to_numpy().mean(axis=1)
    assert held.plain.mean_absolute_error == pytest.approx(np.abs(predicted - observed).mean())
    assert held.plain.error_over_noise == pytest.approx(held.plain.mean_absolute_error / found.noise.sd)
    assert held.mean_absolute_error != pytest.approx(held.plain.mean_absolute_error)
    text = summary(weighted)
    shares = "60%, $code$ 20% and books & 'more' 20%"
    assert text.startswith("goal: weighted mean loss, ")
    assert text.count("mean loss") == text.count("weighted mean loss")
    assert shares in text.splitlines()[0]
    assert "For the plain mean of the targets" in " ".join(text.split())
    assert all("weighted mean" in s for s in sentences(weighted) if "mean loss" in s)
    assert found.held_out.plain is None
    assert not any("weighted" in s or "plain mean" in s for s in sentences(found))
    assert summary(found).startswith("goal: mean loss, every target counting the same")


@pytest.mark.parametrize(("count", "rest"), [(8, None), (9, "d8 4.0%"), (10, "6.0% of 2 others together")])
def test_one_domain_left_over_is_named(found, count, rest):
    weights = {f"d{i}": w for i, w in enumerate([0.15] * 6 + [0.04] * 2 + [0.04] + [0.02])}
    kept = dict(list(weights.items())[:count])
    many = dataclasses.replace(found, optimum=kept, optimum_interval={})
    first = sentences(many)[0]
    assert "1 others" not in first
    assert all(f"d{i} " in first for i in range(8))
    assert rest is None or rest in first


def test_where_the_optimum_is_better_and_where_worse_is_told_target_by_target(material, planted):
    frame = material.table.complete().frame.copy()
    natural = frame["origin"] == "natural"
    first, second, third = material.targets
    seeds = {11: 0.002, 12: -0.003, 13: 0.001}
    optimum = frame[frame["origin"] == "optimum"].set_index("seed")
    for target, lift in ((first, 0.3), (second, -0.2), (third, 0.0)):
        frame.loc[natural, target] = [optimum[target][s] + lift + seeds[s] for s in frame.loc[natural, "seed"]]
    found = findings(Material(RunTable(frame), material.fit, material.optimum))
    verdicts = {t: c.verdict for t, c in found.by_target["natural"].items()}
    assert verdicts == {first: "better", second: "worse", third: "not distinguishable"}
    [told] = [s for s in sentences(found) if s.startswith("Target by target, the optimum against the natural mixture")]
    better, worse, third_name = planted.domains
    assert f"is better on {better} (−0.3000 ± 0.0" in told
    assert f", worse on {worse} (+0.2000 ± 0.0" in told
    assert f", and not distinguishable on {third_name} (" in told
    assert not findings(without(material, rows=lambda f: f["role"] == "fit")).by_target


def test_the_best_fitted_mixture_has_one_name(material):
    of_sweep, foreign = findings(material), findings(without(material, "role", "origin", "seed", "status"))
    for found, name, other in ((of_sweep, "best of the grid", "table"), (foreign, "best of the table", "grid")):
        text = " ".join([summary(found), *sentences(found)])
        assert name in summary(found)
        assert f"best mixture {name[5:]}" in text
        assert "best trained" not in text
        assert f"of the {other}" not in text


def test_an_interval_without_width_is_not_told(found):
    same = dataclasses.replace(found, optimum_interval={d: (w, w) for d, w in found.optimum.items()})
    for apart, told in (
        (0, "All of the law's resamples have the same"),
        (3, "37 of the law's 40 resamples have this"),
    ):
        first = sentences(dataclasses.replace(same, resamples_apart=apart))[0]
        assert "% (" not in first
        assert first.endswith(f"{told} optimum.")
        assert captions.of("optimum", dataclasses.replace(same, resamples_apart=apart)).endswith(f"{told} optimum.")
    assert sentences(found)[0].endswith("In brackets: 90% intervals.")


def _mixtures(material: Material, rows) -> np.ndarray:
    return rows[[f"mix/{d}" for d in material.domains]].to_numpy()


def _stacked(*frames):
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def test_bounds_are_told_and_who_does_not_keep_them(planted, tmp_path):
    """An optimum held away from a domain may be predicted worse than a mixture that was not."""
    folder = tmp_path / "bounded"
    shutil.copytree(planted.folder, folder)
    domain = planted.domains[0]
    optimize(LawFit.load(folder / "fit"), upper={domain: 0.05}).save(folder / "optimum.json")
    found = findings(load(folder))
    said = " ".join(sentences(found))
    assert f"It is held by {domain} at most {'5%'} (−" in said
    assert found.candidates["uniform"].breaks == [f"{domain} at most {'5%'}"]
    assert re.search("[Tt]he uniform mixture .*do not keep all constraints", said)


def test_an_optimum_that_lost_when_trained_is_not_to_be_used(found):
    def with_verdicts(verdict: str) -> list[str]:
        changed = {name: dataclasses.replace(c, verdict=verdict) for name, c in found.comparisons.items()}
        return sentences(dataclasses.replace(found, comparisons=changed))

    assert with_verdicts("worse")[1].startswith("Do not use it: trained, it is worse than the natural mixture")
    free = {name: dataclasses.replace(c, breaks=["docs at most 1%"]) for name, c in found.candidates.items()}
    constrained = dataclasses.replace(found, candidates=free)
    assert found.comparisons["natural"].verdict == "worse"
    assert any("Do not use it" in told for told in sentences(found))
    assert not any("Do not use it" in told for told in sentences(constrained))
    for verdict in ("better", "not distinguishable", "same mixture"):
        assert not any("Do not use it" in told for told in with_verdicts(verdict))


def test_a_choice_that_the_runs_do_not_support_is_told_at_once_unless_training_judged_it(planted, tmp_path):
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
    found = findings(load(folder))
    told = sentences(found)
    assert told[1].startswith("The runs do not support a choice: on ")
    assert told[2].startswith("No change from the current mixture is justified: the gain of ")
    assert sum("do not act on this" in sentence for sentence in told) == 1
    estimate = dataclasses.replace(found.candidates["optimum"].goal, observed={11: 2.0})
    trained = dataclasses.replace(found.candidates["optimum"], goal=estimate)
    judged = dataclasses.replace(found, candidates=found.candidates | {"optimum": trained})
    assert not any("do not support" in sentence for sentence in sentences(judged))
