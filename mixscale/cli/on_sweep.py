"""Commands on a config, which train, and on a sweep's folder or a run in it; `status` and `collect` load no JAX."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from mixscale.config import Experiment
from mixscale.errors import InputError
from mixscale.io import RUNS_CSV

Folder = Annotated[Positional[Path], arg(metavar="DIR")]
Run = Annotated[Positional[Path], arg(metavar="RUN")]


def run(experiment: Experiment) -> None:
    """Runs every step in order: corpus, sweep, fit, optimum, verification and report."""
    from mixscale.pipeline import run_all

    run_all(experiment)


def corpus(experiment: Experiment) -> None:
    """Builds the token store, or opens it if it exists, and prints what it contains."""
    from mixscale.launch import build_corpus

    build_corpus(experiment)


def mixtures(experiment: Experiment) -> None:
    """Prints the baseline mixtures: natural, uniform, and those whose inputs the config's `baselines` has."""
    from mixscale.launch import build_corpus, show
    from mixscale.mixtures import baselines

    frame, notes = baselines.describe(experiment, build_corpus(experiment))
    show(frame, "baseline mixtures")
    for note in notes:
        print(f"note: {note}")


def plan(experiment: Experiment) -> None:
    """Prints every run of the design and what it costs; trains nothing."""
    from mixscale.launch import show_plan

    show_plan(experiment)


def sweep(experiment: Experiment) -> None:
    """Trains the runs of the design that are not trained yet and writes the run table."""
    from mixscale.launch import build_corpus, train_design

    table = train_design(experiment, build_corpus(experiment))
    print(f"{len(table.final())} runs in {experiment.directory / RUNS_CSV}")


def status(directory: Folder, /, watch: bool = False, every: float = 5.0) -> None:
    """Shows the progress of a sweep: finished, running, waiting and failed runs, FLOPs spent, time left.

    For example:
      mixscale status runs/quickstart --watch

    Args:
        directory: the experiment's folder.
        watch: keep updating until all runs are finished.
        every: seconds between updates.
    """
    from rich.console import Console
    from rich.live import Live

    from mixscale.sweeps.status import SweepStatus, render

    if not every > 0:
        raise InputError(f"--every is {every:g}; give a number of seconds above zero")
    console = Console()
    now = SweepStatus(directory)
    if not watch:
        console.print(render(now))
        return
    with Live(render(now), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while not now.done:
            time.sleep(every)
            now = SweepStatus(directory)
            live.update(render(now), refresh=True)


def collect(directory: Folder, /) -> None:
    """Writes the rows of every finished run to runs.csv and runs.parquet.

    For example:
      mixscale collect runs/quickstart

    Args:
        directory: the experiment's folder.
    """
    from mixscale.sweeps import directory as folder

    ended, planned = len(folder.collect(directory).final()), len(folder.read_manifests(directory))
    print(f"{ended} of {planned} planned runs are in {directory / RUNS_CSV}")


def export_model(run: Run, /, out: Path, step: int | None = None, store: Path | None = None) -> None:
    """Writes a trained run as safetensors, with its tokenizer, in the layout that `transformers` loads.

    For example:
      mixscale export-model runs/quickstart/runs/ID --out model

    Args:
        run: folder of the run, DIR/runs/ID.
        out: folder to write.
        step: number of the checkpoint, as its folder in checkpoints/ is named: optimizer steps, including those of
            branches that decayed for earlier measurements; by default the newest.
        store: folder of the token store, if it is no longer in the cache that the run names.
    """
    from mixscale.io import check_output
    from mixscale.training.hugging_face import export_model as export

    check_output(out, "folder")
    number = export(run, out, step, store)
    print(f"checkpoint {number} of {run} saved to {out}; load it with AutoModelForCausalLM.from_pretrained('{out}')")
