"""Runs as arrays of SLURM jobs, through submitit, on nodes that share a file system.

A job that is warned of its end (SIGUSR2: its limit of time, or `scancel --signal=USR2`) saves where it stands and
queues itself again; one that is preempted, or whose node dies, SLURM queues again. Jobs go on without their driver;
the next driver finds them by the numbers it kept.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixscale.config import Experiment, Hosts, Slurm
from mixscale.errors import InputError, Unfinished
from mixscale.sweeps.directory import write_json
from mixscale.sweeps.launchers.job import Job
from mixscale.sweeps.launchers.supervise import supervise
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.progress import SweepProgress

INSIST = 1.0
"""Seconds between two requests to stop."""


def train(experiment: Experiment, store_path: Path, left: list[Planned], progress: SweepProgress) -> None:
    """Trains what is left in jobs of SLURM's; they go on where this process ends before them.

    Raises:
        InputError: submitit is not installed, SLURM is not here or refuses the job; and as `supervise`.
    """
    launcher = experiment.launcher
    assert isinstance(launcher, Slurm)
    jobs = SlurmJobs(experiment, launcher, store_path)
    try:
        supervise(experiment.directory, jobs, launcher.jobs, left, progress)
    except KeyboardInterrupt:
        print(f"\njobs {', '.join(jobs.numbers)} go on; the same command shows them again, `scancel` ends them")
        raise


class SlurmJobs:
    """`Jobs` of SLURM's; `numbers` are those of the arrays, also of those that an earlier driver queued."""

    def __init__(self, experiment: Experiment, launcher: Slurm, store_path: Path):
        if shutil.which("sbatch") is None:
            raise InputError("engine Slurm finds no `sbatch` on the PATH; start the sweep where jobs can be queued")
        if importlib.util.find_spec("submitit") is None:
            raise InputError("engine Slurm needs submitit; `pip install 'mixscale[slurm]'`")
        self._experiment, self._engine, self._store_path = experiment, launcher, store_path
        self._folder = experiment.directory.absolute() / "slurm"
        self._kept = self._folder / "jobs.json"
        self.numbers: list[str] = json.loads(self._kept.read_text()) if self._kept.exists() else []

    def submit(self, planned: Sequence[Planned], count: int) -> None:
        from submitit.core.utils import UncompletedJobError

        experiment, launcher = self._experiment, self._engine
        if launcher.hosts > 1:
            experiment = replace(experiment, machine=replace(experiment.machine, hosts=Hosts("auto")))
        job = Job(experiment, self._store_path, list(planned), Path.cwd(), launcher.cpus == 1)
        try:
            with _outside_of_jobs():
                queued = self._executor(count).map_array(_train, [job] * count)
        except UncompletedJobError as error:
            raise InputError(f"SLURM does not take the jobs of engine Slurm: {error}") from error
        self.numbers.append(queued[0].job_id.split("_")[0])
        write_json(self._kept, self.numbers)

    def live(self) -> int | None:
        command = ["squeue", "--me", "--noheader", "--array", "--format=%F"]
        answer = subprocess.run(command, capture_output=True, text=True)
        return None if answer.returncode else sum(number in self.numbers for number in answer.stdout.split())

    def last_words(self) -> str:
        logs = sorted(self._folder.glob("*_log.err"), key=lambda log: log.stat().st_mtime)
        if not logs:
            return f"none of them wrote to {self._folder}, which every node must see"
        return f"{logs[-1]} ends with: " + " / ".join(logs[-1].read_text().splitlines()[-3:])

    def _executor(self, count: int) -> Any:
        import submitit

        launcher = self._engine
        executor = submitit.SlurmExecutor(folder=self._folder)
        executor.update_parameters(
            job_name=f"mixscale-{self._experiment.name}",
            time=launcher.minutes,
            signal_delay_s=launcher.warning_seconds,
            nodes=launcher.hosts,
            ntasks_per_node=1,
            cpus_per_task=launcher.cpus,
            gpus_per_node=launcher.gpus or None,
            mem=f"{round(launcher.memory_gb * 1024)}M",
            partition=launcher.partition or None,
            account=launcher.account or None,
            setup=list(launcher.setup),
            array_parallelizm=count,
            additional_parameters={"requeue": True, **launcher.options},
        )
        return executor


@contextlib.contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """A driver that is a job itself must not hand its own limits on to those it queues."""
    import submitit

    where = os.environ.get("SLURM_CONF")
    with submitit.helpers.clean_env():
        if where is not None:
            os.environ["SLURM_CONF"] = where
        yield


def _train(job: Job) -> None:
    """What runs on the node."""
    import submitit

    notice = _Notice()
    # After submitit's own, which end the process before anything is saved.
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, notice.take)
    try:
        job()
    except Unfinished:
        if not notice.warned:
            raise
        here = submitit.JobEnvironment()
        if here.global_rank == 0:
            subprocess.run(["scontrol", "requeue", here.job_id], check=True)


class _Notice:
    """Passes a request to stop on to training, again and again until it leaves.

    Training listens from a run's first step to its last and notes the request there. An exception raised in the
    handler instead would strike anywhere, for instance in a library's import, where it may be swallowed.
    """

    def __init__(self) -> None:
        self.warned = False
        """whether the job is to be queued again by us; SLURM itself does so after a preemption"""
        self._asked = False

    def take(self, number: int, frame: object) -> None:
        self.warned |= number == signal.SIGUSR2
        if not self._asked:
            self._asked = True
            threading.Thread(target=self._insist, daemon=True).start()

    def _insist(self) -> None:
        while True:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(INSIST)
