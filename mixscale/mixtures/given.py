"""Mixtures from a file: those that a fit asked for next, or the optimum of a smaller experiment."""

from __future__ import annotations

import json
from pathlib import Path

from mixscale.errors import InputError, listed
from mixscale.mixture import Mixture
from mixscale.run_table import read_frame


def given(path: str, domains: tuple[str, ...]) -> list[Mixture]:
    """The mixtures of a file over `domains`; none for an empty path.

    Args:
        path: a table with columns mix/DOMAIN (what `mixscale design --out` writes), or JSON of weights by domain or
            of an optimum (what `mixscale optimize` writes).

    Raises:
        InputError: it cannot be read, or names other domains.
    """
    if not path:
        return []
    file = Path(path)
    if not file.is_file():
        raise InputError(f"design.given '{path}' does not exist; give a table of mixtures, or an optimum.json")
    rows = [_optimum(file)] if file.suffix == ".json" else _table(file)
    for weights in rows:
        strange = [domain for domain in weights if domain not in domains]
        if strange:
            raise InputError(f"design.given '{path}' names {listed(strange)}, but the domains are {listed(domains)}")
    return [Mixture.normalized({d: weights.get(d, 0.0) for d in domains}) for weights in rows]


def _table(file: Path) -> list[dict[str, float]]:
    frame = read_frame(file)
    columns = [c for c in frame.columns if c.startswith("mix/")]
    if not columns:
        raise InputError(f"design.given '{file}' has no columns mix/DOMAIN")
    return [{c.removeprefix("mix/"): float(row[c]) for c in columns} for row in frame.to_dict("records")]


def _optimum(file: Path) -> dict[str, float]:
    try:
        about = json.loads(file.read_text("utf-8"))
        return {str(d): float(w) for d, w in about.get("mixture", about).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"design.given '{file}' holds no mixture: {error}") from error
