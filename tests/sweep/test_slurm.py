"""Sweeps on a real SLURM, whose jobs are warned, queued again, and outlive their driver."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mixscale.errors import InputError
from mixscale.experiment import Design, Experiment, Slurm, Train
from mixscale.sweep.standing import standings

CONFIG = """
from mixscale.experiment import *
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
    running = [s.run for s in standings(folder, os.listdir(folder / "runs")) if s.state == "running"]
    return len(running) == jobs and all(any((folder / "runs" / run / "checkpoints").glob("*")) for run in running)


def warn(folder: Path) -> list[str]:
    """`scancel --signal=USR2` for all jobs of the sweep."""
    numbers = json.loads((folder / "slurm" / "jobs.json").read_text())
    subprocess.run(["scancel", "--signal=USR2", *numbers], check=True)
    return numbers


def restarts(numbers: list[str]) -> int:
    """How often SLURM has started the jobs anew."""
    told = "".join(
        subprocess.run(["scontrol", "show", "job", n], capture_output=True, text=True).stdout for n in numbers
    )
    return sum(map(int, re.findall(r"Restarts=(\d+)", told)))


@pytest.fixture
def longer(small: Experiment) -> Experiment:
    """Runs long enough to be met in their middle."""
    train = Train(tokens=32 * 8 * 1500, batch=8, validation_rows=8, measure_at=(32 * 8 * 800,))
    design = Design(dirichlet=1, held_out=1, replicates=0, vertices=False)
    return replace(small, train=train, design=design, machine=replace(small.machine, checkpoint_steps=50))


def test_jobs_that_are_warned_queue_again_and_give_the_table_of_a_sweep_here(slurm, longer, trained, tmp_path):
    here = trained(longer, tmp_path / "here")
    folder = tmp_path / "slurm" / longer.name
    warned: list[str] = []

    def warn_in_the_middle() -> None:
        wait_for(lambda: in_the_middle(folder, 2), "two jobs with checkpoints")
        warned.extend(warn(folder))

    thread = threading.Thread(target=warn_in_the_middle, daemon=True)
    thread.start()
    table = trained(replace(longer, engine=Slurm(jobs=2, memory_gb=0.5)), tmp_path / "slurm")
    thread.join()
    pd.testing.assert_frame_equal(table, here)
    assert not table.duplicated(["run", "step"]).any()
    assert restarts(warned) >= 1


@pytest.mark.slow
def test_64_runs_with_warnings_and_a_driver_that_dies(slurm, small, trained, tmp_path):
    train = Train(tokens=32 * 8 * 300, batch=8, validation_rows=8, measure_at=(32 * 8 * 150,))
    many = replace(small, train=train, design=Design(dirichlet=50, held_out=8, replicates=1))
    here = trained(many, tmp_path / "here")
    config = tmp_path / "config.py"
    there = replace(many, output=str(tmp_path / "slurm"), engine=Slurm(jobs=2, memory_gb=0.5))
    config.write_text(CONFIG.format(experiment=there))
    command = [sys.executable, "-m", "mixscale", "sweep", str(config)]
    numbers: list[str] = []
    for _ in range(3):
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(lambda: in_the_middle(there.directory, 2), "two jobs with checkpoints")
        numbers = warn(there.directory)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert subprocess.run(command).returncode == 0
    table = pd.read_parquet(there.directory / "runs.parquet").drop(columns="seconds")
    pd.testing.assert_frame_equal(table, here)
    assert table["run"].nunique() == 64
    assert restarts(numbers) >= 2


def test_a_job_that_slurm_does_not_take_is_a_sentence(slurm, small, trained, tmp_path):
    with pytest.raises(InputError, match="engine Slurm.*partition"):
        trained(replace(small, engine=Slurm(partition="nowhere")), tmp_path)


def test_without_slurm_a_sentence_says_so(small, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no `sbatch` on the PATH"):
        trained(replace(small, engine=Slurm()), tmp_path)
