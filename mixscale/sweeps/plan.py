"""The runs of an experiment: its design, and the verification that follows once there is an optimum.

A plan is a list of runs with what each is for. Launchers start them; nothing here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixscale.config import Experiment, Model, Optimizer, Train
from mixscale.mixture import Mixture
from mixscale.mixtures import baselines
from mixscale.mixtures.designs import Drawn, draw, rounded
from mixscale.mixtures.schedule import Constant, Schedule, Staged
from mixscale.models import count_parameters, flops_per_token
from mixscale.sweeps.directory import write_manifest
from mixscale.training.run import Run
from mixscale.training.segments import segments

if TYPE_CHECKING:
    from mixscale.data import TokenStore


@dataclass(frozen=True)
class Planned:
    """A run and what it is for."""

    run: Run
    role: str
    """`fit`, `held_out`, `staged` or `verify`"""
    origin: str
    """source of its mixture; several are joined with `+`"""


def plan(experiment: Experiment, store: TokenStore) -> list[Planned]:
    """Every run of the design: sizes × (fitted and held-out mixtures, replicates with other seeds, staged schedules).

    Raises:
        InputError: the design or a baseline cannot be made.
    """
    drawn = draw(experiment.design, store.natural(), baselines.prior(experiment, store))
    replicates = _replicated(experiment, [d for d in drawn if d.role == "fit"])
    seeded = [(experiment.seed, drawn), *((seed, replicates) for seed in experiment.design.replicate_seeds)]
    planned = []
    for size in experiment.models:
        planned += [
            Planned(_run(experiment, store, Constant(d.mixture), size, seed), d.role, d.origin)
            for seed, mixtures in seeded
            for d in mixtures
        ]
        planned += [
            Planned(_run(experiment, store, Staged.of(stages), size, seed), "staged", "staged")
            for seed, _ in seeded
            for stages in experiment.design.staged
        ]
    return planned


def _replicated(experiment: Experiment, fitted: list[Drawn]) -> list[Drawn]:
    """The fitted mixtures that other seeds train again: spread evenly over those that mix several domains."""
    mixed = [d for d in fitted if d.origin != "vertex"] or fitted
    count = min(experiment.design.replicates, len(mixed))
    return [mixed[i] for i in np.linspace(0, len(mixed) - 1, count).round().astype(int)]


def plan_verification(experiment: Experiment, store: TokenStore, optimum: Mixture, best: Mixture) -> list[Planned]:
    """Optimum, baselines and the grid's best mixture, in the largest size, with the verification seeds.

    Mixtures that coincide are trained once, and their `origin` has all names.
    """
    candidates = {
        "optimum": optimum,
        **{name: baselines.mixture(name, experiment, store) for name in experiment.verify.baselines},
        "best": best,
    }
    named: dict[Mixture, list[str]] = {}
    for name, mixture in candidates.items():
        named.setdefault(rounded(Mixture.from_array(store.domains, mixture.array(store.domains))), []).append(name)
    size = largest(experiment)
    return [
        Planned(_run(experiment, store, Constant(mixture), size, seed), "verify", "+".join(names))
        for seed in experiment.verify.seeds
        for mixture, names in named.items()
    ]


def largest(experiment: Experiment) -> str:
    """Name of the size with the most parameters without its embeddings; the optimum is that of this size."""
    return max(experiment.models, key=lambda name: count_parameters(experiment.models[name], vocab=0)[0])


def flops(run: Run, store: TokenStore) -> float:
    """Training FLOPs of a run, with the branches that decay for its earlier measurements."""
    return _flops(run.model, run.optimizer, run.train, store.vocab_size, store.context)


@cache
def _flops(model: Model, optimizer: Optimizer, train: Train, vocab: int, context: int) -> float:
    """Cached: most of ten thousand runs have the same shape."""
    steps = sum(s.last - s.first for s in segments(optimizer, train, context))
    return flops_per_token(model, vocab, context) * steps * train.batch * context


def save_plan(directory: Path, name: str, planned: list[Planned], store: TokenStore) -> bool:
    """Writes the manifest of a plan; returns whether it replaces a different plan of that name."""
    runs = [
        {
            "run": item.run.id,
            "size": item.run.size,
            "role": item.role,
            "origin": item.origin,
            "seed": item.run.seed,
            "flops": flops(item.run, store),
        }
        for item in planned
    ]
    return write_manifest(directory, name, runs)


def _run(experiment: Experiment, store: TokenStore, schedule: Schedule, size: str, seed: int) -> Run:
    return Run(schedule, size, experiment.models[size], experiment.optimizer, experiment.train, seed, store.id)
