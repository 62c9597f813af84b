"""TensorBoard logs as a run table: one run a folder, its mixture from a config or a table that goes with the logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mixscale.errors import InputError, listed
from mixscale.interop.importers.columns import Columns, named, target_tags
from mixscale.interop.importers.events import Logged, read_folder
from mixscale.interop.importers.formats import read_table
from mixscale.run_table import RunTable

CONFIG = "config."
"""Before the name of each value of a run's config, or of its hyper-parameters; levels are set apart by points."""
MOST = 100_000
"""Values that a config may have."""
NAMES = 10_000_000
"""Characters that their flat names may have together."""


def tensorboard(
    logs: str | Path,
    columns: Columns | None = None,
    config: str = "config.json",
    mixtures: str | Path | None = None,
    every_step: bool = False,
) -> RunTable:
    """The scalars that TensorBoard shows of a folder, one run for each folder below it that has event files.

    A row is a step at which a target was logged; other scalars that are named count from the last time they were.

    Args:
        logs: the folder; a run is called by its path below it.
        columns: which scalars are losses or metrics, and which values of the config are weights: those are called
            `config.NAME`, with points between levels, whether they are hyper-parameters in the logs or of `config`.
        config: name of the JSON or YAML file beside a run's logs, or in a folder above it, that holds its mixture.
        mixtures: table with a column `run` and the weights, in place of a config.
        every_step: keep every step that has the targets, not the last one alone.

    Raises:
        InputError: there are no logs, no scalar is a target, a config cannot be read, or the rows are no table.
    """
    columns, logs = columns or Columns(), Path(logs)
    found = {folder: read_folder(folder) for folder in _folders(logs)}
    tags = sorted({tag for logged in found.values() for tag in logged.scalars})
    targets = target_tags(tags, columns)
    if not targets:
        raise InputError(
            f"no scalar in '{logs}' is a target: name them with --loss or --metric (found: {listed(tags)})"
        )
    others = [tag for tag in columns.rename if tag in tags and tag not in targets]
    parts, notes = [], []
    for folder, logged in found.items():
        rows = _rows(logged, targets, others)
        if len(rows) == 0:
            continue
        if not every_step:
            whole = rows.dropna(subset=[t for t in targets if t in rows])
            rows = (whole if len(whole) else rows).iloc[-1:]
        name = folder.relative_to(logs).as_posix()
        about = _config(folder, logs, config, found) if mixtures is None else {}
        parts.append(rows.assign(run=logs.resolve().name if name == "." else name, **about))
    if empty := len(found) - len(parts):
        notes.append(f"{empty} of {len(found)} folders of logs hold no target and were left out")
    notes += [
        f"the end of {f / name} is damaged; what stands before it was read" for f in found for name in found[f].damaged
    ]
    frame = pd.concat(parts, ignore_index=True)
    notes += _unequal(frame)
    if mixtures is not None:
        frame = frame.merge(_mixtures(mixtures, frame), on="run", validate="many_to_one")
    imported, more = named(frame, columns)
    table = RunTable(imported)
    table.notes[:0] = [*notes, *more]
    return table


def _folders(logs: Path) -> list[Path]:
    if not logs.is_dir():
        raise InputError(f"'{logs}' is no folder; give the one that TensorBoard is started on")
    folders = sorted({file.parent for file in logs.rglob("*tfevents*") if file.is_file()})
    if not folders:
        raise InputError(f"folder '{logs}' holds no event files (*tfevents*), nor does any below it")
    return folders


def _rows(logged: Logged, targets: list[str], others: list[str]) -> pd.DataFrame:
    """One row a step at which a target was logged; other scalars hold until they are logged again."""
    wanted = [tag for tag in (*targets, *others) if tag in logged.scalars]
    rows = pd.DataFrame({tag: pd.Series(logged.scalars[tag], dtype="float64") for tag in wanted}).sort_index()
    measured = [tag for tag in targets if tag in rows]
    held = [tag for tag in others if tag in rows]
    rows[held] = rows[held].ffill()
    rows = rows.dropna(subset=measured, how="all") if measured else rows.iloc[:0]
    return rows.rename_axis("step").reset_index()


def _config(folder: Path, logs: Path, name: str, found: Mapping[Path, Logged]) -> dict[str, object]:
    """The values of a run's config under flat names: of its file, and of the hyper-parameters in its logs.

    PyTorch's writer puts hyper-parameters into a folder of their own below that of the run.
    """
    values: dict[str, object] = {}
    for place in (folder, *folder.parents):
        if (place / name).is_file():
            values = _read_config(place / name)
            break
        if place == logs:
            break
    for place in (*(f for f in found if f.parent == folder), folder):
        values |= found[place].hparams
    return _flat(values, CONFIG)


def _read_config(file: Path) -> dict[str, object]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"config '{file}' cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"config '{file}' holds a {type(values).__name__}; names and values are expected")
    return values


def _flat(values: Mapping, before: str) -> dict[str, object]:
    """Numbers and texts of nested dicts, with points between the levels.

    Raises:
        InputError: there are more of them than a config has, or longer names, as aliases of YAML can make of a few
            lines, and without end of one that holds itself.
    """
    found: dict[str, object] = {}
    waiting, dataset, held = [(before, values)], 0, 0
    while waiting:
        prefix, level = waiting.pop(0)
        for key, value in level.items():
            name = f"{prefix}{key}"
            dataset, held = dataset + 1, held + len(name)
            if dataset > MOST or held > NAMES:
                raise InputError(
                    f"the config of a run has more than {MOST} values, or names of more than {NAMES} characters "
                    f"together (does an alias hold itself?); give one of its mixture alone"
                )
            if isinstance(value, Mapping):
                waiting.append((f"{name}.", value))
            elif isinstance(value, int | float | str) and not isinstance(value, bool):
                found[name] = value
    return found


def _mixtures(file: str | Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of mixtures, which must have every run."""
    table = read_table(file, ("run",))
    if "run" not in table:
        raise InputError(f"table '{file}' has no column 'run' (found: {listed([str(c) for c in table])})")
    if lost := sorted(set(frame["run"]) - set(table["run"])):
        raise InputError(
            f"table '{file}' has no mixture of run {listed(lost)}; a run is called by the path of its logs"
        )
    if (again := table["run"].duplicated()).any():
        raise InputError(f"table '{file}' has run '{table['run'][again].iloc[0]}' twice; each is there once")
    return table.drop(columns=[c for c in table if c in frame and c != "run"])


def _unequal(frame: pd.DataFrame) -> list[str]:
    """Runs that end before the others: cut short, or still running, or meant so; the logs do not tell."""
    last = frame.groupby("run")["step"].max()
    short = last[last < last.max()]
    if len(short) == 0:
        return []
    return [
        f"{len(short)} of {len(last)} runs end before step {last.max()}, the last: {listed(list(short.index))}; "
        "drop those that were cut short, or name a column for n_tokens"
    ]
