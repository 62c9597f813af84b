"""Every family: planted laws are recovered, natural parameters are the published ones, convex laws are convex."""

import jax
import numpy as np
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws import fitting
from mixscale.laws.catalogue import get_law
from mixscale.laws.families import ALIASES, LAWS, REPEATS, Points, constrained

from .conftest import DOMAINS, FORMULAS, planted_table, planted_theta

FRESH_QxK = np.random.default_rng(9).dirichlet(np.ones(3), 200)
UNITS = {"loss": 2.5, "n": 3e6, "d": 7e8}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_planted_law_is_recovered(name):
    fit = laws.fit(planted_table(name), name, bootstrap=2)
    scale = {"n_params": 2e6, "n_tokens": 2e8} if fit.uses_scale else {}
    points = Points.of(FRESH_QxK, np.full(200, 2.0), np.full(200, 2.0))
    true_QxT = fitting.evaluate(LAWS[name], planted_theta(name, 3), points).T
    np.testing.assert_allclose(fit.predict(FRESH_QxK, **scale), true_QxT, rtol=3e-3)


def test_parameters_of_the_published_formula_are_recovered():
    for name, expected in {
        "linear": lambda v_K: {"t": np.exp(v_K) + 1},
        "exponential": lambda v_K: {"c": 0.9, "t": v_K},
        "effective": lambda v_K: {"E": 0.9, "alpha": 0.6, "w": np.exp(-v_K / 0.6)},
        "additive": lambda v_K: {"E": 0.9, "C": np.exp(-v_K)},
    }.items():
        params = laws.fit(planted_table(name), name, bootstrap=2).params["code"]
        for key, value in expected(np.array([-0.7, 0.3, 0.1])).items():
            found = params[key] if np.ndim(value) == 0 else [params[f"{key}/{d}"] for d in DOMAINS]
            assert found == pytest.approx(value, rel=0.05), (name, key)


def published(name, p, h, n, d):
    """The loss by the formula as it was published, from natural parameters; those of a domain are arrays."""
    match name:
        case "linear":
            return p["t"] @ h
        case "exponential":
            return p["c"] + np.exp(p["t"] @ h)
        case "log-linear":
            return np.exp(p["c"]) + np.exp(p["A"] @ h)
        case "effective":
            return p["E"] + (p["w"] @ h) ** -p["alpha"]
        case "additive":
            return p["E"] + 1 / (p["C"] @ h ** p["gamma"])
        case "power-additive":
            return p["E"] + (p["C"] @ h ** p["gamma"]) ** -p["alpha"]
        case "autoscale":
            return p["c"] + p["s"] @ (h + p["a"]) ** -p["gamma"]
        case "m1":
            return p["c"] + p["k"] @ np.exp(p["t"] * h)
        case "m2":
            return p["c"] + p["k"] * np.exp(p["t"] * h).sum()
        case "m3":
            return p["c"] + p["k"] * np.exp(p["T"] * np.prod(3 * h))
        case "chinchilla":
            return p["E"] + p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"]
        case "exponential-scale":
            return p["E"] + p["A"] / n ** p["alpha"] + np.exp(p["t"] @ h) / d ** p["beta"]
        case "effective-scale":
            return p["E"] + p["A"] / n ** p["a"] + (d * (p["w"] @ h)) ** -p["beta"]
        case "additive-scale":
            return published("chinchilla", p, h, n, d) + 1 / (p["C"] @ h ** p["gamma"])
        case "joint":
            a, b = (p["A"] @ h) ** p["p"], (p["B"] @ h) ** p["q"]
            return p["E"] + 1 / (p["C"] @ h ** p["gamma"]) + a / n ** p["alpha"] + b / d ** p["beta"]
        case "power-additive-scale":
            mixed = (p["C"] @ h ** p["gamma"]) ** -p["alpha"] / d ** p["delta"]
            return p["E"] + p["A"] / n ** p["a"] + p["B"] / d ** p["b"] + mixed
        case "bimix":
            return (p["w"] @ h) ** -p["alpha"] * (p["B"] / d ** p["beta"] + 1)
        case "d-cpt":
            r = p["w"] @ h
            return (
                p["E"] + p["A"] / n ** p["alpha"] + p["B"] * r ** p["eta"] / d ** p["beta"] + r ** -p["gamma"]
            )  # fmt: skip
        case "autoscale-scale":
            return p["c"] + p["A"] / n ** p["alpha"] + p["s"] @ (h * d + p["a"]) ** -p["gamma"]
    raise AssertionError(f"no published formula of '{name}'")


