"""Which mixtures are trained: the design, the baselines it is compared with, and the verification of the optimum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mixscale.config.corpus import Source
from mixscale.errors import InputError
from mixscale.validation import Validated, setting

BaselineName = Literal[
    "natural", "uniform", "temperature", "class-balanced", "quality", "relevance", "unimax", "given"
]  # fmt: skip
"""natural: by tokens; temperature: by tokens to the power tau; class-balanced: by classes; quality: by tokens times
scores; relevance: by similarity to a target text (DSIR); unimax: even below a cap on epochs; given: by weights"""
NEEDED = {"class-balanced": "classes", "quality": "scores", "relevance": "target", "given": "weights"}


@dataclass(frozen=True)
class Stage(Validated, section="design.staged"):
    """Part of a run with a mixture of its own."""

    share: float = setting(above=0, most=1)  # share of the run's tokens; the shares of a schedule sum to one
    mixture: dict[str, float] = setting(least=0)  # weight of each domain; they sum to one


@dataclass(frozen=True)
class Design(Validated, section="design"):
    """Which mixtures to train."""

    dirichlet: int = setting(16, least=0)  # draws from Dirichlet(s · prior^temperature), s log-uniform in `strength`
    sobol: int = setting(0, least=0)  # points of a Sobol sequence on the simplex
    optimal: int = setting(0, least=0)  # mixtures of an optimal design around the natural one (see `mixscale design`)
    given: str = ""  # file of more mixtures to train: a table from `mixscale design`, or an optimum.json
    vertices: bool = True  # add the mixtures of a single domain
    centre: bool = True  # add the uniform mixture
    natural: bool = True  # add the natural mixture: all domains in proportion to their tokens
    prior: BaselineName = "natural"  # baseline on which the Dirichlet draws are centred
    temperature: float = setting(0.5, least=0)  # power of the prior's weights: 1 keeps the prior, 0 makes it uniform
    strength: tuple[float, float] = setting((1.0, 8.0), above=0)
    """range of the Dirichlet concentration s; small: mixtures of few domains; large: mixtures near the prior"""
    held_out: int = setting(8, least=0)  # Dirichlet draws that are trained but never fitted; they test the law
    replicates: int = setting(4, least=0)  # fitted mixtures repeated with each replicate seed, for the seed noise
    replicate_seeds: tuple[int, ...] = setting((1,), least=0)  # seeds of the replicates
    seed: int = setting(0, least=0)  # seed of the draws
    staged: tuple[tuple[Stage, ...], ...] = ()
    """schedules whose mixture changes during the run, each a tuple of stages; trained with seed and replicate_seeds.
    Their runs have the role `staged` in the table and are not fitted"""

    def check(self) -> None:
        if self.strength[0] > self.strength[1]:
            raise InputError(
                f"design.strength is {self.strength[0]:g} to {self.strength[1]:g}; the smaller number comes first"
            )


@dataclass(frozen=True)
class Baselines(Validated, section="baselines"):
    """Inputs of the baseline mixtures."""

    tau: float = setting(0.5, least=0)  # temperature: power of the token counts; 1 is natural, 0 is uniform
    classes: dict[str, str] = field(default_factory=dict)  # class-balanced: class of a domain; by default its own
    scores: dict[str, float] = setting(factory=dict, least=0)  # quality: share of each domain that a filter keeps
    target: Source | None = None  # relevance: text like that of the model's application
    share: float = setting(0.1, above=0, most=1)  # relevance: share of all text selected, the most similar to `target`
    epochs: float = setting(4.0, above=0)  # unimax: maximum epochs of a domain in train.like_tokens (or tokens)
    weights: dict[str, float] = setting(factory=dict, least=0)  # given: the weight of each domain; they sum to one

    def missing(self, baseline: str) -> str:
        """The field that this baseline needs and that is empty; an empty string if there is none."""
        needed = NEEDED.get(baseline, "")
        return "" if not needed or getattr(self, needed) else needed


@dataclass(frozen=True)
class Verify(Validated, section="verify"):
    """How the optimum is checked: `mixscale run` trains it, the best fitted mixture and baselines with new seeds."""

    seeds: tuple[int, ...] = setting((11, 12, 13), least=0)  # seeds of the verification runs, not used elsewhere
    baselines: tuple[BaselineName, ...] = ("natural", "uniform")  # baselines that the optimum is compared with
