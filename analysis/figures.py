"""Draws the figures of the field from a run table, as PDF and PNG.

    python analysis/figures.py RUNS --out DIR
    python analysis/figures.py RUNS --out DIR --fit FIT --only ternary,drift

RUNS is a sweep's folder, or a CSV or Parquet file with columns run, mix/DOMAIN and loss/TARGET (`mixscale import`
makes one). What a table has no data for is skipped, and why is said: `ternary` needs three domains, `ranks` the same
mixtures at several sizes or token counts, `drift` a law of N and D.
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

NAMES = ("predicted", "proportion", "ternary", "ranks", "learning", "drift", "parallel")


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
    """figures, with commas: predicted, proportion, ternary, ranks, learning, drift, parallel; all where not given"""
    weights: dict[str, float] = field(default_factory=dict)
    """weight of each target in the objective; where none is given those of the optimum that RUNS holds, else all
    alike"""
    curve: tuple[str, ...] = ("additive", "exponential", "linear")
    """laws of the learning curve"""
    repeats: int = 3
    """random subsets of each size in the learning curve"""
    bootstrap: int = 100
    """refits behind the bands"""

    @cached_property
    def objective(self) -> dict[str, float] | None:
        """Weights as they were asked for, or as the optimum in the sweep's folder was solved for."""
        solved = self.runs / "optimum.json"
        return self.weights or (dict(Optimum.load(solved).weights) if solved.is_file() else None)

    @cached_property
    def table(self) -> RunTable:
        return RunTable.read(self.runs)

    @cached_property
    def fitted(self) -> LawFit:
        return LawFit.load(self.fit) if self.fit else laws.fit(self.table, self.law, bootstrap=self.bootstrap)


def main(asked: Figures) -> None:
    """Draws what was asked for, and says what was skipped."""
    names = [n.strip() for n in asked.only.split(",") if n.strip()] or list(NAMES)
    if unknown := [n for n in names if n not in NAMES]:
        raise InputError(f"--only names '{unknown[0]}', which is no figure{did_you_mean(unknown[0], NAMES)}")
    weights = asked.objective
    draw: dict[str, Callable[[], figures.Picture]] = {
        "predicted": lambda: figures.predicted_observed(asked.fitted, weights),
        "proportion": lambda: figures.proportion(asked.fitted, weights=weights),
        "ternary": lambda: figures.ternary(asked.fitted, weights=weights),
        "ranks": lambda: figures.ranks(asked.table, weights),
        "learning": lambda: figures.learning_curve(
            figures.learning(asked.table, asked.curve, repeats=asked.repeats, weights=weights)
        ),
        "drift": lambda: figures.drift(asked.fitted, weights),
        "parallel": lambda: figures.parallel(asked.table, weights, best(asked.fitted, weights)),
    }
    for name in names:
        try:
            written = figures.save(draw[name](), asked.out / name)
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
