"""Tables and queries of laws that ignore the mixture or count repeats, and of domains that no run used."""

import jax
import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws import fitting
from mixscale.laws.catalogue import candidate_laws
from mixscale.laws.families import LAWS, REPEATS, Points, constrained, repeated
from mixscale.run_table import RunTable

from .conftest import DOMAINS, FORMULAS, planted_table, planted_theta

FRESH_QxK = np.random.default_rng(9).dirichlet(np.ones(3), 50)
UNIQUE = {"code": 1e7, "web": 1e12, "wiki": 5e7}
UNITS = {"loss": 2.5, "n": 3e6, "d": 7e8}
EXTRA = {"+repeats": [np.log(6.0), 0.3, 0.4], "+constrained": [np.log(6.0), np.log(3.0)]}


def planted_repeats(base, suffix="+repeats"):
    """A table whose text runs out, planted from the law with repeats; and its parameters."""
    table = planted_table(base)
    law, frame = REPEATS[suffix](LAWS[base]), table.frame
    extra = EXTRA[suffix][: law.n_params(3) - LAWS[base].n_params(3)]
    theta_TxP = np.column_stack([planted_theta(base, 3), np.tile(extra, (3, 1))])
    rng = np.random.default_rng(4)
    u_RxK = np.array(list(UNIQUE.values())) * rng.choice([1.0, 2.0, 5.0], (len(frame), 3))
    points = Points.of(table.mixtures_RxK, frame["n_params"] / 1e6, frame["n_tokens"] / 1e8, u_RxK / 1e8)
    points = Points(*(np.asarray(x) for x in points))
    y_TxR = fitting.evaluate(law, theta_TxP, points)
    frame = frame.assign(**{f"unique_tokens/{d}": u_RxK[:, k] for k, d in enumerate(DOMAINS)})
    return RunTable(frame.assign(**{f"loss/{d}": y_TxR[t] for t, d in enumerate(DOMAINS)})), theta_TxP


def test_repeats_by_hand():
    law, n, d, u = repeated(LAWS["chinchilla"]), 2.0, 3.0, 0.2
    theta_P = np.r_[planted_theta("chinchilla", 1)[0], np.log(4.0), 0.6, 0.8]
    ours = 2.5 * fitting.evaluate(law, theta_P[None], Points(np.ones((1, 1)), *np.array([[n], [d]]), np.array([[u]])))
    values = law.natural(theta_P, 1, UNITS)
    p, n, d, u = dict(zip(law.names(["c4"]), values, strict=True)), n * 3e6, d * 7e8, u * 7e8
    decay = p["R*"] * u ** p["m"] / n ** p["k"]
    counted = u + u * decay * (1 - np.exp(-(d / u - 1) / decay))
    by_hand = p["E"] + p["A"] / n ** p["alpha"] + p["B"] / counted ** p["beta"]
    assert by_hand == pytest.approx(ours.item(), rel=1e-9)


def test_published_repeats_by_hand():
    """`D_to_N` and the loss of the paper (arXiv 2305.16264), where size, text and both are in excess, and neither."""
    law = constrained(LAWS["chinchilla"])
    theta_P = np.r_[planted_theta("chinchilla", 1)[0], np.log(4.0), np.log(3.0)]
    p = dict(zip(law.names(["c4"]), law.natural(theta_P, 1, UNITS), strict=True))
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    for n, d, u in ((2.0, 3.0, 0.2), (50.0, 0.3, 0.3), (0.01, 3.0, 1.0), (0.01, 0.3, 5.0)):
        points = Points(np.ones((1, 1)), *np.array([[n], [d]]), np.array([[u]]))
        ours = UNITS["loss"] * fitting.evaluate(law, theta_P[None], points).item()
        size, tokens, unique = n * UNITS["n"], d * UNITS["d"], min(u, d) * UNITS["d"]
        fed = min(size, (unique * g) ** (p["beta"] / p["alpha"]) * g)
        sized = fed + fed * p["R*_N"] * (1 - np.exp(-(size / fed - 1) / p["R*_N"]))
        counted = unique + unique * p["R*_D"] * (1 - np.exp(-(tokens / unique - 1) / p["R*_D"]))
        by_hand = p["E"] + p["A"] / sized ** p["alpha"] + p["B"] / counted ** p["beta"]
        assert by_hand == pytest.approx(ours, rel=1e-9), (n, d, u)


