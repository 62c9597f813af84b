"""Fills the tables of a document between `<!-- table:NAME -->` and `<!-- end -->`; the rest stays as it is."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path

import pandas as pd

MARKED = re.compile(r"(<!-- table:([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
PACKAGES = ("numpy", "scipy", "jax", "lightgbm")


def fill(file: Path, tables: dict[str, str]) -> None:
    """Put each table between its marks; a table that was not measured stays as it is."""
    text = file.read_text(encoding="utf-8")

    def put(found: re.Match) -> str:
        name = found[2]
        return f"{found[1]}\n{tables[name]}\n\n{found[3]}" if name in tables else found[0]

    file.write_text(MARKED.sub(put, text), encoding="utf-8")


def about(found: pd.DataFrame, command: str) -> str:
    """Which command printed the tables, with what, and how long it took."""
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    done = found[found["status"] == "done"]
    seconds = done.groupby("key")["seconds"].max().sum() if len(done) else 0.0
    return (
        f"Printed by `{command}`: {done['key'].nunique()} cells, {seconds / 60:.0f} minutes of fitting; "
        f"{', '.join(versions)}."
    )
