"""What a mixture must satisfy: you write `Constraints`; `expand` makes `Constraint` objects of it for the solver.

A `Constraint` is linear in the weights, a limit on a fitted target, or a convex function of the weights; it computes
its residual and holds its description. To add one, add a field and yield its object in `expand`. Knows neither laws
nor objectives nor solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixscale.errors import InputError
from mixscale.mixture import Mixture, unknown_domain
from mixscale.objective import sign_of, target_index
from mixscale.validation import Validated, setting

EPOCHS = 4.0  # passes over a text that are nearly as good as new text (arXiv 2305.16264)


@dataclass(frozen=True)
class Group(Validated, section="constraints.groups"):
    """Domains whose weights are constrained together."""

    domains: tuple[str, ...]
    low: float = setting(0.0, least=0, most=1)  # minimum sum of their weights
    high: float = setting(1.0, least=0, most=1)  # maximum sum of their weights
    tied: bool = False  # keep their proportions in the prior, or without one in the current mixture


@dataclass(frozen=True)
class Constraints(Validated, section="constraints"):
    """Constraints on the mixture. Domains and targets that you do not name are unconstrained."""

    lower: dict[str, float] = setting(factory=dict, least=0, most=1)  # minimum weight of a domain
    upper: dict[str, float] = setting(factory=dict, least=0, most=1)  # maximum weight of a domain
    fixed: dict[str, float] = setting(factory=dict, least=0, most=1)  # exact weight of a domain
    groups: dict[str, Group] = setting(factory=dict)  # bounds on sums of weights, or fixed proportions, by name
    available: dict[str, float] = setting(factory=dict, least=0)
    """unique tokens of a domain; caps its weight at epochs × available / n_tokens"""
    epochs: float | dict[str, float] = setting(EPOCHS, above=0, finite=False)
    """how often available tokens may be repeated, for all domains or by domain; infinity for no cap"""
    keep: dict[str, float] | tuple[str, ...] = setting(factory=dict, least=0)
    """targets that must not become worse than at the current mixture, with a tolerance in the target's unit"""
    prior: dict[str, float] | None = setting(None, least=0)  # mixture for max_kl, max_tv, kl_weight and tied groups
    max_kl: float | None = setting(None, least=0)  # maximum KL(mixture || prior), in nats
    max_tv: float | None = setting(None, least=0, most=1)  # maximum total variation distance from the prior
    kl_weight: float = setting(0.0, least=0)  # penalty in the objective per nat of KL(mixture || prior)

    def __post_init__(self) -> None:
        if isinstance(self.keep, list | tuple | set):
            object.__setattr__(self, "keep", dict.fromkeys(self.keep, 0.0))
        if isinstance(self.prior, Mapping):
            object.__setattr__(self, "prior", dict(self.prior) or None)
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
                raise InputError(f"bounds of group '{name}' contradict each other: {group.low:g} is above "
                                 f"{group.high:g}")  # fmt: skip
        if sum(self.lower.values()) > 1 + 1e-9:
            raise InputError(f"lower bounds contradict each other: {_sum(self.lower)}, which is more than 1")
        for name, value in (("max_kl", self.max_kl), ("max_tv", self.max_tv), ("kl_weight", self.kl_weight or None)):
            if value is not None and not self.prior:
                raise InputError(f"constraints.{name} is {value:g}, but there is no prior; set constraints.prior")
            if value is not None and not np.isfinite(value):
                raise InputError(f"constraints.{name} is {value:g}; it must be finite")
        tied = any(group.tied for group in self.groups.values())
        if self.prior and not (self.near_prior or self.max_tv is not None or tied):
            raise InputError("constraints.prior has no effect without max_kl, max_tv, kl_weight or a tied group")
        if self.epochs != EPOCHS and not self.available:
            raise InputError("constraints.epochs has no effect without constraints.available")

    def epochs_of(self, domain: str) -> float:
        return float(self.epochs.get(domain, EPOCHS) if isinstance(self.epochs, Mapping) else self.epochs)

    @property
    def near_prior(self) -> bool:
        """Whether the KL divergence from the prior is limited or penalized."""
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
        """One object per constraint.

        Args:
            current_K: the mixture in use, for kept targets and for ties without a prior.
            unused: domains that no fitted run used; their weight must be zero.
            targets, columns, current_cost_T: the fitted targets and their costs at the current mixture.

        Raises:
            InputError: a name is unknown, or a constraint refers to something that is missing.
        """
        bounds(domains, self.lower, self.upper)
        prior_K = self.prior_K(domains)
        return (
            *_bounds(self, domains), *_groups(self, domains), *_epoch_caps(self, domains, n_tokens),
            *_ties(self, domains, current_K if prior_K is None else prior_K), *_unused(domains, unused),
            *_distances(self, domains, prior_K), *_kept(self, targets, columns, current_cost_T),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; epochs are text, because they may be infinite."""
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
    """One condition on a mixture; satisfied if `residual`, its excess for each of Q mixtures, is not positive."""

    kind: str  # the field of `Constraints`
    name: str  # unique within a problem
    description: str  # in words, with its value
    bound: float | None = None  # None without one, and so without a dual value
    unit: str = "weight"  # of the bound: weight, nats, or target (that of the target)
    sign: float = 1.0  # derivative of the solver's limit by the bound
    domains: tuple[str, ...] = ()
    target: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Constraint):
    """`rows_JxK · h <= limit_J`, or equal to it; with `above_K`, the left side is `Σ max(h - above_K, 0)`."""

    rows_JxK: np.ndarray
    limit_J: np.ndarray
    equal: bool = False
    above_K: np.ndarray | None = None

    def residual(self, h_QxK: np.ndarray) -> np.ndarray:
        over_QxJ = h_QxK @ self.rows_JxK.T - self.limit_J
        if self.above_K is not None:
            over_QxJ = over_QxJ + np.maximum(h_QxK - self.above_K, 0.0) @ np.ones((h_QxK.shape[1], 1))
        return (np.abs(over_QxJ) if self.equal else over_QxJ).max(axis=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetLimit(Constraint):
    """By the fitted law, the cost of target number `index` is at most `limit`."""

    index: int
    limit: float

    def residual(self, cost_QxT: np.ndarray) -> np.ndarray:
        return cost_QxT[:, self.index] - self.limit


Curve = Callable[..., Any]  # a convex function (h_QxK, parameter_K, xp) -> (Q,), with xp NumPy or JAX


@dataclass(frozen=True, eq=False, kw_only=True)
class Curved(Constraint):
    """`curve(h, parameter_K) <= limit`; the solver differentiates the curve."""

    curve: Curve
    parameter_K: np.ndarray
    limit: float

    def residual(self, h_QxK: np.ndarray) -> np.ndarray:
        return self.curve(h_QxK, self.parameter_K) - self.limit


def kl_divergence(h_QxK, prior_K, xp=np):
    """KL(h || prior) in nats over the domains that both have, shape (Q,)."""
    both = (h_QxK > 0) & (prior_K > 0)
    ratio = xp.where(both, h_QxK, 1.0) / xp.where(both, prior_K, 1.0)
    return xp.where(both, h_QxK * xp.log(ratio), 0.0).sum(axis=-1)


def bounds(
    domains: Sequence[str], lower: Mapping[str, float] | None, upper: Mapping[str, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest weight of every domain, (K,), (K,); InputError if unknown, outside 0..1 or contradictory."""
    given = Constraints(lower=dict(lower or {}), upper=dict(upper or {}))
    for name in ("lower", "upper"):
        for domain in getattr(given, name):
            _index(domain, domains, f"constraints.{name}")
    high = {d: given.upper.get(d, 1.0) for d in domains}
    if sum(high.values()) < 1 - 1e-9:
        raise InputError(f"upper bounds contradict each other: {_sum(high)}, which is less than 1")
    return np.array([given.lower.get(d, 0.0) for d in domains]), np.array(list(high.values()))


def as_array(weights: Mapping[str, float], domains: Sequence[str], what: str) -> np.ndarray:
    """A mixture in the order of `domains`; errors begin with `what`."""
    for domain in weights if isinstance(weights, Mapping) else ():
        _index(domain, domains, what)
    try:
        return Mixture(weights).array(domains)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


WORDS = {">=": "at least", "<=": "at most", "==": "exactly"}


def _sum_of(
    kind: str, name: str, domains, members, sense: str, bound: float, subject: str, more: str = "", text: str = ""
) -> Linear:
    """A sum of weights that is at least, at most or exactly `bound`; with `text`, a bound that nobody gave."""
    sign = -1.0 if sense == ">=" else 1.0
    return Linear(
        kind=kind, name=name, description=text or f"{subject} {WORDS[sense]} {100 * bound:.4g}%{more}",
        bound=None if text else bound, sign=sign, domains=tuple(members), equal=sense == "==",
        rows_JxK=sign * np.isin(domains, members).astype(float)[None], limit_J=np.array([sign * bound]),
    )  # fmt: skip


def _bounds(given: Constraints, domains: Sequence[str]) -> Iterator[Linear]:
    exact = {d: low for d, low in given.lower.items() if given.upper.get(d) == low} | given.fixed
    for domain in given.fixed:
        _index(domain, domains, "constraints.fixed")
    lower = {d: v for d, v in given.lower.items() if v > 0 and d not in exact}
    upper = {d: v for d, v in given.upper.items() if v < 1 and d not in exact}
    for kind, sense, values in (("lower", ">=", lower), ("upper", "<=", upper), ("fixed", "==", exact)):
        for domain, value in values.items():
            yield _sum_of(kind, f"{kind} {domain}", domains, [domain], sense, value, domain)


def _groups(given: Constraints, domains: Sequence[str]) -> Iterator[Linear]:
    for name, group in given.groups.items():
        for domain in group.domains:
            _index(domain, domains, f"group '{name}'")
        senses = [(">=", " at least", group.low)] if group.low > 0 else []
        senses += [("<=", " at most", group.high)] if group.high < 1 else []
        if group.low == group.high:
            senses = [("==", "", group.low)]
        subject = f"{name} ({' + '.join(group.domains)})"
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
            kind="tied", name=f"tie {name}", bound=0.0, domains=group.domains,
            description=f"{', '.join(group.domains)} in the proportions of the {source}",
            rows_JxK=rows_JxK[:-1], limit_J=np.zeros(len(index_J) - 1), equal=True,
        )  # fmt: skip


