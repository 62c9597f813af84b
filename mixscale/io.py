"""What packages that share files agree on: names, status of a run, format numbers, atomic writes. Loads no pandas."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from mixscale.errors import InputError

RUNS_CSV, RUNS_PARQUET = "runs.csv", "runs.parquet"
FIT_FOLDER, OPTIMUM_FILE = "fit", "optimum.json"
OPTIMUM_FORMAT = 2  # of an optimum's file
SWEEP_FORMAT = 1  # of every JSON file of a sweep; change it when one of them changes its meaning
DIAGNOSTICS_FILE = "diagnostics.csv"
RESULT_FILE, SUMMARY_FILE, REPORT_FILE = "result.json", "summary.txt", "report.html"


def front_file(optimum: Path) -> Path:
    """The Pareto front that belongs to an optimum: pareto.csv for optimum.json, OTHER.pareto.csv for OTHER.json."""
    return optimum.with_name("pareto.csv" if optimum.name == OPTIMUM_FILE else f"{optimum.stem}.pareto.csv")


class Status(StrEnum):
    """State of a run when a row was measured; only a complete row needs every loss."""

    COMPLETE = "complete"
    DIVERGED = "diverged"
    STOPPED = "stopped"  # ended early, by its owner or by a failure


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, with its suffix, that replaces `path` once the block has succeeded.

    A failure or a kill leaves what was at `path` before. Missing folders are created. A device or pipe is written to
    directly.

    Raises:
        InputError: `path` is a folder, or lies below a file.
    """
    file = Path(path)
    ensure_dir(file.parent)
    if file.is_dir():
        raise InputError(f"'{file}' is a folder; give the name of a file")
    if file.exists() and not file.is_file():
        yield file
        return
    temporary = file.with_name(f".{file.stem}.{secrets.token_hex(4)}{file.suffix}")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def ensure_dir(path: str | Path) -> Path:
    """The folder `path`, created with its parents; raises InputError if one of them is a file."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocking = next((p for p in (folder, *folder.parents) if p.is_file()), folder)
        raise InputError(f"folder '{folder}' cannot be made: '{blocking}' is a file") from error
    return folder


def json_default(value: Any) -> Any:
    """JSON's form of an array, a mapping or a dataclass; the `default` of `json.dumps`."""
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return dict(value) if isinstance(value, Mapping) else value.tolist()


def check_format(found: object, expected: int, what: str, remedy: str) -> None:
    """Raises InputError if another version of mixscale saved something.

    Args:
        found: the format number that was read, or None. expected: the one that this version writes.
        what: as in "fit 'runs/a/fit'". remedy: end of the error.
    """
    if found != expected:
        age = "newer" if isinstance(found, int) and found > expected else "older"
        has = f"format {found}" if isinstance(found, int) else "no format number"
        raise InputError(
            f"{what} has {has}; it was saved by {'a' if age == 'newer' else 'an'} {age} version of mixscale, "
            f"and this version reads format {expected}; {remedy}"
        )


LFS_POINTER = b"version https://git-lfs.github.com/spec"  # first bytes of what Git LFS leaves in place of a file


def refuse_pointer(path: str | Path, head: bytes) -> None:
    """Raises InputError if a file that begins with `head` is a pointer of Git LFS."""
    if head.startswith(LFS_POINTER):
        raise InputError(
            f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository to fetch it"
        )


def check_output(out: Path, kind: Literal["file", "folder"]) -> None:
    """Raises InputError, before any work is done, if `out` is a folder where a file is needed, or the reverse."""
    if out.exists() and out.is_dir() != (kind == "folder"):
        raise InputError(f"--out {out} is a {'folder' if out.is_dir() else 'file'}; give a {kind}")
