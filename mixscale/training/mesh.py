"""The devices of a run as a mesh of named axes, and the placement of each dimension of an array on it.

The model names its dimensions (`embed`, `heads`, `mlp`, ...); only this file knows which axis of the mesh they are
spread over. XLA's partitioner (Xu et al., arXiv 2105.04663) moves the data.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding

from mixscale.config import Mesh, Model
from mixscale.errors import InputError

AXES = ("run", "data", "fsdp", "tensor")
# Axis of the mesh that a named dimension is spread over; dimensions without a rule are whole on every device.
RULES: dict[str, str | tuple[str, ...]] = {
    "run": "run",
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    mesh: jax.sharding.Mesh

    def placed(self, *dimensions: str | None, shape: tuple[int, ...] | None = None) -> NamedSharding:
        """Placement by named dimensions: the first with a rule gets its axes; one that they do not divide is whole."""
        parts: list[str | tuple[str, ...] | None] = []
        used: set[str] = set()
        for index, name in enumerate(dimensions):
            rule = RULES.get(name or "")
            axes = {rule} if isinstance(rule, str) else set(rule or ())
            size = math.prod(self.mesh.shape[axis] for axis in axes)
            fits = not used & axes and (shape is None or shape[index] % size == 0)
            parts.append(rule if fits else None)
            used |= axes if fits else set()
        return NamedSharding(self.mesh, jax.P(*parts))

    def constrain(self, x: jax.Array, dimensions: tuple[str | None, ...]) -> jax.Array:
        """`x` with its placement, inside a compiled function."""
        if self.mesh.size == 1:
            return x
        return jax.lax.with_sharding_constraint(x, self.placed(*dimensions, shape=x.shape))

    def put(self, x: Any, *dimensions: str | None) -> jax.Array:
        """A host array, the same in every process, on the devices; each process sends only its part."""
        sharding = self.placed(*dimensions, shape=x.shape)
        if jax.process_count() == 1:
            return jax.device_put(x, sharding)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def make_layout(mesh: Mesh, model: Model, batch: int, accumulate: int, population: int) -> Layout:
    """The layout of `population` runs of one shape, whose batches are computed in `accumulate` parts.

    Raises InputError if the mesh does not fit the devices, the batch, the heads, the width or the population.
    """
    size = filled(mesh)
    divided = [
        ("train.batch", batch, ("data", "fsdp"), accumulate),
        ("the population of", population, ("run",), 1),
        ("model.heads", model.heads, ("tensor",), 1),
        ("model.kv_heads", model.kv_heads, ("tensor",), 1),
        ("model.d_model", model.d_model, ("fsdp",), 1),
    ]
    for name, value, axes, parts in divided:
        over = parts * math.prod(size[axis] for axis in axes)
        if value % over:
            words = " x ".join([f"mesh.{a}={size[a]}" for a in axes] + [f"accumulate={parts}"] * (parts > 1))
            raise InputError(f"{name} {value} is not divisible by {words}; give a multiple of {over}")
    needed = math.prod(size.values())
    automatic = (jax.sharding.AxisType.Auto,) * len(AXES)
    devices = jax.devices()[:needed]
    if needed < jax.device_count():
        words = " x ".join(f"{axis}={n}" for axis, n in size.items())
        log.warning(f"mesh {words} leaves {jax.device_count() - needed} of {jax.device_count()} devices idle")
    return Layout(jax.make_mesh(tuple(size[a] for a in AXES), AXES, axis_types=automatic, devices=devices))


def filled(mesh: Mesh) -> dict[str, int]:
    """Devices along each axis, with -1 replaced by what the others leave; raises InputError for an impossible mesh."""
    size, devices = asdict(mesh), len(jax.devices())
    words = " x ".join(f"{axis}={n}" for axis, n in size.items())
    open_axes = [axis for axis, n in size.items() if n == -1]
    known = [n for n in size.values() if n != -1]
    if len(open_axes) > 1 or any(n < 1 for n in known):
        raise InputError(f"mesh {words}: sizes must be at least 1, and only one axis may be -1")
    needed = math.prod(known)
    if needed > devices:
        raise InputError(
            f"mesh {words} needs {needed} devices, but there are {devices}; reduce an axis or set it to -1"
        )
    if devices % needed:
        raise InputError(f"mesh {words} on {devices} devices: {needed} does not divide {devices}; set one axis to -1")
    if jax.process_count() > 1 and not open_axes and needed != devices:
        raise InputError(
            f"mesh {words} omits some of the {devices} devices of {jax.process_count()} processes; set one axis to -1"
        )
    return size | dict.fromkeys(open_axes, devices // needed)
