"""JSON objects, one a line: plain files are divided anywhere, packed ones are read whole."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from mixscale.config import Jsonl, content_hash
from mixscale.data.files import PACKED, STEP, File, find, hashes, opened
from mixscale.data.records import Damage, Found, Piece, Record, decoded


def pieces(source: Jsonl, size: int) -> list[Piece]:
    return [piece for file in find(source.glob) for piece in _divided(file, size)]


def fingerprint(source: Jsonl) -> str:
    return content_hash(hashes(file.path for file in find(source.glob)), "jsonl", source.field)


def records(source: Jsonl, piece: Piece, largest: int, wanted: Collection[str]) -> Iterator[Found]:
    """The objects on the lines that begin inside of `piece`; no line longer than `largest` bytes is held."""
    (path,) = piece.files
    with opened(path) as file:
        at = _first_line(file, piece.start, piece.stop)
        number = 0
        while at < piece.stop and (line := file.readline(largest + 1)):
            number += 1
            where = f"{path}, line {number}" if piece.start == 0 else f"{path}, byte {at}"
            at += len(line)
            if len(line) > largest:
                at += _skip_line(file, line)
                yield Damage(f"{where}: longer than {largest} bytes; raise corpus.record_bytes to read it")
            elif not line.isspace():
                yield parsed(line, where)


def parsed(line: bytes, where: str) -> Found:
    text = decoded(line, where)
    if isinstance(text, Damage):
        return text
    try:
        found = json.loads(text)
    except RecursionError:
        return Damage(f"{where}: JSON nested too deep to be read")
    except ValueError as error:
        # A number of more digits than Python converts is no JSONDecodeError.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        return Damage(f"{where}: not JSON ({reason}); each line must be one JSON object")
    if not isinstance(found, dict):
        return Damage(f"{where}: a {type(found).__name__} where a JSON object is expected")
    return Record(found, where)


def _divided(file: File, size: int) -> list[Piece]:
    if Path(file.path).suffix.lower() in PACKED:
        # Where a packed file ends is known when it has been read.
        return [Piece((file.path,), 0, 2**63, file.size)]
    return [
        Piece((file.path,), start, min(start + size, file.size), min(size, file.size - start))
        for start in range(0, file.size, size)
    ]


def _first_line(file: IO[bytes], start: int, stop: int) -> int:
    """Goes to the first line that begins at `start` or after it, and tells where that is, `stop` at most."""
    if start == 0:
        return 0
    file.seek(start - 1)
    at = start - 1
    while at < stop:
        part = file.readline(STEP)
        at += len(part)
        if not part or part.endswith(b"\n"):
            return at
    return stop


def _skip_line(file: IO[bytes], part: bytes) -> int:
    """Reads on to the end of a line of which `part` has been read; how many bytes that took."""
    skipped = 0
    while part and not part.endswith(b"\n"):
        part = file.readline(STEP)
        skipped += len(part)
    return skipped
