"""Several processes as one: joining them, and what they must decide alike."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.config import Hosts
from mixscale.errors import InputError


def join(hosts: Hosts) -> None:
    """Makes this process one of `hosts.processes`, before JAX looks for its devices; does nothing for one alone.

    Raises:
        InputError: the processes cannot find each other.
    """
    if not hosts.coordinator or jax.distributed.is_initialized():
        return
    try:
        if hosts.coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(hosts.coordinator, hosts.processes, hosts.process)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"process {hosts.process} of {hosts.processes} did not reach coordinator '{hosts.coordinator}': {error}"
        ) from error


def first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def together(flag: bool) -> bool:
    """Process 0's flag, in every process, so that all take the same way."""
    return bool(alike(np.array(flag)))


def alike(values: np.ndarray) -> np.ndarray:
    """Process 0's array, in every process."""
    if jax.process_count() == 1:
        return values
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(values))


class Agreement:
    """What any process asked for, in every process, one question late, so that no host waits for its devices.

    An answer at once would come after all that the devices were given before the question.
    """

    def __init__(self) -> None:
        self._before: jax.Array | None = None

    def asked(self, flag: bool) -> bool:
        """Whether any flag was raised at the question before this one; of a process alone, whether its own is now."""
        if jax.process_count() == 1:
            return flag
        over, any_of_all = _voting()
        mine = jax.make_array_from_callback((jax.device_count(),), over, lambda _: np.array([flag]))
        before, self._before = self._before, any_of_all(mine)
        return before is not None and bool(before.addressable_data(0))


def any_of(flag: bool) -> bool:
    """Whether any process raised its flag."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())


@cache
def _voting() -> tuple[jax.sharding.NamedSharding, Any]:
    """Where flags go, one a device, and what finds out whether any is raised."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "device")
    each, whole = (jax.sharding.NamedSharding(mesh, spec) for spec in (jax.P("device"), jax.P()))
    return each, jax.jit(jnp.any, out_shardings=whole)
