"""Formats that are tables: your own wide table, RegMix and olmix.

Each function reads files into a checked `RunTable`; docstring and signature are the help of `mixscale import`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from tyro.conf import OmitArgPrefixes, arg

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.interop.importers.columns import Columns, directed, named, renamed
from mixscale.registry import Registry
from mixscale.run_table import RunTable
from mixscale.table_file import read_frame

IMPORTERS: Registry[Callable[..., RunTable]] = Registry("import format")
"""Every format by its name on the command line: a function from files and options to a run table."""

REGMIX_DOMAIN = re.compile(r"(?:train_)?(?:the_pile_)?(.+)")
REGMIX_TARGET = re.compile(r"(?:metrics?/)?(?:valid_)?(?:the_pile_)?(.+?)(?:_val_loss|/cross_entropy.*)?")
"""RegMix's names: train_the_pile_arxiv and metric/the_pile_arxiv_val_loss are the domain and target `arxiv`."""
OLMIX_OTHER = ("run", "name", "index")
Options = OmitArgPrefixes[Columns]
Table = Annotated[Path, arg(metavar="TABLE")]
Mixtures = Annotated[Path, arg(metavar="MIXTURES")]
Losses = Annotated[Path, arg(metavar="LOSSES")]
Ratios = Annotated[Path, arg(metavar="RATIOS")]
Metrics = Annotated[Path, arg(metavar="METRICS")]


@IMPORTERS.register("csv")
def csv(table: Table, /, columns: Options = Columns()) -> RunTable:  # noqa: B008
    """A wide table, one row for each measurement: .csv (comma, semicolon, tab or |), .tsv or .parquet.

    Columns that a run table knows by their own name (run, seed, step, n_params, n_tokens, mix/DOMAIN, loss/TARGET ...)
    keep it; columns without a meaning are left out.

    For example:
      mixscale import csv table.csv --run name --mix w_ --loss loss_ --normalize --out runs.csv

    Args:
        table: the file.

    Raises:
        InputError: the file cannot be read, a column that is named does not exist, or the rows are no run table.
    """
    return checked(*named(read_frame(table, ("run", *columns.identity)), columns))


@IMPORTERS.register("regmix")
def regmix(
    mixtures: Mixtures, losses: Losses, /, n_params: float | None = None, n_tokens: float | None = None
) -> RunTable:
    """A pair of files as RegMix (arXiv 2407.01492) publishes them, joined on `index`.

    For example:
      mixscale import regmix train_mixture_1m.csv train_pile_loss_1m.csv --out runs.csv

    Args:
        mixtures: CSV with columns index and train_the_pile_DOMAIN, or other names of domains.
        losses: CSV with columns index and metric/the_pile_TARGET_val_loss.
        n_params: non-embedding parameters of the runs, for laws that use size.
        n_tokens: tokens on which each run was trained, for laws that use them.

    Raises:
        InputError: a file cannot be read, has no index or the same one twice, no index is in both, or the rows are no
            run table.
    """
    left, right = (read_frame(f, ("index",)) for f in (mixtures, losses))
    names = {c: "mix/" + REGMIX_DOMAIN.fullmatch(c)[1] for c in _values(left, ("index",))}
    targets = {c: "loss/" + REGMIX_TARGET.fullmatch(c)[1] for c in _values(right, ("index",))}
    return _joined((mixtures, left, names), (losses, right, targets), "index", n_params, n_tokens)


@IMPORTERS.register("olmix")
def olmix(
    ratios: Ratios,
    metrics: Metrics,
    /,
    higher_is_better: tuple[str, ...] = (),
    lower_is_better: tuple[str, ...] = (),
    n_params: float | None = None,
    n_tokens: float | None = None,
) -> RunTable:
    """A pair of files as olmix (github allenai/olmix) reads them, joined on `run`; metrics are in bits per byte.

    Columns name and index, and those without a name, are left out of both files.

    For example:
      mixscale import olmix ratios.csv metrics.csv --higher-is-better 'acc*' --out runs.csv

    Args:
        ratios: CSV with columns run and one for each domain.
        metrics: CSV with columns run and one for each metric.
        higher_is_better: metrics that are better when higher; * and ? are wildcards, as in 'acc*'.
        lower_is_better: metrics that are better when lower, whatever their names say.
        n_params: non-embedding parameters of the runs, for laws that use size.
        n_tokens: tokens on which each run was trained, for laws that use them.

    Raises:
        InputError: a file cannot be read, has no run or the same one twice, no run is in both, a metric is unknown, or
            the rows are no run table.
    """
    left, right = (read_frame(f, ("run",)) for f in (ratios, metrics))
    names = {c: f"mix/{c}" for c in _values(left, OLMIX_OTHER)}
    notes: list[str] = []
    metrics_of = {c: f"metric/{c}" for c in _values(right, OLMIX_OTHER)}
    targets = directed(metrics_of, higher_is_better, lower_is_better, notes, known=True)
    return _joined((ratios, left, names), (metrics, right, targets), "run", n_params, n_tokens, notes)


def unique(frame: pd.DataFrame, path: str | Path, key: str) -> pd.DataFrame:
    """The table; an error if it has no column `key`, or a value of it twice."""
    if key not in frame:
        raise InputError(f"table '{path}' has no column '{key}' to join on{did_you_mean(key, frame.columns)}")
    if (again_R := frame[key].duplicated()).any():
        raise InputError(f"table '{path}' has {key} '{frame[key][again_R].iloc[0]}' twice; each may occur once")
    return frame


def checked(frame: pd.DataFrame, notes: list[str]) -> RunTable:
    """The run table of these rows, with `notes` first."""
    table = RunTable(frame)
    table.notes[:0] = notes
    return table


def _values(frame: pd.DataFrame, other: Sequence[str]) -> list[str]:
    """All columns but the `other` ones and those without a name."""
    return [c for c in frame if c not in other and not c.startswith("Unnamed: ")]


def _joined(
    left: tuple[Path, pd.DataFrame, dict[str, str]],
    right: tuple[Path, pd.DataFrame, dict[str, str]],
    key: str,
    n_params: float | None,
    n_tokens: float | None,
    notes: Sequence[str] = (),
) -> RunTable:
    """Two files joined on `key`, each given as (file, rows, names old to new)."""
    parts = [renamed(unique(frame, path, key), {key: "run"} | names) for path, frame, names in (left, right)]
    notes = list(notes)
    for (path, *_), part, other in ((left, *parts), (right, *parts[::-1])):
        alone = part["run"][~part["run"].isin(other["run"])]
        if len(alone) == len(part):
            raise InputError(f"no {key} of '{left[0]}' is in '{right[0]}'; give two files of the same runs")
        if len(alone):
            notes.append(
                f"{len(alone)} of {len(part)} rows of {Path(path).name} have no partner and were left out: "
                f"{key} {listed(list(alone))}"
            )
    scale = {k: v for k, v in (("n_params", n_params), ("n_tokens", n_tokens)) if v is not None}
    return checked(parts[0].assign(**scale).merge(parts[1], on="run", validate="one_to_one"), notes)
