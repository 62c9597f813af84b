"""Files of a source: how to find, open and hash them, and what they are by their first bytes.

Files may be local or behind any `scheme://` that fsspec knows. Nothing here knows what a record is.
"""

from __future__ import annotations

import codecs
import fnmatch
import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from mixscale.errors import InputError, did_you_mean
from mixscale.io import LFS_POINTER, refuse_pointer

UNPACKED_BYTES = 2**26  # to which any compressed file may unpack
MAX_EXPANSION = 200  # beyond them, the multiple of its size; text compresses about tenfold, a malicious file more
BUFFER = 2**20
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
REFUSED = (".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".lz4", ".pkl", ".pickle", ".npy", ".pt")
# Formats by their first bytes. A zstd file may begin with a frame that is skipped, which has any first byte.
FORMATS = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1\x15": "Parquet", b"ARROW1\0\0": "Arrow",
    b"\xff\xff\xff\xff": "Arrow stream", b"FEA1\0": "Feather 1", b"BZh91AY&SY": "bzip2", b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z", b"\x04\x22\x4d\x18": "lz4", b"\x89HDF": "HDF5", b"\x93NUMPY": "NumPy",
}  # fmt: skip
PACKED = ("gzip", "zstd", "bzip2", "xz", "zip", "7z", "lz4")
COLUMNS = ("Parquet", "Arrow", "Arrow stream")  # formats that the source `Parquet` reads
SIMILAR_NAMES = 2000  # of a folder that are compared with a name that is not there


class File(NamedTuple):
    path: str
    size: int  # bytes on disk


# Finding


def find(pattern: str) -> list[File]:
    """Files that match `pattern`, sorted by path. A part of it that exists as it is written is not a pattern.

    Raises:
        InputError: no file matches, or the file system cannot be listed.
    """
    files = _find_remote(pattern) if _is_remote(pattern) else _find_local(pattern)
    if not files:
        cwd = "" if _is_remote(pattern) else f" (current folder: {Path.cwd()})"
        raise InputError(f"no file matches '{pattern}'{cwd}{_nearest(pattern)}")
    return sorted(files)


def _find_local(pattern: str) -> list[File]:
    paths = {p for p in map(Path, _glob(_matches, str(_local(pattern)))) if p.is_file()}
    return [File(str(path), path.stat().st_size) for path in paths]


def _find_remote(pattern: str) -> list[File]:
    system, inside = _system(pattern)
    try:
        try:
            infos = [system.info(inside)]
        except FileNotFoundError:
            infos = [system.info(path) for path in _glob(system.glob, inside)] if glob.has_magic(inside) else []
    except FileNotFoundError:
        return []
    except Exception as error:
        # Every store has its own exceptions.
        raise InputError(f"'{pattern}' cannot be listed: {type(error).__name__}: {error}") from error
    return [File(system.unstrip_protocol(i["name"]), i["size"]) for i in infos if i["type"] == "file"]


def _glob(matches: Callable[[str], Iterable[str]], pattern: str) -> list[str]:
    """What `matches` finds, after the parts of the pattern that exist as they are written are escaped."""
    parts, wild = pattern.split("/"), False
    for at, part in enumerate(parts):
        if not glob.has_magic(part):
            continue
        escaped = glob.escape(part)
        # Names seldom contain * and ?; looking for them below a pattern could list a large tree twice.
        if part != "**" and ("[" in part or not wild) and any(True for _ in matches("/".join([*parts[:at], escaped]))):
            parts[at] = escaped
        else:
            wild = True
    return list(matches("/".join(parts)))


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


def _nearest(pattern: str) -> str:
    """The end of a sentence: which part of a pattern matches nothing, and what has a similar name."""
    path = _system(pattern)[1] if _is_remote(pattern) else str(_local(pattern))
    folder = "/" if path.startswith("/") else ""
    for part in filter(None, path.split("/")):
        names = _names(pattern, folder)
        if part == "**" or names is None:
            return ""
        found = part if part in names else next((name for name in names if fnmatch.fnmatchcase(name, part)), None)
        if found is None:
            hint = did_you_mean(part, names[:SIMILAR_NAMES]) if names else " (it is empty)"
            return f": '{folder or '.'}' has no '{part}'{hint}"
        folder = f"{folder.rstrip('/')}/{found}" if folder else found
    if _names(pattern, folder) is None:
        return f": '{folder}' is not a file; it may be a link to a file that is missing"
    return f": '{folder}' is a folder; give a pattern for its files, such as '{pattern.rstrip('/')}/**/*.jsonl'"


def _names(pattern: str, folder: str) -> list[str] | None:
    """Sorted names in a folder of the file system of `pattern`; None if it cannot be listed."""
    try:
        if not _is_remote(pattern):
            return sorted(os.listdir(folder or "."))
        paths = _system(pattern)[0].ls(folder, detail=False)
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)
    # Every store has its own exceptions.
    except Exception:
        return None


def _local(path: str) -> Path:
    return Path(path.removeprefix("file://")).expanduser()


