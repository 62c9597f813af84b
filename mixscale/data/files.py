"""Files that a source reads: found by pattern, opened as they are packed, hashed.

Local or behind any `scheme://` that fsspec knows. Nothing here knows what the files hold.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from mixscale.errors import InputError

UNPACKED = 2**26
"""bytes that any packed file may unpack to"""
EXPANSION = 200
"""and beyond them, how often its own size; text packs tenfold, a file made to fill a disk a thousandfold"""
STEP = 2**20
PACKED = (".gz", ".zst")
REFUSED = (".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".lz4", ".pkl", ".pickle", ".npy", ".pt")


class File(NamedTuple):
    path: str
    size: int
    """bytes on disk"""


def find(pattern: str) -> list[File]:
    """Files that match `pattern`, sorted by path; folders that links make contain themselves are entered once.

    Raises:
        InputError: there are none, or the place they should be in cannot be asked.
    """
    found = _remote(pattern) if is_remote(pattern) else _local(pattern)
    if not found:
        seen_from = "" if is_remote(pattern) else f" (seen from {Path.cwd()})"
        raise InputError(f"no file matches '{pattern}'{seen_from}")
    return found


def is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked where its name ends in .gz or .zst.

    Raises:
        InputError: it is packed in another way, is not whole, or unpacks to more than any text would.
    """
    suffix = Path(path).suffix.lower()
    if suffix in REFUSED:
        raise InputError(f"{path} is no text; unpack it, or pack it as .gz or .zst")
    with _raw(path) as raw:
        if suffix not in PACKED:
            yield raw
            return
        kind = {".gz": "gzip", ".zst": "zstd"}[suffix]
        try:
            with io.BufferedReader(_Unpacked(path, raw, suffix), STEP) as unpacked:
                yield unpacked
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path} is not a whole {kind} file ({error})") from error
        except OSError as error:
            # Arrow has no class of its own for what it cannot unpack.
            if error.errno is not None:
                raise
            raise InputError(f"{path} is not a whole {kind} file ({error})") from error


def hashes(files: Iterable[str]) -> list[str]:
    """SHA-256 of every file, or what its store says in its stead."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_hash, files))


class _Unpacked(io.RawIOBase):
    """A packed file as it unpacks, watched for one that unpacks to far more than it is."""

    def __init__(self, path: str, raw: IO[bytes], suffix: str):
        self._path, self._raw, self._given = path, raw, 0
        if suffix == ".gz":
            self._stream: Any = gzip.GzipFile(fileobj=raw)
        else:
            import pyarrow as pa

            self._stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._stream.read(len(buffer))
        self._given += len(got)
        if self._given > UNPACKED and self._given > EXPANSION * self._raw.tell():
            raise InputError(
                f"{self._path} unpacks to more than {EXPANSION} times its size, which no text does; unpack it "
                f"yourself if it is what you want"
            )
        buffer[: len(got)] = got
        return len(got)


def _local(pattern: str) -> list[File]:
    found = {p for p in map(Path, _matches(str(Path(pattern.removeprefix("file://")).expanduser()))) if p.is_file()}
    return [File(str(path), path.stat().st_size) for path in sorted(found)]


def _matches(pattern: str) -> Iterator[str]:
    """What `glob` gives, but that `**` enters every folder once: `glob` follows a link to a folder above for ever."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    at = parts.index("**")
    above = str(Path(*parts[:at])) if at else "."
    for folder in (f for base in glob.glob(above) for f in _folders(base)):
        yield from _matches(str(Path(glob.escape(folder), *parts[at + 1 :] or ("*",))))


def _folders(base: str) -> Iterator[str]:
    seen = set()
    for folder, below, _ in os.walk(base, followlinks=True):
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in seen:
            below.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        # As `glob` does, and in an order that is always the same, for it decides by which name a folder is entered.
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield folder


def _remote(pattern: str) -> list[File]:
    system, inside = _system(pattern)
    try:
        found = {inside: system.info(inside)} if not glob.has_magic(inside) else system.glob(inside, detail=True)
    except FileNotFoundError:
        return []
    except Exception as error:
        # Every store has exceptions of its own for what it refuses.
        raise InputError(f"'{pattern}' cannot be listed: {type(error).__name__}: {error}") from error
    files = [info for info in found.values() if info["type"] == "file"]
    return sorted(File(system.unstrip_protocol(info["name"]), info["size"]) for info in files)


def _system(path: str) -> tuple[Any, str]:
    """The file system behind a path with a scheme, and the path in it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise InputError(f"'{path}' cannot be reached: {error}") from error


def _raw(path: str) -> IO[bytes]:
    if not is_remote(path):
        return open(path.removeprefix("file://"), "rb", buffering=STEP)
    system, inside = _system(path)
    return system.open(inside, "rb")


def _hash(path: str) -> str:
    if is_remote(path):
        system, inside = _system(path)
        info = system.info(inside)
        # These stores hash what they hold, and reading it a second time would cost a transfer.
        for known in ("md5Hash", "ETag", "etag", "content_md5"):
            if info.get(known):
                return f"{known}:{info[known]}:{info['size']}"
    with _raw(path) as file:
        digest = hashlib.sha256()
        while block := file.read(STEP):
            digest.update(block)
    return digest.hexdigest()
