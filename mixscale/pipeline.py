"""`mixscale run`: from text to a verified mixture and a report.

Each step saves its result in the experiment's folder, so every step can be repeated alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console

from mixscale import launch, laws, optimization, report
from mixscale.config import Experiment
from mixscale.constraints import Linear
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.io import FIT_FOLDER, OPTIMUM_FILE, SUMMARY_FILE
from mixscale.launch import build_corpus, train, train_design
from mixscale.laws import LawFit
from mixscale.laws.catalogue import get_law
from mixscale.mixture import Mixture
from mixscale.optimization import Optimum
from mixscale.optimization.polytope import polytope
from mixscale.run_table import RunTable
from mixscale.sweeps.plan import Planned, largest, plan, plan_verification, save_plan

console = Console()


def show_plan(experiment: Experiment) -> None:
    """Prints every run of the design with its cost."""
    check(experiment)
    launch.show_plan(experiment)


def sweep(experiment: Experiment) -> None:
    """Trains the runs of the design that have not ended, and writes the run table."""
    check(experiment)
    launch.sweep(experiment)


def run_all(experiment: Experiment) -> None:
    """From text to a verified mixture and a report."""
    parameters = check(experiment)
    with _step("corpus"):
        store = build_corpus(experiment)
    with _step("sweep"):
        planned = plan(experiment, store)
        check_design(experiment, planned, parameters)
        table = train_design(experiment, store, planned)
    with _step("fit"):
        fitted = laws.fit(table, law=experiment.law, seed=experiment.seed, progress=True)
        fitted.save(experiment.directory / FIT_FOLDER)
        print(fitted.summary())
    with _step("optimum"):
        optimum = solve(experiment, table, fitted)
        optimum.save(experiment.directory / OPTIMUM_FILE)
        print(optimum.summary())
    with _step("verification"):
        verify(experiment, store, optimum, best_of(experiment, table, fitted, optimum))
    with _step("report"):
        page = report.write(experiment.directory)
        print((experiment.directory / SUMMARY_FILE).read_text())
    console.print(f"[bold]open {page}[/bold]")


def check(experiment: Experiment) -> int:
    """Checks what only fails after the sweep: whether constraints contradict each other, and whether the law exists.

    Returns:
        the number of parameters of the experiment's law, 0 if it is chosen later.
    """
    linear = [c for c in experiment.expand_constraints() if isinstance(c, Linear)]
    polytope(linear, len(experiment.corpus.domains))
    if experiment.law == "auto":
        return 0
    law = get_law(experiment.law)
    return max(member.n_params(len(experiment.corpus.domains)) for member in getattr(law, "members", [law]))


def check_design(experiment: Experiment, planned: list[Planned], parameters: int) -> None:
    """Raises InputError if the law has more parameters than the design has mixtures."""
    mixtures = len({p.run.mixture for p in planned if p.role == "fit"})
    if mixtures < parameters:
        raise InputError(
            f"law '{experiment.law}' has {parameters} parameters for {len(experiment.corpus.domains)} domains, but "
            f"the design fits only {mixtures} mixtures; raise design.dirichlet or use law auto"
        )


def solve(experiment: Experiment, table: RunTable, fitted: LawFit) -> Optimum:
    """The optimum of the experiment's objective under its constraints, at the largest N and D that were trained."""
    rows, constraints = table.frame[table.frame["role"] == "fit"], experiment.constraints
    caps = {"n_tokens"} if constraints.available else set()
    scale = {name: float(rows[name].max()) for name in ({"n_params", "n_tokens"} if fitted.uses_scale else caps)}
    if caps and experiment.train.like_tokens:
        # Available tokens are those of the target run; the runs trained on the same share of them.
        share = scale["n_tokens"] / experiment.train.like_tokens
        constraints = replace(constraints, available={d: share * n for d, n in constraints.available.items()})
    return optimization.optimize(
        fitted,
        objective=experiment.objective,
        constraints=constraints,
        current=experiment.current or None,
        seed=experiment.seed,
        **scale,
    )


def verify(experiment: Experiment, store: TokenStore, optimum: Optimum, best: Mixture) -> RunTable:
    """Trains the optimum, the best fitted mixture and the baselines with seeds of their own."""
    planned = plan_verification(experiment, store, optimum.mixture, best)
    save_plan(experiment.directory, "verify", planned, store)
    return train(experiment, store, planned)


def best_of(experiment: Experiment, table: RunTable, fitted: LawFit, optimum: Optimum) -> Mixture:
    """The fitted mixture of the largest size with the best observed objective, averaged over seeds."""
    frame = table.final().complete().frame
    frame = frame[(frame["role"] == "fit") & (frame["size"] == largest(experiment))]
    y_RxT = frame[list(fitted.dataset.columns)].to_numpy(float)
    scale = {name: frame[name].to_numpy(float) for name in ("n_params", "n_tokens") if fitted.uses_scale}
    reference_RxT = optimum.problem.reference_at(len(frame), **scale)
    h_RxK = frame[[f"mix/{d}" for d in table.domains]].to_numpy(float)
    return Mixture.from_array(table.domains, optimum.problem.objective.best_of_grid(y_RxT, h_RxK, reference_RxT))


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Prints the name and the duration of a step."""
    console.rule(f"[bold]{name}", align="left")
    started = time.perf_counter()
    yield
    console.print(f"{name} took {time.perf_counter() - started:.0f} s", style="dim")
