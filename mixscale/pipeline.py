"""`mixscale run`: from text to a verified mixture and a report.

Each step reads what the previous one left in the experiment's folder, so every step can be repeated alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from mixscale import laws, optimization, report
from mixscale.config import Experiment
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.io import FIT_FOLDER, OPTIMUM_FILE, SUMMARY_FILE
from mixscale.launch import build_corpus, train, train_design
from mixscale.laws import LawFit
from mixscale.laws.catalogue import get_law
from mixscale.mixture import Mixture
from mixscale.optimization import Optimum
from mixscale.run_table import RunTable
from mixscale.sweeps.plan import Planned, largest, plan, plan_verification, save_plan

console = Console()


def run_all(experiment: Experiment) -> None:
    """From text to a verified mixture and a report."""
    parameters = law_parameters(experiment)
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


def law_parameters(experiment: Experiment) -> int:
    """The number of parameters of the experiment's law; 0 if it is chosen later.

    Raises:
        InputError: there is no such law.
    """
    if experiment.law == "auto":
        return 0
    law = get_law(experiment.law)
    return max(member.n_params(len(experiment.corpus.domains)) for member in getattr(law, "members", [law]))


def check_design(experiment: Experiment, planned: list[Planned], parameters: int) -> None:
    """Raises InputError, before anything is trained, if the law has more parameters than the design has mixtures."""
    mixtures = len({p.run.mixture for p in planned if p.role == "fit"})
    if mixtures < parameters:
        raise InputError(
            f"law '{experiment.law}' has {parameters} parameters for {len(experiment.corpus.domains)} domains, but "
            f"the design fits only {mixtures} mixtures; raise design.dirichlet or use law auto"
        )


def solve(experiment: Experiment, table: RunTable, fitted: LawFit) -> Optimum:
    """The optimum of the experiment's objective under its constraints, at the largest N and D that were trained."""
    rows = table.frame[table.frame["role"] == "fit"]
    caps = {"n_tokens"} if experiment.constraints.available else set()
    scale = {"n_params", "n_tokens"} if fitted.uses_scale else caps
    return optimization.optimize(
        fitted,
        objective=experiment.objective,
        constraints=experiment.constraints,
        current=experiment.current or None,
        seed=experiment.seed,
        **{name: float(rows[name].max()) for name in sorted(scale)},
    )


def verify(experiment: Experiment, store: TokenStore, optimum: Optimum, best: Mixture) -> RunTable:
    """Trains the optimum, the best fitted mixture and the baselines with seeds used nowhere else."""
    planned = plan_verification(experiment, store, optimum.mixture, best)
    save_plan(experiment.directory, "verify", planned, store)
    return train(experiment, store, planned)


def best_of(experiment: Experiment, table: RunTable, fitted: LawFit, optimum: Optimum) -> Mixture:
    """The fitted mixture of the largest size with the best observed objective, its seeds averaged."""
    frame = table.final().complete().frame
    frame = frame[(frame["role"] == "fit") & (frame["size"] == largest(experiment))]
    y_RxT = frame[list(fitted.dataset.columns)].to_numpy(float)
    scale = {name: frame[name].to_numpy(float) for name in ("n_params", "n_tokens") if fitted.uses_scale}
    reference_RxT = optimum.problem.reference_at(len(frame), **scale)
    h_RxK = frame[[f"mix/{d}" for d in table.domains]].to_numpy(float)
    best_K, _ = optimum.problem.objective.best_of_grid(y_RxT, h_RxK, reference_RxT)
    return Mixture.from_array(table.domains, best_K)


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Prints the name of a step, and how long it took."""
    console.rule(f"[bold]{name}", align="left")
    started = time.perf_counter()
    yield
    console.print(f"{name} took {time.perf_counter() - started:.0f} s", style="dim")
