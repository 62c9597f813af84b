"""`Constraints`: what a mixture must keep, by name, and the rows of inequalities that this means.

Arrays come out in the order of the fit's domains. Every row carries the name by which an error, a shadow price and
the summary speak of it. It knows nothing of laws, goals or of how a programme is solved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from mixscale.errors import InputError
from mixscale.mixture import Mixture, unknown_domain

EPOCHS = 4.0
"""Passes over a text that are nearly as good as new text (arXiv 2305.16264); the cap where none is given."""


@dataclass(frozen=True)
class Group:
    """Domains whose weights are constrained together.

    Attributes:
        domains: their names. low, high: least and greatest sum of their weights.
        tied: whether they keep, among each other, the proportions of the prior (or of the current mixture where
            there is no prior), so that only their sum is free.
    """

    domains: tuple[str, ...]
    low: float = 0.0
    high: float = 1.0
    tied: bool = False


@dataclass(frozen=True)
class Constraints:
    """What the mixture must keep. Domains and targets are named; what is not named is free.

    Attributes:
        lower, upper: least and greatest weight of a domain. fixed: its exact weight. groups: by a name of the group.
        available: unique tokens that a domain has. epochs: how often each may be drawn, for all or by domain; with D
            tokens to train on, `h_j <= epochs_j available_j / D`. Infinity caps nothing (a law of repeated text then
            weighs the repetition itself).
        keep: targets that must not become worse than at the current mixture, with the tolerance in the target's unit.
        prior: a mixture to stay near. max_kl: greatest `KL(h || prior)`, in nats. max_tv: greatest total variation
            distance, 0 to 1. kl_weight: loss added for each nat of `KL(h || prior)`.
    """

    lower: dict[str, float] = field(default_factory=dict)
    upper: dict[str, float] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    available: dict[str, float] = field(default_factory=dict)
    epochs: float | dict[str, float] = EPOCHS
    keep: dict[str, float] = field(default_factory=dict)
    prior: dict[str, float] | None = None
    max_kl: float | None = None
    max_tv: float | None = None
    kl_weight: float = 0.0

    def __post_init__(self) -> None:
        # The command line reads an override as the type it finds, so a whole number in a config must not stay one.
        for name in ("lower", "upper", "fixed", "available", "keep"):
            object.__setattr__(self, name, {k: float(v) for k, v in getattr(self, name).items()})
        if self.prior is not None:
            object.__setattr__(self, "prior", dict(self.prior) or None)
        distances = {"max_kl": self.max_kl, "max_tv": self.max_tv, "kl_weight": self.kl_weight or None}
        for name, value in distances.items():
            if value is not None and self.prior is None:
                raise InputError(f"{name} is {value:g}, but there is no prior to be near; give prior")
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value:g}; it must be finite and not negative")
        if self.max_tv is not None and self.max_tv > 1:
            raise InputError(f"max_tv is {self.max_tv:g}; a total variation distance lies in 0 to 1")
        for target, tolerance in self.keep.items():
            if not (np.isfinite(tolerance) and tolerance >= 0):
                raise InputError(f"keep allows '{target}' to be worse by {tolerance:g}; give 0 or more")

    def epochs_of(self, domain: str) -> float:
        return float(self.epochs.get(domain, EPOCHS) if isinstance(self.epochs, Mapping) else self.epochs)

    @property
    def pulls(self) -> bool:
        """Whether the divergence from the prior matters."""
        return self.max_kl is not None or self.kl_weight > 0


def to_json(constraints: Constraints) -> dict[str, Any]:
    """What JSON can hold of them, without what is None; an infinite number of epochs is written "inf"."""
    epochs = constraints.epochs
    written = str(epochs) if isinstance(epochs, float | int) else {d: str(float(e)) for d, e in epochs.items()}
    told = {f.name: getattr(constraints, f.name) for f in fields(constraints) if f.name != "groups"}
    told = {name: dict(v) if isinstance(v, Mapping) else v for name, v in told.items() if v is not None}
    return told | {"epochs": written, "groups": {name: asdict(group) for name, group in constraints.groups.items()}}


def from_json(written: Mapping[str, Any]) -> Constraints:
    """The constraints that `to_json` wrote."""
    told = dict(written)
    if (epochs := told.pop("epochs", None)) is not None:
        told["epochs"] = {d: float(e) for d, e in epochs.items()} if isinstance(epochs, Mapping) else float(epochs)
    groups = told.pop("groups", {})
    return Constraints(**told, groups={n: Group(**{**g, "domains": tuple(g["domains"])}) for n, g in groups.items()})


@dataclass(frozen=True)
class Row:
    """`coefficient_K · h <= limit`; `said` is the constraint in words, with its value."""

    name: str
    said: str
    coefficient_K: np.ndarray
    limit: float
    bound: float
    """the value that was asked for, of which `limit` is perhaps the negative"""
    sign: float
    """derivative of `limit` by `bound`"""


def bounds(
    domains: Sequence[str], lower: Mapping[str, float] | None, upper: Mapping[str, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest weight of every domain in the order of `domains`, shapes (K,), (K,).

    Raises:
        InputError: an unknown domain, a bound outside 0..1, or bounds that no mixture can keep.
    """
    low_K, high_K = np.zeros(len(domains)), np.ones(len(domains))
    for kind, given, bound_K in (("lower", lower, low_K), ("upper", upper, high_K)):
        for domain, value in (given or {}).items():
            bound_K[_index(domain, domains, f"the {kind} bound")] = _share(value, f"{kind} bound of '{domain}'")
    for domain, low, high in zip(domains, low_K, high_K, strict=True):
        if low > high:
            raise InputError(f"bounds of '{domain}' contradict each other: lower {low:g} is above upper {high:g}")
    if low_K.sum() > 1 + 1e-9:
        shown = " + ".join(f"{d} {v:g}" for d, v in zip(domains, low_K, strict=True) if v > 0)
        raise InputError(f"lower bounds contradict each other: {shown} = {low_K.sum():.4g}, which is more than 1")
    if high_K.sum() < 1 - 1e-9:
        shown = " + ".join(f"{d} {v:g}" for d, v in zip(domains, high_K, strict=True))
        raise InputError(f"upper bounds contradict each other: {shown} = {high_K.sum():.4g}, which is less than 1")
    return low_K, high_K