@pytest.mark.parametrize(
    ("base", "suffix"),
    [("effective-scale", "+repeats"), ("additive", "+repeats"), ("effective-scale", "+constrained")],
)
def test_planted_repeats_are_recovered(base, suffix, tmp_path):
    table, theta_TxP = planted_repeats(base, suffix)
    fit = laws.fit(table, base + suffix, bootstrap=2)
    scale = {"n_params": 2e6, "n_tokens": 2e8} if fit.uses_scale else {}
    size, tokens = (2.0, 2.0) if fit.uses_scale else (1.0, 1.0)
    for unique in (UNIQUE, None):
        u_K = np.array(list(UNIQUE.values())) / 1e8 if unique else np.full(3, 1e9)
        points = Points.of(FRESH_QxK, np.full(50, size), np.full(50, tokens), np.tile(u_K, (50, 1)))
        true_QxT = fitting.evaluate(fit.family, theta_TxP, points).T
        np.testing.assert_allclose(fit.predict(FRESH_QxK, **scale, unique_tokens=unique), true_QxT, rtol=5e-3)
    fit.save(tmp_path)
    loaded = laws.LawFit.load(tmp_path)
    np.testing.assert_array_equal(loaded.dataset.points.u_RxK, fit.dataset.points.u_RxK)
    by_row = fit.predict_table(table.frame)
    np.testing.assert_allclose(by_row["pred/web"], table.frame["loss/web"], rtol=5e-3)
    pd.testing.assert_frame_equal(loaded.predict_table(table.frame), by_row)


def test_repeats_leave_a_law_as_it_is_where_nothing_repeats():
    points = Points.of(FRESH_QxK, np.full(50, 2.0), np.full(50, 0.5), np.ones((50, 3)))
    for name, law in FORMULAS.items():
        wide, theta_P = repeated(law), planted_theta(name, 1)[0]
        extra = wide.priors(3)[2][len(theta_P) :]
        with jax.enable_x64(True):
            np.testing.assert_allclose(wide.f(np.r_[theta_P, extra], points), law.f(theta_P, points), rtol=1e-12)


@pytest.mark.parametrize("name", [n for n, law in FORMULAS.items() if law.size_at is not None])
def test_published_repeats_discount_only_a_model_too_large_for_its_text(name):
    """Where nothing repeats, a law stays as it is up to the size that is best at its compute N D; above it loses."""
    law, theta_P = LAWS[name], planted_theta(name, 1)[0]
    wide, wide_P = constrained(law), np.r_[theta_P, EXTRA["+constrained"]]
    n_R = np.exp(np.linspace(-7, 7, 281))
    same_compute = Points.of(np.tile([0.2, 0.5, 0.3], (281, 1)), n_R, 0.4 / n_R)
    with jax.enable_x64(True):
        plain_R, wide_R = np.asarray(law.f(theta_P, same_compute)), np.asarray(wide.f(wide_P, same_compute))
    best = plain_R.argmin()
    assert 0 < best < 280
    np.testing.assert_allclose(wide_R[:best], plain_R[:best], rtol=1e-12)
    assert (wide_R[best + 2 :] > plain_R[best + 2 :]).all()


def test_auto_compares_repeats_only_if_text_is_repeated():
    table, _ = planted_repeats("effective")
    _, families, _ = candidate_laws(table, "auto", None)
    assert {"effective", "effective+repeats"} <= {f.name for f in families}
    assert not any("+constrained" in f.name for f in families)
    plenty = table.frame.assign(**{f"unique_tokens/{d}": 1e12 for d in DOMAINS})
    for frame in (plenty, table.frame.drop(columns="unique_tokens/web")):
        _, families, _ = candidate_laws(RunTable(frame), "auto", None)
        assert not any(f.uses_unique for f in families)


@pytest.mark.parametrize("suffix", REPEATS)
def test_auto_compares_every_form_of_repeats_and_finds_the_planted_one(suffix):
    law, rng = REPEATS[suffix](LAWS["chinchilla"]), np.random.default_rng(5)
    n_R, d_R, u_R = (x.ravel() for x in np.meshgrid([0.25, 1.0, 4.0], 3.0 ** np.arange(-2, 3), [0.03, 0.3, 3.0]))
    theta_P = np.r_[planted_theta("chinchilla", 1)[0], EXTRA[suffix]]
    y_R = fitting.evaluate(law, theta_P[None], Points(np.ones((len(n_R), 1)), n_R, d_R, u_R[:, None]))[0]
    frame = pd.DataFrame({"run": [f"r{i}" for i in range(len(n_R))], "mix/c4": 1.0, "n_params": 1e6 * n_R})
    frame = frame.assign(**{"n_tokens": 1e8 * d_R, "unique_tokens/c4": 1e8 * u_R})
    frame["loss/c4"] = y_R * (1 + 1e-3 * rng.standard_normal(len(n_R)))
    fit = laws.fit(RunTable(frame), bootstrap=2)
    assert {"chinchilla", *(f"chinchilla{s}" for s in REPEATS)} <= set(fit.cross_validation["law"])
    assert fit.law == law.name


