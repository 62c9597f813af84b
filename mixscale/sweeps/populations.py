"""Which runs are trained together in one program, how many at most, and how a population resumes.

Small models leave an accelerator idle, so runs of one shape are trained side by side on it. On a CPU this gains
nothing (`analysis/train_benchmark.py` measures it), and runs are trained one by one.

A population's checkpoints hold all its runs, so whoever resumes it must train the same runs together, whatever else of
the plan has ended, failed or been added since. A population that keeps failing is split: its runs are trained one by
one, so that a run that makes its population fail does not stop the others.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixscale.config import Machine, content_hash
from mixscale.sweeps.directory import population_directory, read_json, run_directory, write_json
from mixscale.sweeps.run_state import clear_progress, read_failure

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.sweeps.plan import Planned
    from mixscale.training.run import Run

FULL_STEP = 1 << 20
"""Tokens of a step on one device, beyond which no accelerator is idle."""
MEMORY_SHARE = 0.8
"""Share of a device's memory that a population may be planned to use; the compiler needs the rest."""
FILE = "runs.json"
"""In the folder of a population: its runs, its places, and whether it was split."""


@dataclass(frozen=True)
class Population:
    """Runs of one shape that are trained together."""

    planned: tuple[Planned, ...]
    places: int
    """R of their program; places without a run stay idle"""

    @property
    def runs(self) -> list[str]:
        return [item.run.id for item in self.planned]

    @property
    def id(self) -> str:
        """Hash of the ids of its runs."""
        return content_hash(self.runs, self.places)

    def save(self, directory: Path, split: bool = False) -> None:
        """Records which runs it has, and whether they are trained one by one from now on."""
        about = {"runs": self.runs, "places": self.places, "split": split}
        write_json(population_directory(directory, self.id) / FILE, about)

    def keeps_failing(self, directory: Path) -> bool:
        """Whether it stopped too often without progress of any of its runs."""
        found = [read_failure(run_directory(directory, run)) for run in self.runs]
        return len(found) > 1 and all(f is not None and f.exhausted and f.together == len(found) for f in found)

    def split(self, directory: Path) -> None:
        """Gives it up: its runs resume from their own checkpoints, one by one, or start from step 0."""
        self.save(directory, split=True)
        shutil.rmtree(population_directory(directory, self.id) / "checkpoints", ignore_errors=True)
        for run in self.runs:
            clear_progress(run_directory(directory, run))

    def alone(self, machine: Machine) -> list[Population]:
        """Its runs, each as a population of its own."""
        return [Population((item,), along_runs(machine)) for item in self.planned]


def populations(planned: Iterable[Planned], machine: Machine, store: TokenStore) -> list[Population]:
    """`planned` in populations: by shape, shorter runs first, in the plan's order.

    Removing whole populations leaves the others as they were, so a sweep that resumes has the same ones.
    """
    from mixscale.training import shape_of

    shapes: dict[str, list[Planned]] = defaultdict(list)
    for item in planned:
        shapes[shape_of(item.run)].append(item)
    found = []
    for items in shapes.values():
        places = population_size(items[0].run, machine, store)
        items.sort(key=lambda item: item.run.train.tokens)
        found += [Population(tuple(items[i : i + places]), places) for i in range(0, len(items), places)]
    return found


def resumed_populations(
    directory: Path, left: Sequence[Planned], machine: Machine, store: TokenStore
) -> list[Population]:
    """`left` in populations: those that were started as they were, the others as `populations` has them.

    Runs are grouped anew where the config asks for another population size than they were started with.
    """
    from mixscale.training import hosts

    # With several hosts, process 0 decides: on a shared disk the others may see an older state.
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
    started = [
        Population(tuple(item for _, item in sorted(members, key=lambda m: m[0])), places)
        for (_, places), members in sorted(groups.items(), key=lambda g: g[0])
    ]
    return started + populations(fresh, machine, store) + [Population((item,), along) for item in single]


def _places(directory: Path, left: Sequence[Planned]) -> np.ndarray:
    """Of each run its population, its place there, and how many places that has: 1 where split, 0 for none."""
    row_of = {item.run.id: row for row, item in enumerate(left)}
    place_Px3 = np.zeros((len(left), 3), np.int32)
    for group, found in enumerate(_started(directory)):
        rows = [row_of[run] for run in found["runs"] if run in row_of]
        if found["split"]:
            place_Px3[rows] = group, 0, 1
        elif len(rows) == len(found["runs"]) and not place_Px3[rows].any():
            place_Px3[rows] = [(group, place, found["places"]) for place in range(len(rows))]
    return place_Px3


