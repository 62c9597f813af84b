"""Sweeps through the real command: killed, interrupted, on a full disk, and rerun."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixscale.config import Design, Experiment, Tokenizer
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.launch import build_corpus, train_design
from mixscale.sweeps.directory import collect, open_directory, read_manifests, read_rows
from mixscale.sweeps.queue import claim
from mixscale.training.hugging_face import weights

CONFIG = """
from mixscale.config import *
experiment = {experiment!r}
"""
FEW = Design(dirichlet=1, held_out=1, replicates=0, vertices=False)


def write_config(experiment: Experiment, steps: int, folder: Path) -> Path:
    """A config with runs of `steps` optimizer steps, measured in their middle too."""
    tokens = 32 * 8 * steps
    path = folder / "small.py"
    longer = replace(experiment, train=replace(experiment.train, tokens=tokens, measure_at=(tokens // 2,)))
    path.write_text(CONFIG.format(experiment=longer))
    return path


def start(config: Path, output: Path) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-m", "mixscale", "sweep", str(config), "--output", str(output)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    assert process.wait() == 0, process.stderr.read().decode()


def saved_steps(output: Path) -> int:
    """Steps in the newest checkpoints of all runs, unfinished ones included."""
    newest: dict[Path, int] = {}
    for path in output.glob("small/runs/*/checkpoints/*"):
        if path.name.isdigit():
            newest[path.parent] = max(newest.get(path.parent, 0), int(path.name))
    return sum(newest.values())


def stop_after(process: subprocess.Popen[bytes], output: Path, steps: int, number: signal.Signals) -> int:
    """Sends a signal once that many more steps are saved; returns the exit status."""
    enough = saved_steps(output) + steps
    while saved_steps(output) < enough and process.poll() is None:
        time.sleep(0.003)
    process.send_signal(number)
    return process.wait()


def without_clock(directory: Path) -> str:
    return pd.read_csv(directory / "runs.csv", dtype=str).drop(columns="seconds").to_csv(index=False)


def assert_same(here: Path, there: Path, experiment: Experiment, store: TokenStore) -> None:
    """Two sweeps have the same table, the same rows and the same weights, bit for bit."""
    assert without_clock(here) == without_clock(there)
    runs = sorted(path.name for path in (here / "runs").iterdir())
    assert runs == sorted(path.name for path in (there / "runs").iterdir())
    for run in runs:
        rows = [[row | {"seconds": 0} for row in read_rows(directory, run)] for directory in (here, there)]
        assert rows[0] == rows[1]
        found = [
            weights(directory / "runs" / run, experiment.models["tiny"], experiment.optimizer, store, None)[0]
            for directory in (here, there)
        ]
        np.testing.assert_equal(found[1], found[0])


def test_a_killed_and_interrupted_sweep_ends_with_the_same_weights(small, store, tmp_path):
    experiment = replace(small, design=FEW)
    config, output = write_config(experiment, 160, tmp_path), tmp_path / "cut"
    whole = start(config, tmp_path / "whole")
    killed = start(config, output)
    assert stop_after(killed, output, 40, signal.SIGKILL) == -signal.SIGKILL, killed.stderr.read().decode()
    for number, word in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Interrupted")):
        interrupted = start(config, output)
        status = stop_after(interrupted, output, 40, number)
        message = interrupted.stderr.read().decode()
        assert status == 128 + number, message
        assert word in message
        assert "Traceback" not in message
    finish(start(config, output))
    finish(whole)
    assert_same(tmp_path / "whole" / "small", output / "small", small, store)


@pytest.mark.slow
def test_fifty_kills_do_not_change_the_results(small, store, tmp_path):
    config, output, kills = write_config(small, 700, tmp_path), tmp_path / "cut", 50
    finish(start(config, tmp_path / "whole"))
    # Steps of a branch and of its trunk are both saved; most of the work is spread over the kills.
    stride = saved_steps(tmp_path / "whole") // kills
    moments = random.Random(0)
    for kill in range(kills):
        process = start(config, output)
        status = stop_after(process, output, moments.randint(1, stride), signal.SIGKILL)
        assert status == -signal.SIGKILL, f"kill {kill}: it had ended: {process.stderr.read().decode()}"
    finish(start(config, output))
    assert_same(tmp_path / "whole" / "small", output / "small", small, store)


def test_a_second_sweep_trains_nothing_and_a_lost_run_is_trained_to_the_same_numbers(small, tmp_path):
    experiment = replace(small, output=str(tmp_path), design=FEW)
    first = train_design(experiment, build_corpus(experiment)).frame
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "small" / "runs").glob("*/rows.json")}
    second = train_design(experiment, build_corpus(experiment)).frame
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "small" / "runs").glob("*/rows.json")} == before
    pd.testing.assert_frame_equal(first, second)
    lost = tmp_path / "small" / "runs" / first["run"][1]
    assert (lost / "config.json").exists()
    shutil.rmtree(lost)
    third = train_design(experiment, build_corpus(experiment)).frame
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), third.drop(columns="seconds"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount a small disk")
def test_a_sweep_on_a_full_disk_stops_with_a_message_and_can_resume(small, tmp_path):
    config = write_config(replace(small, design=FEW), 160, tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        full = start(config, disk)
        assert full.wait(timeout=120) == 1
        message = full.stderr.read().decode()
        assert "No space left on device" in message
        assert "Traceback" not in message
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        finish(start(config, disk))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_one_of_many_threads_claims_a_run(tmp_path):
    holders, most = 0, 0

    def race(_: int) -> bool:
        nonlocal holders, most
        with claim(tmp_path / "run") as held:
            if held:
                holders += 1
                most = max(most, holders)
                time.sleep(0.005)
                holders -= 1
            return held is not None

    for _ in range(50):
        with ThreadPoolExecutor(8) as pool:
            assert any(pool.map(race, range(8)))
    assert most == 1


def test_a_folder_of_runs_on_another_tokenizer_is_refused(small, store, tmp_path):
    experiment = replace(small, output=str(tmp_path))
    open_directory(experiment, store)
    other = replace(experiment, corpus=replace(small.corpus, tokenizer=Tokenizer(kind="bpe", vocab_size=300)))
    with pytest.raises(InputError) as caught:
        open_directory(other, build_corpus(other))
    assert all(word in str(caught.value) for word in ("bytes of 257", "bpe of 300", "--name")), caught.value


@pytest.mark.parametrize("saved", [[], {"runs": []}, {"format": 0, "runs": []}, {"format": 99, "runs": []}])
def test_a_folder_of_another_version_is_refused(tmp_path, saved):
    path = tmp_path / "plan" / "design.json"
    path.parent.mkdir()
    path.write_text(json.dumps(saved))
    for read in (read_manifests, collect):
        with pytest.raises(InputError, match=f"{path}.*format.*--name"):
            read(tmp_path)
