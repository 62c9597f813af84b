"""Mixtures known before anything is trained: centres of designs, and what an optimum is compared with.

The public functions compute a mixture from the sizes of the domains and one more input; a size is a number of unique
tokens (or of bytes or documents, if shares of those are meant). `BASELINES` builds them by name from an experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.mixture import Mixture
from mixscale.mixtures.relevance import relevance
from mixscale.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

    from mixscale.config import Experiment
    from mixscale.data import TokenStore

SAMPLES = 1000  # rows of each domain, and pieces of the target text, that `relevance` compares
UNIFORM_SHARE = 0.05  # of the uniform mixture in a prior that has a zero, so that every domain has an effect to learn


def uniform(domains: Iterable[str]) -> Mixture:
    """Equal weights."""
    return Mixture.uniform(domains)


def natural(tokens: Mapping[str, float]) -> Mixture:
    """Each domain by its size, `h_k ∝ n_k`: every document once."""
    return Mixture.normalized(tokens)


def temperature(tokens: Mapping[str, float], tau: float) -> Mixture:
    """`h_k ∝ n_k^τ`: 1 is natural, 0 is uniform; in between, small domains are repeated more often.

    Source: multilingual sampling, as in Conneau et al., arXiv 1911.02116.

    Raises:
        InputError: τ is negative or infinite.
    """
    if not 0 <= tau < float("inf"):
        raise InputError(f"temperature is {tau:g}; give a number of at least 0 (0 is uniform, 1 natural)")
    return natural(tokens).tempered(tau)


def class_balanced(tokens: Mapping[str, float], classes: Mapping[str, str]) -> Mixture:
    """Equal weight for every class, and each domain by its size within its class.

    A domain without a class is a class of its own. Source: class-balanced sampling, Kang et al., arXiv 1910.09217.

    Raises:
        InputError: there are no classes, or `classes` has an unknown domain.
    """
    if not classes:
        raise InputError("a class-balanced mixture needs the class of each domain, as in classes={'arxiv': 'science'}")
    _check_known(classes, tokens, "classes")
    groups: dict[str, list[str]] = {}
    for domain in tokens:
        groups.setdefault(classes.get(domain, f"domain {domain}"), []).append(domain)
    weights = {}
    for members in groups.values():
        inner = natural({d: tokens[d] for d in members})
        weights |= {d: w / len(groups) for d, w in inner.items()}
    return Mixture({d: weights[d] for d in tokens})


def quality(tokens: Mapping[str, float], scores: Mapping[str, float], power: float = 1.0) -> Mixture:
    """`h_k ∝ n_k s_k^power`: the natural mixture after a filter that keeps documents with probability `s_k`.

    Raises:
        InputError: a domain has no score, `scores` has an unknown domain, or a score is negative or not finite.
    """
    _check_known(scores, tokens, "scores")
    if missing := [d for d in tokens if d not in scores]:
        raise InputError(f"scores lack {listed(missing)}; give every domain a score of 0 or more")
    for domain, score in scores.items():
        if not 0 <= score < float("inf"):
            raise InputError(f"the score of '{domain}' is {score:g}; it must be finite and not negative")
    return natural({d: n * scores[d] ** power for d, n in tokens.items()})


def unimax(tokens: Mapping[str, float], budget: float, epochs: float = 4.0) -> Mixture:
    """As even as possible while no domain is repeated more than `epochs` times in `budget` tokens.

    From the smallest domain to the largest, each gets an equal share of the remaining budget, or all that it may.
    Source: UniMax, Chung et al., arXiv 2304.09151.

    Raises:
        InputError: the budget is not positive, or exceeds what all domains have in that many epochs.
    """
    if not (budget > 0 and epochs > 0):
        raise InputError(f"budget is {budget:g} tokens and epochs {epochs:g}; both must be positive")
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


def _check_known(given: Mapping[str, object], domains: Mapping[str, float], what: str) -> None:
    for domain in given:
        if domain not in domains:
            raise InputError(f"{what} has '{domain}', which is not a domain{did_you_mean(domain, domains)}")


# ------------------------------------------------------------------ by name, from an experiment and its token store

# By the name in a config. `config/design.py` lists the same names, with the settings of each.
BASELINES: Registry[Callable[[Experiment, TokenStore], Mixture]] = Registry("baseline")
BASELINES.register("natural")(lambda experiment, store: natural(store.unique_tokens))
BASELINES.register("uniform")(lambda experiment, store: uniform(store.domains))
BASELINES.register("temperature")(lambda experiment, store: temperature(store.unique_tokens, experiment.baselines.tau))
BASELINES.register("class-balanced")(lambda e, store: class_balanced(store.unique_tokens, e.baselines.classes))
BASELINES.register("quality")(lambda experiment, store: quality(store.unique_tokens, experiment.baselines.scores))


@BASELINES.register("relevance")
def _relevance(experiment: Experiment, store: TokenStore) -> Mixture:
    """Compares a sample of each domain's rows with as many pieces of the target text, of the same length."""
    from mixscale.data import documents

    settings, rng = experiment.baselines, np.random.default_rng(experiment.design.seed)
    samples = {}
    for domain in store.domains:
        rows = store.rows(domain, "train")
        chosen = np.sort(rng.permutation(len(rows))[:SAMPLES])
        samples[domain] = [store.tokenizer.decode(rows[i]) for i in chosen]
    length = max(1, round(np.mean([len(text) for texts in samples.values() for text in texts])))
    pieces: list[str] = []
    for document in documents(settings.target):
        pieces += [document.text[i : i + length] for i in range(0, len(document.text), length)]
        if len(pieces) >= SAMPLES:
            break
    return relevance(store.unique_tokens, samples, pieces[:SAMPLES], settings.share, experiment.design.seed)


BASELINES.register("unimax")(lambda e, store: unimax(store.unique_tokens, _target_tokens(e), e.baselines.epochs))
BASELINES.register("given")(
    lambda e, store: Mixture.from_array(store.domains, Mixture(e.baselines.weights).array(store.domains))
)


def _target_tokens(experiment: Experiment) -> int:
    return experiment.train.like_tokens or experiment.train.tokens


def mixture(name: str, experiment: Experiment, store: TokenStore) -> Mixture:
    """A baseline by its name, over all domains of the store.

    Raises:
        InputError: there is none of that name, or its settings are missing or do not fit the domains.
    """
    build = BASELINES[name]
    if field := experiment.baselines.missing(name):
        raise InputError(f"the baseline '{name}' needs baselines.{field}; set it in the config")
    return build(experiment, store)


def prior(experiment: Experiment, store: TokenStore) -> Mixture:
    """The baseline around which the design's draws spread, without zeros."""
    found = mixture(experiment.design.prior, experiment, store)
    if min(found.values()) > 0:
        return found
    return Mixture.normalized({d: (1 - UNIFORM_SHARE) * w + UNIFORM_SHARE / len(found) for d, w in found.items()})


def describe(experiment: Experiment, store: TokenStore) -> tuple[pd.DataFrame, list[str]]:
    """One row for each baseline that can be made, with the epochs of the domain that it repeats most in as many tokens
    as the target run has; and the reasons why the others cannot be made."""
    import pandas as pd

    rows, notes = [], []
    for name in BASELINES:
        try:
            found = mixture(name, experiment, store)
        except InputError as error:
            notes.append(str(error))
            continue
        epochs = max(_target_tokens(experiment) * w / store.unique_tokens[d] for d, w in found.items())
        rows.append({"baseline": name, **{d: f"{w:.1%}" for d, w in found.items()}, "most epochs": f"{epochs:.3g}"})
    return pd.DataFrame(rows), notes
