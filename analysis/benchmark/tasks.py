"""Frozen splits: what is fitted and what is predicted, always by whole runs or mixtures, never by row.

A task is measured by every method in `methods`. It may hold several folds, whose predictions of rows left out are
pooled before anything is measured. Seeds are fixed, so a split is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark import tables
from mixscale.laws.families import LAWS, REPEATS
from mixscale.run_table import RunTable

MIXTURE = (
    *("mean", "linear", "m1", "m2", "m3", "exponential", "log-linear", "effective", "additive", "power-additive"),
    *("autoscale", "gp", "lightgbm", "lightgbm-cv", "auto"),
)
SCALE = (
    *("mean", "chinchilla", "exponential-scale", "effective-scale", "additive-scale", "joint", "power-additive-scale"),
    *("bimix", "d-cpt", "autoscale-scale", "lightgbm", "lightgbm-cv", "auto"),
)
CURVE = (40, 80, 160, 320)
"""Runs of the learning curves, beside all 512."""
QUICK_TARGETS = ("loss/arxiv", "loss/github", "loss/pile_cc")
"""Of RegMix's 13, where only the script is to be seen working."""
SPLITS = 20
"""Random splits of 3mix."""


@dataclass(frozen=True)
class Part:
    """Rows to predict. Where they are of another size or token count than a law without scale was fitted to, only
    their order can be predicted (`order_only`)."""

    rows: RunTable
    order_only: bool = False


@dataclass(frozen=True)
class Fold:
    """Rows to fit and the parts to predict by that fit."""

    fit: RunTable
    parts: dict[str, Part]


@dataclass(frozen=True)
class Task:
    """Folds that are measured together.

    Attributes:
        table: of which table. split: what is fitted and what is left out, in words. main: whether it belongs in the
            table's own results, with intervals; the points of a learning curve have none.
        holdout: what cross-validation within the fit holds out (`laws.fit`).
        stop_on: rows that the reference of RegMix stops on, for the method that shows what this leak is worth.
    """

    table: str
    split: str
    seed: int
    folds: list[Fold]
    methods: tuple[str, ...]
    main: bool = True
    holdout: str = "mixtures"
    stop_on: RunTable | None = field(default=None, repr=False)

    @property
    def runs(self) -> int:
        """Runs fitted, in the first fold."""
        return int(self.folds[0].fit.frame["run"].nunique())


def regmix(data: Path, quick: bool) -> Iterator[Task]:
    """512 runs at 1M; new mixtures at 1M, 60M and 1B; and learning curves of random and designed subsets."""
    wanted = QUICK_TARGETS if quick else tables.regmix(data, "train").targets
    pool, same = (tables.only(tables.regmix(data, part), *wanted) for part in ("train", "test"))
    larger = {size: tables.only(tables.regmix(data, "test", size), *wanted) for size in ("60m", "1B")}
    parts = {"1M": Part(same)} | {size.replace("m", "M"): Part(rows, True) for size, rows in larger.items()}
    methods = (*MIXTURE[:-1], "lightgbm-leak", MIXTURE[-1])
    yield Task("regmix", "all 512", 0, [Fold(pool, parts)], methods, stop_on=same)
    for runs in CURVE[:1] if quick else CURVE:
        for seed in range(1 if quick else 3):
            chosen = covering(pool.mixtures_RxK, runs, np.random.default_rng(1000 * seed + runs))
            yield Task("regmix", "random", seed, [Fold(tables.part(pool, chosen), parts)], MIXTURE, main=False)
    yield from _designed(pool, parts, CURVE[:1] if quick else CURVE[:2])


def _designed(pool: RunTable, parts: dict[str, Part], sizes: tuple[int, ...]) -> Iterator[Task]:
    """Subsets that `mixscale.mixtures` chooses by the mixtures alone, before any loss is known."""
    from mixscale.mixtures.acquisition import law_prior
    from mixscale.mixtures.designs import optimal_subset

    chosen, _ = optimal_subset(pool.mixtures_RxK, max(sizes), prior=law_prior())
    for runs in sizes:
        fit = tables.part(pool, np.array(chosen[:runs]))
        yield Task("regmix", "designed", 0, [Fold(fit, parts)], MIXTURE, main=False)


def three_mix(data: Path, quick: bool) -> Iterator[Task]:
    """The last checkpoint of 32 mixtures at 410M, 24 fitted and 8 predicted."""
    table = tables.three_mix(data)
    final = table.where(tables.size_of(table) == tables.size_of(table).max()).final()
    for seed in range(2 if quick else SPLITS):
        held = np.random.default_rng(seed).permutation(len(final))[24:]
        rest = np.setdiff1d(np.arange(len(final)), held)
        fold = Fold(tables.part(final, rest), {"410M": Part(tables.part(final, held))})
        yield Task("3mix", "24 of 32 mixtures", seed, [fold], MIXTURE)


def three_mix_scale(data: Path, quick: bool) -> Iterator[Task]:
    """All sizes and checkpoints to new mixtures; and the two smaller sizes to the largest."""
    table = tables.three_mix(data)
    # Neighbouring checkpoints of a run say the same; a tenth of them serves to see that the script works.
    step_R = table.frame["step"].to_numpy()
    table = table.where(step_R % 5000 == 0) if quick else table
    size_R, mixture_R = tables.size_of(table), tables.mixture_of(table)
    last_R = (size_R == size_R.max()) & (table.frame["step"] == table.frame["step"].max()).to_numpy()
    for seed in range(1 if quick else 4):
        held = np.random.default_rng(seed).permutation(mixture_R.max() + 1)[24:]
        held_R = np.isin(mixture_R, held)
        parts = {"410M, last": Part(table.where(held_R & last_R)), "all rows": Part(table.where(held_R))}
        yield Task("3mix-scale", "new mixtures", seed, [Fold(table.where(~held_R), parts)], SCALE)
    smaller_R = size_R < size_R.max()
    fold = Fold(table.where(smaller_R), {"410M, last": Part(table.where(last_R))})
    yield Task("3mix-scale", "larger size", 0, [fold], SCALE, holdout="larger-n")


