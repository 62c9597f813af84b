"""Which mixture would each method propose, where nobody can train it? Judged by methods that saw other runs.

Proposals come from one half of RegMix's 512 runs; judges are fitted to the other half and the 256 test runs, so they
share no noise with what they judge. Their forms still favour their own kind, so every judge is shown. Beside them
stands the run that exists nearest to the proposal, with what it reached.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark import tables
from benchmark.cells import Cell
from benchmark.methods import losses, named
from benchmark.trees import Trees
from mixscale import laws
from mixscale.optimization import optimize
from mixscale.run_table import RunTable

DRAWS, TOP = 100_000, 128
PRIOR = {
    **{"arxiv": 0.113285273, "freelaw": 0.079608651, "nih_exporter": 0.003913491, "pubmed_central": 0.185375901},
    **{"wikipedia_en": 0.051081359, "dm_mathematics": 0.015962925, "github": 0.101750772, "philpapers": 0.003707518},
    **{"stackexchange": 0.066529351, "enron_emails": 0.001750772, "gutenberg_pg_19": 0.027085479},
    **{"pile_cc": 0.236869207, "ubuntu_irc": 0.01184346, "europarl": 0.007929969, "hackernews": 0.008032956},
    **{"pubmed_abstracts": 0.038825953, "uspto_backgrounds": 0.046446962},
}
"""Token shares of the Pile by the reference (mixture_config/synthesize_mixture.py), whose Dirichlet is drawn from."""
JUDGES = ("lightgbm", "effective", "additive", "power-additive", "gp")
OBJECTIVES = {"mean of 13": None, "Pile-CC": "loss/pile_cc"}


def cells(data: Path, quick: bool, bootstrap: int) -> Iterator[Cell]:
    """A cell for each objective and half."""
    for objective, target in list(OBJECTIVES.items())[-1:] if quick else OBJECTIVES.items():
        for seed in range(1 if quick else 2):
            about = {"table": "proposals", "split": objective, "runs": 256, "seed": seed, "method": "all"}
            key = f"proposals/{objective}/{seed}@{bootstrap}"
            run = lambda target=target, seed=seed: (_judged(data, target, seed, bootstrap), None)  # noqa: E731
            yield Cell(key, about, run)


def _judged(data: Path, target: str | None, seed: int, bootstrap: int) -> list[dict]:
    pool, test = (tables.regmix(data, part) for part in ("train", "test"))
    if target:
        pool, test = tables.only(pool, target), tables.only(test, target)
    half_R = np.random.default_rng(seed).permutation(len(pool))[: len(pool) // 2]
    rest = tables.part(pool, np.setdiff1d(np.arange(len(pool)), half_R))
    dataset = pd.concat([rest.frame.assign(run="train-" + rest.frame["run"]), test.frame], ignore_index=True)
    others = RunTable(dataset)
    begin = time.perf_counter()
    proposals = _proposals(tables.part(pool, half_R), seed, bootstrap)
    rows = []
    for judge in JUDGES:
        fitted = named(judge)(others, seed, 2, "mixtures")
        for name, h_K in proposals.items():
            judged = float(fitted.predict(_as_table(others, h_K)).mean())
            rows.append({"method": name, "part": judge, "judged": judged})
    for name, h_K in proposals.items():
        far_R = 0.5 * np.abs(others.mixtures_RxK - h_K).sum(axis=1)
        reached = float(losses(others).mean(axis=1)[far_R.argmin()])
        rows.append({"method": name, "part": "nearest run", "judged": reached, "nearest": float(far_R.min())})
    return [row | {"seconds": time.perf_counter() - begin} for row in rows]


def _proposals(table: RunTable, seed: int, bootstrap: int) -> dict[str, np.ndarray]:
    """Mixtures in the order of the table's domains."""
    prior_K = np.array([PRIOR[d] for d in table.domains])
    draws_NxK = np.random.default_rng(42).dirichlet(prior_K, DRAWS)
    predicted_N = Trees.of(table, seed).predict_features(draws_NxK).mean(axis=1)
    h_RxK, y_R = table.mixtures_RxK, losses(table).mean(axis=1)
    fit = laws.fit(table, seed=seed, bootstrap=bootstrap)
    return {
        "the Pile's own shares": prior_K / prior_K.sum(),
        "best run that was fitted": h_RxK[y_R.argmin()],
        "RegMix: LightGBM, top 128 of 100,000": draws_NxK[np.argsort(predicted_N)[:TOP]].mean(axis=0),
        "ours: optimum of auto": optimize(fit, seed=seed).mixture.array(),
    }


def _as_table(like: RunTable, h_K: np.ndarray) -> RunTable:
    """A table of one row with that mixture."""
    mix = {f"mix/{d}": h for d, h in zip(like.domains, h_K / h_K.sum(), strict=True)}
    return RunTable(like.frame.iloc[:1].assign(**mix))
