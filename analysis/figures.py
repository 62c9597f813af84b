"""Draws the figures of a run table and its law, as PDF and PNG.

    python analysis/figures.py RUNS --out DIR
    python analysis/figures.py RUNS --out DIR --fit FIT --only ternary,scale

RUNS is a sweep's folder, or a CSV or Parquet file with columns run, mix/DOMAIN and loss/TARGET (`mixscale import`
makes one). Figures without data are skipped with the reason: `ternary` needs three domains, `ranks` the same mixtures
at several sizes or token counts, `scale` a law of N and D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import tyro

from mixscale import laws
from mixscale import plots as figures
from mixscale.errors import InputError, did_you_mean
from mixscale.laws import LawFit
from mixscale.optimization import Optimum, optimize
from mixscale.run_table import RunTable

NAMES = ("predicted", "proportion", "ternary", "ranks", "learning", "scale", "parallel")


@dataclass(frozen=True)
class Figures:
    """What to draw."""

    runs: tyro.conf.Positional[Path]
    """table of runs, or folder of a sweep"""
    out: Path
    """folder for the figures"""
    law: str = "auto"
    """law to fit"""
    fit: Path | None = None
    """folder of a fit that `mixscale fit` saved, in place of fitting here"""
    only: str = ""
    """comma-separated figures: predicted, proportion, ternary, ranks, learning, scale, parallel; all if not given"""
    weights: dict[str, float] = field(default_factory=dict)
    """weight of each target in the objective; if none is given, those of the optimum in RUNS, or else equal"""
    curve: tuple[str, ...] = ("additive", "exponential", "linear")
    """laws of the learning curve"""
    repeats: int = 3
    """random subsets of each size in the learning curve"""
    bootstrap: int = 100
    """number of bootstrap refits"""

    @cached_property
    def objective(self) -> dict[str, float] | None:
        """Weights as given, or those of the optimum in the folder of the sweep."""
        solved = self.runs / "optimum.json"
        return self.weights or (dict(Optimum.load(solved).weights) if solved.is_file() else None)

    @cached_property
    def table(self) -> RunTable:
        return RunTable.read(self.runs)

    @cached_property
    def fitted(self) -> LawFit:
        return LawFit.load(self.fit) if self.fit else laws.fit(self.table, self.law, bootstrap=self.bootstrap)


def main(options: Figures) -> None:
    """Draws the figures and prints which were skipped."""
    names = [n.strip() for n in options.only.split(",") if n.strip()] or list(NAMES)
    if unknown := [n for n in names if n not in NAMES]:
        raise InputError(f"--only names '{unknown[0]}', which is no figure{did_you_mean(unknown[0], NAMES)}")
    weights = options.objective
    draw: dict[str, Callable[[], figures.Picture]] = {
        "predicted": lambda: figures.predicted_observed(options.fitted, weights),
        "proportion": lambda: figures.proportion(options.fitted, weights=weights),
        "ternary": lambda: figures.ternary(options.fitted, weights=weights),
        "ranks": lambda: figures.ranks(options.table, weights),
        "learning": lambda: figures.learning_curve(
            figures.learning(options.table, options.curve, repeats=options.repeats, weights=weights)
        ),
        "scale": lambda: figures.optimum_by_scale(options.fitted, weights),
        "parallel": lambda: figures.parallel(options.table, weights, best(options.fitted, weights)),
    }
    for name in names:
        try:
            written = figures.save(draw[name](), options.out / name)
        except InputError as error:
            print(f"{name} is skipped: {error}")
        else:
            print(f"{name}: {' and '.join(str(file) for file in written)}")


def best(fitted: LawFit, weights: dict[str, float] | None):
    """The optimum at the largest scale of the fit."""
    return optimize(fitted, weights=weights, **figures.scale_of(fitted)).mixture


if __name__ == "__main__":
    try:
        main(tyro.cli(Figures, description=__doc__))
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
