"""The main job: from text to a verified mixture and a page.

Each step reads what the one before left on disk, so that any of them can be started again on its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console

from mixscale import laws, optimization, report
from mixscale.config import Experiment
from mixscale.constraints import bounds
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.launch import build_corpus, train, train_design
from mixscale.laws import LawFit
from mixscale.laws.catalogue import get_law
from mixscale.mixture import Mixture
from mixscale.mixtures.designs import draw
from mixscale.optimization import Optimum
from mixscale.run_table import RunTable
from mixscale.sweeps.plan import largest, plan_verification, save_plan

console = Console()


def run_all(experiment: Experiment) -> None:
    """From text to a verified mixture and a page."""
    check_question(experiment)
    with _step("corpus"):
        store = build_corpus(experiment)
    with _step("sweep"):
        table = train_design(experiment, store)
    with _step("fit"):
        fitted = laws.fit(table, law=experiment.law, seed=experiment.seed, progress=True)
        fitted.save(experiment.directory / "fit")
        print(fitted.summary())
    with _step("optimum"):
        solved = solve(experiment, table, fitted)
        print(solved.summary())
    with _step("verification"):
        verify(experiment, store, solved, best_of(experiment, table, fitted))
    with _step("report"):
        page = report.write(experiment.directory)
        print((experiment.directory / "summary.txt").read_text())
    console.print(f"[bold]open {page}[/bold]")


def check_question(experiment: Experiment) -> None:
    """Raises InputError, now and not after the sweep, where the law or the bounds asked for cannot be had."""
    domains = tuple(experiment.corpus.domains)
    bounds(domains, experiment.constraints.lower, experiment.constraints.upper)
    if experiment.law == "auto":
        return
    law = get_law(experiment.law)
    needed = max(member.n_params(len(domains)) for member in getattr(law, "members", [law]))
    fitted = sum(d.role == "fit" for d in draw(experiment.design, Mixture.uniform(domains)))
    if fitted < needed:
        raise InputError(
            f"law '{experiment.law}' has {needed} parameters for {len(domains)} domains, but the design fits only "
            f"{fitted} mixtures; raise design.dirichlet or take law auto"
        )


def solve(experiment: Experiment, table: RunTable, fitted: LawFit) -> Optimum:
    """The optimum for the experiment's objective at the largest N and D trained, saved beside the fit."""
    rows = table.frame[table.frame["role"] == "fit"]
    scale = {name: float(rows[name].max()) for name in ("n_params", "n_tokens") if fitted.uses_scale}
    solved = optimization.solve(
        fitted,
        goal=experiment.objective,
        constraints=experiment.constraints,
        current=experiment.current or None,
        seed=experiment.seed,
        **scale,
    )
    solved.save(experiment.directory / "optimum.json")
    return solved


def verify(experiment: Experiment, store: TokenStore, solved: Optimum, best: Mixture) -> RunTable:
    """Trains the optimum and its rivals with seeds used nowhere else."""
    planned = plan_verification(experiment, store, solved.mixture, best)
    save_plan(experiment.directory, "verify", planned, store)
    return train(experiment, store, planned)


def best_of(experiment: Experiment, table: RunTable, fitted: LawFit) -> Mixture:
    """The fitted mixture of the largest size with the lowest objective observed, its seeds averaged."""
    frame = table.final().complete().frame
    frame = frame[(frame["role"] == "fit") & (frame["size"] == largest(experiment))]
    loss_R = frame[list(fitted.dataset.columns)].to_numpy() @ fitted.target_weights(experiment.objective.weights)
    by_mixture = frame.assign(objective=loss_R).groupby([f"mix/{d}" for d in table.domains], sort=False)
    return Mixture.from_array(table.domains, np.array(by_mixture["objective"].mean().idxmin()))


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Names a step and says how long it took."""
    console.rule(f"[bold]{name}", align="left")
    started = time.perf_counter()
    yield
    console.print(f"{name} took {time.perf_counter() - started:.0f} s", style="dim")
