"""What each run of a folder is for: the labels that a plan gives its runs, kept beside them on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixscale.sweeps.directory import write_json

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.sweeps.plan import Planned

LABELS = ("run", "size", "role", "origin")
"""What the table says of each run; `seed` and `flops` are for `status`, which reads no config."""


def write_plan(directory: Path, name: str, planned: list[Planned], store: TokenStore) -> bool:
    """Records what each run of a plan is for, in the plan's order; returns whether it was another plan before."""
    from mixscale.sweeps.estimate import flops

    path = directory / "plan" / f"{name}.json"
    labels = [
        {
            "run": item.run.id,
            "size": item.run.size,
            "role": item.role,
            "origin": item.origin,
            "seed": item.run.seed,
            "flops": flops(item.run, store),
        }
        for item in planned
    ]
    changed = path.exists() and _named(json.loads(path.read_text())) != _named(labels)
    write_json(path, labels)
    return changed


def forget_plan(directory: Path, name: str) -> None:
    """Takes a plan's runs out of the table; what was trained stays."""
    (directory / "plan" / f"{name}.json").unlink(missing_ok=True)


def read_plans(directory: Path) -> list[dict[str, Any]]:
    """The labels of all plans, each run once: the design's first, then the verification's."""
    labels: dict[str, dict[str, Any]] = {}
    for path in sorted((directory / "plan").glob("*.json")):
        for label in json.loads(path.read_text()):
            labels.setdefault(label["run"], label)
    return list(labels.values())


def _named(labels: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(label[name] for name in LABELS) for label in labels]
