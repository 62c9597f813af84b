"""Trains the runs of a plan that nobody else has ended or claimed, pack after pack, in this process."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mixscale.errors import InputError
from mixscale.experiment import Experiment
from mixscale.sweep.claims import claimed
from mixscale.sweep.directory import ended, pack_directory, run_directory, write_json
from mixscale.sweep.packing import Pack, packs

if TYPE_CHECKING:
    from mixscale.corpus import TokenStore
    from mixscale.sweep.plan import Planned
    from mixscale.train import Trainer

Report = Callable[[object], None]


def work(experiment: Experiment, store_path: Path, planned: Iterable[Planned], report: Report) -> None:
    """Trains what is left of `planned`, reporting every dispatch and every measured row.

    Runs of one shape share one compiled program, and on an accelerator they are trained together. A pack of which
    another process has claimed a run is left to it.

    Raises:
        InputError: a run cannot be trained as it stands, or a pack does not fit in the devices' memory.
    """
    from mixscale.corpus import TokenStore
    from mixscale.train import hosts

    hosts.join(experiment.machine.hosts)
    _keep_compiled(Path(experiment.corpus.cache))
    store = TokenStore.open(store_path)
    trainers: dict[tuple[str, int], Trainer] = {}
    left = [item for item in planned if not ended(experiment.directory, item.run.id)]
    for pack in packs(left, experiment.machine, store):
        with ExitStack() as claims:
            # One process decides for all those of a run over several hosts.
            if hosts.together(hosts.first() and _ours(experiment, pack, claims)):
                _train(experiment, store, pack, trainers, report)


def _ours(experiment: Experiment, pack: Pack, claims: ExitStack) -> bool:
    """Claims every run of a pack; false where one has ended, or is another's."""
    for item in pack.planned:
        path = run_directory(experiment.directory, item.run.id)
        if not claims.enter_context(claimed(path)) or ended(experiment.directory, item.run.id):
            return False
    return True


def _train(
    experiment: Experiment,
    store: TokenStore,
    pack: Pack,
    trainers: dict[tuple[str, int], Trainer],
    report: Report,
) -> None:
    from mixscale.train import Trainer, hosts, shape_of, train_population

    runs = [item.run for item in pack.planned]
    folders = [run_directory(experiment.directory, run.id) for run in runs]
    shared = folders[0] if pack.places == 1 else pack_directory(experiment.directory, pack.id)
    if hosts.first():
        for run, folder in zip(runs, folders, strict=True):
            write_json(folder / "config.json", {"id": run.id, "run": run.config, "experiment": experiment})
    program = shape_of(runs[0]), pack.places
    try:
        if program not in trainers:
            trainers[program] = Trainer(runs[0], store, experiment.corpus.seed, experiment.machine, pack.places)
        measured = train_population(trainers[program], runs, folders, shared, report)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(too_large(experiment, pack)) from error
    for folder, rows in zip(folders, measured, strict=True):
        if hosts.first():
            write_json(folder / "rows.json", rows)
        report(rows[-1])
    if hosts.first() and pack.places > 1:
        # Every run has a checkpoint of its own by now.
        shutil.rmtree(shared, ignore_errors=True)


def too_large(experiment: Experiment, pack: Pack) -> str:
    machine, batch = experiment.machine, pack.planned[0].run.train.batch
    if pack.places > max(1, machine.mesh.run):
        return (
            f"{pack.places} runs of size {pack.planned[0].run.size} do not fit in the devices' memory together; "
            f"give --machine.population {pack.places // 2}"
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
