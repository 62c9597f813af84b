"""Trains the runs of a plan that nobody else has ended or claimed, one after another, in this process."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mixscale.experiment import Experiment, content_hash
from mixscale.sweep.directory import claimed, ended, run_directory, write_json

if TYPE_CHECKING:
    from mixscale.sweep.plan import Planned
    from mixscale.train import Trainer


def work(
    experiment: Experiment, store_path: Path, planned: Iterable[Planned], report: Callable[[object], None]
) -> None:
    """Trains what is left of `planned`, reporting every dispatch and every measured row.

    Runs of one shape share one compiled program. A run that another process has claimed is left to it.
    """
    from mixscale.corpus import TokenStore
    from mixscale.train import Trainer, train_run

    _keep_compiled(Path(experiment.corpus.cache))
    store = TokenStore.open(store_path)
    directory = experiment.directory
    trainers: dict[str, Trainer] = {}
    for item in planned:
        run = item.run
        if ended(directory, run.id):
            continue
        path = run_directory(directory, run.id)
        with claimed(path) as free:
            if not free or ended(directory, run.id):
                continue
            write_json(path / "config.json", {"id": run.id, "run": run.config, "experiment": experiment})
            shape = content_hash(run.model, run.train, run.optimiser)
            if shape not in trainers:
                trainers[shape] = Trainer(run, store, experiment.corpus.seed, experiment.machine)
            rows = train_run(trainers[shape], run, path, report)
            write_json(path / "rows.json", rows)
            report(rows[-1])


def _keep_compiled(cache: Path) -> None:
    """Compiles a shape once on this machine, not once a process; compiled code must not move to another machine."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str((cache / "compiled" / platform.node()).absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
