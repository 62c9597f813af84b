"""The starting mixtures of an experiment, by name, from its config and its token store."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np

from mixscale.config import BaselineName
from mixscale.errors import InputError, did_you_mean
from mixscale.mixture import Mixture
from mixscale.mixtures.baselines import rules
from mixscale.mixtures.baselines.relevance import relevance

if TYPE_CHECKING:
    import pandas as pd

    from mixscale.config import Experiment
    from mixscale.data import TokenStore

NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
SAMPLES = 1000
"""Rows of each domain, and pieces of the target, that tell how like they are."""
FLOOR = 0.05
"""Share of the uniform mixture in a prior that would leave a domain out, whose effect could then not be learned."""


def mixture(name: str, experiment: Experiment, store: TokenStore) -> Mixture:
    """A starting mixture by its name, over all domains of the store.

    Raises:
        InputError: there is none of that name, or what it is made of is not in the config or does not fit the domains.
    """
    if name not in NAMES:
        raise InputError(f"no starting mixture is called '{name}'{did_you_mean(name, NAMES)}")
    if field := experiment.baselines.missing(name):
        raise InputError(f"the mixture '{name}' needs baselines.{field}; set it in the config")
    tokens, asked = store.unique_tokens, experiment.baselines
    match name:
        case "natural":
            return rules.natural(tokens)
        case "uniform":
            return rules.uniform(tokens)
        case "temperature":
            return rules.temperature(tokens, asked.tau)
        case "class-balanced":
            return rules.class_balanced(tokens, asked.classes)
        case "quality":
            return rules.quality(tokens, asked.scores)
        case "unimax":
            return rules.unimax(tokens, experiment.train.like_tokens or experiment.train.tokens, asked.epochs)
        case "relevance":
            return _relevance(experiment, store)
        case _:
            return Mixture.from_array(store.domains, Mixture(asked.weights).array(store.domains))


def prior(experiment: Experiment, store: TokenStore) -> Mixture:
    """What the design's draws spread around; no domain is left out."""
    found = mixture(experiment.design.prior, experiment, store)
    if min(found.values()) > 0:
        return found
    return Mixture.normalized({d: (1 - FLOOR) * w + FLOOR / len(found) for d, w in found.items()})


def described(experiment: Experiment, store: TokenStore) -> tuple[pd.DataFrame, list[str]]:
    """Every starting mixture that can be made, one a row, with how often it reads the domain that it repeats most, in
    as many tokens as the target run has; and why the others cannot be made."""
    import pandas as pd

    budget = experiment.train.like_tokens or experiment.train.tokens
    rows, notes = [], []
    for name in NAMES:
        try:
            found = mixture(name, experiment, store)
        except InputError as error:
            notes.append(str(error))
            continue
        epochs = max(budget * w / store.unique_tokens[d] for d, w in found.items())
        shown = {d: f"{w:.1%}" for d, w in found.items()}
        rows.append({"starting mixture": name, **shown, "most epochs": f"{epochs:.3g}"})
    return pd.DataFrame(rows), notes


def _relevance(experiment: Experiment, store: TokenStore) -> Mixture:
    """By a sample of each domain's rows, and as many pieces of the target of the same length."""
    asked, tokenizer = experiment.baselines, store.tokenizer
    rng = np.random.default_rng(experiment.design.seed)
    samples = {}
    for domain in store.domains:
        rows = store.rows(domain, "train")
        chosen = np.sort(rng.permutation(len(rows))[:SAMPLES])
        samples[domain] = [tokenizer.decode(rows[i]) for i in chosen]
    length = max(1, round(np.mean([len(text) for texts in samples.values() for text in texts])))
    return relevance(store.unique_tokens, samples, _pieces(asked.target, length), asked.share, experiment.design.seed)


def _pieces(source, length: int) -> list[str]:
    """The first pieces of the target's documents, of `length` characters at most."""
    from mixscale.data import documents

    found: list[str] = []
    for document in documents(source):
        found += [document.text[i : i + length] for i in range(0, len(document.text), length)]
        if len(found) >= SAMPLES:
            break
    return found[:SAMPLES]
