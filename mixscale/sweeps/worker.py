"""Trains the runs of a plan that have not ended and that no other process holds, population after population."""

from __future__ import annotations

import os
import platform
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixscale.config import Experiment
from mixscale.errors import InputError, Unfinished
from mixscale.sweeps.directory import ended, population_directory, read_json, run_directory, write_json, write_rows
from mixscale.sweeps.populations import Population, along_runs, resumed_populations
from mixscale.sweeps.run_state import Failure, can_train, claimed

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.sweeps.plan import Planned
    from mixscale.training import Trainer

Report = Callable[[object], None]
MEASURED = "rows.json"  # in a population's folder: the rows of all its runs, once the last has ended


def work(experiment: Experiment, store_path: Path, planned: Iterable[Planned], report: Report) -> None:
    """Trains the runs that have not ended; reports every dispatch, and the last row of each run that ends.

    Runs of one shape share one compiled program, and on an accelerator they are trained together. A population with a
    run that another process holds is left to that process; one that keeps failing is split into single runs. Raises
    InputError if a run cannot be trained as it is, or a population does not fit in the devices' memory.
    """
    from mixscale.data import TokenStore
    from mixscale.training import hosts

    hosts.join(experiment.machine.hosts)
    _cache_compiled(Path(experiment.corpus.cache))
    store, directory = TokenStore.open(store_path), experiment.directory
    trainers: dict[tuple[str, int], Trainer] = {}
    if hosts.first():
        for measured in population_directory(directory, "").glob(f"*/{MEASURED}"):
            _end_population(directory, measured)
    left = unfinished(experiment, planned)
    waiting = deque(resumed_populations(directory, left, experiment.machine, store))
    while waiting:
        population = waiting.popleft()
        with ExitStack() as claims:
            if not hosts.together(hosts.first() and _claim_all(directory, population, claims)):
                continue
            if hosts.together(hosts.first() and population.keeps_failing(directory)):
                if hosts.first():
                    population.split(directory)
                waiting.extend(population.alone(experiment.machine))
            else:
                _train(experiment, store, population, trainers, report)


def unfinished(experiment: Experiment, planned: Iterable[Planned]) -> list[Planned]:
    """The runs that have not ended, as process 0 sees them: on a shared disk others may see an older state."""
    planned = list(planned)
    left = [not ended(experiment.directory, item.run.id) for item in planned]
    if experiment.machine.hosts.coordinator:
        from mixscale.training import hosts

        hosts.join(experiment.machine.hosts)
        left = hosts.alike(np.array(left, bool))
    return [item for item, is_left in zip(planned, left, strict=True) if is_left]


def _claim_all(directory: Path, population: Population, claims: ExitStack) -> bool:
    """Claims every run of a population; false where one has ended, is held by another process, or is given up."""
    for run in population.runs:
        free = claims.enter_context(claimed(run_directory(directory, run), len(population.runs)))
        # Claiming records the death of an earlier holder, after which the run may be given up.
        if not free or not can_train(directory, run):
            return False
    return True


def _train(
    experiment: Experiment,
    store: TokenStore,
    population: Population,
    trainers: dict[tuple[str, int], Trainer],
    report: Report,
) -> None:
    import jax

    from mixscale.training import Trainer, hosts, shape_of, train_population

    directory, runs, places = experiment.directory, [item.run for item in population.planned], population.places
    folders = [run_directory(directory, run.id) for run in runs]
    shared = folders[0] if places == 1 else population_directory(directory, population.id)
    if hosts.first():
        if places > 1:
            population.save(directory)
        for run, folder in zip(runs, folders, strict=True):
            write_json(folder / "config.json", {"id": run.id, "run": run.config, "experiment": experiment})
    program = shape_of(runs[0]), places
    try:
        if program not in trainers:
            # Populations are ordered by shape: the last program is seldom needed again, and its tokens need memory.
            trainers.clear()
            trainers[program] = Trainer(runs[0], store, experiment.corpus.seed, experiment.machine, places)
        measured = train_population(trainers[program], runs, folders, shared, report)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise InputError(too_large(experiment, population)) from error
        reason = str(error).splitlines()[0]
        raise Unfinished(f"a device failed ({reason}); progress is saved, rerun the same command to resume") from error
    if hosts.first():
        rows_by_run = {run.id: rows for run, rows in zip(runs, measured, strict=True)}
        if places > 1:
            write_json(shared / MEASURED, {"runs": rows_by_run})
            _end_population(directory, shared / MEASURED)
        else:
            _end(directory, rows_by_run)
    # The other processes read the rows from disk next.
    hosts.together(True)
    for rows in measured:
        report(rows[-1])


def _end_population(directory: Path, measured: Path) -> None:
    """Writes the rows of each run of a population; after a kill between two of them, the next worker does it again."""
    try:
        rows_by_run = read_json(measured)["runs"]
    except FileNotFoundError:  # another process has just written them
        return
    _end(directory, rows_by_run)
    shutil.rmtree(measured.parent, ignore_errors=True)  # every run has a checkpoint of its own by now


def _end(directory: Path, rows_by_run: dict[str, list[dict[str, Any]]]) -> None:
    for run, rows in rows_by_run.items():
        write_rows(directory, run, rows)
        Failure.clear(run_directory(directory, run))


def too_large(experiment: Experiment, population: Population) -> str:
    """The error for a population that does not fit in the devices' memory."""
    machine, run, along = experiment.machine, population.planned[0].run, along_runs(experiment.machine)
    if population.places > along:
        return (
            f"{population.places} runs of size {run.size} together do not fit in the devices' memory; "
            f"give --machine.population {max(along, population.places // 2 // along * along)}"
        )
    return (
        f"a run of size {run.size} does not fit in the devices' memory; give --machine.remat, "
        f"--machine.accumulate {2 * machine.accumulate} (batch {run.train.batch} in parts), or more devices along "
        "mesh.fsdp"
    )


def _cache_compiled(cache: Path) -> None:
    """Compiles a shape once on this machine, not once a process; compiled code must not move to another machine."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str((cache / "compiled" / platform.node()).absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
