"""Mixtures from what is known of the domains: pure functions, each with its source.

A size is a number of unique tokens (or of bytes or documents, where shares of those are meant).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.mixture import Mixture


def uniform(domains: Iterable[str]) -> Mixture:
    """All domains equally."""
    return Mixture.uniform(domains)


def natural(tokens: Mapping[str, float]) -> Mixture:
    """Each domain by its size, `h_k ∝ n_k`: every document once."""
    return Mixture.normalized(tokens)


def temperature(tokens: Mapping[str, float], tau: float) -> Mixture:
    """`h_k ∝ n_k^τ`: 1 is natural, 0 uniform; between them small domains are read more often.

    Source: multilingual sampling, as in Conneau et al., arXiv 1911.02116.

    Raises:
        InputError: τ is negative.
    """
    if not 0 <= tau < float("inf"):
        raise InputError(f"temperature is {tau:g}; give a number from 0 (uniform) upwards, 1 keeps the sizes")
    return natural(tokens).tempered(tau)


def class_balanced(tokens: Mapping[str, float], classes: Mapping[str, str]) -> Mixture:
    """Every class equally, and within a class each domain by its size; a domain without a class is one by itself.

    Source: class-balanced sampling, as in Kang et al., arXiv 1910.09217.

    Raises:
        InputError: no classes are given, or one for what is no domain.
    """
    if not classes:
        raise InputError("a class-balanced mixture needs the class of each domain, as in classes={'arxiv': 'science'}")
    _check_named(classes, tokens, "classes")
    groups: dict[str, list[str]] = {}
    for domain in tokens:
        groups.setdefault(classes.get(domain, f"domain {domain}"), []).append(domain)
    weights = {}
    for members in groups.values():
        inner = natural({d: tokens[d] for d in members})
        weights |= {d: w / len(groups) for d, w in inner.items()}
    return Mixture({d: weights[d] for d in tokens})


def quality(tokens: Mapping[str, float], scores: Mapping[str, float], power: float = 1.0) -> Mixture:
    """`h_k ∝ n_k s_k^power`: what is left of the natural mixture where a document is kept with probability `s_k`.

    Raises:
        InputError: a domain has no score, a score is negative or not finite, or is of no domain.
    """
    _check_named(scores, tokens, "scores")
    if lost := [d for d in tokens if d not in scores]:
        raise InputError(f"scores lack {listed(lost)}; give every domain one, from 0 upwards")
    for domain, score in scores.items():
        if not 0 <= score < float("inf"):
            raise InputError(f"the score of '{domain}' is {score:g}; scores are finite and not negative")
    return natural({d: n * scores[d] ** power for d, n in tokens.items()})


def unimax(tokens: Mapping[str, float], budget: float, epochs: float = 4.0) -> Mixture:
    """As even as can be while no domain is read more than `epochs` times in `budget` tokens.

    From the smallest domain to the largest, each gets an equal share of the budget left, or all it may.
    Source: UniMax, Chung et al., arXiv 2304.09151.

    Raises:
        InputError: the budget is not positive, or exceeds what all domains have in so many epochs.
    """
    if not (budget > 0 and epochs > 0):
        raise InputError(f"a budget of {budget:g} tokens in {epochs:g} epochs cannot be spread; both are positive")
    most = epochs * sum(tokens.values())
    if budget > most * (1 + 1e-9):
        raise InputError(
            f"the budget of {budget:.4g} tokens is more than {epochs:g} epochs of all domains ({most:.4g}); raise the "
            "epochs or lower the budget"
        )
    left, taken = float(budget), {}
    ascending = sorted(tokens, key=lambda d: tokens[d])
    for place, domain in enumerate(ascending):
        taken[domain] = min(left / (len(ascending) - place), epochs * tokens[domain])
        left -= taken[domain]
    return natural({d: taken[d] for d in tokens})


def _check_named(given: Mapping[str, object], domains: Mapping[str, float], what: str) -> None:
    for domain in given:
        if domain not in domains:
            raise InputError(f"{what} name '{domain}', which is no domain{did_you_mean(domain, domains)}")
