"""What is written last into a checkpoint's folder: the checksum of every file, and what the checkpoint is of.

A folder without a manifest is a checkpoint that was never finished; one whose files differ from its manifest is
damaged. A file that is there and cannot be read just now makes it neither: that is an error, because a checkpoint that
counts as damaged is replaced. The module knows files and JSON, and nothing of arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mixscale.io import atomic_write

FILE = "manifest"
MISSING = (FileNotFoundError, NotADirectoryError)
"""What says that a file is not there; whatever else stops a reader may pass."""


class Damaged(Exception):
    """A checkpoint that must not be used, and in what way it is spoilt."""


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Adds the manifest of all files in `folder`, with `facts` (JSON) in it; from now on the checkpoint counts.

    Nothing is flushed to the disk: what a loss of power leaves half written has another checksum.
    """
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda name: _digest(folder / name), names)
    body = json.dumps({"files": dict(zip(names, digests, strict=True)), **facts}, indent=1).encode()
    with atomic_write(folder / FILE) as temporary:
        # The first line vouches for the rest byte by byte, so that a flipped bit in a position is found as well.
        temporary.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def read(folder: Path) -> dict[str, Any]:
    """The facts of a checkpoint; its other files are not looked at.

    Raises:
        Damaged: there is no manifest, or it is not as it was written.
        OSError: it cannot be read just now.
    """
    try:
        digest, _, body = (folder / FILE).read_bytes().partition(b"\n")
    except MISSING:
        raise Damaged("was never finished") from None
    except OSError as error:
        raise _unread(folder, FILE, error) from error
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Damaged("is damaged: its manifest is not as it was written")
    return json.loads(body)


def verify(folder: Path) -> dict[str, Any]:
    """The facts of a checkpoint whose files all are as they were written.

    Raises:
        Damaged: a file is missing or has changed.
        OSError: one cannot be read just now.
    """
    facts = read(folder)
    files: dict[str, str] = facts["files"]
    with ThreadPoolExecutor() as pool:
        for name, digest in zip(files, pool.map(lambda name: _found(folder, name), files), strict=True):
            if digest != files[name]:
                raise Damaged(f"is damaged: its file {name} " + ("has changed" if digest else "is missing"))
    return facts


def differences(here: Any, there: Any, name: str = "") -> Iterator[str]:
    """A clause for every field in which two nested JSON values differ; the outermost fields are those of `here`."""
    if isinstance(here, dict) and isinstance(there, dict):
        for field in here if not name else {**here, **there}:
            inner = f"{name}.{field}" if name else str(field)
            if field not in there:
                yield f"{inner} is {here[field]!r} here and absent there"
            elif field not in here:
                yield f"{inner} is absent here and {there[field]!r} there"
            else:
                yield from differences(here[field], there[field], inner)
    elif here != there:
        yield f"{name} is {here!r} here and {there!r} there"


def _found(folder: Path, name: str) -> str:
    """Checksum of a file; empty where there is none."""
    try:
        return _digest(folder / name)
    except MISSING:
        return ""
    except OSError as error:
        raise _unread(folder, name, error) from error


def _unread(folder: Path, name: str, error: OSError) -> OSError:
    why = f"{error.strerror}; start again once it can be read, or remove {folder} to go on from the one before it"
    return OSError(error.errno, why, str(folder / name))


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
