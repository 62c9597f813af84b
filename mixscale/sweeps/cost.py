"""What a plan will cost: FLOPs, epochs, time and memory of every run.

Time is computed from the FLOP/s that runs of the same size have reached in this experiment; before the first of them
has ended it is a guess, and `mixscale plan` says so.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pandas as pd

from mixscale.config import Experiment, Model
from mixscale.models import count_parameters
from mixscale.sweeps.directory import read_json, write_json
from mixscale.sweeps.plan import Planned, flops
from mixscale.training.segments import steps_of

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.run_table import RunTable

GUESSED_SPEED = 2e10
"""FLOP/s of one worker before anything was measured: what one CPU core reaches on a model of this kind."""
PROCESS_BYTES = 5e8
"""Memory of a worker before it trains: libraries and compiled code, as measured on Linux."""


def cost_table(experiment: Experiment, store: TokenStore, planned: list[Planned]) -> pd.DataFrame:
    """One row a run: id, size, seed, role, origin, mix/*, N, D, FLOPs, epochs/*, seconds and MB of memory."""
    speed, unique = measured_speed(experiment), store.unique_tokens
    rows = []
    for item in planned:
        run = item.run
        body, everything = count_parameters(run.model, store.vocab_size)
        tokens = steps_of(run.train.tokens, run.train, store.context) * run.train.batch * store.context
        run_flops = flops(run, store)
        offered = min(1.0, run.train.tokens / run.train.like_tokens) if run.train.like_tokens else 1.0
        weight = {d: run.mixture.get(d, 0.0) for d in store.domains}
        rows.append({
            "run": run.id, "size": run.size, "seed": run.seed, "role": item.role, "origin": item.origin,
            **{f"mix/{d}": weight[d] for d in store.domains},
            "N": body, "D": tokens, "flops": run_flops,
            **{f"epochs/{d}": weight[d] * tokens / (unique[d] * offered) for d in store.domains},
            "seconds": run_flops / speed.get(run.size, GUESSED_SPEED),
            "MB": worker_bytes(run.model, store, run.train.batch, everything) / 1e6,
        })  # fmt: skip
    return pd.DataFrame(rows)


def worker_bytes(model: Model, store: TokenStore, batch: int, parameters: int) -> float:
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
    write_json(_speed_file(experiment), {"sizes": measured_speed(experiment) | medians})


def measured_speed(experiment: Experiment) -> dict[str, float]:
    """FLOP/s by size, as runs of this experiment reached them; empty before the first."""
    path = _speed_file(experiment)
    return read_json(path)["sizes"] if path.exists() else {}


def _speed_file(experiment: Experiment) -> Path:
    return experiment.directory / "speed.json"
