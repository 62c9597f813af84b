"""The devices of a run as a mesh of named axes."""

from __future__ import annotations

import jax

from mixscale.errors import InputError
from mixscale.experiment import Mesh


def make_mesh(mesh: Mesh, batch: int) -> jax.sharding.Mesh:
    """Mesh with the axis `data`, over which the sequences of a batch are spread.

    Raises:
        InputError: it needs more devices than there are, or does not divide the batch.
    """
    devices = jax.devices()
    size = len(devices) if mesh.data == -1 else mesh.data
    if not 1 <= size <= len(devices):
        raise InputError(f"mesh data={mesh.data} on {len(devices)} devices; give -1 or 1 to {len(devices)}")
    if batch % size:
        raise InputError(f"batch {batch} does not divide over {size} devices; give a multiple of {size}")
    return jax.make_mesh((size,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices[:size])
