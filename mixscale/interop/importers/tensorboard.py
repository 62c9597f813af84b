"""TensorBoard logs as a run table: one run per folder, its mixture from a config or a table.

Reads event files with tensorboardX's messages, without TensorFlow. A file is a sequence of records with lengths and
checksums. A killed run leaves half a record at the end; reading stops there, with a note.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd
from tyro.conf import arg

from mixscale.errors import InputError, listed
from mixscale.interop.importers.columns import Columns, named, target_tags
from mixscale.interop.importers.tables import IMPORTERS, Options, checked, unique
from mixscale.run_table import RunTable
from mixscale.table_file import read_frame

PREFIX = "config."  # of the names of config values and hyperparameters; dots separate levels
MAX_VALUES, MAX_CHARACTERS = 100_000, 10_000_000  # of a config: values, and characters of all their flat names
HEADER, CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")
MAX_RECORD = 2**28  # most bytes of a record; a larger length is a damaged one
NUMBERS = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}
"""How a number of each of TensorFlow's dtypes (float, double, int32, int64) is packed."""


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
    folders = sorted({file.parent for file in logs.rglob("*tfevents*") if file.is_file()})
    if not folders:
        raise InputError(f"folder '{logs}' and those below it hold no event files (*tfevents*)")
    found = {folder: _read_folder(folder) for folder in folders}
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
        if rows.empty:
            continue
        if not every_step:
            whole = rows.dropna(subset=[t for t in targets if t in rows])
            rows = (whole if len(whole) else rows).iloc[-1:]
        name = folder.relative_to(logs).as_posix()
        about = _config(folder, logs, config, found) if mixtures is None else {}
        parts.append(rows.assign(run=logs.resolve().name if name == "." else name, **about))
    if empty := len(found) - len(parts):
        notes.append(f"{empty} of {len(found)} folders of logs hold no target and were left out")
    damaged = [folder / name for folder, logged in found.items() for name in logged.damaged]
    notes += [f"the end of {path} is damaged; the part before it was read" for path in damaged]
    frame = pd.concat(parts, ignore_index=True)
    last = frame.groupby("run")["step"].max()
    if len(short := last[last < last.max()]):
        notes.append(
            f"{len(short)} of {len(last)} runs end before the last step, {last.max()}: {listed(list(short.index))}; "
            "drop those that were cut short, or name a column for n_tokens"
        )
    if mixtures is not None:
        frame = frame.merge(_mixtures(mixtures, frame), on="run", validate="many_to_one")
    imported, more = named(frame, columns)
    return checked(imported, [*notes, *more])


def _rows(logged: Logged, targets: list[str], others: list[str]) -> pd.DataFrame:
    """One row per step at which a target was logged; other scalars keep their last value."""
    wanted = [tag for tag in (*targets, *others) if tag in logged.scalars]
    rows = pd.DataFrame({tag: pd.Series(logged.scalars[tag], dtype="float64") for tag in wanted}).sort_index()
    measured = [tag for tag in targets if tag in rows]
    held = [tag for tag in others if tag in rows]
    rows[held] = rows[held].ffill()
    rows = rows.dropna(subset=measured, how="all") if measured else rows.iloc[:0]
    return rows.rename_axis("step").reset_index()


def _config(folder: Path, logs: Path, name: str, found: Mapping[Path, Logged]) -> dict[str, object]:
    """The values of a run's config file and of the hyperparameters in its logs, under flat names."""
    above = [p for p in (folder, *folder.parents) if p == logs or logs in p.parents]
    path = next((p / name for p in above if (p / name).is_file()), None)
    values = {} if path is None else _read_config(path)
    # PyTorch's writer puts hyperparameters into a folder below that of the run.
    for place in (*(f for f in found if f.parent == folder), folder):
        values |= found[place].hparams
    return _flat(values)


def _read_config(path: Path) -> dict[str, object]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"config '{path}' cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"config '{path}' holds a {type(values).__name__}; it must hold names and values")
    return values


