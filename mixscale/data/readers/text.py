"""Plain text files: each is a document, or is divided at a separator; small files are read together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import IO

from mixscale.config import TextFiles, content_hash
from mixscale.data.files import find, hashes, opened
from mixscale.data.records import Damage, Found, Piece, Record, decoded

KEY = "text"


def pieces(source: TextFiles, size: int) -> list[Piece]:
    found: list[Piece] = []
    paths: list[str] = []
    held = 0
    for file in find(source.glob):
        paths.append(file.path)
        held += file.size
        if held >= size:
            found.append(Piece(tuple(paths), 0, len(paths), held))
            paths, held = [], 0
    return [*found, Piece(tuple(paths), 0, len(paths), held)] if paths else found


def fingerprint(source: TextFiles) -> str:
    return content_hash(hashes(file.path for file in find(source.glob)), "text", source.separator)


def records(source: TextFiles, piece: Piece, largest: int, wanted: Collection[str]) -> Iterator[Found]:
    for path in piece.files:
        with opened(path) as file:
            if not source.separator:
                yield _document(file.read(largest + 1), path, largest, source)
                continue
            for number, raw in enumerate(_parts(file, source.separator.encode(), largest), 1):
                yield _document(raw, f"{path}, document {number}", largest, source)


def _document(raw: bytes, where: str, largest: int, source: TextFiles) -> Found:
    if len(raw) > largest:
        return Damage(
            f"{where}: longer than {largest} bytes; "
            f"{'' if source.separator else 'divide it with a separator, or '}raise corpus.record_bytes"
        )
    if b"\0" in raw:
        return Damage(f"{where}: holds NUL bytes, so it is binary or UTF-16; leave it out, or convert it to UTF-8")
    text = decoded(raw, where)
    return text if isinstance(text, Damage) else Record({KEY: text.replace("\r\n", "\n")}, where)


def _parts(file: IO[bytes], separator: bytes, largest: int) -> Iterator[bytes]:
    """The file between lines that are `separator`; of a part that is too long, one byte more than `largest`."""
    held = bytearray()
    begins = True
    while line := file.readline(2**20):
        if begins and line.rstrip(b"\r\n") == separator:
            yield bytes(held)
            held.clear()
        elif len(held) <= largest:
            held += line[: largest + 1 - len(held)]
        begins = line.endswith(b"\n")
    yield bytes(held)