def _unused(domains: Sequence[str], unused: Sequence[str]) -> Iterator[Linear]:
    for domain in unused:
        text = f"no weight on {domain}, which no fitted run used"
        yield _sum_of("unused", f"unused {domain}", domains, [domain], "==", 0.0, domain, text=text)


def _distances(given: Constraints, domains: Sequence[str], prior_K: np.ndarray | None) -> Iterator[Constraint]:
    if prior_K is None:
        return
    if given.near_prior and (absent := [d for d, p in zip(domains, prior_K, strict=True) if p == 0]):
        text = f"no weight on {', '.join(absent)}, whose weight in the prior is zero"
        yield _sum_of("prior", "prior", domains, absent, "==", 0.0, "", text=text)
    if (most := given.max_tv) is not None:
        yield Linear(
            kind="max_tv", name="max_tv", bound=most, above_K=prior_K, limit_J=np.array([most]),
            description=f"at most {100 * most:.4g}% of the weight moved away from the prior",
            rows_JxK=np.zeros((1, len(domains))),
        )  # fmt: skip
    if (most := given.max_kl) is not None:
        yield Curved(
            kind="max_kl", name="max_kl", bound=most, unit="nats",
            description=f"KL divergence from the prior at most {most:.4g} nats",
            curve=kl_divergence, parameter_K=prior_K, limit=most,
        )  # fmt: skip