def _started(directory: Path) -> list[dict[str, Any]]:
    """What `Population.save` wrote; split ones first, because runs of a split population stay single."""
    found = []
    for path in sorted(population_directory(directory, "").glob(f"*/{FILE}")):
        # Another process may remove it just now, because all of it has ended.
        with suppress(FileNotFoundError):
            found.append(read_json(path))
    return sorted(found, key=lambda population: not population["split"])


def population_size(run: Run, machine: Machine, store: TokenStore) -> int:
    """How many runs of a shape are trained together: `machine.population`, else as memory allows; one on a CPU."""
    import jax

    from mixscale.training import hosts

    if machine.population:
        return machine.population
    along = along_runs(machine)
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return along
    limit = (device.memory_stats() or {}).get("bytes_limit", 0) * MEMORY_SHARE
    by_memory = along * ((limit - resident_bytes(store, machine)) // run_bytes(run, machine, store))
    by_work = along * FULL_STEP // (run.train.batch * store.context)
    places = max(1, int(min(by_memory, by_work)) // along) * along
    return int(hosts.alike(np.array(places)))


def along_runs(machine: Machine) -> int:
    """Devices along the mesh's axis `run`."""
    from mixscale.training.mesh import filled

    return filled(machine.mesh)["run"]


def run_bytes(run: Run, machine: Machine, store: TokenStore) -> float:
    """Bytes of one run on each of its devices: weights, gradient, two moments, activations, a chunk of logits."""
    from mixscale.models import count_parameters
    from mixscale.training.mesh import filled
    from mixscale.training.segments import segments

    size, model = filled(machine.mesh), run.model
    positions = run.train.batch * store.context / (size["data"] * size["fsdp"] * machine.accumulate)
    _, parameters = count_parameters(model, store.vocab_size)
    wide = 4 if run.train.dtype == "float32" else 2
    # Flash attention, which float32 does not have, keeps no scores.
    scores = 2 * model.heads * store.context if wide == 4 or machine.attention == "xla" else 2 * model.heads
    layer = wide * positions * (16 * model.d_model + scores) / size["tensor"]
    activations = layer + wide * positions * model.d_model * model.layers if machine.remat else layer * model.layers
    logits = 4 * min(positions * store.vocab_size, 1 << 27)
    kept = 16 if run.optimizer.ema else 12
    # A branch also keeps the state to return to; a batch in parts keeps the sum of its gradients.
    states = 1 + any(segment.branch for segment in segments(run.optimizer, run.train, store.context))
    gradients = 2 if machine.accumulate > 1 else 1
    of_weights = parameters * (kept * states + 4.0 * gradients) / (size["fsdp"] * size["tensor"])
    return of_weights + activations + 2 * logits


def resident_bytes(store: TokenStore, machine: Machine) -> float:
    """Bytes of the token rows on every device; 0 where they are streamed."""
    from mixscale.training.loader import row_bytes

    return float(row_bytes(store)) if row_bytes(store) <= machine.resident_gb * 1e9 else 0.0


def describe(found: list[Population], machine: Machine, store: TokenStore) -> str:
    """A line for each size: how many runs are trained together, and the memory that takes."""
    sizes: dict[str, list[Population]] = defaultdict(list)
    for population in found:
        sizes[population.planned[0].run.size].append(population)
    lines = []
    for size, of_size in sizes.items():
        places, runs = of_size[0].places, sum(len(population.planned) for population in of_size)
        if places == 1:
            lines.append(f"{size}: {runs} runs, one by one in one program")
            continue
        of_runs = places / along_runs(machine) * run_bytes(of_size[0].planned[0].run, machine, store)
        memory = of_runs + resident_bytes(store, machine)
        idle = sum(places - len(population.planned) for population in of_size)
        lines.append(
            f"{size}: {runs} runs in {len(of_size)} populations of {places}, {memory / 1e9:.3g} GB per device"
            + (f", {idle} places idle" if idle else "")
        )
    return "\n".join(lines)
