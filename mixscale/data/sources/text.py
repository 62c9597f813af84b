"""Text in files of your own, plain or as JSON Lines, and in the domains that ship with mixscale."""

from __future__ import annotations

import codecs
import io
import json
import lzma
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from mixscale.config import Embedded, Jsonl, TextFiles
from mixscale.data.sources.base import (
    READERS,
    Damage,
    Found,
    Piece,
    Reader,
    Record,
    decoded,
    too_long,
)
from mixscale.data.sources.files import BUFFER, File, opened, opened_raw
from mixscale.errors import InputError, did_you_mean

EMBEDDED = Path(__file__).parent.parent / "embedded"
SUFFIX = ".jsonl.xz"
NUL = (
    "contains NUL bytes, so it is binary, or UTF-16 without a byte order mark; leave it out, or convert it (iconv -f "
    "UTF-16LE -t UTF-8)"
)
# Signs of JSON outside and inside of a text, with whatever a backslash precedes.
STRUCTURE, END_OF_TEXT = re.compile(rb'["{}\[\],]'), re.compile(rb'\\.|"', re.DOTALL)


@READERS.register("TextFiles")
class TextReader(Reader):
    """Files that are documents, or are split at a separator; small files form a piece together."""

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
            return Damage(f"{location}: {NUL}")
        text = decoded(raw, location)
        return text if isinstance(text, Damage) else Record({"text": text.replace("\r\n", "\n")}, location)


@READERS.register("Jsonl")
class JsonlReader(Reader):
    source: Jsonl

    def pieces(self, size: int) -> list[Piece]:
        found = []
        for file in self.files():
            if file.size <= size or not _has_lines(file.path):
                found.append(Piece((file.path,), 0, 2**63, file.size))
                continue
            ends = [(start, min(start + size, file.size)) for start in range(0, file.size, size)]
            found += [Piece((file.path,), start, end, end - start) for start, end in ends]
        return found

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        """The objects on the lines that start inside `piece`, or all objects of a file of JSON that is not in lines.

        At most `max_bytes` of a line or object are in memory.
        """
        (path,) = piece.files
        # What the file is was checked at its start, which a remote file need not send again.
        with opened_raw(path) if piece.start else opened(path) as file:
            if not piece.start and not _in_lines(file):
                for number, raw in enumerate(_values(file, max_bytes), 1):
                    location = f"{path}, object {number}"
                    yield (
                        too_long(location, max_bytes)
                        if len(raw) > max_bytes
                        else _parsed(raw, location, in_lines=False)
                    )
                return
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
    """A domain that ships with mixscale: one compressed file of objects that also name their work."""

    source: Embedded

    def files(self) -> list[File]:
        if self.source.name not in embedded_names():
            hint = did_you_mean(self.source.name, embedded_names())
            raise InputError(f"there is no embedded domain '{self.source.name}'{hint}")
        path = EMBEDDED / (self.source.name + SUFFIX)
        return [File(str(path), path.stat().st_size)]

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        with lzma.open(piece.files[0]) as lines:
            for number, line in enumerate(lines, 1):
                fields = json.loads(line)
                yield Record(fields, f"{self.source.name}, document {number}", fields.get("work", ""))


def embedded_names() -> tuple[str, ...]:
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in EMBEDDED.glob(f"*{SUFFIX}")))


def _parts(file: IO[bytes], separator: bytes, max_bytes: int) -> Iterator[bytes]:
    """The parts between lines that equal `separator`; each is cut one byte beyond `max_bytes`."""
    part = bytearray()
    line_starts = True
    while line := file.readline(BUFFER):
        if line_starts and line.rstrip(b"\r\n") == separator:
            yield bytes(part)
            part.clear()
        elif len(part) <= max_bytes:
            part += line[: max_bytes + 1 - len(part)]
        line_starts = line.endswith(b"\n")
    yield bytes(part)


def _has_lines(path: str) -> bool:
    """Whether a file can be divided at its lines, unlike one that is compressed, UTF-16, or a JSON array."""
    with opened(path) as file:
        return file.seekable() and _in_lines(file)


def _in_lines(file: io.BufferedReader) -> bool:
    """Whether each line is a JSON value: no array, and no objects over several lines or with others on their line."""
    head = file.peek(BUFFER).removeprefix(codecs.BOM_UTF8).lstrip()
    line, _, more = head.partition(b"\n")
    text = line.decode("utf-8", "replace").rstrip()
    if not text.startswith("{"):
        return not text.startswith("[")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        goes_on = bool(more) and (error.pos >= len(text) or text.endswith((",", "{", "[")))
        return not goes_on and not (error.msg == "Extra data" and text[error.pos] in "{,")
    except (ValueError, RecursionError):
        pass
    return True


def _values(file: IO[bytes], max_bytes: int) -> Iterator[bytes]:
    """The items of a JSON array, or JSON values one after the other; each is cut one byte beyond `max_bytes`."""
    part, array, depth, in_text, first = bytearray(), 0, 0, False, True

    def taken(more: bytes) -> bytes:
        return more[: max(0, max_bytes + 1 - len(part))]

    while chunk := file.read(BUFFER):
        while (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 and (more := file.read(1)):
            chunk += more
        chunk, first = chunk.removeprefix(codecs.BOM_UTF8) if first else chunk, False
        start = at = 0
        while match := (END_OF_TEXT if in_text else STRUCTURE).search(chunk, at):
            sign, at = match[0], match.end()
            if sign == b'"':
                in_text = not in_text
            if in_text or sign == b'"' or (sign == b"," and depth > array):
                continue
            opens, closes = sign in b"[{", sign in b"]}"
            depth += opens - closes
            starts = opens and depth == 1 and sign == b"["
            if starts or (not opens and depth <= array):
                # The bracket that ends an item is part of it, unlike a comma and the brackets of the array.
                part += taken(chunk[start : at if closes and depth == array else match.start()])
                start = at
                if part.strip():
                    yield bytes(part)
                part.clear()
                array, depth = 1 if starts else min(array, depth), max(depth, 0)
        part += taken(chunk[start:])
    if part.strip() or array:
        yield bytes(part) + b" "


def _parsed(raw: bytes, location: str, in_lines: bool = True) -> Found:
    text = decoded(raw, location)
    if isinstance(text, Damage):
        return text
    try:
        found = json.loads(text)
    except RecursionError:
        return Damage(f"{location}: JSON is nested too deep")
    except ValueError as error:
        # A number with more digits than Python converts is a plain ValueError.
        reason = NUL if "\0" in text else error.msg if isinstance(error, json.JSONDecodeError) else error
        if not in_lines:
            remedy = "the rest of the file cannot be read; mend it, or write one object on each line"
            raise InputError(f"{location}: not JSON ({reason}); {remedy}") from error
        return Damage(
            f"{location}: not JSON ({reason}); each line must be one JSON object. Read plain text with TextFiles"
        )
    if not isinstance(found, dict):
        kind = type(found).__name__
        return Damage(f"{location}: found a {kind}; each {'line' if in_lines else 'item'} must be one JSON object")
    return Record(found, location)


def _seek_line(file: IO[bytes], start: int, stop: int) -> int:
    """Seeks the first line that starts at `start` or later and returns its position, at most `stop`."""
    if start == 0:
        return 0
    at = file.seek(start - 1)
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
