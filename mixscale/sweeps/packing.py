"""Which runs are trained together in one program, and how many at most.

Small models leave an accelerator idle, so runs of one shape are trained side by side on it. On a CPU this gains
nothing (`analysis/train_benchmark.py` measures it), and runs go one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixscale.config import Machine, content_hash

if TYPE_CHECKING:
    from mixscale.data import TokenStore
    from mixscale.sweeps.plan import Planned
    from mixscale.training.run import Run

POSITIONS = 1 << 20
"""Tokens of a step on one device, beyond which no accelerator is idle."""
SHARE = 0.8
"""Of a device's memory, what a population may be planned to take; the compiler needs the rest."""


@dataclass(frozen=True)
class Pack:
    """Runs of one shape that are trained together."""

    planned: tuple[Planned, ...]
    places: int
    """R of their program; those that are left over stand idle"""

    @property
    def id(self) -> str:
        """Hash of the runs' own."""
        return content_hash([item.run.id for item in self.planned], self.places)


def packs(planned: Iterable[Planned], machine: Machine, store: TokenStore) -> list[Pack]:
    """`planned` in packs: by shape, shorter runs first, in the plan's order.

    Taking whole packs away leaves the others as they were, so a sweep that goes on packs as before.
    """
    from mixscale.training import shape_of

    shapes: dict[str, list[Planned]] = {}
    for item in planned:
        shapes.setdefault(shape_of(item.run), []).append(item)
    packed = []
    for items in shapes.values():
        places = population(items[0].run, machine, store)
        items.sort(key=lambda item: item.run.train.tokens)
        packed += [Pack(tuple(items[i : i + places]), places) for i in range(0, len(items), places)]
    return packed


def population(run: Run, machine: Machine, store: TokenStore) -> int:
    """How many runs of a shape are trained together: as asked, or as the devices' memory allows; one on a CPU."""
    import jax

    from mixscale.training import hosts

    if machine.population:
        return machine.population
    along = along_runs(machine)
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return along
    limit = (device.memory_stats() or {}).get("bytes_limit", 0) * SHARE
    by_memory = along * ((limit - resident(store, machine)) // run_bytes(run, machine, store))
    by_work = along * POSITIONS // (run.train.batch * store.context)
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
    from mixscale.training.schedule import segments

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
    # On a branch the state to return to is kept as well; a batch in parts has the sum of its gradients.
    states = 1 + any(segment.branch for segment in segments(run.optimizer, run.train, store.context))
    gradients = 2 if machine.accumulate > 1 else 1
    of_weights = parameters * (kept * states + 4.0 * gradients) / (size["fsdp"] * size["tensor"])
    return of_weights + activations + 2 * logits


def resident(store: TokenStore, machine: Machine) -> float:
    """Bytes of the token rows on every device; none where they are streamed."""
    from mixscale.training.rows import row_bytes

    return float(row_bytes(store)) if row_bytes(store) <= machine.resident_gb * 1e9 else 0.0


def described(packed: list[Pack], machine: Machine, store: TokenStore) -> str:
    """How runs are packed, for people: a line for each size."""
    sizes: dict[str, list[Pack]] = {}
    for pack in packed:
        sizes.setdefault(pack.planned[0].run.size, []).append(pack)
    lines = []
    for size, of_size in sizes.items():
        places, runs = of_size[0].places, sum(len(pack.planned) for pack in of_size)
        if places == 1:
            lines.append(f"{size}: {runs} runs, one after another in one program")
            continue
        of_runs = places / along_runs(machine) * run_bytes(of_size[0].planned[0].run, machine, store)
        memory = of_runs + resident(store, machine)
        idle = sum(places - len(pack.planned) for pack in of_size)
        lines.append(
            f"{size}: {runs} runs in {len(of_size)} populations of {places}, {memory / 1e9:.3g} GB a device"
            + (f", {idle} places idle" if idle else "")
        )
    return "\n".join(lines)
