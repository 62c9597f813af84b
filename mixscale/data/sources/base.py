"""The interface of readers and their registry, records, and files: how to find, open and hash them.

Files may be local or behind any `scheme://` that fsspec knows.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import operator
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from mixscale.config import Where
from mixscale.errors import InputError
from mixscale.registry import Registry

UNPACKED_BYTES = 2**26  # to which any compressed file may unpack
MAX_EXPANSION = 200  # beyond them, the multiple of its size; text compresses about tenfold, a malicious file more
BUFFER = 2**20
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
REFUSED = (".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".lz4", ".pkl", ".pickle", ".npy", ".pt")


class File(NamedTuple):
    path: str
    size: int  # bytes on disk


class Piece(NamedTuple):
    """A part of a source that can be read alone."""

    files: tuple[str, ...]
    start: int  # byte, row group or example at which it begins, depending on the reader
    stop: int
    size: int  # approximate bytes to read


class Record(NamedTuple):
    fields: Mapping[str, Any]
    location: str  # file and line or row, for messages
    work: str = ""  # as in `Document`


class Damage(NamedTuple):
    """A record that cannot be used."""

    reason: str  # a sentence with its location and what is wrong


class Document(NamedTuple):
    text: str
    work: str = ""  # file, speech or section of a book that the text is a part of; empty if it is a whole work


Found = Record | Damage


class Reader(ABC):
    """Reads one source. A reader is registered under the name of its subclass of `mixscale.config.Source`."""

    def __init__(self, source: Any):
        self.source = source

    def files(self) -> list[File]:
        """The files of the source, in order."""
        return find(self.source.glob)

    def details(self) -> list[Any]:
        """What decides the records that are taken from the files, besides field, conditions and cap."""
        return []

    def pieces(self, size: int) -> list[Piece]:
        """Parts of the source, in order, of about `size` bytes each if it can be divided: here, its files."""
        return [Piece((file.path,), 0, 1, file.size) for file in self.files()]

    def take(self, record: Record) -> Document | Damage | None:
        """The document in a record; None if it does not meet the source's conditions."""
        if not meets(record.fields, self.source.where):
            return None
        found = text_of(record, self.source.field)
        return found if isinstance(found, Damage) else Document(found, record.work)

    @abstractmethod
    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        """Records of a piece; one larger than `max_bytes` is damage. Fields other than `keys` may be left out."""


READERS: Registry[type[Reader]] = Registry("source")

# Records

_MISSING = object()
_COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda found, wanted: found in wanted,
    "not in": lambda found, wanted: found not in wanted,
    "contains": operator.contains,
}  # fmt: skip


def meets(fields: Mapping[str, Any], where: tuple[Where, ...]) -> bool:
    """Whether a record meets all conditions; a value that cannot be compared meets none."""

    def met(condition: Where) -> bool:
        found = _field(fields, condition.field)
        found = found.decode() if isinstance(found, bytes) else found
        return found is not _MISSING and bool(_COMPARE[condition.op](found, condition.value))

    try:
        return all(map(met, where))
    except (TypeError, UnicodeDecodeError):
        return False


def text_of(record: Record, key: str) -> str | Damage:
    text = _field(record.fields, key)
    if text is _MISSING:
        keys = ", ".join(map(repr, record.fields))
        return Damage(f"{record.location}: no key '{key}'; the keys are {keys[:300] or 'none'}")
    if isinstance(text, bytes):
        text = decoded(text, record.location)
        if isinstance(text, Damage):
            return text
    if not isinstance(text, str):
        return Damage(f"{record.location}: '{key}' is of type {type(text).__name__}; it must be text")
    try:
        text.encode()
    except UnicodeEncodeError:
        reason = "contains half of a surrogate pair, which is not a character; write the file again as UTF-8"
        return Damage(f"{record.location}: '{key}' {reason}")
    return text


def decoded(raw: bytes, location: str) -> str | Damage:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        return Damage(f"{location} is not UTF-8: {byte}; convert it, for example with iconv")


def too_long(location: str, max_bytes: int) -> Damage:
    return Damage(f"{location}: longer than {max_bytes} bytes; raise corpus.max_record_bytes to read it")


def _field(fields: Mapping[str, Any], key: str) -> Any:
    """Value under a key, or under the nested keys that dots separate."""
    if key in fields:
        return fields[key]
    first, _, rest = key.partition(".")
    inner = fields.get(first, _MISSING) if rest else _MISSING
    return _field(inner, rest) if isinstance(inner, Mapping) else _MISSING


# Files


