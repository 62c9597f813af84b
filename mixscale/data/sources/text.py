"""Plain text files: each is a document, or is split at a separator; small files form a piece together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import IO

from mixscale.config import TextFiles
from mixscale.data.sources.base import BUFFER, READERS, Damage, Found, Piece, Reader, Record, decoded, opened


@READERS.register("TextFiles")
class TextReader(Reader):
    source: TextFiles

    def pieces(self, size: int) -> list[Piece]:
        found: list[Piece] = []
        paths: list[str] = []
        total = 0
        for file in self.files():
            paths.append(file.path)
            total += file.size
            if total >= size:
                found.append(Piece(tuple(paths), 0, len(paths), total))
                paths, total = [], 0
        return [*found, Piece(tuple(paths), 0, len(paths), total)] if paths else found

    def details(self) -> list[str]:
        return [self.source.separator]

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        for path in piece.files:
            with opened(path) as file:
                if not self.source.separator:
                    yield self._record(file.read(max_bytes + 1), path, max_bytes)
                    continue
                for number, raw in enumerate(_parts(file, self.source.separator.encode(), max_bytes), 1):
                    yield self._record(raw, f"{path}, document {number}", max_bytes)

    def _record(self, raw: bytes, location: str, max_bytes: int) -> Found:
        if len(raw) > max_bytes:
            split = "" if self.source.separator else "split it with a separator, or "
            return Damage(f"{location}: longer than {max_bytes} bytes; {split}raise corpus.max_record_bytes")
        if b"\0" in raw:
            return Damage(
                f"{location}: contains NUL bytes, so it is binary or UTF-16; leave it out, or convert it to UTF-8"
            )
        text = decoded(raw, location)
        return text if isinstance(text, Damage) else Record({"text": text.replace("\r\n", "\n")}, location)


def _parts(file: IO[bytes], separator: bytes, max_bytes: int) -> Iterator[bytes]:
    """The file between lines that equal `separator`; a part is cut one byte beyond `max_bytes`."""
    part = bytearray()
    line_begins = True
    while line := file.readline(BUFFER):
        if line_begins and line.rstrip(b"\r\n") == separator:
            yield bytes(part)
            part.clear()
        elif len(part) <= max_bytes:
            part += line[: max_bytes + 1 - len(part)]
        line_begins = line.endswith(b"\n")
    yield bytes(part)
