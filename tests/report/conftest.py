"""A planted directory: losses from a known law, its fit and optimum, and verification runs with known differences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixscale.laws import fit
from mixscale.optimization import optimize, pareto
from mixscale.report import Analysis, Inputs, analyse, load
from mixscale.run_table import RunTable

SEEDS = (11, 12, 13)
SEED_EFFECT = {11: 0.010, 12: -0.004, 13: 0.001}
"""Shared by all mixtures of a seed, so it cancels in paired differences."""
LIFT = {
    "optimum": (0.0, 0.0, 0.0),
    "uniform": (0.050, 0.053, 0.047),
    "natural": (-0.050, -0.053, -0.047),
    "best": (0.010, -0.012, 0.003),
}
"""Mean loss above the optimum's, by seed."""


@dataclass
class Planted:
    folder: Path
    domains: tuple[str, ...]
    frame: pd.DataFrame
    seeds = SEEDS
    lift = LIFT


def true_losses(h_RxK: np.ndarray) -> np.ndarray:
    """Each target falls mostly with its own domain, (R, K)."""
    count = h_RxK.shape[1]
    t_KxK = -0.3 * np.ones((count, count)) - 1.7 * np.eye(count)
    return 2.0 + np.linspace(1.0, 1.4, count) * np.exp(h_RxK @ t_KxK)


def plant(folder: Path, domains: tuple[str, ...]) -> Planted:
    """Runs, fit and optimum in `folder`."""
    rng = np.random.default_rng(0)
    count = len(domains)
    swarm = [*np.eye(count), np.full(count, 1 / count), *rng.dirichlet(np.ones(count), 14)]
    rows = [_row(rng, domains, h, 0, "fit", "dirichlet") for h in swarm]
    rows += [_row(rng, domains, h, 1, "fit", "dirichlet") for h in swarm[-5:]]
    rows += [_row(rng, domains, h, 0, "held_out", "dirichlet") for h in rng.dirichlet(np.ones(count), 8)]
    fitted = fit(RunTable(pd.DataFrame(rows)), law="exponential", bootstrap=40)
    best = optimize(fitted)
    fitted.save(folder / "fit")
    best.save(folder / "optimum.json")
    pareto(fitted, domains[0], domains[1], points=3).to_csv(folder / "pareto.csv", index=False)
    mixtures = {
        "optimum": best.mixture.array(domains),
        "uniform": np.full(count, 1 / count),
        "natural": np.arange(1, count + 1) / sum(range(1, count + 1)),
        "best": swarm[-1],
    }
    floor = float(true_losses(mixtures["optimum"][None]).mean())
    for name, h in mixtures.items():
        for seed, lift in zip(SEEDS, LIFT[name], strict=True):
            row = _row(rng, domains, h, seed, "verify", name)
            rows.append({**row, **{f"loss/{d}": floor + lift + SEED_EFFECT[seed] for d in domains}})
    rows.append({**_row(rng, domains, swarm[0], 9, "fit", "dirichlet"), "status": "diverged"})
    frame = pd.DataFrame(rows).assign(run=[f"run{i:03d}" for i in range(len(rows))])
    RunTable(frame).write(folder / "runs.parquet")
    return Planted(folder, domains, frame)


def _row(rng, domains, h_K, seed, role, origin) -> dict:
    losses = true_losses(h_K[None])[0] + rng.normal(0, 0.003, len(domains))
    return {
        "run": f"{role}-{rng.integers(1 << 40)}",
        "seed": seed,
        "n_params": 100_000,
        "n_tokens": 500_000,
        **{f"mix/{d}": w for d, w in zip(domains, h_K, strict=True)},
        **{f"loss/{d}": v for d, v in zip(domains, losses, strict=True)},
        "status": "complete",
        "role": role,
        "origin": origin,
    }


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Planted:
    """Three domains, one named like a script and one like mathematics."""
    return plant(tmp_path_factory.mktemp("planted"), ("<script>alert(1)</script>", "$code$", "books & 'more'"))


@pytest.fixture(scope="session")
def inputs(planted) -> Inputs:
    return load(planted.folder)


@pytest.fixture(scope="session")
def found(inputs) -> Analysis:
    return analyse(inputs)