def _is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def _system(path: str) -> tuple[Any, str]:
    """The file system of a path with a scheme, and the path in it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise InputError(f"'{path}' cannot be reached: {error}") from error


# Opening


def local_path(path: str) -> str | None:
    """The path of a file that can be mapped; None for a remote file."""
    return None if _is_remote(path) else str(_local(path))


@contextmanager
def opened(path: str) -> Iterator[io.BufferedReader]:
    """The text of a file as UTF-8: unpacked if it is gzip or zstd, converted if a byte order mark says UTF-16.

    A file that is either can be read only from its start and is not seekable.

    Raises:
        InputError: it is truncated, not text, or a pointer of Git LFS.
    """
    with opened_raw(path) as raw:
        suffix, kind = Path(path).suffix.lower(), format_of(raw)
        packed = COMPRESSED.get(suffix)
        if suffix in REFUSED or (kind in PACKED and kind not in COMPRESSED.values()):
            raise InputError(f"{path} is not text; unpack it, or compress it as .gz or .zst")
        if packed and raw.peek(1) and kind != packed:
            raise InputError(f"{path} is not a {packed} file: it is {kind or 'not compressed'}; rename it")
        file = io.BufferedReader(_Chunks(_unpacked(path, raw, kind)), BUFFER) if kind in PACKED else raw
        with _unpacking(path, kind):
            if inside := format_of(file):
                remedy = "unpack it" if inside in PACKED else "convert it to JSON Lines or Parquet"
                remedy = f"read it with Parquet('{path}')" if inside in COLUMNS and kind not in PACKED else remedy
                raise InputError(f"{path} contains {inside} data, not text; {remedy}")
            if file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                file = io.BufferedReader(_Chunks(_as_utf8(file)), BUFFER)
            yield file


@contextmanager
def opened_raw(path: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file; InputError if it is a pointer of Git LFS."""
    if _is_remote(path):
        system, inside = _system(path)
        raw = system.open(inside, "rb")
    else:
        raw = io.FileIO(_local(path))
    with io.BufferedReader(raw, BUFFER) as file:
        refuse_pointer(path, file.peek(len(LFS_POINTER)))
        yield file


def check_pointer(path: str | Path) -> None:
    """Raises InputError if the file is a pointer of Git LFS; for files that a library opens."""
    with opened_raw(str(path)):
        pass


def format_of(file: io.BufferedReader) -> str:
    """The name in `FORMATS` of what begins here, or an empty string."""
    head = file.peek(16)
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return "zstd"
    return next((name for magic, name in FORMATS.items() if head.startswith(magic)), "")


class _Chunks(io.RawIOBase):
    """Parts of bytes, none of them empty, as a file."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def _unpacked(path: str, raw: IO[bytes], kind: str) -> Iterator[bytes]:
    """The text of a compressed file; refuses one that expands far more than text does."""
    if kind == "gzip":
        stream: Any = gzip.GzipFile(fileobj=raw)
    else:
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
    unpacked = 0
    while part := stream.read(BUFFER):
        unpacked += len(part)
        check_expansion(path, unpacked, raw.tell())
        yield part


@contextmanager
def _unpacking(path: str, kind: str) -> Iterator[None]:
    """Turns the errors of a decompressor into one that names the file."""
    try:
        yield
    # Arrow raises a bare OSError, without a number, for data that it cannot uncompress.
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        if not kind or (isinstance(error, OSError) and error.errno is not None):
            raise
        if "too much memory" in str(error):
            reason = "was compressed with a window of more than 128 MB (zstd --long or --ultra)"
            remedy = f"compress it again: zstd -dc --long=31 '{path}' | zstd -o NEW.zst"
            raise InputError(f"{path} {reason}, which takes too much memory to read; {remedy}") from error
        raise InputError(f"{path} is not a complete {kind} file ({error})") from error


def _as_utf8(file: IO[bytes]) -> Iterator[bytes]:
    """UTF-16 as UTF-8; what is not UTF-16 becomes bytes that are not UTF-8, so that its record is damaged."""
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    while part := file.read(BUFFER):
        if text := decoder.decode(part):
            yield text.encode("utf-8", "surrogatepass")
    if decoder.getstate()[0]:
        yield b"\xff"


def check_expansion(path: str, unpacked: int, packed: int) -> None:
    """Refuses a file if `packed` bytes expand to `unpacked` bytes, which no text does."""
    if unpacked > UNPACKED_BYTES and unpacked > MAX_EXPANSION * packed:
        reason = f"unpacks to more than {MAX_EXPANSION} times its size, which no text does"
        raise InputError(f"{path} {reason}; if it is intended, unpack it yourself")


# Hashing


def hash_all(paths: Iterable[str]) -> list[str]:
    """SHA-256 of every file; for a remote one the hash that its store keeps, if any."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_hash, paths))


def _hash(path: str) -> str:
    if _is_remote(path):
        system, inside = _system(path)
        info = system.info(inside)
        # Downloading the file only to hash it would cost a transfer.
        for key in ("md5Hash", "ETag", "etag", "content_md5"):
            if info.get(key):
                return f"{key}:{info[key]}:{info['size']}"
    with opened_raw(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