def _kept(given: Constraints, targets, columns, current_cost_T: np.ndarray | None) -> Iterator[TargetLimit]:
    if given.keep and current_cost_T is None:
        raise InputError("constraints.keep compares targets with the current mixture; give current")
    for name, tolerance in dict(given.keep).items():
        t = target_index(name, targets, columns, "constraints.keep: ")
        if not np.isfinite(tolerance):
            raise InputError(f"constraints.keep of '{name}' is {tolerance:g}; leave out a target without a limit")
        worse = f"at most {tolerance:.4g} worse" if tolerance else "no worse"
        limit = float(current_cost_T[t]) + tolerance
        yield TargetLimit(
            kind="keep", name=f"keep {targets[t]}", bound=tolerance, unit="target", target=targets[t], index=t,
            limit=limit,
            description=f"{targets[t]} {worse} than at the current mixture ({sign_of(columns[t]) * limit:.4f})",
        )  # fmt: skip


def _index(domain: str, domains: Sequence[str], what: str) -> int:
    if domain not in domains:
        raise unknown_domain(what, domain, domains)
    return list(domains).index(domain)


def _sum(weights: Mapping[str, float]) -> str:
    return f"{' + '.join(f'{d} {v:g}' for d, v in weights.items() if v > 0)} = {sum(weights.values()):.4g}"
