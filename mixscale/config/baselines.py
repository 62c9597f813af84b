"""Mixtures to start from, by name, and what some of them need to know beyond the sizes of the domains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mixscale.config.corpus import Source

BaselineName = Literal[
    "natural", "uniform", "temperature", "class-balanced", "quality", "relevance", "unimax", "given"
]  # fmt: skip
"""natural by tokens; temperature by tokens to the power tau; class-balanced by classes; quality by tokens and scores;
relevance by likeness to a target's text (DSIR); unimax evenly below a cap on epochs; given as weights"""


@dataclass(frozen=True)
class Baselines:
    """What the starting mixtures are made of."""

    tau: float = 0.5
    """temperature: power of the tokens, 1 is natural and 0 uniform"""
    classes: dict[str, str] = field(default_factory=dict)
    """class-balanced: class of each domain; one that is not named is a class by itself"""
    scores: dict[str, float] = field(default_factory=dict)
    """quality: the share of each domain's text that is worth reading, or anything in proportion to it"""
    target: Source | None = None
    """relevance: text of the kind that the model is for"""
    share: float = 0.1
    """relevance: share of all text that is taken as most like the target"""
    epochs: float = 4.0
    """unimax: how often a domain may be read in train.like_tokens, or in train.tokens where that is not set"""
    weights: dict[str, float] = field(default_factory=dict)
    """given: the weight of each domain, summing to one"""

    def __post_init__(self) -> None:
        # The command line reads an override as the type it finds, so a whole number in a config must not stay one.
        for name in ("scores", "weights"):
            object.__setattr__(self, name, {k: float(v) for k, v in getattr(self, name).items()})
