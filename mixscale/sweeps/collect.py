"""Gathers the measured rows of all planned runs into the RunTable."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from mixscale.errors import InputError
from mixscale.run_table import RunTable
from mixscale.sweeps.directory import run_directory
from mixscale.sweeps.labels import LABELS, read_plans


def collect(directory: Path) -> RunTable:
    """Writes and returns the table of every planned run that has ended, in the plan's order.

    Raises:
        InputError: no run has ended yet.
    """
    rows = []
    for label in read_plans(directory):
        path = run_directory(directory, label["run"]) / "rows.json"
        if path.exists():
            said = {name: label[name] for name in LABELS}
            rows += [{**row, **said} for row in json.loads(path.read_text())]
    if not rows:
        raise InputError(f"no run in {directory} has ended; start or go on with `mixscale sweep`")
    frame = pd.DataFrame(rows)
    last = ["seconds"]
    frame = frame[[*LABELS, *(c for c in frame.columns if c not in (*LABELS, *last)), *last]]
    table = RunTable(frame)
    table.write(directory / "runs.csv")
    table.write(directory / "runs.parquet")
    return table
