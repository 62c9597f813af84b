"""Losses planted from a law with known parameters: is the true optimum within its region, new runs in their interval?

Each trial draws parameters from the law's own prior, mixtures from a flat Dirichlet, and normal errors of half a per
cent of the loss; the law is fitted by its own name, so that this measures the uncertainty and not the choice. A
Gaussian process has no formula to plant and is left out.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmark.cells import Cell
from benchmark.methods import LEVEL
from mixscale import laws
from mixscale.laws import fitting
from mixscale.laws.families import LAWS, Law, Points
from mixscale.laws.result import LawFit
from mixscale.optimization import optimize
from mixscale.run_table import RunTable

DOMAINS = ("code", "news", "web", "wiki")
TARGETS = 2
NOISE = 0.005
RUNS, NEW = 32, 64
CHUNK = 5
"""Trials a cell."""
BOOTSTRAP = 100


def cells(trials: int, wanted: set[str], quick: bool) -> Iterator[Cell]:
    """Cells of a few trials for every family that 'auto' compares; those with scale not where it must be quick."""
    for law in LAWS.values():
        if (
            not isinstance(law, Law)
            or not law.auto
            or not law.uses_mixture
            or (wanted and law.name not in wanted)
            or (quick and law.uses_scale)
        ):
            continue
        for first in range(0, trials, CHUNK):
            seeds = range(first, min(first + CHUNK, trials))
            about = {"table": "planted", "split": "own law", "runs": RUNS, "seed": first, "method": law.name}
            key = f"planted/{law.name}/{seeds.start}-{seeds.stop}"
            yield Cell(key, about, lambda name=law.name, seeds=seeds: ([_trials(name, seeds)], None))


def _trials(name: str, seeds: range) -> dict:
    begin = time.perf_counter()
    found = pd.DataFrame([trial(name, seed) for seed in seeds])
    return {"part": "all", "trials": len(seeds), "seconds": time.perf_counter() - begin} | found.mean().to_dict()


def trial(name: str, seed: int) -> dict:
    """One planted table: shares of domains whose true optimum is within its region and of new runs within their
    interval, and by how much of the true loss our optimum is worse than the true one."""
    rng = np.random.default_rng([seed, *name.encode()])
    law = LAWS[name]
    theta_TxP = law.starts(rng, len(DOMAINS), TARGETS + 1)[1:]
    table, new = (_table(law, theta_TxP, count, rng) for count in (RUNS, NEW))
    fit = laws.fit(table, law=name, seed=seed, bootstrap=BOOTSTRAP)
    at = {"n_params": 4e6, "n_tokens": 3e8} if law.uses_scale else {}
    ours, true = optimize(fit, **at), optimize(_exact(fit, theta_TxP), **at)
    inside_K = [lo - 1e-4 <= true.mixture[d] <= hi + 1e-4 for d, (lo, hi) in ours.interval.items()]
    scale = [new.frame[c].to_numpy() for c in ("n_params", "n_tokens")] if law.uses_scale else []
    lo_QxT, hi_QxT = fit.interval(new.mixtures_RxK, LEVEL, *scale)
    y_QxT = new.frame[list(new.targets)].to_numpy()
    return {
        "optimum_inside": float(np.mean(inside_K)),
        "coverage": float(((lo_QxT <= y_QxT) & (y_QxT <= hi_QxT)).mean()),
        "excess": true.regret(ours.mixture)[0] / true.value,
    }


def _table(law, theta_TxP: np.ndarray, count: int, rng: np.random.Generator) -> RunTable:
    """Rows at one scale, or spread over three sizes and token counts whose geometric means are 1e6 and 1e8."""
    h_RxK = rng.dirichlet(np.ones(len(DOMAINS)), count)
    frame = pd.DataFrame(h_RxK, columns=[f"mix/{d}" for d in DOMAINS]).assign(run=np.arange(count))
    if law.uses_scale:
        cell_R = rng.permutation(np.arange(count) % 9)
        frame = frame.assign(n_params=1e6 * 4.0 ** (cell_R // 3 - 1), n_tokens=1e8 * 3.0 ** (cell_R % 3 - 1))
        points = Points.of(h_RxK, frame["n_params"].to_numpy() / 1e6, frame["n_tokens"].to_numpy() / 1e8)
    else:
        points = Points.of(h_RxK)
    y_TxR = fitting.evaluate(law, theta_TxP, points)
    y_TxR = y_TxR * (1 + NOISE * rng.standard_normal(y_TxR.shape))
    return RunTable(frame.assign(**{f"loss/{DOMAINS[t]}": y_R for t, y_R in enumerate(y_TxR)}))


def _exact(fit: LawFit, theta_TxP: np.ndarray) -> LawFit:
    """A fit with the planted parameters and no uncertainty."""
    ones = np.ones(len(theta_TxP))
    scale = dataclasses.replace(fit.dataset.scale, offset_T=0 * ones, unit_T=ones, n=1e6, d=1e8)
    return dataclasses.replace(
        fit,
        theta_TxP=theta_TxP,
        theta_SxTxP=np.stack([theta_TxP] * 2),
        dataset=dataclasses.replace(fit.dataset, scale=scale),
    )
