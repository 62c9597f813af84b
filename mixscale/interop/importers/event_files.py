"""Reads folders of TensorBoard's event files: scalars and hyperparameters, with restarts undone.

Uses tensorboardX's messages, without TensorFlow. A file is a sequence of records with lengths and checksums. A killed
run leaves half a record at the end; reading stops there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixscale.documents import parse_cell
from mixscale.errors import InputError

HEADER, CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")
MAX_RECORD = 2**28  # most bytes of a record; a larger length is a damaged one
NUMBERS = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}
"""How a number of each of TensorFlow's dtypes (float, double, int32, int64) is packed."""


@dataclass
class Logged:
    """Content of one folder of event files."""

    scalars: dict[str, dict[int, float]] = field(default_factory=dict)  # value by step, by tag
    hparams: dict[str, object] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)  # files with an unreadable end, and what was left out
    cut: tuple[int, int] | None = None  # first step that a restart logged again, and the number of values it undid
    conflicts: int = 0  # values that another writer had logged for the same tag and step


def find(logs: Path) -> tuple[dict[Path, list[Path]], list[str]]:
    """The event files of each folder at or below `logs`, links followed, and notes on links that are left out.

    A folder or file that is reached by several paths counts once, by the path with the fewest links.

    Raises:
        InputError: a link leads to a folder that contains it.
    """
    folders: dict[str, list[Path]] = {}  # the paths by which each real folder is reached
    broken = []
    for place, below, names in os.walk(logs, followlinks=True):
        here = Path(place)
        folders.setdefault(os.path.realpath(place), []).append(here)
        path = [p for p in (here, *here.parents) if p == logs or logs in p.parents]
        above = {os.path.realpath(p): p for p in path}
        for name in below:
            if container := above.get(os.path.realpath(here / name)):
                link = next(p for p in (here / name, *path) if p.is_symlink())
                raise InputError(
                    f"link '{link}' leads to '{link.resolve()}', so that '{container}' contains itself; remove the "
                    "link, or give a folder without it"
                )
        below.sort()
        broken += [here / name for name in names if not (here / name).exists()]
    notes = [f"the link {path} leads nowhere and was left out" for path in broken]
    found: dict[Path, list[Path]] = {}
    read: dict[str, Path] = {}
    chosen = {real: min(paths, key=lambda p: (_links(p, logs), p)) for real, paths in folders.items()}
    for real, here in sorted(chosen.items(), key=lambda item: (_links(item[1], logs), item[1])):
        files = [f for f in sorted(here.glob("*tfevents*")) if f.is_file()]
        again = [f for f in files if read.setdefault(os.path.realpath(f), f) != f]
        notes += [f"{f} is the same file as {read[os.path.realpath(f)]} and was left out" for f in again]
        if files := [f for f in files if f not in again]:
            found[here] = files
            notes += [f"{p} and {here} are one folder, which counts once" for p in folders[real] if p != here]
    return dict(sorted(found.items())), notes


def read(files: list[Path]) -> Logged:
    """Scalars and hyperparameters of one folder, whose files may be lives of one run, or writers side by side.

    What a run logged from step S on is undone, for all tags, if a writer says that it restarts at S, or if a tag goes
    back to S in the same file or in one that began after the other ended.
    """
    logged = Logged()
    lives = [_read_file(path, logged) for path in files]
    lives = sorted((life for life in lives if life), key=lambda life: life[0][0])
    starts, ends = [life[0][0] for life in lives], [life[-1][0] for life in lives]
    events = [(time, n, *event) for n, life in enumerate(lives) for time, *event in life]
    events.sort(key=lambda event: event[:2])  # stable: the order of a file stays
    last: dict[str, dict[int, int]] = {}  # newest step of each tag, by file
    for _, n, step, tag, value in events:
        before = last.setdefault(tag, {}) if tag else {}
        earlier = [s for other, s in before.items() if other == n or (other < n and ends[other] <= starts[n])]
        if not tag or max(earlier, default=step) > step:
            _cut(logged, last, step)
        if tag:
            values = logged.scalars.setdefault(tag, {})
            logged.conflicts += len(before) > len(earlier) and values.get(step, value) != value
            values[step], before[n] = value, step
    logged.scalars = {tag: values for tag, values in logged.scalars.items() if values}
    return logged


def _cut(logged: Logged, last: dict[str, dict[int, int]], step: int) -> None:
    """Undoes what was logged from `step` on."""
    undone = 0
    for tag, values in logged.scalars.items():
        late = [s for s in values if s >= step]
        undone += len(late)
        for s in late:
            del values[s]
        last[tag] = {n: min(s, step - 1) for n, s in last[tag].items()}
    if undone:
        first, before = logged.cut or (step, 0)
        logged.cut = min(first, step), before + undone


def _read_file(path: Path, logged: Logged) -> list[tuple[float, int, str, float]]:
    """Time, step, tag and value of a file's scalars; the tag is empty where a writer restarts at the step."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    events: list[tuple[float, int, str, float]] = []
    time = -np.inf
    try:
        for record in _records(path):
            event = Event.FromString(record)
            time = max(time, event.wall_time)
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                events.append((time, event.step, "", 0.0))
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    logged.hparams |= _hparams(value)
                elif value.metadata.plugin_data.plugin_name == "text":
                    logged.hparams |= _config_text(value)
                elif (number := _number(value)) is not None:
                    events.append((time, event.step, value.tag, number))
    except (EOFError, DecodeError):
        if np.isinf(time):
            logged.damaged.append(f"{path} is not an event file, or is damaged from its start; it was left out")
        else:
            logged.damaged.append(f"the end of {path} is damaged; the part before it was read")
    return events


def _links(path: Path, logs: Path) -> int:
    return sum(p.is_symlink() for p in (path, *path.parents) if logs in p.parents)


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


def _config_text(value) -> dict[str, object]:
    """A text that holds a mapping, such as a config as JSON, under its tag."""
    texts = [text.decode(errors="replace") for text in value.tensor.string_val]
    found = parse_cell(texts[0], f"text '{value.tag}'") if len(texts) == 1 else None
    return {} if found is None else {value.tag.removesuffix("/text_summary"): found}


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
