"""Sweeps through the real command, killed with SIGKILL and started again."""

from __future__ import annotations

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

import pandas as pd
import pytest

from mixscale.config import Experiment, Tokenizer
from mixscale.errors import InputError
from mixscale.launch import build_corpus, train_design
from mixscale.run_table import RunTable
from mixscale.sweeps.claims import claimed
from mixscale.sweeps.directory import open_directory

CONFIG = """
from mixscale.config import *
experiment = {experiment!r}
"""


def without_clock(path: Path) -> str:
    return pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv(index=False)


def start(config: Path, folder: Path) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-m", "mixscale", "sweep", str(config), "--output", str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def config(small: Experiment, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.py"
    longer = replace(small, train=replace(small.train, tokens=32 * 8 * 400, measure_at=(32 * 8 * 200,)))
    path.write_text(CONFIG.format(experiment=longer))
    return path


def files(folder: Path) -> int:
    """Checkpoints and results so far: what a sweep leaves as it goes on."""
    return len(list(folder.glob("small/runs/*/rows.json")) + list(folder.glob("small/runs/*/checkpoints/*")))


def test_a_sweep_killed_at_five_random_moments_and_once_asked_to_stop_ends_with_the_same_table(config, tmp_path):
    uncut = start(config, tmp_path / "uncut")
    assert uncut.wait() == 0, uncut.stderr.read().decode()
    moments = random.Random(0)
    for _ in range(5):
        process = start(config, tmp_path / "cut")
        enough = files(tmp_path / "cut") + moments.randint(1, 5)
        while files(tmp_path / "cut") < enough and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
        assert ended == -signal.SIGKILL, f"it ended before it was killed: {process.stderr.read().decode()}"
    asked = start(config, tmp_path / "cut")
    enough = files(tmp_path / "cut") + 1
    while files(tmp_path / "cut") < enough and asked.poll() is None:
        time.sleep(0.01)
    asked.send_signal(signal.SIGTERM)
    status, said = asked.wait(), asked.stderr.read().decode()
    assert status == 128 + signal.SIGTERM, said
    assert "stopped by SIGTERM; all is saved" in said
    assert "Traceback" not in said
    last = start(config, tmp_path / "cut")
    assert last.wait() == 0, last.stderr.read().decode()
    folders = [tmp_path / "uncut" / "small", tmp_path / "cut" / "small"]
    assert without_clock(folders[0] / "runs.csv") == without_clock(folders[1] / "runs.csv")
    assert len(RunTable.read(folders[1]).frame["run"].unique()) == len(list((folders[1] / "runs").iterdir()))


def test_a_second_sweep_trains_nothing_and_leaves_the_table(small, tmp_path):
    experiment = replace(small, output=str(tmp_path), machine=replace(small.machine, workers=1))
    first = train_design(experiment, build_corpus(experiment))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "small" / "runs").glob("*/rows.json")}
    second = train_design(experiment, build_corpus(experiment))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "small" / "runs").glob("*/rows.json")} == before
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert (tmp_path / "small" / "runs" / first.frame["run"][0] / "config.json").exists()


def test_a_run_that_is_lost_is_trained_again_to_the_same_numbers(small, tmp_path):
    """Also where it is the only one left, and so a single worker trains it."""
    experiment = replace(small, output=str(tmp_path))
    before = train_design(experiment, build_corpus(experiment)).frame
    shutil.rmtree(tmp_path / "small" / "runs" / before["run"][3])
    after = train_design(experiment, build_corpus(experiment)).frame
    pd.testing.assert_frame_equal(before.drop(columns="seconds"), after.drop(columns="seconds"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount a small disk")
def test_a_sweep_on_a_full_disk_says_so_and_goes_on_when_there_is_room(config, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        full = start(config, disk)
        assert full.wait(timeout=120) == 1
        said = full.stderr.read().decode()
        assert "No space left on device" in said
        assert "Traceback" not in said
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        again = start(config, disk)
        assert again.wait() == 0, again.stderr.read().decode()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_one_of_many_claims_wins_and_a_claim_ends_with_its_holder(tmp_path):
    holders, most = 0, 0

    def race(_: int) -> bool:
        nonlocal holders, most
        with claimed(tmp_path / "run") as free:
            if free:
                holders += 1
                most = max(most, holders)
                time.sleep(0.005)
                holders -= 1
            return free

    for _ in range(50):
        with ThreadPoolExecutor(8) as pool:
            assert any(pool.map(race, range(8)))
    assert most == 1
    with claimed(tmp_path / "run") as mine, claimed(tmp_path / "run") as theirs:
        assert (mine, theirs) == (True, False)
    with claimed(tmp_path / "run") as free:
        assert free


def test_a_folder_of_runs_on_another_tokenizer_is_refused(small, store, tmp_path):
    experiment = replace(small, output=str(tmp_path))
    open_directory(experiment, store)
    other = replace(experiment, corpus=replace(small.corpus, tokenizer=Tokenizer(kind="bpe", vocab_size=300)))
    with pytest.raises(InputError) as caught:
        open_directory(other, build_corpus(other))
    assert all(word in str(caught.value) for word in ("bytes of 257", "bpe of 300", "--name")), caught.value
