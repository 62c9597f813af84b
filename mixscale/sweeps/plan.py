"""The runs of an experiment and their cost: its design, and the verification of its optimum.

A plan is a list of runs with what each is for; launchers start them. Times come from the FLOP/s that runs of the same
size have reached in this experiment; before the first of them has ended they are a guess.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixscale.config import Experiment, Model, Optimizer, Train
from mixscale.mixture import Mixture
from mixscale.mixtures import baselines
from mixscale.mixtures.designs import draw, rounded
from mixscale.mixtures.schedule import Constant, Schedule, Staged
from mixscale.models import count_parameters, flops_per_token
from mixscale.sweeps.directory import MANIFEST_COLUMNS, read_json, write_json
from mixscale.training.pretrained import is_hugging_face, load_parent
from mixscale.training.run import Run, segments, steps_of

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.run_table import RunTable

GUESSED_SPEED = 2e10  # FLOP/s of a worker before any is measured: one CPU core on a small model
PROCESS_BYTES = 5e8  # memory of a worker before it trains: libraries and compiled code, as measured on Linux


@dataclass(frozen=True)
class Planned:
    """A run and what it is for."""

    run: Run
    role: str  # `fit`, `held_out`, `staged` or `verify`
    origin: str  # source of its mixture; several are joined with `+`


def plan(experiment: Experiment, store: TokenStore) -> list[Planned]:
    """Every run of the design: sizes × (fitted and held-out mixtures, replicates with other seeds, staged schedules).

    Raises:
        InputError: the design or a baseline is impossible, or the parent has another shape or vocabulary.
    """
    if (parent := experiment.train.parent) and is_hugging_face(Path(parent)):
        for model in experiment.models.values():
            load_parent(Path(parent), model, store.tokenizer, weights=False)
    design = experiment.design
    drawn = draw(design, store.natural(), baselines.prior(experiment, store))
    # Replicates are spread evenly over the fitted mixtures of several domains.
    fitted = [d for d in drawn if d.role == "fit"]
    mixed = [d for d in fitted if d.origin != "vertex"] or fitted
    index = np.linspace(0, len(mixed) - 1, min(design.replicates, len(mixed))).round().astype(int)
    replicates = [mixed[i] for i in index]
    seeded = [(experiment.seed, drawn), *((seed, replicates) for seed in design.replicate_seeds)]
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
            for stages in design.staged
        ]
    return planned


def plan_verification(experiment: Experiment, store: TokenStore, optimum: Mixture, best: Mixture) -> list[Planned]:
    """Optimum, baselines and the best fitted mixture, in the largest size, with the verification seeds.

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
    """Name of the size with the most parameters without embeddings; the optimum is that of this size."""
    return max(experiment.models, key=lambda name: count_parameters(experiment.models[name], vocab=0)[0])


def _run(experiment: Experiment, store: TokenStore, schedule: Schedule, size: str, seed: int) -> Run:
    return Run(schedule, size, experiment.models[size], experiment.optimizer, experiment.train, seed, store.id)


def save_plan(directory: Path, name: str, planned: list[Planned], store: TokenStore) -> bool:
    """Writes the manifest of a plan; returns whether it replaces a different plan of that name."""
    path = directory / "plan" / f"{name}.json"
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
    before = read_json(path)["runs"] if path.exists() else runs
    write_json(path, {"runs": runs})
    known, new = ([[run[name] for name in MANIFEST_COLUMNS] for run in of] for of in (before, runs))
    return known != new


def flops(run: Run, store: TokenStore) -> float:
    """Training FLOPs of a run, with the branches that decay for its earlier measurements."""
    return _flops(run.model, run.optimizer, run.train, store.vocab_size, store.context)


@cache  # most of ten thousand runs have the same shape
def _flops(model: Model, optimizer: Optimizer, train: Train, vocab: int, context: int) -> float:
    steps = sum(s.last - s.first for s in segments(optimizer, train, context))
    return flops_per_token(model, vocab, context) * steps * train.batch * context


def cost_table(experiment: Experiment, store: TokenStore, planned: list[Planned]) -> pd.DataFrame:
    """One row a run: id, size, seed, role, origin, mix/*, N, D, FLOPs, epochs/*, seconds and MB of memory."""
    speed, unique = measured_speed(experiment), store.unique_tokens
    rows = []
    for item in planned:
        run = item.run
        body, everything = count_parameters(run.model, store.vocab_size)
        tokens = steps_of(run.train.tokens, run.train, store.context) * run.train.batch * store.context
        offered = min(1.0, run.train.tokens / run.train.like_tokens) if run.train.like_tokens else 1.0
        weight = {d: run.mixture.get(d, 0.0) for d in store.domains}
        rows.append({
            "run": run.id, "size": run.size, "seed": run.seed, "role": item.role, "origin": item.origin,
            **{f"mix/{d}": weight[d] for d in store.domains},
            "N": body, "D": tokens, "flops": flops(run, store),
            **{f"epochs/{d}": weight[d] * tokens / (unique[d] * offered) for d in store.domains},
            "seconds": flops(run, store) / speed.get(run.size, GUESSED_SPEED),
            "MB": _worker_bytes(run.model, store, run.train.batch, everything) / 1e6,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _worker_bytes(model: Model, store: TokenStore, batch: int, parameters: int) -> float:
    """Memory of one worker: itself, weights, gradient, two moments, activations, logits twice, the tokens."""
    positions = batch * store.context
    activations = positions * model.layers * (16 * model.d_model + 2 * model.heads * store.context)
    tokens = 2 * sum(store.unique_tokens.values())
    return PROCESS_BYTES + 4.0 * (4 * parameters + activations + 2 * positions * store.vocab_size) + tokens


def remember_speed(experiment: Experiment, store: TokenStore, planned: list[Planned], table: RunTable) -> None:
    """Saves the FLOP/s that runs of each size reached, for the next plan of this experiment."""
    seconds = table.final().complete().frame.set_index("run")["seconds"]
    reached: dict[str, list[float]] = defaultdict(list)
    for item in planned:
        if item.run.id in seconds:
            reached[item.run.size].append(flops(item.run, store) / seconds[item.run.id])
    medians = {size: median(speeds) for size, speeds in reached.items()}
    write_json(experiment.directory / "speed.json", {"sizes": measured_speed(experiment) | medians})


def measured_speed(experiment: Experiment) -> dict[str, float]:
    """FLOP/s that runs of this experiment reached, by size."""
    path = experiment.directory / "speed.json"
    return read_json(path)["sizes"] if path.exists() else {}