def rows(constraints: Constraints, domains: Sequence[str], n_tokens: float | None) -> list[Row]:
    """The named linear inequalities, but for the distance from a prior and ties, which need more than one row.

    Raises:
        InputError: an unknown domain or a value that cannot be.
    """
    bounds(domains, constraints.lower, constraints.upper)
    return [
        *_bound_rows(constraints, domains),
        *_fixed_rows(constraints, domains),
        *_group_rows(constraints, domains),
        *_available_rows(constraints, domains, n_tokens),
    ]


def reference(constraints: Constraints, domains: Sequence[str]) -> np.ndarray | None:
    """The prior in the order of `domains`, shape (K,)."""
    return None if constraints.prior is None else as_array(constraints.prior, domains, "the prior")


def as_array(weights: Mapping[str, float], domains: Sequence[str], what: str) -> np.ndarray:
    """A mixture in the order of `domains`; `what` it is begins the sentence of an error."""
    for domain in weights:
        _index(domain, domains, what)
    try:
        return Mixture(weights).array(domains)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def ties(constraints: Constraints, domains: Sequence[str], model_K: np.ndarray | None) -> dict[str, np.ndarray]:
    """For each tied group the rows of `rows_JxK · h = 0` that keep the proportions of `model_K`, by name.

    Raises:
        InputError: there is no mixture to take proportions from, or it has nothing of a group.
    """
    tied = {}
    for name, group in constraints.groups.items():
        if not group.tied:
            continue
        if model_K is None:
            raise InputError(f"group '{name}' is tied, but to no proportions; give prior or current")
        index_J = [_index(d, domains, f"group '{name}'") for d in group.domains]
        total = model_K[index_J].sum()
        if total <= 0:
            raise InputError(f"group '{name}' is tied, but the mixture it takes its proportions from has none of it")
        rows_JxK = np.zeros((len(index_J), len(domains)))
        rows_JxK[:, index_J] = -(model_K[index_J] / total)[:, None]
        rows_JxK[np.arange(len(index_J)), index_J] += 1
        tied[f"tie {name}"] = rows_JxK[:-1]
    return tied


