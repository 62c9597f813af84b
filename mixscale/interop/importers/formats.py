"""One function a format: reads what another tool wrote and returns a checked `RunTable`.

The notes of each table tell what was changed, joined or left out.
"""

from __future__ import annotations

import csv as csv_files
import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.interop.importers.columns import Columns, as_scores, named, renamed
from mixscale.run_table import RunTable, Status, read_frame

REGMIX_DOMAIN = re.compile(r"(?:train_)?(?:the_pile_)?(.+)")
REGMIX_TARGET = re.compile(r"(?:metrics?/)?(?:valid_)?(?:the_pile_)?(.+?)(?:_val_loss|/cross_entropy.*)?")
"""What RegMix calls a domain and its loss: train_the_pile_arxiv and metric/the_pile_arxiv_val_loss are `arxiv`."""
LOOKED_AT = 100
"""Lines from which the separator and the decimal sign are told."""
OLMIX_ABOUT = ("run", "name", "index")
STATES = {"finished": Status.COMPLETE} | dict.fromkeys(
    ("crashed", "failed", "killed", "running", "preempting", "preempted", "pending"), Status.STOPPED
)
"""Status of a run for each state of Weights & Biases; one that still runs is cut short where the export was made."""


def regmix(
    mixtures: str | Path, losses: str | Path, n_params: float | None = None, n_tokens: float | None = None
) -> RunTable:
    """A pair of files as RegMix (arXiv 2407.01492) publishes them, joined on `index`.

    Args:
        mixtures: columns index and train_the_pile_DOMAIN, or other names of domains. losses: columns index and
            metric/the_pile_TARGET_val_loss. Both lose what is around the name of the domain or target.
        n_params: non-embedding parameters of the runs. n_tokens: tokens each was trained on.

    Raises:
        InputError: a file cannot be read, has no index, or has one twice; no index is in both; the rows are no table.
    """
    left, right = (read_table(f, ("index",)) for f in (mixtures, losses))
    names = {c: "mix/" + REGMIX_DOMAIN.fullmatch(c)[1] for c in _values(left, ("index",))}
    targets = {c: "loss/" + REGMIX_TARGET.fullmatch(c)[1] for c in _values(right, ("index",))}
    return _joined((mixtures, left, names), (losses, right, targets), "index", n_params, n_tokens)


def olmix(
    ratios: str | Path,
    metrics: str | Path,
    higher_is_better: Sequence[str] = (),
    n_params: float | None = None,
    n_tokens: float | None = None,
) -> RunTable:
    """A pair of files as olmix (github allenai/olmix) reads them, joined on `run`.

    Args:
        ratios: columns run and one for each domain. metrics: columns run and one for each metric, in bits per byte
            (lower is better). Columns name and index, and those without a name, are left out of both.
        higher_is_better: metrics that are scores, by name; * and ? stand for anything.
        n_params: non-embedding parameters of the runs. n_tokens: tokens each was trained on.

    Raises:
        InputError: a file cannot be read, has no run, or has one twice; no run is in both; a metric is unknown; the
            rows are no table.
    """
    left, right = (read_table(f, ("run",)) for f in (ratios, metrics))
    names = {c: f"mix/{c}" for c in _values(left, OLMIX_ABOUT)}
    targets = as_scores({c: f"metric/{c}" for c in _values(right, OLMIX_ABOUT)}, higher_is_better)
    return _joined((ratios, left, names), (metrics, right, targets), "run", n_params, n_tokens)


def csv(table: str | Path, columns: Columns | None = None) -> RunTable:
    """A wide table, one row a measurement: .csv (set apart by comma, semicolon, tab or |), .tsv or .parquet.

    Columns that a run table knows by their own name are taken as they are; those that nothing names are left out.

    Raises:
        InputError: the file cannot be read, what `columns` names is not there, or the rows are no table.
    """
    columns = columns or Columns()
    return _table(*named(read_table(table, ("run", *columns.run, *_named_run(columns))), columns))


