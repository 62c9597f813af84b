"""Populations: the runs of one shape that one program trains together, their size, and how they resume.

Small models leave an accelerator idle, so it trains several runs side by side; on a CPU this gains nothing
(`analysis/train_benchmark.py`). A population's checkpoints hold all its runs, so it resumes with the same runs,
whatever else of the plan has ended, failed or been added since. A population that keeps failing is split into single
runs, so that a bad run does not stop the others.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixscale.config import Machine, content_hash
from mixscale.sweeps.directory import population_directory, read_json, run_directory, write_json
from mixscale.sweeps.run_state import Failure, RunProgress

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.sweeps.plan import Planned
    from mixscale.training.run import Run

FULL_STEP = 1 << 20  # tokens in a step that keep any one device busy
MEMORY_SHARE = 0.8  # share of a device's memory for a population; the compiler needs the rest
POPULATION_FILE = "runs.json"  # in a population's folder: its runs, its places, and whether it was split


@dataclass(frozen=True)
class Population:
    """Runs of one shape that are trained together."""

    planned: tuple[Planned, ...]
    places: int  # R of their program; places without a run stay idle

    @property
    def runs(self) -> list[str]:
        return [item.run.id for item in self.planned]

    @property
    def id(self) -> str:
        return content_hash(self.runs, self.places)

    def save(self, directory: Path, split: bool = False) -> None:
        """Saves its runs, and whether they are trained one by one from now on."""
        about = {"runs": self.runs, "places": self.places, "split": split}
        write_json(population_directory(directory, self.id) / POPULATION_FILE, about)

    def keeps_failing(self, directory: Path) -> bool:
        """Whether it failed too often without progress of any of its runs."""
        found = [Failure.read(run_directory(directory, run)) for run in self.runs]
        return len(found) > 1 and all(f is not None and f.exhausted and f.together == len(found) for f in found)

    def split(self, directory: Path) -> None:
        """Its runs resume one by one, from their own checkpoints or from step 0."""
        self.save(directory, split=True)
        shutil.rmtree(population_directory(directory, self.id) / "checkpoints", ignore_errors=True)
        for run in self.runs:
            RunProgress.clear(run_directory(directory, run))

    def alone(self, machine: Machine) -> list[Population]:
        return [Population((item,), along_runs(machine)) for item in self.planned]


def populations(planned: Iterable[Planned], machine: Machine, store: TokenStore) -> list[Population]:
    """`planned` in populations: by shape, shorter runs first, in the plan's order.

    They do not change if whole populations are removed from `planned`, so that a sweep resumes with the same ones.
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
    """`left` in the populations that were started, if the config still has their size; else as in `populations`."""
    from mixscale.training import hosts

    # Process 0 decides: on a shared disk the other hosts may see an older state.
    place_Px3 = hosts.alike(_places(directory, left) if hosts.first() else np.zeros((len(left), 3), np.int32))
    along = along_runs(machine)
    groups: dict[tuple[int, int], dict[int, Planned]] = defaultdict(dict)
    fresh, single = [], []
    for item, (group, place, places) in zip(left, place_Px3.tolist(), strict=True):
        if places == 1:
            single.append(item)
        elif places and (places == machine.population if machine.population else places % along == 0):
            groups[group, places][place] = item
        else:
            fresh.append(item)
    started = []
    for group, places in sorted(groups):
        members = sorted(groups[group, places].items())
        started.append(Population(tuple(item for _, item in members), places))
    return started + populations(fresh, machine, store) + [Population((item,), along) for item in single]


def _places(directory: Path, left: Sequence[Planned]) -> np.ndarray:
    """Of each run its population, its place there, and the number of places: 1 after a split, 0 if not started."""
    started = []
    for path in sorted(population_directory(directory, "").glob(f"*/{POPULATION_FILE}")):
        with suppress(FileNotFoundError):  # another process removes it once all its runs have ended
            started.append(read_json(path))
    started.sort(key=lambda population: not population["split"])  # runs of a split population stay single
    row_of = {item.run.id: row for row, item in enumerate(left)}
    place_Px3 = np.zeros((len(left), 3), np.int32)
    for group, found in enumerate(started):
        rows = [row_of[run] for run in found["runs"] if run in row_of]
        if found["split"]:
            place_Px3[rows] = group, 0, 1
        elif len(rows) == len(found["runs"]) and not place_Px3[rows].any():
            place_Px3[rows] = [(group, place, found["places"]) for place in range(len(rows))]
    return place_Px3


def population_size(run: Run, machine: Machine, store: TokenStore) -> int:
    """How many runs of a shape are trained together: `machine.population`, one on a CPU, else what fits in memory."""
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
    from mixscale.training.run import segments

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

    size = row_bytes(store)
    return float(size) if size <= machine.resident_gb * 1e9 else 0.0


def describe(found: list[Population], machine: Machine, store: TokenStore) -> str:
    """A line for each size: how many runs are trained together, and how much memory they need."""
    sizes: dict[str, list[Population]] = defaultdict(list)
    for population in found:
        sizes[population.planned[0].run.size].append(population)
    lines = []
    for size, of_size in sizes.items():
        places, runs = of_size[0].places, sum(len(population.planned) for population in of_size)
        if places == 1:
            lines.append(f"{size}: {runs} runs, one after another in one program")
            continue
        of_runs = places / along_runs(machine) * run_bytes(of_size[0].planned[0].run, machine, store)
        memory = of_runs + resident_bytes(store, machine)
        idle = sum(places - len(population.planned) for population in of_size)
        lines.append(
            f"{size}: {runs} runs in {len(of_size)} populations of {places}, {memory / 1e9:.3g} GB per device"
            + (f", {idle} places idle" if idle else "")
        )
    return "\n".join(lines)
