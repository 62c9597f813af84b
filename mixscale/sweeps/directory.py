"""The folder of an experiment, the manifests of its plans, and the table of its runs. Does not load JAX.

    DIR/experiment.json             the resolved config
    DIR/corpus.json                 the token store and its domains
    DIR/plan/NAME.json              manifest: the runs of a plan, with role, origin and cost
    DIR/speed.json                  FLOP/s that runs of each size reached
    DIR/runs/ID/config.json         the run's config and the experiment's
    DIR/runs/ID/lock, claim.N       the claim of the process that trains it (queue.py)
    DIR/runs/ID/progress.json       how far that process is (run_state.py)
    DIR/runs/ID/failure.json        what stopped it last (run_state.py)
    DIR/runs/ID/checkpoints/        newest, best and last stable
    DIR/runs/ID/tensorboard/        training and held-out losses
    DIR/runs/ID/rows.json           its measurements, once it has ended
    DIR/populations/ID/             runs that are trained together: their ids and checkpoints
    DIR/slurm/                      inputs and logs of SLURM's jobs
    DIR/runs.csv, runs.parquet      the RunTable

Later steps add fit/, optimum.json, result.json, summary.txt, figures/ and report.html. Every write is atomic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixscale.config import Experiment, to_json
from mixscale.errors import InputError
from mixscale.io import RUNS_CSV, RUNS_PARQUET, SWEEP_FORMAT, atomic_write, check_format

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.run_table import RunTable

MANIFEST_COLUMNS = ("run", "size", "role", "origin")  # columns of the RunTable that come from the manifest

Rows = list[dict[str, Any]]  # measurements of one run: columns of the RunTable without the labels


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes `value` and the format number, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"format": SWEEP_FORMAT} | to_json(dict(value)), indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, without the format number.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: another version of mixscale wrote it.
    """
    found = json.loads(path.read_text())
    number = found.pop("format", None) if isinstance(found, dict) else None
    check_format(number, SWEEP_FORMAT, f"'{path}'", "train the sweep in a new folder: give another --name or --output")
    return found


def open_directory(experiment: Experiment, store: TokenStore) -> Path:
    """Creates the experiment's folder; raises InputError if the runs in it use another token store."""
    directory = experiment.directory
    corpus = directory / "corpus.json"
    about = {
        "store": store.id,
        "tokenizer": f"{experiment.corpus.tokenizer.kind} of {store.vocab_size} tokens",
        "context": store.context,
        "domains": store.table().to_dict("records"),
        "statistics": store.statistics,
    }
    if corpus.exists() and (before := read_json(corpus))["store"] != store.id:
        raise InputError(
            f"the runs in {directory} use token store {before['store']} ({before['tokenizer']}, context "
            f"{before['context']}), but this config gives store {store.id} ({about['tokenizer']}, context "
            f"{about['context']}); give another --name, or remove {directory}"
        )
    write_json(directory / "experiment.json", to_json(experiment))
    write_json(corpus, about)
    return directory


def run_directory(directory: Path, run: str) -> Path:
    return directory / "runs" / run


def population_directory(directory: Path, population: str) -> Path:
    return directory / "populations" / population


def ended(directory: Path, run: str) -> bool:
    """Whether the run is complete or diverged, and measured."""
    return (run_directory(directory, run) / "rows.json").exists()


def read_rows(directory: Path, run: str) -> Rows:
    return read_json(run_directory(directory, run) / "rows.json")["rows"]


def write_rows(directory: Path, run: str, rows: Rows) -> None:
    """Saves the measurements of a run, which ends it."""
    write_json(run_directory(directory, run) / "rows.json", {"rows": rows})


def remove_manifest(directory: Path, name: str) -> None:
    """Removes a plan's runs from the table, not their folders."""
    (directory / "plan" / f"{name}.json").unlink(missing_ok=True)


def read_manifests(directory: Path) -> Rows:
    """The runs of all plans, each once: those of the design first, then those of the verification."""
    runs: dict[str, dict[str, Any]] = {}
    for path in sorted((directory / "plan").glob("*.json")):
        for run in read_json(path)["runs"]:
            runs.setdefault(run["run"], run)
    return list(runs.values())


def collect(directory: Path) -> RunTable:
    """Writes and returns the table of the planned runs that have ended; raises InputError if there are none."""
    import pandas as pd

    from mixscale.run_table import RunTable

    rows = []
    for planned in read_manifests(directory):
        if ended(directory, planned["run"]):
            labels = {name: planned[name] for name in MANIFEST_COLUMNS}
            rows += [{**row, **labels} for row in read_rows(directory, planned["run"])]
    if not rows:
        raise InputError(f"no run in '{directory}' has ended yet; train them with `mixscale sweep CONFIG`")
    frame = pd.DataFrame(rows)
    middle = [c for c in frame.columns if c not in (*MANIFEST_COLUMNS, "seconds")]
    table = RunTable(frame[[*MANIFEST_COLUMNS, *middle, "seconds"]])
    table.write(directory / RUNS_CSV)
    table.write(directory / RUNS_PARQUET)
    return table
