"""Runs as tasks on a Ray cluster, whose nodes share a file system.

A task that a node takes with it is not Ray's to start again: its runs become free, and the driver gives out new tasks.
Those of one run over several hosts stand in a placement group, one bundle a host.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixscale.config import Experiment, Hosts, Ray
from mixscale.errors import InputError
from mixscale.sweeps.launchers.job import Job
from mixscale.sweeps.launchers.supervise import supervise
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.progress import SweepProgress


def train(experiment: Experiment, store_path: Path, left: list[Planned], progress: SweepProgress) -> None:
    """Trains what is left on the cluster.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address; and as `supervise`.
    """
    launcher = experiment.launcher
    assert isinstance(launcher, Ray)
    with _joined(launcher.address):
        jobs = RayJobs(experiment, launcher, store_path)
        try:
            supervise(experiment.directory, jobs, launcher.jobs, left, progress)
        finally:
            jobs.end()


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    """Joins the cluster, or stays with the one that this process has joined."""
    try:
        import ray
    except ImportError as error:
        raise InputError("engine Ray needs Ray on every node; `pip install 'mixscale[ray]'`") from error
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at engine.address '{address}'; `ray start --head` makes one ({error})"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@dataclass
class Group:
    """The tasks of one job, one a host."""

    tasks: list[Any]
    place: Any = None
    """the placement group, where there are several hosts"""


class RayJobs:
    """`Jobs` of a Ray cluster."""

    def __init__(self, experiment: Experiment, launcher: Ray, store_path: Path):
        self._experiment, self._engine, self._store_path = experiment, launcher, store_path
        self._groups: list[Group] = []
        self._said = "none of them said why"

    def submit(self, planned: Sequence[Planned], count: int) -> None:
        import ray

        job = Job(self._experiment, self._store_path, list(planned), Path.cwd(), self._engine.cpus <= 1)
        shared = ray.put(job)
        for _ in range(count):
            self._groups.append(self._over_hosts(shared) if self._engine.hosts > 1 else self._on_one(shared))

    def live(self) -> int | None:
        self._groups = [group for group in self._groups if self._goes_on(group)]
        return len(self._groups)

    def last_words(self) -> str:
        return f"the last one: {self._said}"

    def end(self) -> None:
        """Takes back what still runs, after a failure or an interrupt; where it stood is on disk."""
        import ray

        for group in self._groups:
            for task in group.tasks:
                ray.cancel(task, force=True)
            if group.place is not None:
                ray.util.remove_placement_group(group.place)

    def _on_one(self, job: Any) -> Group:
        return Group([self._remote(_train).remote(job)])

    def _over_hosts(self, job: Any) -> Group:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        hosts, launcher = self._engine.hosts, self._engine
        bundle = {"CPU": launcher.cpus, "GPU": launcher.gpus, "memory": launcher.memory_gb * 1e9, **launcher.resources}
        bundle = {name: amount for name, amount in bundle.items() if amount}
        place = placement_group([bundle] * hosts, strategy="STRICT_SPREAD")
        on = [PlacementGroupSchedulingStrategy(place, placement_group_bundle_index=i) for i in range(hosts)]
        # Given as a reference, so that nobody waits for it here.
        address = _address_task().options(scheduling_strategy=on[0]).remote()
        task = self._remote(_train_together)
        return Group(
            [task.options(scheduling_strategy=on[i]).remote(job, address, hosts, i) for i in range(hosts)], place
        )

    def _remote(self, function: Callable[..., None]) -> Any:
        import ray

        launcher = self._engine
        # A process of Ray's outlives its task, and the next task would find its devices taken (max_calls).
        return ray.remote(
            num_cpus=launcher.cpus,
            num_gpus=launcher.gpus,
            memory=int(launcher.memory_gb * 1e9) or None,
            resources=launcher.resources or None,
            max_retries=0,
            max_calls=1,
        )(function)

    def _goes_on(self, group: Group) -> bool:
        import ray

        ended, going = ray.wait(group.tasks, num_returns=len(group.tasks), timeout=0)
        failed = False
        for task in ended:
            try:
                ray.get(task)
            except ray.exceptions.RayError as error:
                failed, self._said = True, str(error)
        if going and failed:
            # The others would wait for the lost one until they time out.
            for task in going:
                ray.cancel(task, force=True)
        if not going and group.place is not None:
            ray.util.remove_placement_group(group.place)
        return bool(going)


def _train(job: Job) -> None:
    job()


def _train_together(job: Job, address: str, hosts: int, process: int) -> None:
    machine = replace(job.experiment.machine, hosts=Hosts(address, hosts, process))
    replace(job, experiment=replace(job.experiment, machine=machine))()


def _address_task() -> Any:
    import ray

    return ray.remote(num_cpus=0, max_retries=0)(_free_address)


def _free_address() -> str:
    """HOST:PORT on this node that nothing listens on."""
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"