def find(pattern: str) -> list[File]:
    """Files that match `pattern`, sorted by path; InputError if none does, or the file system cannot be listed."""
    found = _find_remote(pattern) if _is_remote(pattern) else _find_local(pattern)
    if not found:
        cwd = "" if _is_remote(pattern) else f" (current folder: {Path.cwd()})"
        raise InputError(f"no file matches '{pattern}'{cwd}")
    return found


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, uncompressed if its name ends in .gz or .zst; InputError if it is truncated or not text."""
    suffix = Path(path).suffix.lower()
    if suffix in REFUSED:
        raise InputError(f"{path} is not text; unpack it, or compress it as .gz or .zst")
    with _raw(path) as raw:
        if suffix not in COMPRESSED:
            yield raw
            return
        try:
            with io.BufferedReader(_Uncompressed(path, raw, suffix), BUFFER) as file:
                yield file
        # Arrow raises a bare OSError, without a number, for data that it cannot uncompress.
        except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"{path} is not a complete {COMPRESSED[suffix]} file ({error})") from error


def hash_all(paths: Iterable[str]) -> list[str]:
    """SHA-256 of every file; for a remote one the hash that its store keeps, if any."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_hash, paths))


class _Uncompressed(io.RawIOBase):
    """The text of a compressed file; refuses one that expands far more than text does."""

    def __init__(self, path: str, raw: IO[bytes], suffix: str):
        self._path, self._raw, self._unpacked = path, raw, 0
        if suffix == ".gz":
            self._stream: Any = gzip.GzipFile(fileobj=raw)
        else:
            import pyarrow as pa

            self._stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._stream.read(len(buffer))
        self._unpacked += len(got)
        check_expansion(self._path, self._unpacked, self._raw.tell())
        buffer[: len(got)] = got
        return len(got)


def check_expansion(path: str, unpacked: int, packed: int) -> None:
    """Refuses a file if `packed` bytes expand to `unpacked` bytes, which no text does."""
    if unpacked > UNPACKED_BYTES and unpacked > MAX_EXPANSION * packed:
        reason = f"unpacks to more than {MAX_EXPANSION} times its size, which no text does"
        raise InputError(f"{path} {reason}; if it is intended, unpack it yourself")


def _find_local(pattern: str) -> list[File]:
    found = {p for p in map(Path, _matches(str(Path(pattern.removeprefix("file://")).expanduser()))) if p.is_file()}
    return [File(str(path), path.stat().st_size) for path in sorted(found)]


def _matches(pattern: str) -> Iterator[str]:
    """As `glob.glob`, except that `**` enters every folder once: `glob` follows links to parent folders forever."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    at = parts.index("**")
    above = str(Path(*parts[:at])) if at else "."
    for folder in (f for base in glob.glob(above) for f in _folders(base)):
        yield from _matches(str(Path(glob.escape(folder), *parts[at + 1 :] or ("*",))))


def _folders(base: str) -> Iterator[str]:
    entered = set()
    for folder, below, _ in os.walk(base, followlinks=True):
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in entered:
            below.clear()
            continue
        entered.add((about.st_dev, about.st_ino))
        # Without hidden folders, as `glob`; sorted, because the order decides by which name a folder is entered.
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield folder


def _is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def _find_remote(pattern: str) -> list[File]:
    system, inside = _system(pattern)
    try:
        found = {inside: system.info(inside)} if not glob.has_magic(inside) else system.glob(inside, detail=True)
    except FileNotFoundError:
        return []
    except Exception as error:
        # Every store has its own exceptions.
        raise InputError(f"'{pattern}' cannot be listed: {type(error).__name__}: {error}") from error
    files = [info for info in found.values() if info["type"] == "file"]
    return sorted(File(system.unstrip_protocol(info["name"]), info["size"]) for info in files)


def _system(path: str) -> tuple[Any, str]:
    """The file system of a path with a scheme, and the path in it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise InputError(f"'{path}' cannot be reached: {error}") from error


def _raw(path: str) -> IO[bytes]:
    if not _is_remote(path):
        return open(path.removeprefix("file://"), "rb", buffering=BUFFER)
    system, inside = _system(path)
    return system.open(inside, "rb")


def _hash(path: str) -> str:
    if _is_remote(path):
        system, inside = _system(path)
        info = system.info(inside)
        # Downloading the file only to hash it would cost a transfer.
        for key in ("md5Hash", "ETag", "etag", "content_md5"):
            if info.get(key):
                return f"{key}:{info[key]}:{info['size']}"
    with _raw(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
