"""What a mixture must satisfy: `Constraints` is what a person writes, `Constraint` objects are what it expands to.

`Constraints` is the same class in a config, in Python and on the command line. Each `Constraint` knows its residual,
its derivative and its description, and has one of three forms that the solver composes: linear in the weights, a limit
on a fitted target, or a convex function of the weights. To add one, add a field and yield its object in `expand`.
Nothing here knows laws, objectives or how a problem is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mixscale.errors import InputError
from mixscale.mixture import Mixture, unknown_domain
from mixscale.objective import sign_of, target_index
from mixscale.validation import Validated, setting

EPOCHS = 4.0
"""Default of `Constraints.epochs`: so many passes over a text are nearly as good as new text (arXiv 2305.16264)."""


@dataclass(frozen=True)
class Group(Validated, section="constraints.groups"):
    """Domains whose weights are constrained together."""

    domains: tuple[str, ...]
    low: float = setting(0.0, least=0, most=1)
    """least sum of their weights"""
    high: float = setting(1.0, least=0, most=1)
    """greatest sum of their weights"""
    tied: bool = False
    """whether they keep the proportions that they have in the prior (without a prior: in the current mixture), so that
    only their sum is free"""


@dataclass(frozen=True)
class Constraints(Validated, section="constraints"):
    """What the mixture must satisfy. Domains and targets that are not named are free."""

    lower: dict[str, float] = setting(factory=dict, least=0, most=1)
    """least weight of a domain"""
    upper: dict[str, float] = setting(factory=dict, least=0, most=1)
    """greatest weight of a domain"""
    fixed: dict[str, float] = setting(factory=dict, least=0, most=1)
    """exact weight of a domain"""
    groups: dict[str, Group] = setting(factory=dict)
    """bounds on a sum of weights, or proportions that stay as they are, by a name of the group"""
    available: dict[str, float] = setting(factory=dict, least=0)
    """unique tokens that a domain has; caps its weight at epochs × available / n_tokens"""
    epochs: float | dict[str, float] = setting(EPOCHS, above=0)
    """how often available tokens may be repeated, for all domains or by domain; infinity caps nothing, and a law that
    counts repeats then weighs them itself"""
    keep: dict[str, float] | tuple[str, ...] = setting(factory=dict, least=0)
    """targets that must not become worse than at the current mixture, with a tolerance in the target's unit"""
    prior: dict[str, float] | None = setting(None, least=0)
    """a mixture to stay near"""
    max_kl: float | None = setting(None, least=0)
    """greatest divergence KL(mixture || prior), in nats"""
    max_tv: float | None = setting(None, least=0, most=1)
    """greatest total variation distance from the prior"""
    kl_weight: float = setting(0.0, least=0)
    """loss added to the objective for each nat of KL(mixture || prior)"""

    def __post_init__(self) -> None:
        if not isinstance(self.keep, Mapping) and not isinstance(self.keep, str):
            object.__setattr__(self, "keep", dict.fromkeys(self.keep, 0.0))
        object.__setattr__(self, "prior", None if self.prior is None else dict(self.prior) or None)
        super().__post_init__()

    def check(self) -> None:
        for domain, low in self.lower.items():
            if low > self.upper.get(domain, 1.0):
                raise InputError(f"bounds of '{domain}' contradict each other: constraints.lower {low:g} is above "
                                 f"constraints.upper {self.upper[domain]:g}")  # fmt: skip
        for domain, value in self.fixed.items():
            for name, sign in (("lower", 1), ("upper", -1)):
                bound = getattr(self, name).get(domain)
                if bound is not None and sign * bound > sign * value:
                    raise InputError(f"'{domain}' has two contradicting values: constraints.fixed is {value:g}, and "
                                     f"constraints.{name} is {bound:g}; remove one of them")  # fmt: skip
        for name, group in self.groups.items():
            if not group.domains:
                raise InputError(f"group '{name}' has no domain; name at least one in domains")
            if twice := [d for d in group.domains if group.domains.count(d) > 1]:
                raise InputError(f"group '{name}' names '{twice[0]}' twice; name each domain once")
            if group.low > group.high:
                raise InputError(
                    f"bounds of group '{name}' contradict each other: {group.low:g} is above {group.high:g}"
                )
        if sum(self.lower.values()) > 1 + 1e-9:
            raise InputError(f"lower bounds contradict each other: {_sum(self.lower)}, which is more than 1")
        for name, value in (("max_kl", self.max_kl), ("max_tv", self.max_tv), ("kl_weight", self.kl_weight or None)):
            if value is not None and not self.prior:
                raise InputError(f"constraints.{name} is {value:g}, but there is no prior; give constraints.prior")
            if value is not None and not np.isfinite(value):
                raise InputError(f"constraints.{name} is {value:g}; it must be finite")
        if self.prior and not (
            self.near_prior or self.max_tv is not None or any(g.tied for g in self.groups.values())
        ):
            raise InputError("constraints.prior has no effect without max_kl, max_tv, kl_weight or a tied group")
        if self.epochs != EPOCHS and not self.available:
            raise InputError("constraints.epochs has no effect without constraints.available")

    def epochs_of(self, domain: str) -> float:
        return float(self.epochs.get(domain, EPOCHS) if isinstance(self.epochs, Mapping) else self.epochs)

    @property
    def near_prior(self) -> bool:
        """Whether the divergence from the prior is limited or penalized."""
        return self.max_kl is not None or self.kl_weight > 0

    def prior_K(self, domains: Sequence[str]) -> np.ndarray | None:
        """The prior in the order of `domains`, shape (K,)."""
        return None if self.prior is None else as_array(self.prior, domains, "constraints.prior")

    def expand(
        self,
        domains: Sequence[str],
        n_tokens: float | None = None,
        current_K: np.ndarray | None = None,
        unused: Sequence[str] = (),
        targets: Sequence[str] = (),
        columns: Sequence[str] = (),
        current_cost_T: np.ndarray | None = None,
    ) -> tuple[Constraint, ...]:
        """The objects that these constraints mean.

        Args:
            current_K: the mixture in use, which ties without a prior and kept targets refer to.
            unused: domains that must have no weight because no fitted run used them.
            targets, columns, current_cost_T: fitted targets, and their costs at the current mixture, for kept targets.

        Raises:
            InputError: a name is unknown, or something that a constraint refers to is missing.
        """
        bounds(domains, self.lower, self.upper)
        prior_K = self.prior_K(domains)
        return (
            *_bounds(self, domains), *_groups(self, domains), *_epoch_caps(self, domains, n_tokens),
            *_ties(self, domains, current_K if prior_K is None else prior_K), *_unused(domains, unused),
            *_distances(self, domains, prior_K), *_kept(self, targets, columns, current_cost_T),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold of them; an infinite number of epochs is written "inf"."""
        epochs = self.epochs
        written = {d: str(e) for d, e in epochs.items()} if isinstance(epochs, Mapping) else str(epochs)
        return asdict(self) | {"epochs": written}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Constraints:
        """The constraints that `to_json` wrote."""
        epochs = written["epochs"]
        epochs = {d: float(e) for d, e in epochs.items()} if isinstance(epochs, Mapping) else float(epochs)
        groups = {name: Group(**group) for name, group in written["groups"].items()}
        return cls(**{**written, "epochs": epochs, "groups": groups})


@dataclass(frozen=True, eq=False, kw_only=True)
class Constraint:
    """One condition on a mixture: it holds where `residual <= 0`.

    Attributes:
        kind: the field of `Constraints` that it comes from. name: unique among the constraints of a problem.
        text: the constraint in words. bound: the value that was given, None if there was none (and so no dual value).
        unit: of the bound: weight, nats, or the target's own (target).
        sign: derivative of the solver's limit by the bound.
        domains, target: what it is about.
    """

    kind: str
    name: str
    text: str
    bound: float | None = None
    unit: str = "weight"
    sign: float = 1.0
    domains: tuple[str, ...] = ()
    target: str | None = None

    def describe(self) -> str:
        """The constraint in words, with its value."""
        return self.text


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Constraint):
    """`rows_JxK · h + excess_JxK · max(h - above_K, 0) <= limit_J` (or equal to it)."""

    rows_JxK: np.ndarray
    limit_J: np.ndarray
    equal: bool = False
    excess_JxK: np.ndarray | None = None
    above_K: np.ndarray | None = None

    def residual(self, h_QxK: np.ndarray) -> np.ndarray:
        """By how much each mixture exceeds it, shape (Q,)."""
        over_QxJ = h_QxK @ self.rows_JxK.T - self.limit_J
        if self.excess_JxK is not None:
            over_QxJ = over_QxJ + np.maximum(h_QxK - self.above_K, 0.0) @ self.excess_JxK.T
        return (np.abs(over_QxJ) if self.equal else over_QxJ).max(axis=1)

    def derivative(self, h_K: np.ndarray) -> np.ndarray:
        """Derivative of the left-hand side by the weights, shape (J, K)."""
        if self.excess_JxK is None:
            return self.rows_JxK
        return self.rows_JxK + self.excess_JxK * (h_K > self.above_K)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetLimit(Constraint):
    """The cost of target number `index` is at most `limit`, by the fitted law."""

    index: int
    limit: float

    def residual(self, cost_QxT: np.ndarray) -> np.ndarray:
        """By how much the costs of each mixture exceed it, shape (Q,)."""
        return cost_QxT[:, self.index] - self.limit


Curve = Callable[..., Any]
"""A convex function `curve(h_QxK, parameter_K, xp)` of mixtures, shape (Q,), in NumPy or JAX (`xp`)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Curved(Constraint):
    """`curve(h, parameter_K) <= limit` for a convex function; the solver differentiates it."""

    curve: Curve
    parameter_K: np.ndarray
    limit: float

    def residual(self, h_QxK: np.ndarray) -> np.ndarray:
        """By how much each mixture exceeds it, shape (Q,)."""
        return self.curve(h_QxK, self.parameter_K) - self.limit


def kl_divergence(h_QxK, prior_K, xp=np):
    """KL(h || prior) in nats over the domains that both have, shape (Q,)."""
    both = (h_QxK > 0) & (prior_K > 0)
    ratio = xp.where(both, h_QxK, 1.0) / xp.where(both, prior_K, 1.0)
    return xp.where(both, h_QxK * xp.log(ratio), 0.0).sum(axis=-1)


def bounds(
    domains: Sequence[str], lower: Mapping[str, float] | None, upper: Mapping[str, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest weight of every domain in the order of `domains`, shapes (K,), (K,).

    Raises:
        InputError: an unknown domain, a bound outside 0..1, or bounds that no mixture satisfies.
    """
    given = Constraints(lower=dict(lower or {}), upper=dict(upper or {}))
    for name in ("lower", "upper"):
        for domain in getattr(given, name):
            _index(domain, domains, f"constraints.{name}")
    high = {d: given.upper.get(d, 1.0) for d in domains}
    if sum(high.values()) < 1 - 1e-9:
        raise InputError(f"upper bounds contradict each other: {_sum(high)}, which is less than 1")
    return np.array([given.lower.get(d, 0.0) for d in domains]), np.array(list(high.values()))


def as_array(weights: Mapping[str, float], domains: Sequence[str], what: str) -> np.ndarray:
    """A mixture in the order of `domains`; `what` it is begins the sentence of an error."""
    for domain in weights:
        _index(domain, domains, what)
    try:
        return Mixture(weights).array(domains)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


WORDS = {">=": "at least", "<=": "at most", "==": "exactly"}


def _sum_of(kind: str, name: str, domains, members, sense: str, bound: float, subject: str, more: str = "") -> Linear:
    """A sum of weights that is at least, at most or exactly `bound`."""
    coefficient_K = np.isin(domains, members).astype(float)
    sign = -1.0 if sense == ">=" else 1.0
    return Linear(
        kind=kind, name=name, text=f"{subject} {WORDS[sense]} {100 * bound:.4g}%{more}", bound=bound, sign=sign,
        domains=tuple(members), rows_JxK=sign * coefficient_K[None], limit_J=np.array([sign * bound]),
        equal=sense == "==",
    )  # fmt: skip


def _bounds(given: Constraints, domains: Sequence[str]) -> Iterator[Linear]:
    exact = {d: low for d, low in given.lower.items() if given.upper.get(d) == low} | given.fixed
    for domain, value in given.lower.items():
        if value > 0 and domain not in exact:
            yield _sum_of("lower", f"lower {domain}", domains, [domain], ">=", value, domain)
    for domain, value in given.upper.items():
        if value < 1 and domain not in exact:
            yield _sum_of("upper", f"upper {domain}", domains, [domain], "<=", value, domain)
    for domain, value in exact.items():
        _index(domain, domains, "constraints.fixed")
        yield _sum_of("fixed", f"fixed {domain}", domains, [domain], "==", value, domain)


def _groups(given: Constraints, domains: Sequence[str]) -> Iterator[Linear]:
    for name, group in given.groups.items():
        for domain in group.domains:
            _index(domain, domains, f"group '{name}'")
        subject = f"{name} ({' + '.join(group.domains)})"
        if group.low == group.high:
            senses = [("==", "", group.low)]
        else:
            senses = [(">=", " at least", group.low)] if group.low > 0 else []
            senses += [("<=", " at most", group.high)] if group.high < 1 else []
        for sense, which, bound in senses:
            yield _sum_of("groups", f"group {name}{which}", domains, group.domains, sense, bound, subject)


def _epoch_caps(given: Constraints, domains: Sequence[str], n_tokens: float | None) -> Iterator[Linear]:
    if given.available and n_tokens is None:
        raise InputError("constraints.available caps weights by the number of training tokens; give n_tokens")
    for domain in given.epochs if isinstance(given.epochs, Mapping) else ():
        _index(domain, domains, "constraints.epochs")
    for domain, tokens in given.available.items():
        _index(domain, domains, "constraints.available")
        if not np.isfinite(tokens):
            raise InputError(f"constraints.available of '{domain}' is {tokens:g}; leave out a domain without a limit")
        epochs = given.epochs_of(domain)
        share = epochs * tokens / n_tokens
        if share < 1:
            more = f" ({epochs:g} epochs of {tokens:.3g} unique tokens in {n_tokens:.3g} training tokens)"
            yield _sum_of("available", f"available {domain}", domains, [domain], "<=", share, domain, more)


def _ties(given: Constraints, domains: Sequence[str], model_K: np.ndarray | None) -> Iterator[Linear]:
    source = "current mixture" if given.prior is None else "prior"
    for name, group in given.groups.items():
        if not group.tied:
            continue
        if model_K is None:
            raise InputError(f"group '{name}' is tied, but there are no proportions to keep; give prior or current")
        index_J = [_index(d, domains, f"group '{name}'") for d in group.domains]
        total = model_K[index_J].sum()
        if total <= 0:
            raise InputError(f"group '{name}' is tied, but the {source} has none of its domains")
        rows_JxK = np.zeros((len(index_J), len(domains)))
        rows_JxK[:, index_J] = -(model_K[index_J] / total)[:, None]
        rows_JxK[np.arange(len(index_J)), index_J] += 1
        yield Linear(
            kind="tied", name=f"tie {name}", text=f"{', '.join(group.domains)} in the proportions of the {source}",
            bound=0.0, domains=group.domains, rows_JxK=rows_JxK[:-1], limit_J=np.zeros(len(index_J) - 1), equal=True,
        )  # fmt: skip


def _unused(domains: Sequence[str], unused: Sequence[str]) -> Iterator[Linear]:
    for domain in unused:
        text = f"no weight on {domain}, which no fitted run used"
        yield replace(
            _sum_of("unused", f"unused {domain}", domains, [domain], "==", 0.0, domain), text=text, bound=None
        )


def _distances(given: Constraints, domains: Sequence[str], prior_K: np.ndarray | None) -> Iterator[Constraint]:
    if prior_K is None:
        return
    if given.near_prior and (absent := [d for d, p in zip(domains, prior_K, strict=True) if p == 0]):
        text = f"no weight on {', '.join(absent)}, which the prior does not have"
        yield replace(_sum_of("prior", "prior", domains, absent, "==", 0.0, ""), text=text, bound=None)
    if (most := given.max_tv) is not None:
        yield Linear(
            kind="max_tv", name="max_tv", text=f"at most {100 * most:.4g}% of the weight moved away from the prior",
            bound=most, rows_JxK=np.zeros((1, len(domains))), limit_J=np.array([most]),
            excess_JxK=np.ones((1, len(domains))), above_K=prior_K,
        )  # fmt: skip
    if (most := given.max_kl) is not None:
        yield Curved(
            kind="max_kl", name="max_kl", text=f"KL divergence from the prior at most {most:.4g} nats", bound=most,
            unit="nats", curve=kl_divergence, parameter_K=prior_K, limit=most,
        )  # fmt: skip


def _kept(given: Constraints, targets, columns, current_cost_T: np.ndarray | None) -> Iterator[TargetLimit]:
    if given.keep and current_cost_T is None:
        raise InputError("constraints.keep compares targets with the current mixture; give current")
    for name, tolerance in dict(given.keep).items():
        t = target_index(name, targets, columns, "constraints.keep: ")
        if not np.isfinite(tolerance):
            raise InputError(f"constraints.keep of '{name}' is {tolerance:g}; leave out a target without a limit")
        room = f"at most {tolerance:.4g} worse" if tolerance else "no worse"
        limit = float(current_cost_T[t]) + tolerance
        yield TargetLimit(
            kind="keep", name=f"keep {targets[t]}", bound=tolerance, unit="target", target=targets[t], index=t,
            limit=limit, text=f"{targets[t]} {room} than at the current mixture ({sign_of(columns[t]) * limit:.4f})",
        )  # fmt: skip


def _index(domain: str, domains: Sequence[str], what: str) -> int:
    if domain not in domains:
        raise unknown_domain(what, domain, domains)
    return list(domains).index(domain)


def _sum(weights: Mapping[str, float]) -> str:
    return f"{' + '.join(f'{d} {v:g}' for d, v in weights.items() if v > 0)} = {sum(weights.values()):.4g}"
