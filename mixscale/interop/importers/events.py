"""TensorBoard's event files: scalars and hyper-parameters, read with tensorboardX's messages and no TensorFlow.

A file is a row of records, each with its length and checksums around it. What was being written when a run was killed
is half a record at the end; reading stops there and says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HEADER = struct.Struct("<QI")
CHECK = struct.Struct("<I")
LARGEST = 2**28
"""Bytes of the largest record that is believed; a longer one is a damaged length."""

TENSORS = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}
"""How a number of each of TensorFlow's dtypes (float, double, int32, int64) is packed."""


@dataclass
class Logged:
    """What one folder of event files holds."""

    scalars: dict[str, dict[int, float]] = field(default_factory=dict)
    """value by step, by tag"""
    hparams: dict[str, object] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    """files whose end could not be read"""


def read_folder(folder: Path) -> Logged:
    """All scalars of the event files in `folder`, not of those below it.

    A run that was started again writes another file; its steps replace those that the earlier one had from there on.
    """
    logged = Logged()
    for file in sorted(folder.glob("*tfevents*")):
        one, whole = _read_file(file)
        if not whole:
            logged.damaged.append(file.name)
        logged.hparams |= one.hparams
        for tag, values in one.scalars.items():
            earlier = logged.scalars.get(tag, {})
            logged.scalars[tag] = {s: v for s, v in earlier.items() if s < min(values)} | values
    return logged


def _read_file(file: Path) -> tuple[Logged, bool]:
    """What a file holds, and whether it could be read to its end."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    logged = Logged()
    with file.open("rb") as stream:
        try:
            for record in _records(stream):
                event = Event.FromString(record)
                for value in event.summary.value:
                    _take(value, event.step, logged)
        except (EOFError, DecodeError):
            return logged, False
    return logged, True


def _records(stream) -> Iterator[bytes]:
    """The records of an open file.

    Raises:
        EOFError: the file ends within a record, or a length or its checksum is damaged.
    """
    from tensorboardX.record_writer import masked_crc32c

    while header := stream.read(HEADER.size):
        if len(header) < HEADER.size:
            raise EOFError
        length, check = HEADER.unpack(header)
        if check != masked_crc32c(header[:8]) or length > LARGEST:
            raise EOFError
        body = stream.read(length + CHECK.size)
        if len(body) < length + CHECK.size or CHECK.unpack(body[length:])[0] != masked_crc32c(body[:length]):
            raise EOFError
        yield body[:length]


def _take(value, step: int, logged: Logged) -> None:
    """Adds a scalar, or the hyper-parameters, of one summary value; other kinds are left out."""
    if value.metadata.plugin_data.plugin_name == "hparams":
        from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

        found = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info.hparams
        logged.hparams |= {name: getattr(v, v.WhichOneof("kind")) for name, v in found.items() if v.WhichOneof("kind")}
        return
    number = _number(value)
    if number is not None:
        logged.scalars.setdefault(value.tag, {})[step] = number


def _number(value) -> float | None:
    """A scalar as old writers store it, or as a tensor of one number, as TensorFlow 2 does."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind != "tensor" or any(d.size != 1 for d in value.tensor.tensor_shape.dim):
        return None
    tensor = value.tensor
    for values in (tensor.float_val, tensor.double_val):
        if len(values) == 1:
            return values[0]
    form, content = TENSORS.get(tensor.dtype), tensor.tensor_content
    if form is None or len(content) != struct.calcsize(form):
        return None
    return float(struct.unpack(form, content)[0])
