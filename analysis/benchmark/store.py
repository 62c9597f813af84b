"""Keeps cells in a CSV file as they come, so that an interrupted run resumes."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import pandas as pd

COLUMNS = (
    *("key", "table", "split", "runs", "seed", "method", "part", "rows", "status"),
    *("rho", "mae", "relative", "r2", "coverage", "width", "regret", "rank", "seconds", "chosen"),
    *("trials", "optimum_inside", "excess", "judged", "nearest", "reason", "split_id", "written"),
)


class Store:
    """The cells of one folder: `cells.csv`, one row a cell and part, and the predictions that are drawn."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "cells.csv"

    def done(self) -> set[tuple[str, str]]:
        """Keys and splits of cells that need not be computed again."""
        frame = self.read()
        frame = frame[frame["status"] == "done"]
        return set(zip(frame["key"], frame["split_id"].fillna(""), strict=True))

    def read(self) -> pd.DataFrame:
        """The newest rows of every cell."""
        if not self.file.is_file():
            return pd.DataFrame(columns=list(COLUMNS))
        text = dict.fromkeys(("reason", "chosen", "split_id"), str)
        frame = pd.read_csv(self.file, dtype=text)
        newest_R = frame.groupby("key")["written"].transform("max")
        return frame[frame["written"] == newest_R].reset_index(drop=True)

    def add(self, rows: list[dict], shown: pd.DataFrame | None) -> None:
        """Append a cell's rows in one write, so that two processes may fill one folder."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if not self.file.is_file():
            writer.writeheader()
        written = time.time_ns()
        writer.writerows(_rounded(row | {"written": written}) for row in rows)
        with self.file.open("a", newline="", buffering=2**20) as file:
            file.write(text.getvalue())
        if shown is not None:
            self._show(rows[0]["key"], shown)

    def shown(self) -> pd.DataFrame:
        """All predictions that are drawn."""
        files = sorted((self.folder / "predictions").glob("*.csv"))
        return pd.concat([pd.read_csv(f) for f in files]) if files else pd.DataFrame()

    def _show(self, key: str, shown: pd.DataFrame) -> None:
        folder = self.folder / "predictions"
        folder.mkdir(exist_ok=True)
        name = "".join(c if c.isalnum() else "-" for c in key.split("@")[0])
        shown.round(6).to_csv(folder / f"{name}.csv", index=False)


def _rounded(row: dict) -> dict:
    return {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
