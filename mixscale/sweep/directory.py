"""The folder of an experiment on disk: one folder per run, and what each run is for.

    DIR/experiment.json        the resolved config
    DIR/corpus.json            the token store and its domains
    DIR/plan/NAME.json         the runs of a plan, with role and origin
    DIR/speed.json             FLOP/s that runs of each size reached
    DIR/runs/ID/config.json    the run's config and the experiment's
    DIR/runs/ID/lock           held by the process that trains it
    DIR/runs/ID/checkpoints/   where it goes on after a kill; the newest is kept
    DIR/runs/ID/tensorboard/   training and held-out losses
    DIR/runs/ID/rows.json      its measurements; there once the run has ended
    DIR/runs.csv, runs.parquet the RunTable

The rooms to the right add fit/, optimum.json, result.json, summary.txt, figures/ and report.html. What this room
writes is written to the side and renamed, so that a kill leaves the old one or the new one, never half.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixscale.errors import InputError
from mixscale.experiment import Experiment, to_json
from mixscale.files import replaced

if TYPE_CHECKING:
    from mixscale.corpus import TokenStore
    from mixscale.sweep.plan import Planned


def write_json(path: Path, value: Any) -> None:
    """Writes `value` at `path`, whole or not at all."""
    with replaced(path) as temporary:
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


def write_plan(directory: Path, name: str, planned: list[Planned]) -> bool:
    """Records what each run of a plan is for, in the plan's order; returns whether it was another plan before."""
    path = directory / "plan" / f"{name}.json"
    labels = [{"run": p.run.id, "size": p.run.size, "role": p.role, "origin": p.origin} for p in planned]
    changed = path.exists() and json.loads(path.read_text()) != labels
    write_json(path, labels)
    return changed


def forget_plan(directory: Path, name: str) -> None:
    """Takes a plan's runs out of the table; what was trained stays."""
    (directory / "plan" / f"{name}.json").unlink(missing_ok=True)


def read_plans(directory: Path) -> list[dict[str, str]]:
    """The labels of all plans: the design's first, then the verification's."""
    return [label for path in sorted((directory / "plan").glob("*.json")) for label in json.loads(path.read_text())]


def run_directory(directory: Path, run: str) -> Path:
    return directory / "runs" / run


def ended(directory: Path, run: str) -> bool:
    """Whether the run has been measured to its end, complete or diverged."""
    return (run_directory(directory, run) / "rows.json").exists()


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Holds the claim on a run's folder; yields whether it was free.

    The claim is a lock of the operating system's, so a killed process, however it died, gives its claims back.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
