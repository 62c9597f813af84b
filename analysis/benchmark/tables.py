"""The public run tables as `RunTable`s; only here are the files under DATA_DIR known, and what their columns mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mixscale.interop import importers
from mixscale.interop.importers import Columns
from mixscale.run_table import RunTable

FOLDERS = {
    "regmix": "regmix",
    "3mix": "mixinglaws_3mix",
    "olmix": "olmix_dclm",
    "pile4": "pile4",
    "datablations": "datablations",
}
"""Folder of each table under DATA_DIR."""


def regmix(data: Path, part: str, size: str = "1m") -> RunTable:
    """RegMix's runs: `part` train (512 at 1M) or test, `size` 1m, 60m (the same 256 mixtures) or 1B (64)."""
    folder = data / FOLDERS["regmix"]
    return importers.regmix(folder / f"{part}_mixture_{size}.csv", folder / f"{part}_pile_loss_{size}.csv")


def three_mix(data: Path) -> RunTable:
    """Every checkpoint of the 3-domain runs at 70M, 160M and 410M."""
    columns = Columns(
        mix="w_",
        loss="loss_",
        run=("run_id",),
        rename={"n_nonemb_params": "n_params", "tokens": "n_tokens"},
        drop_missing=True,  # 28 of 1,088 checkpoints; every last one is there
    )
    return importers.csv(data / FOLDERS["3mix"] / "3mix.csv", columns)


def olmix(data: Path) -> RunTable:
    """olmix's 127 proxies, with the mean of the 110 metrics as the one target.

    The mean is fitted, not each metric: every family here is fitted to one target at a time, and the mean is what is
    asked for.
    """
    folder = data / FOLDERS["olmix"]
    table = importers.olmix(folder / "dclm_ratios.csv", folder / "dclm_metrics.csv")
    return mean_target(table)


def pile4(data: Path) -> RunTable:
    """85 runs of 4 Pile domains at 90M, 200M and 440M."""
    columns = Columns(
        mix="w_",
        loss="loss_",
        run=("model_size", "tokens", "mixture_id"),
        rename={"model_size": "n_params", "tokens": "n_tokens"},
    )
    return importers.csv(data / FOLDERS["pile4"] / "pile4_runs.csv", columns)


def datablations(data: Path) -> RunTable:
    """296 runs on one domain, which many of them read again and again."""
    columns = Columns(
        run=("name",),
        rename={
            "params": "n_params",
            "tokens": "n_tokens",
            "unique_tokens": "unique_tokens/c4",
            "loss": "loss/c4",
        },
        constant={"mix/c4": "1"},
    )
    return importers.csv(data / FOLDERS["datablations"] / "datablations_runs.csv", columns)


def mean_target(table: RunTable) -> RunTable:
    """The table with the mean of its targets in their place."""
    mean_R = table.frame[list(table.targets)].mean(axis=1)
    return RunTable(table.frame.drop(columns=list(table.targets)).assign(**{"loss/mean": mean_R}))


def only(table: RunTable, *targets: str) -> RunTable:
    """The table without its other targets."""
    return RunTable(table.frame.drop(columns=[t for t in table.targets if t not in targets]))


def part(table: RunTable, rows: np.ndarray) -> RunTable:
    """The rows of these numbers, in the table's order."""
    return table.where(np.isin(np.arange(len(table)), rows))


def size_of(table: RunTable) -> np.ndarray:
    """Rank of each row's model size, 0 for the smallest; sizes within a percent are one, shape (R,)."""
    value_R = table.frame["n_params"].to_numpy(dtype=np.float64)
    order_R = np.argsort(value_R, kind="stable")
    rank_R = np.empty(len(value_R), dtype=int)
    rank_R[order_R] = np.r_[0, np.cumsum(np.diff(np.log(value_R[order_R])) > 0.01)]
    return rank_R


def mixture_of(table: RunTable) -> np.ndarray:
    """Number of each row's mixture, shape (R,)."""
    return np.unique(np.round(table.mixtures_RxK, 6), axis=0, return_inverse=True)[1].reshape(-1)
