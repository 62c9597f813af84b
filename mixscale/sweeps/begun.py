"""Populations that were begun, as the folder keeps them: they go on as they were, or, where that failed, run by run.

A population's checkpoints are of all its runs at once, so whoever goes on must train the same runs together, whatever
else of the plan has ended, failed or been added since. Where one run is to blame for what stopped its population, the
others must not pay for it: parted, each fails or ends by itself.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixscale.config import Machine
from mixscale.sweeps import failures, reached
from mixscale.sweeps.directory import pack_directory, run_directory, write_json
from mixscale.sweeps.packing import Pack, along_runs, packs

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.sweeps.plan import Planned

FILE = "runs.json"


@dataclass(frozen=True)
class Begun:
    """What is kept of a population."""

    runs: list[str]
    places: int
    parted: bool = False
    """whether its runs are trained one by one from now on"""


def begin(directory: Path, pack: Pack) -> None:
    """Keeps which runs a population has."""
    _write(directory, pack, parted=False)


def hopeless(directory: Path, pack: Pack) -> bool:
    """Whether a population stopped too often without any of its runs getting further."""
    found = [failures.read(run_directory(directory, item.run.id)) for item in pack.planned]
    return len(found) > 1 and all(f is not None and f.spent and f.together == len(found) for f in found)


def part(directory: Path, pack: Pack) -> None:
    """Gives a population up; its runs go on from checkpoints of their own, or from their first steps."""
    _write(directory, pack, parted=True)
    shutil.rmtree(pack_directory(directory, pack.id) / "checkpoints", ignore_errors=True)
    for item in pack.planned:
        reached.forget(run_directory(directory, item.run.id))


def alone(pack: Pack, machine: Machine) -> list[Pack]:
    """Its runs, each as a pack of its own."""
    return [Pack((item,), along_runs(machine)) for item in pack.planned]


def regrouped(directory: Path, left: Sequence[Planned], machine: Machine, store: TokenStore) -> list[Pack]:
    """`left` in packs: populations that were begun as they were, the others as `packs` cuts them.

    A population is cut anew where the experiment now asks for another size.
    """
    from mixscale.training import hosts

    # Of several hosts one decides: what it sees on a shared disk the others may not yet.
    place_Px3 = hosts.alike(_places(directory, left) if hosts.first() else np.zeros((len(left), 3), np.int32))
    along = along_runs(machine)
    groups: dict[tuple[int, int], list[tuple[int, Planned]]] = defaultdict(list)
    fresh, single = [], []
    for item, (group, place, places) in zip(left, place_Px3.tolist(), strict=True):
        if places == 1:
            single.append(item)
        elif places and (places == machine.population if machine.population else places % along == 0):
            groups[group, places].append((place, item))
        else:
            fresh.append(item)
    again = [
        Pack(tuple(item for _, item in sorted(members, key=lambda m: m[0])), places)
        for (_, places), members in sorted(groups.items(), key=lambda g: g[0])
    ]
    return again + packs(fresh, machine, store) + [Pack((item,), along) for item in single]


def _places(directory: Path, left: Sequence[Planned]) -> np.ndarray:
    """Of each run its population, its place there, and how many places that has: 1 where parted, 0 for none."""
    row_of = {item.run.id: row for row, item in enumerate(left)}
    place_Px3 = np.zeros((len(left), 3), np.int32)
    for group, found in enumerate(_all_begun(directory)):
        rows = [row_of[run] for run in found.runs if run in row_of]
        if found.parted:
            place_Px3[rows] = group, 0, 1
        elif len(rows) == len(found.runs) and not place_Px3[rows].any():
            place_Px3[rows] = [(group, place, found.places) for place in range(len(rows))]
    return place_Px3


def _all_begun(directory: Path) -> list[Begun]:
    """Those that were parted first: they stay so, whatever else their runs were in."""
    found = []
    for path in sorted(pack_directory(directory, "").glob(f"*/{FILE}")):
        # Another process may remove it just now, because all of it has ended.
        with suppress(FileNotFoundError):
            found.append(Begun(**json.loads(path.read_text())))
    return sorted(found, key=lambda begun: not begun.parted)


def _write(directory: Path, pack: Pack, parted: bool) -> None:
    runs = [item.run.id for item in pack.planned]
    write_json(pack_directory(directory, pack.id) / FILE, Begun(runs, pack.places, parted))
