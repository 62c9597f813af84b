"""The folder of an experiment on disk: one folder per run, and what each run is for.

    DIR/experiment.json        the resolved config
    DIR/corpus.json            the token store and its domains
    DIR/plan/NAME.json         the runs of a plan, with role, origin and what they will cost
    DIR/speed.json             FLOP/s that runs of each size reached
    DIR/runs/ID/config.json    the run's config and the experiment's
    DIR/runs/ID/lock, claim.N  held by the process that trains it
    DIR/runs/ID/progress.json  how far that process is
    DIR/runs/ID/failure.json   what stopped it last
    DIR/runs/ID/checkpoints/   where it goes on after a kill; newest, best and last stable are kept
    DIR/runs/ID/tensorboard/   training and held-out losses
    DIR/runs/ID/rows.json      its measurements; there once the run has ended
    DIR/packs/ID/              runs that are trained together: which they are, and their common checkpoints
    DIR/slurm/                 what SLURM's jobs were given and said
    DIR/runs.csv, runs.parquet the RunTable

The rooms to the right add fit/, optimum.json, result.json, summary.txt, figures/ and report.html. What this room
writes is written to the side and renamed, so that a kill leaves the old one or the new one, never half.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixscale.config import Experiment, to_json
from mixscale.errors import InputError
from mixscale.io import atomic_write

if TYPE_CHECKING:
    from mixscale.data import TokenStore


def write_json(path: Path, value: Any) -> None:
    """Writes `value` at `path`, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(to_json(value), indent=1) + "\n")


def open_directory(experiment: Experiment, store: TokenStore) -> Path:
    """Makes the experiment's folder, or checks that what it holds was trained on the same token store.

    Raises:
        InputError: the folder holds runs of another store, for instance of another tokenizer.
    """
    directory = experiment.directory
    corpus = directory / "corpus.json"
    about = {
        "store": store.id,
        "tokenizer": f"{experiment.corpus.tokenizer.kind} of {store.vocab_size} tokens",
        "context": store.context,
        "domains": store.table().to_dict("records"),
        "statistics": store.statistics,
    }
    if corpus.exists():
        before = json.loads(corpus.read_text())
        if before["store"] != store.id:
            raise InputError(
                f"{directory} holds runs on token store {before['store']} ({before['tokenizer']}, context "
                f"{before['context']}), but this config gives store {store.id} ({about['tokenizer']}, context "
                f"{about['context']}); give another --name, or remove {directory}"
            )
    write_json(directory / "experiment.json", experiment)
    write_json(corpus, about)
    return directory


def pack_directory(directory: Path, pack: str) -> Path:
    """Folder of the checkpoints of runs that are trained together."""
    return directory / "packs" / pack


def run_directory(directory: Path, run: str) -> Path:
    return directory / "runs" / run


def ended(directory: Path, run: str) -> bool:
    """Whether the run has been measured to its end, complete or diverged."""
    return (run_directory(directory, run) / "rows.json").exists()
