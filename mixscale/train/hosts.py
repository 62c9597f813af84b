"""Several processes as one: joining them, and what they must decide alike."""

from __future__ import annotations

import jax
import numpy as np

from mixscale.errors import InputError
from mixscale.experiment import Hosts


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


def any_of(flag: bool) -> bool:
    """Whether any process raised its flag."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())
