"""Exports of Weights & Biases: its table of runs, what its export script writes, and the histories of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from tyro.conf import arg

from mixscale.documents import expanded
from mixscale.errors import InputError, listed
from mixscale.interop.importers.columns import Columns, as_counts, named, run_names, target_tags
from mixscale.interop.importers.histories import Histories, short_runs
from mixscale.interop.importers.tables import IMPORTERS, Options, checked
from mixscale.run_table import RunTable, Status
from mixscale.table_file import conversion_note, numeric, read_frame

STATES = {"finished": Status.COMPLETE} | dict.fromkeys(
    ("crashed", "failed", "killed", "running", "preempting", "preempted", "pending"), Status.STOPPED
)
"""Status for each state of Weights & Biases; the export cuts short a run that is still running."""
DICTS = ("summary", "summary_metrics", "config", "json_config", "_json_config")  # columns whose cells hold a dict
IDS, NAMES = ("run", "ID", "id", "run_id"), ("Name", "name", "run_name", "display_name", "Group", "group")
RESERVED = (*IDS, *NAMES, "State", "state", "status", "role", "origin")  # never names of values in a dict
STEPS = ("step", "_step", "Step", "trainer/global_step", "global_step")
COUNTS = ("n_tokens", "tokens/", "epochs/", "flops", "seconds")  # columns of a run table that grow during a run
NOT_FINITE = ("nan", "inf", "-inf", "infinity", "-infinity")


@IMPORTERS.register("wandb")
def wandb(export: Annotated[Path, arg(metavar="EXPORT")], /, columns: Options = Columns()) -> RunTable:  # noqa: B008
    """A table of runs that Weights & Biases exports (Runs, download, CSV), or one that you made with its API.

    The ID identifies a run, or the Name if there is no ID. State finished is complete, any other stopped; a run whose
    last loss is not finite diverged. _step or Step is the step. Columns summary and config may hold dicts, whose
    values become columns: {'mix': {'web': 0.7}} becomes mix.web. A run may have several rows, as in its history; if
    its losses were logged at different steps, its last row joins the last value of each.

    For example:
      mixscale import wandb log.csv --mix config.mix. --loss 'eval/{target}/loss' --normalize --out runs.csv

    Args:
        export: the file.

    Raises:
        InputError: the file cannot be read or is the export of a chart, a state is unknown, a column that is named
            does not exist, one name belongs to an unclear number of runs, or the rows are no run table.
    """
    text = (*IDS, *NAMES, *columns.identity)
    frame = read_frame(export, text)
    present = [str(c) for c in frame]
    identified = columns.identity or columns.number_rows or any(c in present for c in (*IDS, *NAMES))
    if any(c.endswith("__MIN") for c in present) or (not identified and any(" - " in c for c in present)):
        raise InputError(
            f"'{export}' is the export of a chart, which has no mixtures; export the table of runs instead (Runs, "
            "download, CSV), with the config of the mixture and the losses among its columns"
        )
    notes: list[str] = []
    frame = expanded(frame, DICTS, RESERVED)
    columns = _without_prefixes(columns, [c for c in DICTS if c in present and c not in frame])
    rename = {old: new for old, new in columns.rename.items() if new != "run"}
    steps = [*(old for old, new in rename.items() if new == "step"), *(c for c in STEPS if c not in rename)]
    step = next((c for c in steps if c in frame), None)
    if step:
        rename.setdefault(step, "step")
    clock = step or next((c for c in frame if rename.get(c, c) == "n_tokens"), None)
    if clock:
        frame[clock] = numeric(as_counts(frame[clock]).rename("step"))
    targets = target_tags([str(c) for c in frame], columns)
    raw = None if Path(export).suffix.lower() == ".parquet" else read_frame(export, present)
    frame = _with_infinite(frame, targets, raw)
    frame = _with_status(frame, rename, notes)
    identity = next((c for c in (*IDS, *NAMES) if c in frame and _filled(frame[c])), None)
    chosen = () if columns.number_rows else columns.identity or ((identity,) if identity else ())
    run_R = run_names(frame, replace(columns, run=chosen), frame)
    if chosen and (columns.identity or identity in NAMES):
        run_R = _told_apart(frame, run_R, targets, clock, chosen, bool(columns.identity), notes)
    frame = frame.drop(columns=[c for c in chosen if c not in rename and c not in targets]).assign(run=run_R)
    counts = [str(c) for c in frame if rename.get(c, c).startswith(COUNTS)]
    frame = _measured(frame, targets, counts, clock, notes)
    columns = replace(columns, run=("run",), number_rows=False)
    found, more = named(frame, replace(columns, rename=rename))
    table = checked(found, [*notes, *more])
    if "step" in table.frame and "n_tokens" not in table.frame:
        table.notes += short_runs(table.frame, "or name a column for n_tokens")
    return table


def _without_prefixes(columns: Columns, dicts: Sequence[str]) -> Columns:
    """The options, in which the values of a column of dicts may also be written config.NAME or summary.NAME."""

    def bare(name: str) -> str:
        return next((name.removeprefix(f"{d}.") for d in dicts if name.startswith(f"{d}.")), name)

    patterns = {kind: bare(getattr(columns, kind)) for kind in ("mix", "loss", "metric")}
    rename = {bare(old): new for old, new in columns.rename.items()}
    return replace(columns, **patterns, rename=rename, run=tuple(map(bare, columns.run)))


def _with_infinite(frame: pd.DataFrame, targets: Sequence[str], raw: pd.DataFrame | None) -> pd.DataFrame:
    """The table with numbers as targets, infinite where the export has a value that is not finite."""
    changed = {}
    for target in targets:
        written = frame[target] if raw is None or target not in raw else raw[target]
        bad_R = written.astype(str).str.strip().str.lower().isin(NOT_FINITE) & written.notna()
        if bad_R.any():
            changed[target] = numeric(frame[target].mask(bad_R)).astype(np.float64).mask(bad_R, np.inf)
    return frame.assign(**changed)


def _with_status(frame: pd.DataFrame, rename: dict[str, str], notes: list[str]) -> pd.DataFrame:
    """The table with a column status if it has a State."""
    state = next((c for c in ("State", "state") if c in frame and c not in rename), None)
    if state is None or "status" in frame or "status" in rename.values():
        return frame
    lower = frame[state].astype(object).where(frame[state].notna(), "").astype(str).str.strip().str.lower()
    if blank := int((lower == "").sum()):
        notes.append(f"{blank} of {len(frame)} rows have no State (a group of runs has none); they count as finished")
        lower = lower.replace("", "finished")
    if (unknown_R := ~lower.isin(STATES)).any():
        raise InputError(f"State is '{frame[state][unknown_R].iloc[0]}'; known states are {', '.join(STATES)}")
    return frame.drop(columns=state).assign(status=lower.map(STATES))


def _filled(values: pd.Series) -> bool:
    return bool((values.notna() & (values.astype(str).str.strip() != "")).all())


def _told_apart(
    frame: pd.DataFrame,
    run_R: pd.Series,
    targets: Sequence[str],
    step: str | None,
    identity: Sequence[str],
    chosen: bool,
    notes: list[str],
) -> pd.Series:
    """Names of runs, in which runs that share a name have numbers.

    Rows of one name are several runs if their states differ, or if each ends at the same step.

    Args:
        chosen: you said that `identity` identifies runs, so that other rows of one name are one run.

    Raises:
        InputError: it is unclear whether rows are the log of one run or several runs.
    """
    run_R, numbered = run_R.copy(), []
    one_row_each = bool((run_R.value_counts() == 1).mean() >= 0.5)
    for name, index in run_R.groupby(run_R, sort=False).groups.items():
        rows = frame.loc[index]
        parts: list[pd.Index] = []
        for _, part in rows.groupby("status", sort=False) if "status" in rows else [("", rows)]:
            at = part[step] if step else pd.Series(0, index=part.index)
            clash = bool((part[list(targets)].groupby(at).count() > 1).any(axis=None))
            if clash and at.nunique() == 1 and not chosen:
                parts += [pd.Index([i]) for i in part.index]
            elif chosen or len(part) == 1 or not (clash or one_row_each):
                parts.append(part.index)
            else:
                steps = f", at steps {listed([f'{s:.12g}' for s in at])}" if step else ""
                exact = part.drop(columns=[*targets, *([step] if step else [])]).select_dtypes(exclude="floating")
                others = [c for c in exact if exact[c].nunique() == len(part)]
                ways = [f"`--run {identity[0]}` reads them as the log of one run"] if not clash else []
                ways += [f"`--run {identity[0]} '{others[0]}'` reads them as several runs"] if others else []
                raise InputError(
                    f"{identity[0]} '{name}' occurs {len(part)} times{steps}, and it is unclear for how many runs; "
                    f"export the column ID too{''.join(f', or {way}' for way in ways)}"
                )
        # A complete run keeps the name.
        parts.sort(key=lambda part: "status" in rows and rows["status"][part[0]] != Status.COMPLETE)
        for part in parts[1:]:
            number = next(n for n in range(2, len(frame) + 2) if f"{name}-{n}" not in set(run_R))
            run_R[part] = f"{name}-{number}"
            numbered.append(str(name))
    if numbered:
        notes.append(
            f"several runs share a name and got numbers, such as {numbered[0]}-2: {listed(sorted({*numbered}))}; "
            "export the column ID to name runs by it"
        )
    return run_R


def _measured(
    frame: pd.DataFrame, targets: Sequence[str], counts: Sequence[str], step: str | None, notes: list[str]
) -> pd.DataFrame:
    """The measurements of each run, and the last row of a run that has none."""
    infinite = bool(np.isinf(frame[list(targets)].select_dtypes("number").to_numpy(dtype=np.float64)).any())
    if not targets or (frame["run"].is_unique and not infinite):
        return frame
    converted: dict[str, str] = {}
    frame = frame.assign(**{t: numeric(frame[t], converted) for t in targets})
    notes += [conversion_note(converted)] if converted else []
    at = frame[step] if step else frame.groupby("run").cumcount()
    if (frame.groupby(["run", at])[list(targets)].count() > 1).any(axis=None):
        return frame  # the run table names the duplicates
    histories, parts = Histories(), []
    for run, rows in frame.groupby("run", sort=False):
        rows = rows.assign(step=at[rows.index]).sort_values("step", kind="stable")
        fixed = [c for c in rows if c not in targets and rows[c].nunique() == 1]
        rows[fixed] = rows[fixed].ffill().bfill()
        rows = rows.groupby("step", as_index=False).last()[list(rows)]
        measures = rows[list(targets)].notna().any(axis=None)
        parts.append(histories.measured(str(run), rows, targets, counts) if measures else rows[-1:])
    if histories.joined:
        parts = [part.iloc[-1:] for part in parts]
    notes += histories.notes(len(parts))
    found = pd.concat(parts, ignore_index=True)
    if len(frame) > len(found):
        notes.append(f"{len(frame) - len(found)} of {len(frame)} rows measure no target, or were joined with others")
    if "status" in found:
        found["status"] = found["status"].astype(object).where(found["status"].notna(), Status.COMPLETE)
    return found.drop(columns="step" if step != "step" else []).assign(**({step: found["step"]} if step else {}))
