"""What a plan will cost before anything of it is started: FLOPs, epochs, time and memory of every run.

Time comes from how fast runs of the same shape went on this machine, where any has been trained; else from a guess,
and the plan says which.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pandas as pd

from mixscale.config import Experiment, Model, Optimizer, Train
from mixscale.models import count_parameters, flops_per_token
from mixscale.sweeps.directory import write_json
from mixscale.training.schedule import segments, steps_of

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.run_table import RunTable
    from mixscale.sweeps.plan import Planned
    from mixscale.training import Run

GUESSED_FLOPS = 2e10
"""FLOP/s of one worker before anything was measured: what one CPU core gives a model of this kind."""


PROCESS = 5e8
"""Bytes of a worker before it trains: libraries and compiled code, as measured on Linux."""


def cost_table(experiment: Experiment, store: TokenStore, planned: list[Planned]) -> pd.DataFrame:
    """One row a run: id, size, seed, role, origin, mix/*, N, D, FLOPs, epochs/*, seconds and MB of memory."""
    speed = measured_speed(experiment)
    context, unique = store.context, store.unique_tokens
    rows = []
    for item in planned:
        run = item.run
        body, everything = count_parameters(run.model, store.vocab_size)
        tokens = steps_of(run.train.tokens, run.train, context) * run.train.batch * context
        spent = flops(run, store)
        offered = min(1.0, run.train.tokens / run.train.like_tokens) if run.train.like_tokens else 1.0
        rows.append({
            "run": run.id, "size": run.size, "seed": run.seed, "role": item.role, "origin": item.origin,
            **{f"mix/{d}": run.mixture.get(d, 0.0) for d in store.domains},
            "N": body, "D": tokens, "flops": spent,
            **{f"epochs/{d}": run.mixture.get(d, 0.0) * tokens / (unique[d] * offered)
               for d in store.domains},
            "seconds": spent / speed.get(run.size, GUESSED_FLOPS),
            "MB": memory(run.model, store, run.train.batch, everything) / 1e6,
        })  # fmt: skip
    return pd.DataFrame(rows)


def memory(model: Model, store: TokenStore, batch: int, parameters: int) -> float:
    """Bytes one worker holds: itself, weights, gradient, two moments, activations, logits twice, the tokens."""
    positions = batch * store.context
    activations = positions * model.layers * (16 * model.d_model + 2 * model.heads * store.context)
    tokens = 2 * sum(store.unique_tokens.values())
    return PROCESS + 4.0 * (4 * parameters + activations + 2 * positions * store.vocab_size) + tokens


def flops(run: Run, store: TokenStore) -> float:
    """Training FLOPs of a run, with the branches that decay for its earlier measurements."""
    return _flops(run.model, run.optimizer, run.train, store.vocab_size, store.context)


@cache
def _flops(model: Model, optimizer: Optimizer, train: Train, vocab: int, context: int) -> float:
    """Of ten thousand runs most have the same shape."""
    steps = sum(s.last - s.first for s in segments(optimizer, train, context))
    return flops_per_token(model, vocab, context) * steps * train.batch * context


def remember_speed(experiment: Experiment, store: TokenStore, planned: list[Planned], table: RunTable) -> None:
    """Keeps how many FLOP/s runs of each size reached, for the next plan on this machine."""
    seconds = table.final().complete().frame.set_index("run")["seconds"]
    reached: dict[str, list[float]] = {}
    for item in planned:
        if item.run.id in seconds:
            reached.setdefault(item.run.size, []).append(flops(item.run, store) / seconds[item.run.id])
    medians = {size: median(speeds) for size, speeds in reached.items()}
    write_json(_speed_file(experiment), measured_speed(experiment) | medians)


def measured_speed(experiment: Experiment) -> dict[str, float]:
    """FLOP/s by size, as runs of this experiment reached them; empty before the first."""
    path = _speed_file(experiment)
    return json.loads(path.read_text()) if path.exists() else {}


def _speed_file(experiment: Experiment) -> Path:
    return experiment.directory / "speed.json"
