"""The devices of a run as a mesh of named axes, and where on it each dimension of an array goes.

The model names its dimensions by what they are (`embed`, `heads`, `mlp`, ...); this file alone says which axis of the
mesh they are spread over. Nothing here moves data: XLA's partitioner (Xu et al., arXiv 2105.04663) does, where the
placements ask for it.
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
RULES: dict[str, str | tuple[str, ...]] = {
    "run": "run",
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
}
"""Axis of the mesh that a named dimension is spread over; dimensions without a rule are whole on every device."""

Dimensions = tuple[str | None, ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Where arrays live on a mesh."""

    mesh: jax.sharding.Mesh

    def spec(self, dimensions: Dimensions, shape: tuple[int, ...] | None = None) -> jax.P:
        """Partition of an array by its named dimensions; one that a given shape does not divide stays whole.

        An axis is used once an array: of two dimensions with one rule, the first has it.
        """
        parts: list[str | tuple[str, ...] | None] = []
        used: set[str] = set()
        for index, name in enumerate(dimensions):
            rule = RULES.get(name or "")
            axes = (rule,) if isinstance(rule, str) else rule or ()
            size = math.prod(self.mesh.shape[axis] for axis in axes)
            fits = shape is None or shape[index] % size == 0
            if not axes or used & set(axes) or not fits:
                parts.append(None)
                continue
            used |= set(axes)
            parts.append(rule)
        return jax.P(*parts)

    def placed(self, *dimensions: str | None, shape: tuple[int, ...] | None = None) -> NamedSharding:
        return NamedSharding(self.mesh, self.spec(dimensions, shape))

    def constrain(self, x: jax.Array, dimensions: Dimensions) -> jax.Array:
        """`x`, held to its placement inside a compiled function."""
        if self.mesh.size == 1:
            return x
        return jax.lax.with_sharding_constraint(x, self.placed(*dimensions, shape=x.shape))

    def put(self, x: Any, *dimensions: str | None) -> jax.Array:
        """A host array, the same in every process, on the devices; each process sends its own part only."""
        sharding = self.placed(*dimensions, shape=x.shape)
        if jax.process_count() == 1:
            return jax.device_put(x, sharding)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def make_layout(mesh: Mesh, model: Model, batch: int, accumulate: int, population: int) -> Layout:
    """The layout of runs of one shape.

    Args:
        mesh: devices along each axis; -1 at one of them takes what the others leave.
        model: whose heads and widths are spread over `tensor` and `fsdp`.
        batch: sequences a step, spread over `data` and `fsdp`.
        accumulate: parts that each batch is computed in.
        population: runs trained together, spread over `run`.

    Raises:
        InputError: the mesh does not fit the devices, or does not divide the batch, the heads or the population.
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
            raise InputError(f"{name} {value} does not divide over {words}; give a multiple of {over}")
    needed = math.prod(size.values())
    automatic = (jax.sharding.AxisType.Auto,) * len(AXES)
    devices = jax.devices()[:needed]
    if needed < jax.device_count():
        words = " x ".join(f"{axis}={n}" for axis, n in size.items())
        log.warning(f"mesh {words} leaves {jax.device_count() - needed} of {jax.device_count()} devices idle")
    return Layout(jax.make_mesh(tuple(size[a] for a in AXES), AXES, axis_types=automatic, devices=devices))


def filled(mesh: Mesh) -> dict[str, int]:
    """Devices along each axis, with -1 replaced by what is left; InputError where they cannot be so."""
    asked = asdict(mesh)
    devices = len(jax.devices())
    words = " x ".join(f"{axis}={size}" for axis, size in asked.items())
    open_axes = [axis for axis, size in asked.items() if size == -1]
    if len(open_axes) > 1 or any(size < 1 for size in asked.values() if size != -1):
        raise InputError(f"mesh {words}: sizes are at least 1, and -1 may stand at one axis")
    known = math.prod(size for size in asked.values() if size != -1)
    size = dict(asked)
    if known > devices:
        raise InputError(f"mesh {words} takes {known} devices and there are {devices}; give a smaller one, or -1")
    if devices % known:
        raise InputError(f"mesh {words} on {devices} devices: {known} does not divide them; give -1 at one axis")
    if open_axes:
        size[open_axes[0]] = devices // known
    if jax.process_count() > 1 and math.prod(size.values()) != devices:
        raise InputError(f"mesh {words} leaves out some of the {devices} devices of {jax.process_count()} processes")
    return size
