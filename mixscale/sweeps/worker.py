"""Trains the runs of a plan that nobody else has ended or claimed, pack after pack, in this process."""

from __future__ import annotations

import json
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
from mixscale.sweeps import begun, failures
from mixscale.sweeps.claims import claimed
from mixscale.sweeps.directory import ended, pack_directory, run_directory, write_json
from mixscale.sweeps.packing import Pack, along_runs

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.sweeps.plan import Planned
    from mixscale.training import Trainer

Report = Callable[[object], None]
DONE = "rows.json"
"""In the folder of a pack: the rows of all its runs, once the last has ended."""


def work(experiment: Experiment, store_path: Path, planned: Iterable[Planned], report: Report) -> None:
    """Trains what is left of `planned`, reporting every dispatch and every measured row.

    Runs of one shape share one compiled program, and on an accelerator they are trained together. A pack of which
    another process has claimed a run is left to it; one that stopped too often goes on run by run.

    Raises:
        InputError: a run cannot be trained as it stands, or a pack does not fit in the devices' memory.
    """
    from mixscale.data import TokenStore
    from mixscale.training import hosts

    hosts.join(experiment.machine.hosts)
    _keep_compiled(Path(experiment.corpus.cache))
    store = TokenStore.open(store_path)
    trainers: dict[tuple[str, int], Trainer] = {}
    planned = list(planned)
    if hosts.first():
        for done in pack_directory(experiment.directory, "").glob(f"*/{DONE}"):
            _hand_out(experiment, done)
    # Of a run over several hosts one process decides for all: what it sees on a shared disk the others may not yet.
    left_P = hosts.alike(np.array([not ended(experiment.directory, item.run.id) for item in planned], bool))
    left = [item for item, is_left in zip(planned, left_P, strict=True) if is_left]
    waiting = deque(begun.regrouped(experiment.directory, left, experiment.machine, store))
    while waiting:
        pack = waiting.popleft()
        with ExitStack() as claims:
            if not hosts.together(hosts.first() and _ours(experiment, pack, claims)):
                continue
            if hosts.together(hosts.first() and begun.hopeless(experiment.directory, pack)):
                if hosts.first():
                    begun.part(experiment.directory, pack)
                waiting.extend(begun.alone(pack, experiment.machine))
            else:
                _train(experiment, store, pack, trainers, report)


def _ours(experiment: Experiment, pack: Pack, claims: ExitStack) -> bool:
    """Claims every run of a pack; false where one has ended, is another's, or has failed too often."""
    for item in pack.planned:
        path = run_directory(experiment.directory, item.run.id)
        if not claims.enter_context(claimed(path, len(pack.planned))) or ended(experiment.directory, item.run.id):
            return False
        # That the process before died is known only now, and another may have failed since this one began.
        failure = failures.read(path)
        if failure and failure.final:
            return False
    return True


def _train(
    experiment: Experiment,
    store: TokenStore,
    pack: Pack,
    trainers: dict[tuple[str, int], Trainer],
    report: Report,
) -> None:
    import jax

    from mixscale.training import Trainer, hosts, shape_of, train_population

    runs = [item.run for item in pack.planned]
    folders = [run_directory(experiment.directory, run.id) for run in runs]
    shared = folders[0] if pack.places == 1 else pack_directory(experiment.directory, pack.id)
    if hosts.first():
        if pack.places > 1:
            begun.begin(experiment.directory, pack)
        for run, folder in zip(runs, folders, strict=True):
            write_json(folder / "config.json", {"id": run.id, "run": run.config, "experiment": experiment})
    program = shape_of(runs[0]), pack.places
    try:
        if program not in trainers:
            # Packs come by shape: one that is through seldom comes again, and its tokens must make room.
            trainers.clear()
            trainers[program] = Trainer(runs[0], store, experiment.corpus.seed, experiment.machine, pack.places)
        measured = train_population(trainers[program], runs, folders, shared, report)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise InputError(too_large(experiment, pack)) from error
        why = str(error).splitlines()[0]
        raise Unfinished(f"the devices failed ({why}); what was saved is kept, start again") from error
    if hosts.first():
        if pack.places > 1:
            write_json(shared / DONE, {run.id: rows for run, rows in zip(runs, measured, strict=True)})
            _hand_out(experiment, shared / DONE)
        else:
            _end(folders[0], measured[0])
    # The other processes ask the disk next, and must find the rows there.
    hosts.together(True)
    for rows in measured:
        report(rows[-1])


def _hand_out(experiment: Experiment, done: Path) -> None:
    """Gives each run of a pack that has ended its rows; a kill between two of them must not undo the pack."""
    try:
        rows_of = json.loads(done.read_text())
    except FileNotFoundError:
        # Another process has begun since, and handed them out.
        return
    for run, rows in rows_of.items():
        _end(run_directory(experiment.directory, run), rows)
    # Every run has a checkpoint of its own by now.
    shutil.rmtree(done.parent, ignore_errors=True)


def _end(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a run's rows, with which it has ended."""
    write_json(folder / "rows.json", rows)
    failures.forget(folder)


def too_large(experiment: Experiment, pack: Pack) -> str:
    machine, batch = experiment.machine, pack.planned[0].run.train.batch
    along = along_runs(machine)
    if pack.places > along:
        return (
            f"{pack.places} runs of size {pack.planned[0].run.size} do not fit in the devices' memory together; "
            f"give --machine.population {max(along, pack.places // 2 // along * along)}"
        )
    return (
        f"a run of size {pack.planned[0].run.size} does not fit in the devices' memory; give --machine.remat True, "
        f"--machine.accumulate {2 * machine.accumulate} (batch {batch} in parts), or more devices along mesh.fsdp"
    )


def _keep_compiled(cache: Path) -> None:
    """Compiles a shape once on this machine, not once a process; compiled code must not move to another machine."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str((cache / "compiled" / platform.node()).absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
