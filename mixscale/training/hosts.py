"""The processes of a run: how they join, how they make one decision, and the signals that stop them."""

from __future__ import annotations

import signal
import threading
from functools import cache
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from mixscale.config import Hosts
from mixscale.errors import InputError, Interrupted

# Schedulers and clouds send SIGTERM first; `sbatch --signal=USR1@120` sends SIGUSR1 before the time limit.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def join(hosts: Hosts) -> None:
    """Joins the processes of `hosts`, before JAX looks for devices; raises InputError if they cannot connect."""
    if not hosts.coordinator or jax.distributed.is_initialized():
        return
    explicit = (hosts.coordinator, hosts.processes, hosts.process)
    try:
        jax.distributed.initialize(*(() if hosts.coordinator == "auto" else explicit))
    except (RuntimeError, ValueError) as error:
        process = f"process {hosts.process} of {hosts.processes}"
        raise InputError(f"{process} did not reach coordinator '{hosts.coordinator}': {error}") from error


def first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def together(flag: bool) -> bool:
    """Process 0's flag in every process, so that all take the same branch."""
    return bool(alike(np.array(flag)))


def alike(values: np.ndarray) -> np.ndarray:
    """Process 0's array in every process."""
    return np.asarray(multihost_utils.broadcast_one_to_all(values))


def any_of(flag: bool) -> bool:
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


class Agreement:
    """Whether any process has raised a flag, one call late: at once, it would wait for all work on the devices."""

    def __init__(self) -> None:
        self._before: jax.Array | None = None

    def on(self, flag: bool) -> bool:
        """Whether any process raised its flag in the previous call; for a single process, its flag now."""
        if jax.process_count() == 1:
            return flag
        over, any_of_all = _voting()
        mine = jax.make_array_from_callback((jax.device_count(),), over, lambda _: np.array([flag]))
        before, self._before = self._before, any_of_all(mine)
        return before is not None and bool(before.addressable_data(0))


@cache
def _voting() -> tuple[jax.sharding.NamedSharding, Any]:
    """A sharding with one flag per device, and a function: whether any flag is raised."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "device")
    each, whole = (jax.sharding.NamedSharding(mesh, spec) for spec in (jax.P("device"), jax.P()))
    return each, jax.jit(jnp.any, out_shardings=whole)


class Interrupt:
    """A context that records the first of `SIGNALS`; none of them ends the process.

    The loop then finishes its dispatch, saves and raises. Only a main thread can handle signals: in other threads the
    context does nothing.
    """

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        return self._number != 0

    def exception(self) -> Interrupted:
        """What to raise once all is saved, even if only another process received the signal."""
        return Interrupted(self._number or signal.SIGTERM)

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._record) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._number = self._number or number
