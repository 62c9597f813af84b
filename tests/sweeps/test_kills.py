"""A sweep killed fifty times: its weights, its table and the tokens it says it drew are those of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixscale.config import Experiment
from mixscale.data import TokenStore
from mixscale.training.export import weights

KILLS = 50
STEPS = 700
CONFIG = """
from mixscale.config import *
experiment = {experiment!r}
"""


def start(config: Path, folder: Path) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-m", "mixscale", "sweep", str(config), "--output", str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def saved(folder: Path) -> int:
    """Steps in the newest checkpoints of all runs, the unfinished ones' included."""
    newest: dict[Path, int] = {}
    for path in folder.glob("small/runs/*/checkpoints/*"):
        if path.name.isdigit():
            newest[path.parent] = max(newest.get(path.parent, 0), int(path.name))
    return sum(newest.values())


def without_clock(path: Path) -> str:
    return pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv(index=False)


@pytest.mark.slow
def test_fifty_kills_leave_no_trace(small: Experiment, store: TokenStore, tmp_path):
    tokens = 32 * 8 * STEPS
    longer = replace(small, train=replace(small.train, tokens=tokens, measure_at=(tokens // 2,)))
    config = tmp_path / "small.py"
    config.write_text(CONFIG.format(experiment=longer))
    uncut = start(config, tmp_path / "uncut")
    assert uncut.wait() == 0, uncut.stderr.read().decode()
    # A step of the branch and of the trunk alike is saved; most of the work is spread over the kills.
    stride = saved(tmp_path / "uncut") // KILLS
    moments = random.Random(0)
    for kill in range(KILLS):
        process = start(config, tmp_path / "cut")
        enough = saved(tmp_path / "cut") + moments.randint(1, stride)
        while saved(tmp_path / "cut") < enough and process.poll() is None:
            time.sleep(0.003)
        time.sleep(moments.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
        assert ended == -signal.SIGKILL, f"kill {kill}: it had ended: {process.stderr.read().decode()}"
    last = start(config, tmp_path / "cut")
    assert last.wait() == 0, last.stderr.read().decode()
    here, there = tmp_path / "uncut" / "small", tmp_path / "cut" / "small"
    assert without_clock(here / "runs.csv") == without_clock(there / "runs.csv")
    runs = sorted(path.name for path in (here / "runs").iterdir())
    assert runs == sorted(path.name for path in (there / "runs").iterdir())
    for run in runs:
        rows = [json.loads((folder / "runs" / run / "rows.json").read_text()) for folder in (here, there)]
        assert [{k: v for k, v in row.items() if k != "seconds"} for row in rows[0]] == [
            {k: v for k, v in row.items() if k != "seconds"} for row in rows[1]
        ]
        found = [
            weights(folder / "runs" / run, small.models["tiny"], small.optimizer, store, None)[0]
            for folder in (here, there)
        ]
        np.testing.assert_equal(found[1], found[0])
