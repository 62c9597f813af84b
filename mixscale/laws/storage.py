"""A fit on disk: fit.json with names and what a person may read, and one npz with the arrays.

It knows how these are written and read, not what a fit contains.
"""

from __future__ import annotations

import json
import secrets
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mixscale.errors import InputError
from mixscale.io import atomic_write, check_format, ensure_dir

FORMAT = 1  # increase it with every change of what a fit contains
DIAGNOSTICS = ("diagnostics.csv", "diagnostics.txt")  # files of an older fit that `save` removes
REMEDY = "fit the table again with `mixscale fit TABLE --out FOLDER`"
T = TypeVar("T")


def save(folder: str | Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays to a new file in `folder`, then fit.json, which names it, so that a kill leaves the old fit.

    Raises:
        InputError: the folder is, or lies below, a file.
    """
    folder = ensure_dir(folder)
    name = f"fit-{secrets.token_hex(4)}.npz"
    with atomic_write(folder / name) as file:
        np.savez(file, **arrays)
    with atomic_write(folder / "fit.json") as file:
        file.write_text(json.dumps({"format": FORMAT, **about, "arrays": name}, indent=1) + "\n")
    for stale in DIAGNOSTICS:
        (folder / stale).unlink(missing_ok=True)
    for old in folder.glob("fit-????????.npz"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load(folder: str | Path, build: Callable[[dict[str, Any], dict[str, np.ndarray]], T]) -> T:
    """What `build` makes of fit.json and the arrays in `folder`.

    Raises:
        InputError: there is no fit, it has another format, or it is damaged.
    """
    folder = Path(folder)
    if not (folder / "fit.json").is_file():
        raise InputError(f"'{folder}' contains no fit (fit.json)")
    try:
        about = json.loads((folder / "fit.json").read_text())
        check_format(about.get("format"), FORMAT, f"the fit in '{folder}'", REMEDY)
        with np.load(folder / about["arrays"], allow_pickle=False) as data:
            return build(about, dict(data))
    except InputError:
        raise
    except (KeyError, ValueError, OSError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"the fit in '{folder}' is damaged ({error}); {REMEDY}") from error