def olmix(data: Path, quick: bool) -> Iterator[Task]:
    """Five folds of 126 runs, pooled.

    One run alone uses one of the domains. Nothing can be known of that domain without it, so it is always fitted and
    never predicted, by any method.
    """
    table = tables.olmix(data)
    h_RxK = table.mixtures_RxK
    alone_R = (h_RxK[:, (h_RxK > 0).sum(axis=0) == 1] > 0).any(axis=1)
    folds = _folds(table, covered_folds(h_RxK, alone_R))
    yield Task("olmix", "5 folds", 0, folds[:2] if quick else folds, MIXTURE)


def pile4(data: Path, quick: bool) -> Iterator[Task]:
    """Five folds by mixture, pooled; and 90M and 200M to 440M."""
    table = tables.pile4(data)
    size_R, mixture_R = tables.size_of(table), tables.mixture_of(table)
    fold_M = np.random.default_rng(0).permutation(np.arange(mixture_R.max() + 1) % 5)
    folds = _folds(table, fold_M[mixture_R])
    yield Task("pile4", "new mixtures, 5 folds", 0, folds[:1] if quick else folds, SCALE)
    larger_R = size_R == size_R.max()
    fold = Fold(table.where(~larger_R), {"all rows": Part(table.where(larger_R))})
    yield Task("pile4", "larger size", 0, [fold], SCALE, holdout="larger-n")


TOKENS, EPOCHS = 0.6, 10.0
"""datablations is fitted to runs of at most this quantile of tokens and so many epochs."""


def datablations(data: Path, quick: bool) -> Iterator[Task]:
    """Few tokens and epochs to more; and five folds by configuration, pooled."""
    table = tables.datablations(data)
    tokens_R, unique_R = (table.frame[c].to_numpy() for c in ("n_tokens", "unique_tokens/c4"))
    longer_R = tokens_R > np.quantile(tokens_R, TOKENS)
    again_R = tokens_R / unique_R > EPOCHS
    held = {
        "more tokens": longer_R & ~again_R,
        "more epochs": again_R & ~longer_R,
        "more of both": longer_R & again_R,
        "all rows": longer_R | again_R,
    }
    parts = {name: Part(table.where(rows_R)) for name, rows_R in held.items()}
    methods = blind()
    fold = Fold(table.where(~held["all rows"]), parts)
    yield Task("datablations", "more tokens and epochs", 0, [fold], methods, holdout="larger-d")
    scale = table.frame[["n_params", "n_tokens", "unique_tokens/c4"]]
    same_R = scale.groupby(list(scale)).ngroup().to_numpy()
    fold_C = np.random.default_rng(0).permutation(np.arange(same_R.max() + 1) % 5)
    folds = _folds(table, fold_C[same_R])
    yield Task("datablations", "5 folds", 0, folds[:2] if quick else folds, methods)


def blind() -> tuple[str, ...]:
    """Methods for a table of one mixture: the laws of scale alone, with and without repeats."""
    laws = [law.name for law in LAWS.values() if law.uses_scale and not law.uses_mixture]
    repeats = [name + suffix for name in laws for suffix, form in REPEATS.items() if form(LAWS[name])]
    return ("mean", *laws, *repeats, "lightgbm", "lightgbm-cv", "auto")


TASKS: dict[str, Callable[[Path, bool], Iterator[Task]]] = {
    "regmix": regmix,
    "3mix": three_mix,
    "3mix-scale": three_mix_scale,
    "olmix": olmix,
    "pile4": pile4,
    "datablations": datablations,
}
"""Tasks by the name that `--only` takes."""


def covering(h_RxK: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random runs that use every domain that any run uses: nothing can be predicted of one that none has used."""
    used_K = (h_RxK > 0).any(axis=0)
    while True:
        chosen = rng.choice(len(h_RxK), count, replace=False)
        if ((h_RxK[chosen] > 0).any(axis=0) == used_K).all():
            return chosen


def covered_folds(h_RxK: np.ndarray, always_R: np.ndarray, count: int = 5) -> np.ndarray:
    """Fold of each row, -1 for rows that are always fitted: the first seed that leaves every domain in every fit."""
    free = np.flatnonzero(~always_R)
    used_K = (h_RxK > 0).any(axis=0)
    for seed in range(1000):
        fold_R = np.full(len(h_RxK), -1)
        fold_R[free] = np.random.default_rng(seed).permutation(np.arange(len(free)) % count)
        if all(((h_RxK[fold_R != fold] > 0).any(axis=0) == used_K).all() for fold in range(count)):
            return fold_R
    raise AssertionError("no split leaves every domain in every fit")


def _folds(table: RunTable, fold_R: np.ndarray) -> list[Fold]:
    """A fold for each number from 0; rows of -1 are in every fit."""
    return [
        Fold(table.where(fold_R != fold), {"all rows": Part(table.where(fold_R == fold))})
        for fold in range(int(fold_R.max()) + 1)
    ]
