"""TensorBoard logs as a run table: one run per folder, its mixture from a config or a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from tyro.conf import arg

from mixscale.documents import flatten, parse_json, parse_yaml
from mixscale.errors import InputError, did_you_mean, listed
from mixscale.interop.importers import event_files
from mixscale.interop.importers.columns import Columns, named, target_tags
from mixscale.interop.importers.event_files import Logged
from mixscale.interop.importers.histories import Histories, short_runs
from mixscale.interop.importers.tables import IMPORTERS, Options, checked, unique
from mixscale.run_table import RunTable, Status
from mixscale.table_file import read_frame

PREFIX = "config."  # of the names of config values and hyperparameters; dots separate levels
TIMESTAMP = re.compile(r"\d{9,}(\.\d+)?")  # how PyTorch's writer calls a folder of hyperparameters


@IMPORTERS.register("tensorboard")
def tensorboard(
    logs: Annotated[Path, arg(metavar="LOGS")],
    /,
    columns: Options = Columns(),  # noqa: B008
    config: str = "config.json",
    mixtures: Path | None = None,
    every_step: bool = False,
) -> RunTable:
    """A folder of TensorBoard logs; each folder with event files is a run, named by its path.

    A row is a step at which a target was logged; other named scalars keep their last value until they are logged
    again.

    For example, with a config.json in each run's folder that has {"data": {"weights": {"web": 0.7, "code": 0.3}}}:
      mixscale import tensorboard logs --mix config.data.weights. --loss 'eval/{target}/loss' \\
          --rename tokens_seen n_tokens --out runs.csv

    Args:
        logs: the folder on which TensorBoard is started.
        config: name of the JSON or YAML file next to a run's logs, or above them, whose values are called config.NAME;
            so are hyperparameters in the logs.
        mixtures: table with a column run and the weights, in place of configs.
        every_step: keep every step at which a target was logged, not only the last one.

    Raises:
        InputError: there are no logs, no scalar is a target, a config cannot be read, or the rows are no run table.
    """
    logs = Path(logs)
    if not logs.is_dir():
        raise InputError(f"'{logs}' is no folder; give the one on which TensorBoard is started")
    files, notes = event_files.find(logs)
    if not files:
        raise InputError(f"folder '{logs}' and those below it hold no event files (*tfevents*)")
    found = {folder: event_files.read(paths) for folder, paths in files.items()}
    notes += _notes(found)
    tags = sorted({tag for logged in found.values() for tag in logged.scalars})
    targets = target_tags(tags, columns)
    if not targets:
        raise InputError(
            f"no scalar in '{logs}' is a target: name them with --loss or --metric "
            f"(found: {listed(tags) or '; '.join(notes[:1])})"
        )
    runs = _with_hparams(found, targets, notes)
    configs = {} if mixtures is not None else _configs(runs, logs, config, columns, notes)
    others = [tag for tag in columns.rename if tag in tags and tag not in targets]
    histories, parts = Histories(), []
    for folder, logged in runs.items():
        log = _log(logged, targets, others)
        if log.empty:
            continue
        name = folder.relative_to(logs).as_posix()
        name = logs.resolve().name if name == "." else name
        measured = [t for t in targets if t in log]
        rows = histories.measured(name, log, measured, [t for t in others if t in log], _failed_loss(logged))
        parts.append((rows if every_step else rows.iloc[-1:]).assign(run=name, **configs.get(folder, {})))
    if empty := len(runs) - len(parts):
        notes.append(f"{empty} of {len(runs)} folders of logs hold no target and were left out")
    notes += histories.notes(len(parts))
    frame = pd.concat(parts, ignore_index=True)
    if "status" in frame:
        frame["status"] = frame["status"].fillna(Status.COMPLETE)
    counted = "n_tokens" in columns.rename.values()
    notes += short_runs(frame, "or fit a law that uses n_tokens" if counted else "or name a column for n_tokens")
    if mixtures is not None:
        frame = frame.merge(_mixtures(mixtures, frame), on="run", validate="many_to_one")
    imported, more = named(frame, columns)
    return checked(imported, [*notes, *more])


def _log(logged: Logged, targets: list[str], others: list[str]) -> pd.DataFrame:
    """The scalars of a run by step; infinite where a target is not finite."""
    wanted = [tag for tag in (*targets, *others) if logged.scalars.get(tag)]
    log = pd.DataFrame({tag: pd.Series(logged.scalars[tag], dtype="float64") for tag in wanted}).sort_index()
    for tag in wanted:
        logged_at = list(logged.scalars[tag])
        kept = log.loc[logged_at, tag].where(np.isfinite, np.inf if tag in targets else np.nan)
        log.loc[logged_at, tag] = kept
    log = log if any(tag in targets for tag in wanted) else log.iloc[:0]
    return log.rename_axis("step").reset_index()


def _failed_loss(logged: Logged) -> str:
    """A tag of a loss that ends in a value that is not finite, after others; empty if there is none."""
    losses = {tag: [v[s] for s in sorted(v)] for tag, v in logged.scalars.items() if v and "loss" in tag.lower()}
    return next((t for t, v in losses.items() if not np.isfinite(v[-1]) and np.isfinite(v).any()), "")


def _with_hparams(found: Mapping[Path, Logged], targets: list[str], notes: list[str]) -> dict[Path, Logged]:
    """The runs; a folder of hyperparameters, as PyTorch's writer makes it below that of a run, belongs to that run."""
    runs, joined, differ = dict(found), [], []
    for folder, logged in found.items():
        run = found.get(folder.parent)
        if not logged.hparams or run is None or not run.scalars or folder.parent == folder:
            continue
        own = [tag for tag in logged.scalars if tag in targets]
        if own and not TIMESTAMP.fullmatch(folder.name):
            continue
        differ += [folder for name, v in logged.hparams.items() if run.hparams.get(name, v) != v][:1]
        run.hparams |= logged.hparams
        last = max(step for values in run.scalars.values() for step in values)
        for tag in own:
            run.scalars.setdefault(tag, {last: logged.scalars[tag][max(logged.scalars[tag])]})
        del runs[folder]
        joined.append(folder)
    if joined:
        notes.append(
            f"{len(joined)} folders of hyperparameters belong to the run above them, whose own scalars count: "
            f"{listed([str(f) for f in joined])}"
        )
    if differ:
        notes.append(f"hyperparameters of {listed([str(f) for f in differ])} replace others of the same run")
    return runs