def _bound_rows(constraints: Constraints, domains: Sequence[str]) -> Iterable[Row]:
    eye_KxK = np.eye(len(domains))
    for domain, value in constraints.lower.items():
        if constraints.upper.get(domain) == value:
            yield from _exactly(f"fixed {domain}", eye_KxK[domains.index(domain)], value)
        elif value > 0:
            yield _at_least(f"lower {domain}", eye_KxK[domains.index(domain)], value)
    for domain, value in constraints.upper.items():
        if value < 1 and constraints.lower.get(domain) != value:
            yield _at_most(f"upper {domain}", eye_KxK[domains.index(domain)], value)


def _fixed_rows(constraints: Constraints, domains: Sequence[str]) -> Iterable[Row]:
    for domain, value in constraints.fixed.items():
        one_K = np.eye(len(domains))[_index(domain, domains, "a fixed weight")]
        yield from _exactly(f"fixed {domain}", one_K, _share(value, f"fixed weight of '{domain}'"))


def _group_rows(constraints: Constraints, domains: Sequence[str]) -> Iterable[Row]:
    for name, group in constraints.groups.items():
        if not group.domains:
            raise InputError(f"group '{name}' has no domain")
        if twice := [d for d in group.domains if group.domains.count(d) > 1]:
            raise InputError(f"group '{name}' names '{twice[0]}' twice; name each domain once")
        sum_K = np.zeros(len(domains))
        for domain in group.domains:
            sum_K[_index(domain, domains, f"group '{name}'")] = 1
        low, high = (_share(v, f"bound of group '{name}'") for v in (group.low, group.high))
        if low > high:
            raise InputError(f"bounds of group '{name}' contradict each other: {low:g} is above {high:g}")
        listed = " + ".join(group.domains)
        if low == high:
            yield from _exactly(f"group {name}", sum_K, low, f" ({listed})")
            continue
        if low > 0:
            yield _at_least(f"group {name} at least", sum_K, low, f" ({listed})")
        if high < 1:
            yield _at_most(f"group {name} at most", sum_K, high, f" ({listed})")


def _available_rows(constraints: Constraints, domains: Sequence[str], n_tokens: float | None) -> Iterable[Row]:
    if constraints.available and n_tokens is None:
        raise InputError(
            "available tokens cap a weight only where it is known how many will be trained on; give n_tokens"
        )
    if isinstance(constraints.epochs, Mapping):
        for domain in constraints.epochs:
            _index(domain, domains, "a cap on epochs")
    for domain, tokens in constraints.available.items():
        one_K = np.eye(len(domains))[_index(domain, domains, "available text")]
        epochs = constraints.epochs_of(domain)
        if not (np.isfinite(tokens) and tokens >= 0):
            raise InputError(f"available tokens of '{domain}' are {tokens:g}; give a number from 0 up")
        if not epochs > 0:
            raise InputError(f"epochs of '{domain}' are {epochs:g}; they must be positive")
        share = epochs * tokens / n_tokens
        if share < 1:
            told = f" ({epochs:g} epochs of {tokens:.3g} in {n_tokens:.3g} tokens)"
            yield _at_most(f"available {domain}", one_K, share, told)


def _at_most(name: str, coefficient_K: np.ndarray, value: float, more: str = "") -> Row:
    return Row(name, f"{name} {value:.4g}{more}", coefficient_K, value, value, 1.0)


def _at_least(name: str, coefficient_K: np.ndarray, value: float, more: str = "") -> Row:
    return Row(name, f"{name} {value:.4g}{more}", -coefficient_K, -value, value, -1.0)


def _exactly(name: str, coefficient_K: np.ndarray, value: float, more: str = "") -> Iterable[Row]:
    for sign in (1.0, -1.0):
        yield Row(name, f"{name} {value:.4g}{more}", sign * coefficient_K, sign * value, value, sign)


def _index(domain: str, domains: Sequence[str], what: str) -> int:
    if domain not in domains:
        raise unknown_domain(what, domain, domains)
    return list(domains).index(domain)


def _share(value: float, what: str) -> float:
    if not 0 <= value <= 1:
        kind = "bounds of weights" if "bound" in what else "weights"
        raise InputError(f"{what} is {value:g}; {kind} lie in 0 to 1")
    return float(value)
