"""`Mixture`: named, non-negative weights over domains that sum to one.

Knows nothing of corpora, models or laws. Weights are looked up by domain name, never by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from mixscale.errors import InputError, did_you_mean, listed

ROUNDING = 0.01  # largest deviation of a sum from one that counts as rounding (three decimals over tens of domains)
RESOLUTION = 1e-6  # an exported weight below this is zero: one sequence in a million is none


class Mixture(Mapping[str, float]):
    """Weights over domains; zeros are allowed.

    Args:
        weights: weight of each domain. They must sum to one within 1e-6; `Mixture.normalized` takes rounded weights
            and other units.

    Raises:
        InputError: a weight is negative or not finite, the sum is not one, or there is no domain.
    """

    __slots__ = ("_weights",)

    def __init__(self, weights: Mapping[str, float]):
        values = _checked(weights)
        total = sum(values.values())
        if abs(total - 1.0) > 1e-6:
            shown = ", ".join(f"{k}={v / total:.4g}" for k, v in values.items())
            raise InputError(f"mixture weights sum to {total:.6g}; they must sum to 1. Normalized they are: {shown}")
        self._weights = {k: v / total for k, v in values.items()}

    @classmethod
    def normalized(cls, weights: Mapping[str, float]) -> Mixture:
        """The mixture proportional to `weights` (tokens, rounded shares); their sum must be positive."""
        values = _checked(weights)
        total = sum(values.values())
        return cls({k: v / total for k, v in values.items()})

    @classmethod
    def uniform(cls, domains: Iterable[str]) -> Mixture:
        return cls.normalized({d: 1.0 for d in domains})

    @classmethod
    def vertex(cls, domains: Iterable[str], domain: str) -> Mixture:
        """All weight on one of `domains`."""
        names = list(domains)
        if domain not in names:
            raise InputError(f"there is no domain '{domain}'{did_you_mean(domain, names)}")
        return cls({d: float(d == domain) for d in names})

    @classmethod
    def from_array(cls, domains: Sequence[str], weights_K: np.ndarray) -> Mixture:
        """From weights in the order of `domains`, shape (K,); rounded weights are normalized."""
        if len(domains) != len(weights_K):
            raise InputError(f"{len(weights_K)} weights for {len(domains)} domains ({', '.join(domains)})")
        weights = dict(zip(domains, map(float, weights_K), strict=True))
        return cls.normalized(weights) if abs(sum(weights.values()) - 1.0) <= ROUNDING else cls(weights)

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._weights)

    def array(self, domains: Sequence[str] | None = None) -> np.ndarray:
        """Weights in the order of `domains` or its own, float64 (K,); raises InputError if a positive one is lost."""
        order = self.domains if domains is None else tuple(domains)
        lost = [d for d, w in self._weights.items() if w > 0 and d not in order]
        if lost:
            raise InputError(f"mixture has domain '{lost[0]}', which is not among {', '.join(order)}")
        return np.array([self._weights.get(d, 0.0) for d in order])

    def resolved(self) -> Mixture:
        """Without weights below `RESOLUTION`, such as the zeros of a solver; the others are normalized."""
        return Mixture.normalized({d: w if w >= RESOLUTION else 0.0 for d, w in self._weights.items()})

    def tempered(self, temperature: float) -> Mixture:
        """Weights to the power `temperature`, normalized: 1 keeps them, 0 is uniform over positive weights."""
        return Mixture.normalized({d: w**temperature if w > 0 else 0.0 for d, w in self._weights.items()})

    def distance(self, other: Mixture) -> float:
        """Total variation distance: half the sum of absolute differences, from 0 to 1."""
        names = sorted({*self.domains, *other.domains})
        return 0.5 * float(np.abs(self.array(names) - other.array(names)).sum())

    def __getitem__(self, domain: str) -> float:
        return self._weights[domain]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mixture) and self._weights == other._weights

    def __hash__(self) -> int:
        return hash(frozenset(self._weights.items()))

    def _repr_html_(self) -> str:
        from mixscale.formatting import notebook_html

        return notebook_html("mixture", self)

    def __repr__(self) -> str:
        return "Mixture(" + ", ".join(f"{d} {w:.1%}" for d, w in self._weights.items()) + ")"


def _checked(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights as floats by name; raises InputError if they are not weights."""
    if not isinstance(weights, Mapping):
        raise InputError(f"a mixture is {weights!r}; give weights by domain, such as {{'web': 0.7, 'code': 0.3}}")
    if not weights:
        raise InputError("a mixture needs at least one domain")
    try:
        values = {str(k): float(v) for k, v in weights.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"a weight is not a number: {error}") from error
    for domain, weight in values.items():
        if not np.isfinite(weight):
            raise InputError(f"domain '{domain}' has weight {weight}; weights must be finite")
        if weight < 0:
            raise InputError(f"domain '{domain}' has weight {weight:g}; weights must not be negative")
    if sum(values.values()) <= 0:
        raise InputError(f"all weights of {', '.join(values)} are zero; at least one must be positive")
    return values


def mixture_index(h_RxK: np.ndarray, decimals: int = 9) -> np.ndarray:
    """Number of each row's mixture, from 0, shape (R,); mixtures that round alike have one number."""
    return np.unique(np.round(h_RxK, decimals), axis=0, return_inverse=True)[1].reshape(-1)


def unknown_domain(what: str, name: str, domains: Iterable[str]) -> InputError:
    """The error for a domain that does not exist; it begins with `what`, such as an option."""
    hint = did_you_mean(name, domains)
    hint = hint if hint.startswith(";") else ""
    return InputError(f"{what} names '{name}', which is not a domain; the domains are {listed(list(domains))}{hint}")


def split_names(text: str, separator: str) -> list[str]:
    """Names in one word of a command line; a name that has the separator in it is in double quotes."""
    parts, quoted = [""], False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    if quoted:
        raise InputError(f"'{text}' has an unclosed double quote; close it")
    return [part.strip() for part in parts]