def wandb(export: str | Path, columns: Columns | None = None) -> RunTable:
    """The CSV file that Weights & Biases exports of a project's table of runs.

    A run is told by its ID, or by its Name where there is no ID; State finished is complete, any other stopped;
    _step or Step is its step. Everything else as in `csv`.

    Raises:
        InputError: the file cannot be read or is the export of a chart, a state is unknown, what `columns` names is
            not there, or the rows are no table.
    """
    columns = columns or Columns()
    frame = read_table(export, ("run", "ID", "Name", *columns.run, *_named_run(columns)))
    if any(str(c).endswith("__MIN") for c in frame):
        raise InputError(
            f"'{export}' is the export of a chart, which has no mixtures; export the table of runs instead (Runs, "
            "download, CSV), with the mixture's config and the losses among its columns"
        )
    identity = next((c for c in ("run", "ID", "Name") if c in frame), None)
    if identity and not (columns.run or columns.number_rows or _named_run(columns)):
        columns = replace(columns, run=(identity,))
    rename = dict(columns.rename)
    if "State" in frame and "State" not in rename and "status" not in frame:
        frame["State"] = _statuses(frame["State"])
        rename["State"] = "status"
    step = next((c for c in ("_step", "Step") if c in frame), None)
    if step and step not in rename and "step" not in [*frame, *rename.values()]:
        rename[step] = "step"
    return _table(*named(frame, replace(columns, rename=rename)))


def read_table(file: str | Path, text: Sequence[str]) -> pd.DataFrame:
    """The rows of a file, its separator and decimal sign found in it; columns in `text` stay as written."""
    file = Path(file)
    if not file.is_file():
        raise InputError(f"table '{file}' {'is a folder; give a file' if file.is_dir() else 'does not exist'}")
    if file.suffix == ".parquet":
        return read_frame(file)
    try:
        with file.open(encoding="utf-8-sig") as whole:
            lines = [line.rstrip("\n") for line in itertools.islice(whole, LOOKED_AT)]
    except (OSError, UnicodeError) as error:
        raise InputError(f"table '{file}' cannot be read: {error}") from error
    header = next((line for line in lines if line.strip()), "")
    sign = max(",;\t|", key=re.sub(r'"[^"]*"', "", header).count)
    columns = next(csv_files.reader([header], delimiter=sign), [])
    if repeated := [c for c in columns if c and columns.count(c) > 1]:
        raise InputError(f"table '{file}' has column '{repeated[0]}' twice; names are unique")
    return read_frame(file, [c for c in text if c in columns], sep=sign, decimal=_decimal(lines[1:], sign))


def _decimal(lines: Sequence[str], sign: str) -> str:
    """The comma where some number is written with one and none with a point, as in half of Europe."""
    cells = [cell.strip() for line in lines for cell in line.split(sign)] if sign != "," else []
    with_comma, with_point = (any(re.fullmatch(rf"-?\d+\{s}\d+", c) for c in cells) for s in ",.")
    return "," if with_comma and not with_point else "."


def _values(frame: pd.DataFrame, about: Sequence[str]) -> list[str]:
    """Columns that hold weights or measurements: all but those `about` the run and those without a name."""
    return [c for c in frame if c not in about and not c.startswith("Unnamed: ")]


def _joined(
    left: tuple[str | Path, pd.DataFrame, dict[str, str]],
    right: tuple[str | Path, pd.DataFrame, dict[str, str]],
    key: str,
    n_params: float | None,
    n_tokens: float | None,
) -> RunTable:
    """Rows of one key of two files, each given as (file, rows, names old to new)."""
    parts, notes = [], []
    for file, frame, names in (left, right):
        if key not in frame:
            raise InputError(f"table '{file}' has no column '{key}' to join on{did_you_mean(key, frame.columns)}")
        if (again := frame[key].duplicated()).any():
            raise InputError(f"table '{file}' has {key} '{frame[key][again].iloc[0]}' twice; each is there once")
        parts.append(renamed(frame, {key: "run"} | names))
    for (file, *_), part, other in ((left, *parts), (right, *parts[::-1])):
        alone = part["run"][~part["run"].isin(other["run"])]
        if len(alone) == len(part):
            raise InputError(f"no {key} of '{left[0]}' is in '{right[0]}'; are these two of one set of runs?")
        if len(alone):
            notes.append(
                f"{len(alone)} of {len(part)} rows of {Path(file).name} have no partner and were left out: "
                f"{key} {listed(list(alone))}"
            )
    scale = {k: v for k, v in (("n_params", n_params), ("n_tokens", n_tokens)) if v is not None}
    return _table(parts[0].assign(**scale).merge(parts[1], on="run", validate="one_to_one"), notes)


def _table(frame: pd.DataFrame, notes: list[str]) -> RunTable:
    table = RunTable(frame)
    table.notes[:0] = notes
    return table


def _named_run(columns: Columns) -> list[str]:
    """The column that is renamed to `run`, if one is."""
    return [old for old, new in columns.rename.items() if new == "run"]


def _statuses(states: pd.Series) -> pd.Series:
    lower = states.astype(str).str.lower()
    if (unknown := ~lower.isin(STATES)).any():
        raise InputError(f"State is '{states[unknown].iloc[0]}'; known are {', '.join(STATES)}")
    return lower.map(STATES)
