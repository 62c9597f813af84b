"""Commands that a config launches: text in, runs out."""

from __future__ import annotations

from mixscale.config import Experiment


def run(experiment: Experiment) -> None:
    """Everything in order: corpus, sweep, fit, optimum, verification, report."""
    from mixscale.pipeline import run_all

    run_all(experiment)


def corpus(experiment: Experiment) -> None:
    """Builds the token store, or opens it where it is built, and prints what it holds."""
    from mixscale.launch import build_corpus

    build_corpus(experiment)


def mixtures(experiment: Experiment) -> None:
    """Prints the mixtures to start from: natural, uniform, and those that the config's `starting` says enough for."""
    from mixscale.launch import build_corpus, show
    from mixscale.mixtures import baselines

    frame, notes = baselines.described(experiment, build_corpus(experiment))
    show(frame, "starting mixtures")
    for note in notes:
        print(f"note: {note}")


def plan(experiment: Experiment) -> None:
    """Prints every run of the design and what it will cost; trains nothing."""
    from mixscale.launch import show_plan

    show_plan(experiment)


def sweep(experiment: Experiment) -> None:
    """Trains the runs of the design that are not trained yet and writes the run table."""
    from mixscale.launch import build_corpus, train_design

    table = train_design(experiment, build_corpus(experiment))
    print(f"{len(table.final())} runs in {experiment.directory / 'runs.csv'}")
