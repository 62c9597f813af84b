"""The manifest of a checkpoint: the last file written to its folder, with its facts and a checksum of every file.

A folder without a manifest is an unfinished checkpoint; one with files that differ from its manifest is damaged. A
file that exists but cannot be read at the moment is neither but an error, because damaged checkpoints are replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mixscale.io import atomic_write, check_format

FORMAT = 1  # of a checkpoint
FILE = "manifest"
MISSING = (FileNotFoundError, NotADirectoryError)  # no such file; any other error of a reader may be temporary


T = TypeVar("T")


class Damaged(Exception):
    """A checkpoint that must not be used; the message continues its name."""


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Adds the manifest of all files in `folder`, with `facts` (JSON), which completes the checkpoint."""
    # Nothing is flushed to the disk: a file that a power failure leaves half written has another checksum.
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda name: _digest(folder / name), names)
    body = json.dumps({"format": FORMAT, "files": dict(zip(names, digests, strict=True)), **facts}, indent=1).encode()
    with atomic_write(folder / FILE) as temporary:
        # The first line is a checksum of the other lines, so that a changed bit in a position is found as well.
        temporary.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def read(folder: Path) -> dict[str, Any]:
    """The facts of a checkpoint; its other files are not checked.

    Raises Damaged if there is no manifest or it has changed, InputError if another version of mixscale saved it, and
    OSError if it cannot be read at the moment.
    """
    manifest = _read(folder, FILE, Path.read_bytes)
    if manifest is None:
        raise Damaged("was never finished")
    digest, _, body = manifest.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Damaged("is damaged: its manifest has changed")
    facts = json.loads(body)
    check_format(facts.get("format"), FORMAT, f"checkpoint '{folder}'", f"remove '{folder.parent}' to train again")
    return facts


def verify(folder: Path) -> None:
    """Compares every file of a checkpoint with its manifest; raises as `read`, for all files."""
    files: dict[str, str] = read(folder)["files"]
    with ThreadPoolExecutor() as pool:
        for name, digest in zip(files, pool.map(lambda name: _read(folder, name, _digest), files), strict=True):
            if digest != files[name]:
                raise Damaged(f"is damaged: its file {name} " + ("has changed" if digest else "is missing"))


def differences(here: Any, there: Any, name: str = "") -> Iterator[str]:
    """A clause for every field in which two nested JSON values differ; the outermost ones are those of `here`."""
    if isinstance(here, dict) and isinstance(there, dict):
        for field in here if not name else {**here, **there}:
            inner = f"{name}.{field}" if name else str(field)
            if field not in there:
                yield f"{inner} is {here[field]!r} in this run and absent in the checkpoint"
            elif field not in here:
                yield f"{inner} is absent in this run and {there[field]!r} in the checkpoint"
            else:
                yield from differences(here[field], there[field], inner)
    elif here != there:
        yield f"{name} is {here!r} in this run and {there!r} in the checkpoint"


def _read(folder: Path, name: str, read: Callable[[Path], T]) -> T | None:
    """The result of `read` for a file; None if it does not exist."""
    try:
        return read(folder / name)
    except MISSING:
        return None
    except OSError as error:
        remedy = f"rerun once it can be read, or remove {folder} to resume from the checkpoint before it"
        raise OSError(error.errno, f"{error.strerror}; {remedy}", str(folder / name)) from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