def test_a_law_without_the_mixture_takes_one_domain():
    frame = planted_table("chinchilla").frame.query("`mix/web` == 1").drop(columns=["mix/code", "mix/wiki"])
    fit = laws.fit(RunTable(frame), bootstrap=2)
    assert fit.law == "chinchilla"
    true_T = fitting.evaluate(
        LAWS["chinchilla"],
        planted_theta("chinchilla", 3),
        Points.of(np.ones((1, 1)), np.array([2.0]), np.array([3.0])),
    )
    np.testing.assert_allclose(fit.predict(np.ones(1), 2e6, 3e8)[0], true_T[:, 0], rtol=5e-3)
    with pytest.raises(InputError, match="'chinchilla' needs several sizes"):
        laws.fit(RunTable(frame), "additive-scale", bootstrap=2)


def test_a_domain_that_no_run_used_is_noted_and_cannot_be_predicted():
    table = planted_table("effective").frame
    frame = table.assign(**{"mix/news": 0.0})
    fit = laws.fit(RunTable(frame), "effective", bootstrap=2)
    assert any("domain 'news' has weight 0" in n for n in fit.notes)
    plain = laws.fit(RunTable(table), "effective", bootstrap=2)
    known_QxK = np.column_stack([FRESH_QxK, np.zeros(50)])
    np.testing.assert_allclose(fit.predict(known_QxK), plain.predict(FRESH_QxK), rtol=1e-3)
    with pytest.raises(InputError, match="mixture 0 has 0.5 of 'news', which no fitted run used"):
        fit.predict(np.array([0.5, 0.0, 0.0, 0.5]))


def test_missing_inputs_of_repeats_are_errors():
    table, _ = planted_repeats("effective-scale")
    name = "effective-scale+repeats"
    with pytest.raises(InputError, match="needs column 'unique_tokens/web'.*without repeats"):
        laws.fit(RunTable(table.frame.drop(columns="unique_tokens/web")), name, bootstrap=2)
    with pytest.raises(InputError, match="has unique_tokens/web = 0;"):
        laws.fit(RunTable(table.frame.assign(**{"unique_tokens/web": 0.0})), name, bootstrap=2)
    fit = laws.fit(table.where(np.arange(len(table)) % 3 == 0), name, bootstrap=2)
    with pytest.raises(InputError, match="unique tokens names 'wbe', which is not a domain; .*; did you mean 'web'"):
        fit.predict(FRESH_QxK, 1e6, 1e8, {"wbe": 1e7})
    with pytest.raises(InputError, match="unique tokens of 'code' are -1; they must be positive"):
        fit.predict(FRESH_QxK, 1e6, 1e8, {"code": -1.0})
    one = planted_table("effective")
    frame = one.frame.drop(columns="n_tokens").assign(**{f"unique_tokens/{d}": 1e7 for d in DOMAINS})
    with pytest.raises(InputError, match="needs column 'n_tokens'"):
        laws.fit(RunTable(frame), "effective+repeats", bootstrap=2)


def test_a_query_has_the_unique_tokens_of_the_table_by_default():
    """If every run had the same unique tokens, they are the default of a query."""
    table, _ = planted_repeats("effective-scale")
    frame = table.frame.assign(**{f"unique_tokens/{d}": u for d, u in UNIQUE.items()})
    fit = laws.fit(RunTable(frame), "effective-scale+repeats", bootstrap=2)
    at = {"n_params": 4e6, "n_tokens": 3e9}
    given = fit.predict(np.eye(3), **at, unique_tokens=UNIQUE)
    np.testing.assert_array_equal(fit.predict(np.eye(3), **at), given)
    assert (given > fit.predict(np.eye(3), **at, unique_tokens=np.full(3, np.inf)) + 1e-3).any()


def test_tokens_of_the_query_matter_for_repeats_without_scale():
    table, _ = planted_repeats("effective")
    fit = laws.fit(table, "effective+repeats", bootstrap=2)
    few, many = (fit.predict(np.eye(3), n_tokens=d, unique_tokens=UNIQUE) for d in (1e7, 1e10))
    assert (many >= few).all()
    assert (many > few).any()
