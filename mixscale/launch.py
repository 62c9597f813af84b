"""The steps that make rows: build the corpus, show the plan, train it, collect the table.

What they print is for people; what they leave on disk is what the next step reads.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd

from mixscale import data as corpus
from mixscale.config import Experiment
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.run_table import RunTable
from mixscale.sweeps.cost import cost_table, measured_speed, remember_speed
from mixscale.sweeps.directory import collect, open_directory, remove_manifest
from mixscale.sweeps.launchers import train_all
from mixscale.sweeps.launchers.local import default_workers
from mixscale.sweeps.plan import Planned, plan, save_plan
from mixscale.sweeps.populations import describe, populations


def build_corpus(experiment: Experiment) -> TokenStore:
    """The token store of the experiment, built where it is not; prints what it holds."""
    store = corpus.build_store(experiment.corpus)
    tokenizer = experiment.corpus.tokenizer.kind
    show(store.table(), f"token store {store.id}: {tokenizer} of {store.vocab_size} tokens, context {store.context}")
    for details, title in ((store.removed(), "documents left out"), (store.shared(), "share that stands in ... too")):
        if len(details.columns):
            show(details, title)
    return store


def show_plan(experiment: Experiment) -> None:
    """Prints what every run of the design will cost; trains nothing."""
    store = corpus.build_store(experiment.corpus)
    planned = plan(experiment, store)
    costs = cost_table(experiment, store, planned)
    known = measured_speed(experiment)
    workers = min(experiment.machine.workers or default_workers(), len(planned))
    per_run = costs[["run", "size", "seed", "role", "origin", "N", "D", "flops", "seconds", "MB"]]
    mixtures = [_words(row, store.domains) for row in costs.to_dict("records")]
    show(per_run.round({"seconds": 1, "MB": 0}).assign(**{"mixture (epochs)": mixtures}), f"{len(planned)} runs")
    print(f"{describe(populations(planned, experiment.machine, store), experiment.machine, store)}\n")
    total, basis = costs["seconds"].sum() / workers, "as measured here" if known else "a guess until one run has ended"
    print(
        f"{len(planned)} runs now, {costs['D'].sum() / 1e6:.1f}M tokens, {costs['flops'].sum():.3g} FLOPs; "
        f"{workers} at a time: about {total / 60:.0f} minutes ({basis}), {workers * costs['MB'].max():.0f} MB\n"
        f"{_verification(experiment)}"
    )


def _verification(experiment: Experiment) -> str:
    """What `mixscale run` trains beyond the design once there is an optimum, in a sentence."""
    rivals, seeds = experiment.verify.baselines, len(experiment.verify.seeds)
    if not seeds:
        return "and none to verify the optimum, as verify.seeds is empty"
    mixtures = ", ".join(("it", *rivals)) + " and the best of the grid"
    count = (len(rivals) + 2) * seeds
    return (
        f"and {count} to verify the optimum once there is one: {mixtures}, {seeds} seeds each; fewer if some coincide"
    )


def train_design(experiment: Experiment, store: TokenStore) -> RunTable:
    """Trains what is left of the design and returns the table of all that has ended."""
    planned = plan(experiment, store)
    directory = open_directory(experiment, store)
    if save_plan(directory, "design", planned, store):
        # An optimum of another design was verified under another config; its runs would only mislead.
        remove_manifest(directory, "verify")
    return train(experiment, store, planned)


def train(experiment: Experiment, store: TokenStore, planned: list[Planned]) -> RunTable:
    """Trains what is left of a plan, shows it, and returns the table of every run that has ended."""
    try:
        train_all(experiment, store.path, planned)
    except BaseException:
        # What has ended is worth a table, however the rest stopped; where nothing has, the reason matters more.
        with contextlib.suppress(InputError):
            collect(experiment.directory)
        raise
    table = collect(experiment.directory)
    remember_speed(experiment, store, planned, table)
    return table


def show(frame: pd.DataFrame, title: str) -> None:
    """Prints a table, whole, one line a row however wide."""
    cells = frame.map(_cell)
    numeric = [pd.api.types.is_numeric_dtype(frame[c]) for c in frame.columns]
    width = [max(len(c), *map(len, cells[c])) for c in cells.columns]
    sides = [str.rjust if n else str.ljust for n in numeric]
    print(f"{title}\n")
    for row in [cells.columns, *cells.itertuples(index=False)]:
        print("  ".join(side(cell, w) for side, cell, w in zip(sides, row, width, strict=True)).rstrip())
    print()


def _words(costs: dict[str, float], domains: tuple[str, ...]) -> str:
    """The domains that a run draws, with their weights and epochs."""
    drawn = [d for d in domains if costs[f"mix/{d}"] > 0]
    return ", ".join(f"{d} {costs[f'mix/{d}']:.1%} ({costs[f'epochs/{d}']:.2f})" for d in drawn)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.3g}" if abs(value) >= 1e6 else f"{value:g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)
