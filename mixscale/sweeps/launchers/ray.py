"""The launcher for a Ray cluster with nodes that share a file system: jobs are Ray tasks.

Ray does not restart a task that is lost with its node; its runs become free, and the driver submits new tasks. The
tasks of a job over several hosts have a placement group, one bundle per host.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixscale.config import Experiment, Hosts, Ray
from mixscale.errors import InputError
from mixscale.sweeps.launchers import Job, supervise
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.status import SweepProgress


def launch(experiment: Experiment, store_path: Path, left: list[Planned], progress: SweepProgress) -> None:
    """Trains what is left on the cluster; raises InputError if there is none, and as `supervise`."""
    launcher = experiment.launcher
    assert isinstance(launcher, Ray)
    try:
        import ray

        connected = nullcontext() if ray.is_initialized() else ray.init(launcher.address, log_to_driver=False)
    except ImportError as error:
        raise InputError("launcher Ray needs Ray on every node; run `pip install 'mixscale[ray]'`") from error
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at launcher.address '{launcher.address}' ({error}); start one with `ray start --head`"
        ) from error
    with connected:
        jobs = RayJobs(experiment, launcher, store_path)
        try:
            supervise(experiment.directory, jobs, launcher.jobs, left, progress)
        finally:
            jobs.cancel()


@dataclass
class Group:
    """The tasks of one job, one per host."""

    tasks: list[Any]
    placement: Any = None  # their placement group, if there are several hosts

    def cancel(self) -> None:
        import ray

        for task in self.tasks:
            ray.cancel(task, force=True)

    def free(self) -> None:
        import ray

        if self.placement is not None:
            ray.util.remove_placement_group(self.placement)


class RayJobs:
    """`Jobs` of a Ray cluster."""

    def __init__(self, experiment: Experiment, launcher: Ray, store_path: Path):
        self._experiment, self._launcher, self._store_path = experiment, launcher, store_path
        self._groups: list[Group] = []
        self._last_error = "no job reported an error"

    def submit(self, planned: Sequence[Planned], count: int) -> None:
        import ray

        job = Job(self._experiment, self._store_path, list(planned), Path.cwd(), self._launcher.cpus <= 1)
        shared = ray.put(job)
        for _ in range(count):
            several = self._launcher.hosts > 1
            self._groups.append(self._over_hosts(shared) if several else Group([self._task().remote(shared)]))

    def live(self) -> int | None:
        self._groups = [group for group in self._groups if self._is_live(group)]
        return len(self._groups)

    def last_error(self) -> str:
        return f"the last one: {self._last_error}"

    def cancel(self) -> None:
        """Cancels what still runs, after a failure or an interrupt; its progress is on disk."""
        for group in self._groups:
            group.cancel()
            group.free()

    def _over_hosts(self, job: Any) -> Group:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        hosts, launcher = self._launcher.hosts, self._launcher
        bundle = {"CPU": launcher.cpus, "GPU": launcher.gpus, "memory": launcher.memory_gb * 1e9, **launcher.resources}
        bundle = {name: amount for name, amount in bundle.items() if amount}
        placement = placement_group([bundle] * hosts, strategy="STRICT_SPREAD")
        on = [PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=i) for i in range(hosts)]
        # Passed to the tasks as a reference, so that the driver does not wait for it.
        find_address = ray.remote(num_cpus=0, max_retries=0)(_free_address)
        address = find_address.options(scheduling_strategy=on[0]).remote()
        task = self._task()
        return Group(
            [task.options(scheduling_strategy=on[i]).remote(job, address, hosts, i) for i in range(hosts)], placement
        )

    def _task(self) -> Any:
        import ray

        launcher = self._launcher
        return ray.remote(
            num_cpus=launcher.cpus,
            num_gpus=launcher.gpus,
            memory=int(launcher.memory_gb * 1e9) or None,
            resources=launcher.resources or None,
            max_retries=0,
            # Otherwise the process outlives its task, and the next task finds its devices taken.
            max_calls=1,
        )(_run)

    def _is_live(self, group: Group) -> bool:
        import ray

        finished, running = ray.wait(group.tasks, num_returns=len(group.tasks), timeout=0)
        for task in finished:
            try:
                ray.get(task)
            except ray.exceptions.RayError as error:
                self._last_error = str(error)
                group.cancel()  # the others would wait for it until they time out
        if not running:
            group.free()
        return bool(running)


def _run(job: Job, address: str = "", hosts: int = 1, process: int = 0) -> None:
    if hosts > 1:
        machine = replace(job.experiment.machine, hosts=Hosts(address, hosts, process))
        job = replace(job, experiment=replace(job.experiment, machine=machine))
    job()


def _free_address() -> str:
    """HOST:PORT on this node that nothing listens on."""
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"