def _configs(
    runs: Mapping[Path, Logged], logs: Path, name: str, columns: Columns, notes: list[str]
) -> dict[Path, dict[str, object]]:
    """The values of each run's config file and of the hyperparameters in its logs, under flat names."""
    values, users = {}, {}
    for folder, logged in runs.items():
        above = [p for p in (folder, *folder.parents) if p == logs or logs in p.parents]
        path = next((p / name for p in above if (p / name).is_file()), None)
        if path is not None:
            users.setdefault(path, []).append(str(folder.relative_to(logs)))
        content = {} if path is None else _read_config(path)
        what = f"config '{path}'" if path else f"the hyperparameters of '{folder}'"
        values[folder] = flatten({**content, **logged.hparams}, PREFIX, what)
    if not any(values.values()) and columns.mix.startswith(PREFIX):
        others = {p.name for f in runs for p in f.iterdir() if p.suffix in (".json", ".yaml", ".yml")}
        raise InputError(
            f"--mix '{columns.mix}' takes weights from configs, but no run has a file '{name}' in its folder or "
            f"above; give the file's name with --config, or a table with --mixtures{did_you_mean(name, others)}"
        )
    for path, folders in users.items():
        if len(folders) > 1:
            notes.append(f"{len(folders)} runs take their config from {path}: {listed(folders)}")
    return values


def _read_config(path: Path) -> Mapping:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"config '{path}' cannot be read: {error}") from error
    values = (parse_json if path.suffix == ".json" else parse_yaml)(text, f"config '{path}'")
    if not isinstance(values, Mapping):
        held = "nothing" if values is None else f"a {type(values).__name__}"
        raise InputError(f"config '{path}' holds {held}; it must hold names and values")
    return values


def _notes(found: Mapping[Path, Logged]) -> list[str]:
    """What was lost or undone while the event files were read."""
    notes = [note for logged in found.values() for note in logged.damaged]
    for folder, logged in found.items():
        if logged.cut:
            step, undone = logged.cut
            notes.append(
                f"the run in {folder} was restarted at step {step}; the {undone} values from there on that it had "
                "logged before were dropped"
            )
        if logged.conflicts:
            notes.append(
                f"several writers logged {logged.conflicts} values of the same tags and steps in {folder}; the last "
                "written of each counts"
            )
    return notes


def _mixtures(path: str | Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of mixtures; an error if it lacks a run."""
    table = unique(read_frame(path, ("run",)), path, "run")
    if missing := sorted(set(frame["run"]) - set(table["run"])):
        raise InputError(f"table '{path}' has no mixture of run {listed(missing)}; a run has the name of its folder")
    return table.drop(columns=[c for c in table if c in frame and c != "run"])
