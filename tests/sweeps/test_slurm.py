"""Sweeps on a real SLURM: jobs that are warned, requeued, and outlive their driver."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mixscale.config import Design, Experiment, Mesh, Slurm, Train
from mixscale.errors import InputError, Unfinished
from mixscale.sweeps.directory import ended, read_json, run_directory
from mixscale.sweeps.plan import plan
from mixscale.sweeps.run_state import ATTEMPTS, Failure, Stage, run_states

ROOT = Path(__file__).parents[2]
CONFIG = """
from mixscale.config import *
experiment = {experiment!r}
"""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError(what)


def in_the_middle(folder: Path, jobs: int) -> bool:
    """Whether so many jobs train a run that has a checkpoint and is not at its end."""
    if not (folder / "runs").exists():
        return False
    running = [s.run for s in run_states(folder, os.listdir(folder / "runs")) if s.stage is Stage.RUNNING]
    return len(running) == jobs and all(any((folder / "runs" / run / "checkpoints").glob("*")) for run in running)


def warn(folder: Path) -> list[str]:
    """`scancel --signal=USR2` for all jobs of the sweep."""
    numbers = read_json(folder / "slurm" / "jobs.json")["numbers"]
    subprocess.run(["scancel", "--signal=USR2", *numbers], check=True)
    return numbers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def restarts(numbers: list[str]) -> int:
    """How often SLURM has started the jobs anew."""
    shown = "".join(
        subprocess.run(["scontrol", "show", "job", n], capture_output=True, text=True).stdout for n in numbers
    )
    return sum(map(int, re.findall(r"Restarts=(\d+)", shown)))


@pytest.fixture
def longer(small: Experiment) -> Experiment:
    """Runs long enough to be met in their middle."""
    train = Train(tokens=32 * 8 * 800, batch=8, validation_rows=8, measure_at=(32 * 8 * 500,))
    design = Design(dirichlet=1, held_out=1, replicates=0, vertices=False)
    return replace(small, train=train, design=design, machine=replace(small.machine, checkpoint_steps=50))


def test_warned_jobs_requeue_and_give_the_table_of_a_local_sweep(slurm, longer, trained, tmp_path):
    here = trained(longer, tmp_path / "here")
    folder = tmp_path / "slurm" / longer.name
    warned: list[str] = []

    def warn_in_the_middle() -> None:
        wait_for(lambda: in_the_middle(folder, 2), "two jobs with checkpoints")
        warned.extend(warn(folder))

    thread = threading.Thread(target=warn_in_the_middle, daemon=True)
    thread.start()
    table = trained(replace(longer, launcher=Slurm(jobs=2, memory_gb=0.5)), tmp_path / "slurm")
    thread.join()
    pd.testing.assert_frame_equal(table, here)
    assert not table.duplicated(["run", "step"]).any()
    assert restarts(warned) >= 1


@pytest.mark.slow
def test_64_runs_complete_after_warnings_and_deaths_of_the_driver(slurm, small, trained, tmp_path):
    train = Train(tokens=32 * 8 * 300, batch=8, validation_rows=8, measure_at=(32 * 8 * 150,))
    many = replace(small, train=train, design=Design(dirichlet=50, held_out=8, replicates=1))
    here = trained(many, tmp_path / "here")
    config = tmp_path / "config.py"
    there = replace(many, output=str(tmp_path / "slurm"), launcher=Slurm(jobs=2, memory_gb=0.5))
    config.write_text(CONFIG.format(experiment=there))
    command = [sys.executable, "-m", "mixscale", "sweep", str(config)]
    for times in (1, 2, 3):
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(lambda: in_the_middle(there.directory, 2), "two jobs with checkpoints")
        numbers = warn(there.directory)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        wait_for(lambda: restarts(numbers) == 2 * times, "both jobs queued again")  # noqa: B023
    assert subprocess.run(command).returncode == 0
    table = pd.read_parquet(there.directory / "runs.parquet").drop(columns="seconds")
    pd.testing.assert_frame_equal(table, here)
    assert table["run"].nunique() == 64


@pytest.mark.slow
@pytest.mark.mesh
def test_a_job_over_two_nodes_trains_each_run_on_both(slurm, small, trained, tmp_path, monkeypatch):
    few = Design(dirichlet=0, held_out=0, replicates=0, vertices=False)
    wide = replace(small, design=few, machine=replace(small.machine, workers=1, mesh=Mesh(data=4, fsdp=2)))
    here = trained(wide, tmp_path / "here")
    # Each node gives half of the devices that this process has.
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    # Both nodes are this machine and do not have its name, so JAX cannot find the coordinator through SLURM.
    launcher = Slurm(
        jobs=1, hosts=2, memory_gb=0.5, setup=(f"export JAX_COORDINATOR_ADDRESS=localhost:{free_port()}",)
    )
    table = trained(replace(wide, launcher=launcher), tmp_path / "slurm")
    pd.testing.assert_frame_equal(table, here, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv/bin/mixscale").exists(), reason="scripts/slurm.sh starts .venv/bin/mixscale")
def test_a_driver_can_be_a_job_itself(slurm, small, trained, tmp_path):
    few = replace(small, design=Design(dirichlet=0, held_out=1, replicates=0, vertices=False))
    here = trained(few, tmp_path / "here")
    there = replace(few, output=str(tmp_path / "slurm"), launcher=Slurm(jobs=1, memory_gb=0.5))
    (tmp_path / "config.py").write_text(CONFIG.format(experiment=there))
    queue = ["sbatch", "--wait", "--mem=1G", f"--output={tmp_path / 'driver.log'}", "scripts/slurm.sh", "sweep"]
    ended = subprocess.run([*queue, str(tmp_path / "config.py")], cwd=ROOT)
    assert ended.returncode == 0, (tmp_path / "driver.log").read_text()
    table = pd.read_parquet(there.directory / "runs.parquet").drop(columns="seconds")
    pd.testing.assert_frame_equal(table, here)


def test_a_run_that_fails_is_given_up_and_the_others_are_trained(slurm, small, store, trained, tmp_path):
    few = replace(small, design=Design(dirichlet=0, held_out=1, replicates=0, vertices=False))
    there = replace(few, output=str(tmp_path), launcher=Slurm(jobs=1, memory_gb=0.5))
    bad, *good = [run_directory(there.directory, item.run.id) for item in plan(there, store)]
    bad.mkdir(parents=True)
    (bad / "tensorboard").write_text("a file where a folder must be")
    with pytest.raises(Unfinished, match=f"1 of {len(good) + 1} runs failed.*{bad.name}"):
        trained(there, tmp_path)
    assert Failure.read(bad).times == ATTEMPTS
    assert all(ended(there.directory, path.name) for path in good)


def test_jobs_that_end_without_claiming_a_run_are_not_queued_forever(slurm, small, trained, tmp_path):
    broken = Slurm(jobs=1, memory_gb=0.5, setup=("echo no such module >&2", "exit 1"))
    with pytest.raises(Unfinished, match="3 rounds of jobs.*no such module"):
        trained(replace(small, launcher=broken), tmp_path)


def test_a_job_that_slurm_rejects_is_an_input_error(slurm, small, trained, tmp_path):
    with pytest.raises(InputError, match="launcher Slurm.*partition"):
        trained(replace(small, launcher=Slurm(partition="nowhere")), tmp_path)


def test_without_slurm_there_is_an_input_error(small, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch"):
        trained(replace(small, launcher=Slurm()), tmp_path)
