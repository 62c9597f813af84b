"""Commands on a config: from text to runs."""

from __future__ import annotations

from mixscale.config import Experiment


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
    from mixscale.io import RUNS_CSV
    from mixscale.launch import build_corpus, train_design

    table = train_design(experiment, build_corpus(experiment))
    print(f"{len(table.final())} runs in {experiment.directory / RUNS_CSV}")
