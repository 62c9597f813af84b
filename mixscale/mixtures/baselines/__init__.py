"""Mixtures to start from, before anything is trained: what priors spread around, and what an optimum has to beat.

`rules` and `relevance` are pure functions of what is known of the domains: their sizes, scores, classes, or samples of
their text. `named` makes them from an experiment's config and its token store.
"""

from mixscale.mixtures.baselines.named import described, mixture, prior
from mixscale.mixtures.baselines.relevance import relevance
from mixscale.mixtures.baselines.rules import class_balanced, natural, quality, temperature, uniform, unimax

__all__ = [
    "class_balanced", "described", "mixture", "natural", "prior", "quality", "relevance",
    "temperature", "uniform", "unimax",
]  # fmt: skip
