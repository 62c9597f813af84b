"""Seconds of common calls, with compilation and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from benchmark import tables
from benchmark.cells import Cell
from benchmark.draws import against_draws
from mixscale import laws
from mixscale.optimization import Constraints, Group, Objective, optimize
from mixscale.run_table import RunTable

BOOTSTRAP = 200
"""What people ask for by default, whatever the other cells take."""


def cells(data: Path, quick: bool, bootstrap: int) -> Iterator[Cell]:
    """Each call twice: right after clearing compiled programs, and again."""
    draws = bootstrap if quick else BOOTSTRAP
    calls: dict[str, Callable[[], Callable]] = {
        f"additive law: 13 targets, 512 runs, {draws} bootstrap refits": lambda: _fit(data, "additive", draws),
        f"optimum under bounds: 17 domains, 13 targets, {draws} bootstrap refits": lambda: _solved(data, draws),
    }
    if not quick:
        calls |= {
            f"optimum under all constraints: 17 domains, 13 targets, {draws} bootstrap refits": lambda: _constrained(
                data, draws
            ),
            "the same for the worst tenth of the bootstrap draws": lambda: _constrained(data, draws, "quantile"),
            f"auto: 13 targets, 512 runs, {draws} bootstrap refits": lambda: _fit(data, "auto", draws),
            f"auto with scale: 8 targets, 2,500 rows, {draws} bootstrap refits": lambda: _scaled(2500, draws),
        }
    for name, call in calls.items():
        about = {"table": "timings", "split": name, "runs": 0, "seed": 0, "method": "ours"}
        key = f"timings/{name}"
        yield Cell(key, about, lambda call=call: (_timed(call()), None))
    if not quick:
        about = {"table": "draws", "split": "all constraints", "runs": 512, "seed": 0, "method": "ours"}
        yield Cell("draws/all constraints", about, lambda: ([against_draws(*_everything(data, draws))], None))


def _timed(job: Callable) -> list[dict]:
    jax.clear_caches()
    rows = []
    for part in ("first", "again"):
        begin = time.perf_counter()
        job()
        rows.append({"part": part, "seconds": time.perf_counter() - begin})
    return rows


def _fit(data: Path, law: str, bootstrap: int) -> Callable:
    table = tables.regmix(data, "train")
    return lambda: laws.fit(table, law=law, bootstrap=bootstrap)


def _scaled(rows: int, bootstrap: int) -> Callable:
    table = synthetic(rows)
    return lambda: laws.fit(table, bootstrap=bootstrap)


def _solved(data: Path, bootstrap: int) -> Callable:
    fit = laws.fit(tables.regmix(data, "train"), law="additive", bootstrap=bootstrap)
    constraints = Constraints(lower=dict.fromkeys(fit.domains, 0.005), upper=dict.fromkeys(fit.domains, 0.3))
    return lambda: optimize(fit, constraints=constraints)


def _constrained(data: Path, bootstrap: int, robust: str = "point") -> Callable:
    fit, constraints, uniform, n_tokens = _everything(data, bootstrap)
    asked = {
        "objective": Objective(robust=robust),
        "constraints": constraints,
        "current": uniform,
        "n_tokens": n_tokens,
    }
    return lambda: optimize(fit, **asked)


def _everything(data: Path, bootstrap: int) -> tuple[laws.LawFit, Constraints, dict[str, float], float]:
    """A fit, every kind of constraint at once, the mixture in use, and D."""
    fit = laws.fit(tables.regmix(data, "train"), law="additive", bootstrap=bootstrap)
    first, second, third, fourth, *_ = fit.domains
    uniform = dict.fromkeys(fit.domains, 1 / len(fit.domains))
    constraints = Constraints(
        lower=dict.fromkeys(fit.domains, 0.001),
        upper=dict.fromkeys(fit.domains, 0.3),
        fixed={first: 0.05},
        groups={"pair": Group((second, third), 0.05, 0.4)},
        available={fourth: 1e8},
        epochs=4,
        keep={fit.targets[0]: 0.0},
        prior=uniform,
        max_kl=1.0,
        max_tv=0.6,
    )
    return fit, constraints, uniform, 1e9


def synthetic(rows: int, targets: int = 8, domains: int = 6, seed: int = 0) -> RunTable:
    """Losses that fall with size, tokens and exposure, by one formula, with half a per cent of noise."""
    rng = np.random.default_rng(seed)
    h_RxK = np.repeat(rng.dirichlet(np.ones(domains), rows // 10), 10, axis=0)
    n_R, d_R = 10 ** rng.uniform(6, 9, len(h_RxK)), 10 ** rng.uniform(8, 11, len(h_RxK))
    taught_RxT = h_RxK @ rng.lognormal(0, 1, (domains, targets))
    y_RxT = 1.5 + (40 * n_R**-0.3)[:, None] + 60 * (d_R[:, None] * taught_RxT) ** -0.2
    y_RxT = y_RxT * (1 + 0.005 * rng.standard_normal(y_RxT.shape))
    frame = pd.DataFrame(h_RxK, columns=[f"mix/d{k}" for k in range(domains)])
    frame = frame.assign(run=np.arange(len(frame)), n_params=n_R, n_tokens=d_R)
    return RunTable(frame.assign(**{f"loss/t{t}": y_RxT[:, t] for t in range(targets)}))
