"""The launcher for SLURM: arrays of jobs, queued through submitit, on nodes that share a file system.

A job that receives SIGUSR2 (before its time limit, or from `scancel --signal=USR2`) saves and requeues itself; SLURM
requeues one that is preempted or loses its node. Jobs continue without their driver; the next driver finds them by the
job numbers in `slurm/jobs.json`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mixscale.config import Experiment, Hosts, Slurm
from mixscale.errors import InputError, Unfinished
from mixscale.sweeps.directory import read_json, write_json
from mixscale.sweeps.launchers import Job, supervise
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.status import SweepProgress

REPEAT_SECONDS = 1.0  # between two SIGTERMs


def launch(experiment: Experiment, store_path: Path, left: list[Planned], progress: SweepProgress) -> None:
    """Trains what is left in SLURM jobs, which survive this process; raises InputError if SLURM rejects them, and as
    `supervise`."""
    assert isinstance(experiment.launcher, Slurm)
    jobs = SlurmJobs(experiment, experiment.launcher, store_path)
    try:
        supervise(experiment.directory, jobs, experiment.launcher.jobs, left, progress)
    except KeyboardInterrupt:
        numbers = " ".join(jobs.numbers)
        print(f"\njobs {numbers} continue; rerun the same command to watch them, `scancel {numbers}` to end them")
        raise


class SlurmJobs:
    """`Jobs` of SLURM; `numbers` are those of all job arrays of the sweep, also from earlier drivers."""

    def __init__(self, experiment: Experiment, launcher: Slurm, store_path: Path):
        if shutil.which("sbatch") is None:
            raise InputError("launcher Slurm needs `sbatch` on the PATH; run this on a node that can submit jobs")
        if importlib.util.find_spec("submitit") is None:
            raise InputError("launcher Slurm needs submitit; run `pip install 'mixscale[slurm]'`")
        self._experiment, self._launcher, self._store_path = experiment, launcher, store_path
        self._folder = experiment.directory.absolute() / "slurm"
        self._file = self._folder / "jobs.json"
        self.numbers: list[str] = read_json(self._file)["numbers"] if self._file.exists() else []

    def submit(self, planned: Sequence[Planned], count: int) -> None:
        import submitit

        experiment, launcher = self._experiment, self._launcher
        if launcher.hosts > 1:
            experiment = replace(experiment, machine=replace(experiment.machine, hosts=Hosts("auto")))
        job = Job(experiment, self._store_path, list(planned), Path.cwd(), launcher.cpus == 1)
        executor = submitit.SlurmExecutor(folder=self._folder)
        executor.update_parameters(
            job_name=f"mixscale-{experiment.name}",
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
            array_parallelism=count,
            additional_parameters={"requeue": True, **launcher.options},
        )
        config = {name: value for name, value in os.environ.items() if name == "SLURM_CONF"}
        try:
            # A driver that is a job itself must not pass its limits on.
            with submitit.helpers.clean_env():
                os.environ.update(config)
                queued = executor.map_array(_run, [job] * count)
        except submitit.core.utils.UncompletedJobError as error:
            raise InputError(f"SLURM rejects the jobs of launcher Slurm: {error}") from error
        self.numbers.append(queued[0].job_id.split("_")[0])
        write_json(self._file, {"numbers": self.numbers})

    def live(self) -> int | None:
        command = ["squeue", "--me", "--noheader", "--array", "--format=%F"]
        result = subprocess.run(command, capture_output=True, text=True)
        return None if result.returncode else sum(number in self.numbers for number in result.stdout.split())

    def last_error(self) -> str:
        logs = sorted(self._folder.glob("*_log.err"), key=lambda log: log.stat().st_mtime)
        if not logs:
            return f"no job wrote a log to {self._folder}, which every node must see"
        return f"{logs[-1]} ends with: " + " / ".join(logs[-1].read_text().splitlines()[-3:])


def _run(job: Job) -> None:
    import submitit

    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        if len(received) == 1:
            threading.Thread(target=_keep_stopping, daemon=True).start()

    # Replaces submitit's own handlers, which end the process before anything is saved.
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, stop)
    try:
        job()
    except Unfinished:
        if signal.SIGUSR2 not in received:  # after a preemption SLURM requeues the job
            raise
        job_environment = submitit.JobEnvironment()
        if job_environment.global_rank == 0:
            subprocess.run(["scontrol", "requeue", job_environment.job_id], check=True)


def _keep_stopping() -> None:
    """Sends SIGTERM to this process until it ends: training handles it between a run's first step and its last.

    An exception raised in the signal handler instead could occur in a library's import and be swallowed there.
    """
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(REPEAT_SECONDS)
