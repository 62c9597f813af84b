"""The steps from text to a run table: build the corpus, print the plan, train it, collect the table."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd

from mixscale import data as corpus
from mixscale.config import Experiment
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.io import RUNS_CSV
from mixscale.mixtures import baselines
from mixscale.run_table import RunTable
from mixscale.sweeps.directory import collect, open_directory, remove_manifest
from mixscale.sweeps.launchers import train_all
from mixscale.sweeps.launchers.local import default_workers
from mixscale.sweeps.plan import Planned, cost_table, measured_speed, plan, remember_speed, save_plan
from mixscale.sweeps.populations import describe, populations


def build_corpus(experiment: Experiment) -> TokenStore:
    """The token store of the experiment, built if it does not exist; prints what it contains."""
    store = corpus.build_store(experiment.corpus)
    tokenizer = experiment.corpus.tokenizer.kind
    show(store.table(), f"token store {store.id}: {tokenizer} of {store.vocab_size} tokens, context {store.context}")
    for details, title in ((store.removed(), "documents removed"), (store.shared(), "share that is also in ...")):
        if len(details.columns):
            show(details, title)
    return store


def show_plan(experiment: Experiment) -> None:
    """Prints every run of the design with its cost."""
    store = corpus.build_store(experiment.corpus)
    planned = plan(experiment, store)
    costs = cost_table(experiment, store, planned)
    known = measured_speed(experiment)
    workers = min(experiment.machine.workers or default_workers(), len(planned))
    per_run = costs[["run", "size", "seed", "role", "origin", "N", "D", "flops", "seconds", "MB"]]
    mixtures = []
    for row in costs.to_dict("records"):
        drawn = [d for d in store.domains if row[f"mix/{d}"] > 0]
        mixtures.append(", ".join(f"{d} {row[f'mix/{d}']:.1%} ({row[f'epochs/{d}']:.2f})" for d in drawn))
    show(per_run.round({"seconds": 1, "MB": 0}).assign(**{"mixture (epochs)": mixtures}), f"{len(planned)} runs")
    print(f"{describe(populations(planned, experiment.machine, store), experiment.machine, store)}\n")
    total = costs["seconds"].sum() / workers
    basis = "from measured speed" if known else "a rough estimate until a run is finished"
    names, seeds = experiment.verify.baselines, len(experiment.verify.seeds)
    later = (
        f"up to {(len(names) + 2) * seeds} runs later to verify the optimum: optimum, {', '.join(names)} and the best "
        f"fitted mixture, {seeds} seeds each"
    )
    print(
        f"{len(planned)} runs now, {costs['D'].sum() / 1e6:.1f}M tokens, {costs['flops'].sum():.3g} FLOPs; "
        f"{workers} at a time: about {total / 60:.0f} minutes ({basis}), {workers * costs['MB'].max():.0f} MB\n"
        f"{later if seeds else 'no runs to verify the optimum, because verify.seeds is empty'}"
    )


def show_mixtures(experiment: Experiment) -> None:
    """Prints the baseline mixtures: natural, uniform, and those whose inputs the config's `baselines` has."""
    frame, notes = baselines.describe(experiment, build_corpus(experiment))
    show(frame, "baseline mixtures")
    for note in notes:
        print(f"note: {note}")


def sweep(experiment: Experiment) -> None:
    """Trains the runs of the design that have not ended, and writes the run table."""
    table = train_design(experiment, build_corpus(experiment))
    print(f"{len(table.final())} runs in {experiment.directory / RUNS_CSV}")


def train_design(experiment: Experiment, store: TokenStore, planned: list[Planned] | None = None) -> RunTable:
    """Trains the unfinished runs of the design, `planned` if it is known; returns the table of all finished runs."""
    planned = planned or plan(experiment, store)
    directory = open_directory(experiment, store)
    if save_plan(directory, "design", planned, store):
        # The optimum of an earlier design was verified under another config; its runs do not belong in this table.
        remove_manifest(directory, "verify")
    return train(experiment, store, planned)


def train(experiment: Experiment, store: TokenStore, planned: list[Planned]) -> RunTable:
    """Trains the unfinished runs of a plan and returns the table of all finished runs."""
    try:
        train_all(experiment, store.path, planned)
    except BaseException:
        # Finished runs get a table even if others failed. If none is finished, the first error matters more.
        with contextlib.suppress(InputError):
            collect(experiment.directory)
        raise
    table = collect(experiment.directory)
    remember_speed(experiment, store, planned, table)
    return table


def show(frame: pd.DataFrame, title: str) -> None:
    """Prints a whole table, one line for each row."""
    cells = frame.map(_cell)
    numeric = [pd.api.types.is_numeric_dtype(frame[c]) for c in frame.columns]
    width = [max(len(c), *map(len, cells[c])) for c in cells.columns]
    sides = [str.rjust if n else str.ljust for n in numeric]
    print(f"{title}\n")
    for row in [cells.columns, *cells.itertuples(index=False)]:
        print("  ".join(side(cell, w) for side, cell, w in zip(sides, row, width, strict=True)).rstrip())
    print()


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.3g}" if abs(value) >= 1e6 else f"{value:g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)