def natural(law, theta_P):
    """Natural parameters by the name of their block."""
    values_P, at, found = law.natural(theta_P, 3, UNITS), 0, {}
    for block in law.blocks:
        size = 3 if block.per_domain else 1
        found[block.name] = values_P[at : at + size] if block.per_domain else values_P[at]
        at += size
    return found


@pytest.mark.parametrize("name", list(FORMULAS))
def test_natural_parameters_in_the_published_formula_give_the_loss(name):
    theta_P = planted_theta(name, 1)[0]
    for h_K in (np.array([0.2, 0.5, 0.3]), np.array([0.05, 0.05, 0.9])):
        points = Points.of(h_K[None], np.array([2.0]), np.array([0.3]))
        ours = UNITS["loss"] * fitting.evaluate(LAWS[name], theta_P[None], points)[0, 0]
        by_hand = published(name, natural(LAWS[name], theta_P), h_K, 2.0 * UNITS["n"], 0.3 * UNITS["d"])
        assert by_hand == pytest.approx(ours, rel=1e-9)


def with_repeats():
    """Every law, and its convex forms with repeats."""
    wide = [widen(law) for widen in REPEATS.values() for law in FORMULAS.values()]
    return [*FORMULAS.values(), *(law for law in wide if law and law.convex)]


def theta_of(law):
    """Planted parameters, followed by the prior's centre for those of repeats."""
    base = planted_theta(law.name.split("+")[0], 1)[0]
    return np.r_[base, law.priors(3)[2][len(base) :]]


def test_gradients_are_finite_at_the_vertices():
    few_1xK = np.array([[0.05, 0.1, 0.2]])
    for law in dict.fromkeys([*with_repeats(), *filter(None, map(constrained, FORMULAS.values()))]):
        points = Points.of(np.eye(3)[:1], u_RxK=few_1xK)
        slopes = jax.grad(lambda t, h, law=law, x=points: law.f(t, x._replace(h_RxK=h))[0], (0, 1))
        for slope in slopes(theta_of(law), points.h_RxK):
            assert np.isfinite(slope).all(), law.name


def test_convex_laws_are_convex_and_the_linear_law_is_linear():
    """On random segments the loss lies below its chord, for parameters drawn over the prior."""
    rng = np.random.default_rng(3)
    a_SxK, b_SxK = (rng.dirichlet(np.full(3, 0.5), 300) for _ in range(2))
    few_SxK = rng.choice([0.02, 0.2, 5.0], (300, 3))
    scale = rng.uniform(0.3, 3, (2, 300))
    for law in with_repeats():
        theta_BxP = law.starts(rng, 3, 12)
        theta_BxP[0] = theta_of(law)
        with jax.enable_x64(True):
            left, right, middle = (
                np.asarray(jax.vmap(law.f, in_axes=(0, None))(theta_BxP, Points(h_SxK, *scale, few_SxK)))
                for h_SxK in (a_SxK, b_SxK, (a_SxK + b_SxK) / 2)
            )
        above = middle - (left + right) / 2
        if law.convex:
            assert above.max() < 1e-9, law.name
        if law.linear:
            assert np.abs(above).max() < 1e-9


def test_other_names_and_suffixes_are_resolved():
    assert get_law("static-lmo") is get_law("m4") is LAWS["exponential"]
    for suffix, widen in REPEATS.items():
        assert get_law("chinchilla" + suffix) is widen(LAWS["chinchilla"])
        assert get_law("chinchilla" + suffix).name == "chinchilla" + suffix
    assert not set(ALIASES) & set(LAWS)
    with pytest.raises(InputError, match="chinchila.repeats.*did you mean 'chinchilla'"):
        get_law("chinchila+repeats")
    with pytest.raises(InputError, match="'joint' .*'.constrained' .*'joint.repeats'"):
        get_law("joint+constrained")
