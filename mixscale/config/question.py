"""Which mixtures are trained, what the best one minimizes, and how it is checked."""

from __future__ import annotations

from dataclasses import dataclass

from mixscale.config.baselines import BaselineName


@dataclass(frozen=True)
class Design:
    """Which mixtures to train."""

    dirichlet: int = 16
    """draws of Dirichlet(prior^temperature · s), s log-uniform in `strength`"""
    sobol: int = 0
    """points spread evenly over the simplex"""
    optimal: int = 0
    """mixtures that together say most about all others, around the natural mixture (`mixscale design` prints them)"""
    given: str = ""
    """table or optimum.json of mixtures to train as well: what `mixscale design` and `mixscale optimize` write"""
    vertices: bool = True
    """each domain alone"""
    centre: bool = True
    """all domains equally"""
    natural: bool = True
    """all domains by their size"""
    prior: BaselineName = "natural"
    """the starting mixture that the Dirichlet draws spread around, made of what `starting` says"""
    temperature: float = 0.5
    strength: tuple[float, float] = (1.0, 8.0)
    held_out: int = 8
    """mixtures trained but never fitted; drawn like the Dirichlet ones"""
    replicates: int = 4
    """fitted mixtures that are trained once more for each extra seed, to measure seed noise"""
    replicate_seeds: tuple[int, ...] = (1,)
    seed: int = 0
    """of the draws"""


@dataclass(frozen=True)
class Verify:
    seeds: tuple[int, ...] = (11, 12, 13)
    """seeds, not used elsewhere, with which the optimum, the best of the grid and the baselines are trained"""
    baselines: tuple[BaselineName, ...] = ("natural", "uniform")
    """starting mixtures that the optimum has to beat, made of what `starting` says"""
