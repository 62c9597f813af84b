"""JSON Lines: files of your own, split at any byte unless compressed, and the domains that ship with mixscale."""

from __future__ import annotations

import json
import lzma
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from mixscale.config import Embedded, Jsonl
from mixscale.data.sources.base import (
    BUFFER,
    COMPRESSED,
    READERS,
    Damage,
    File,
    Found,
    Piece,
    Reader,
    Record,
    decoded,
    opened,
    too_long,
)
from mixscale.errors import InputError, did_you_mean

EMBEDDED = Path(__file__).parent.parent / "embedded"
SUFFIX = ".jsonl.xz"


@READERS.register("Jsonl")
class JsonlReader(Reader):
    source: Jsonl

    def pieces(self, size: int) -> list[Piece]:
        return [piece for file in self.files() for piece in _split(file, size)]

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        """The objects on the lines that begin inside `piece`; of a longer line no more than `max_bytes` are held."""
        (path,) = piece.files
        with opened(path) as file:
            at = _seek_line(file, piece.start, piece.stop)
            number = 0
            while at < piece.stop and (line := file.readline(max_bytes + 1)):
                number += 1
                location = f"{path}, line {number}" if piece.start == 0 else f"{path}, byte {at}"
                at += len(line)
                if len(line) > max_bytes:
                    at += _skip_line(file, line)
                    yield too_long(location, max_bytes)
                elif not line.isspace():
                    yield _parsed(line, location)


@READERS.register("Embedded")
class EmbeddedReader(Reader):
    """A domain that ships with mixscale: one compressed file, whose objects also name the work they belong to."""

    source: Embedded

    def files(self) -> list[File]:
        if self.source.name not in embedded_names():
            hint = did_you_mean(self.source.name, embedded_names())
            raise InputError(f"there is no embedded domain '{self.source.name}'{hint}")
        path = EMBEDDED / (self.source.name + SUFFIX)
        return [File(str(path), path.stat().st_size)]

    def pieces(self, size: int) -> list[Piece]:
        return [Piece((file.path,), 0, 1, file.size) for file in self.files()]

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        with lzma.open(piece.files[0]) as lines:
            for number, line in enumerate(lines, 1):
                fields = json.loads(line)
                yield Record(fields, f"{self.source.name}, document {number}", fields.get("work", ""))


def embedded_names() -> tuple[str, ...]:
    """Names that `Embedded` accepts."""
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in EMBEDDED.glob(f"*{SUFFIX}")))


def _parsed(line: bytes, location: str) -> Found:
    text = decoded(line, location)
    if isinstance(text, Damage):
        return text
    try:
        found = json.loads(text)
    except RecursionError:
        return Damage(f"{location}: JSON is nested too deep")
    except ValueError as error:
        # A number with more digits than Python converts is a plain ValueError.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        return Damage(f"{location}: not JSON ({reason}); each line must be one JSON object")
    if not isinstance(found, dict):
        return Damage(f"{location}: found a {type(found).__name__}; each line must be one JSON object")
    return Record(found, location)


def _split(file: File, size: int) -> list[Piece]:
    if Path(file.path).suffix.lower() in COMPRESSED:
        # The length of its text is not known in advance.
        return [Piece((file.path,), 0, 2**63, file.size)]
    return [
        Piece((file.path,), start, min(start + size, file.size), min(size, file.size - start))
        for start in range(0, file.size, size)
    ]


def _seek_line(file: IO[bytes], start: int, stop: int) -> int:
    """Seeks the first line that begins at `start` or later and returns its position, at most `stop`."""
    if start == 0:
        return 0
    file.seek(start - 1)
    at = start - 1
    while at < stop:
        part = file.readline(BUFFER)
        at += len(part)
        if not part or part.endswith(b"\n"):
            return at
    return stop


def _skip_line(file: IO[bytes], part: bytes) -> int:
    """Reads to the end of a line of which `part` was read; returns the number of bytes."""
    skipped = 0
    while part and not part.endswith(b"\n"):
        part = file.readline(BUFFER)
        skipped += len(part)
    return skipped