def _flat(values: Mapping) -> dict[str, object]:
    """Numbers and texts of nested dicts, with dots between levels; limited, as YAML aliases can be circular."""
    found: dict[str, object] = {}
    waiting, count, characters = [(PREFIX, values)], 0, 0
    while waiting:
        prefix, level = waiting.pop(0)
        for key, value in level.items():
            name = f"{prefix}{key}"
            count, characters = count + 1, characters + len(name)
            if count > MAX_VALUES or characters > MAX_CHARACTERS:
                raise InputError(
                    f"the config of a run has more than {MAX_VALUES} values, or names of more than {MAX_CHARACTERS} "
                    "characters together (does an alias contain itself?); give one with the mixture alone"
                )
            if isinstance(value, Mapping):
                waiting.append((f"{name}.", value))
            elif isinstance(value, int | float | str) and not isinstance(value, bool):
                found[name] = value
    return found


def _mixtures(path: str | Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of mixtures; an error if it lacks a run."""
    table = unique(read_frame(path, ("run",)), path, "run")
    if missing := sorted(set(frame["run"]) - set(table["run"])):
        raise InputError(f"table '{path}' has no mixture of run {listed(missing)}; a run has the name of its folder")
    return table.drop(columns=[c for c in table if c in frame and c != "run"])


# ------------------------------------------------------------------ event files


@dataclass
class Logged:
    """Content of one folder of event files."""

    scalars: dict[str, dict[int, float]] = field(default_factory=dict)  # value by step, by tag
    hparams: dict[str, object] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)  # files with an unreadable end


def _read_folder(folder: Path) -> Logged:
    """Scalars and hyperparameters of the event files in `folder`.

    A restarted run writes another file; from its first step on, its steps replace those of the earlier file.
    """
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    logged = Logged()
    for path in sorted(folder.glob("*tfevents*")):
        scalars: dict[str, dict[int, float]] = {}
        try:
            for record in _records(path):
                event = Event.FromString(record)
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "hparams":
                        logged.hparams |= _hparams(value)
                    elif (number := _number(value)) is not None:
                        scalars.setdefault(value.tag, {})[event.step] = number
        except (EOFError, DecodeError):
            logged.damaged.append(path.name)
        for tag, values in scalars.items():
            earlier = logged.scalars.get(tag, {})
            logged.scalars[tag] = {s: v for s, v in earlier.items() if s < min(values)} | values
    return logged


def _records(path: Path) -> Iterator[bytes]:
    """The records of an event file; EOFError if the file ends within one, or a length or checksum is damaged."""
    from tensorboardX.record_writer import masked_crc32c

    with path.open("rb") as stream:
        while header := stream.read(HEADER.size):
            if len(header) < HEADER.size:
                raise EOFError
            length, check = HEADER.unpack(header)
            if check != masked_crc32c(header[:8]) or length > MAX_RECORD:
                raise EOFError
            body = stream.read(length + CHECKSUM.size)
            whole = len(body) == length + CHECKSUM.size
            if not whole or CHECKSUM.unpack(body[length:])[0] != masked_crc32c(body[:length]):
                raise EOFError
            yield body[:length]


def _hparams(value) -> dict[str, object]:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    found = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info.hparams
    return {name: getattr(v, v.WhichOneof("kind")) for name, v in found.items() if v.WhichOneof("kind")}


def _number(value) -> float | None:
    """A simple value, or a tensor of one number, as TensorFlow 2 writes it."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind != "tensor" or any(d.size != 1 for d in value.tensor.tensor_shape.dim):
        return None
    tensor = value.tensor
    for values in (tensor.float_val, tensor.double_val):
        if len(values) == 1:
            return values[0]
    form, content = NUMBERS.get(tensor.dtype), tensor.tensor_content
    if form is None or len(content) != struct.calcsize(form):
        return None
    return float(struct.unpack(form, content)[0])
