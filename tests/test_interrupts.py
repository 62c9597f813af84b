"""Ctrl-C at any moment of a command on tables ends it with status 130 and leaves no part of a file."""

import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from mixscale.laws import fit
from mixscale.run_table import RunTable


def table(runs: int = 24) -> pd.DataFrame:
    h_RxK = np.random.default_rng(0).dirichlet(np.ones(3), runs)
    frame = pd.DataFrame(h_RxK, columns=["mix/web", "mix/code", "mix/books"])
    return frame.assign(
        run=[f"r{i}" for i in range(runs)],
        **{"loss/web": 2 + np.exp(-h_RxK[:, 0]), "loss/code": 2 + np.exp(-h_RxK[:, 1])},
    )


def interrupted(*words: str, after: float) -> tuple[int, str]:
    process = subprocess.Popen([sys.executable, "-m", "mixscale", *words], stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    return process.returncode, error


@pytest.mark.parametrize("after", [0.4, 0.9, 2.5])
def test_an_interrupted_fit_leaves_the_fit_that_was_there(tmp_path, after):
    table(40).to_csv(tmp_path / "runs.csv", index=False)
    folder = tmp_path / "fit"
    fit(RunTable(table()), law="linear", bootstrap=2).save(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    status, error = interrupted(
        "fit", str(tmp_path / "runs.csv"), "--out", str(folder), "--bootstrap", "100000", after=after
    )
    assert status == 130
    assert "Traceback" not in error
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_an_interrupted_optimize_leaves_no_part_of_a_file(tmp_path):
    fit(RunTable(table()), law="linear", bootstrap=2).save(tmp_path / "fit")
    before = sorted(file.name for file in tmp_path.rglob("*"))
    # A thousand problems, so that the command is still solving.
    front = ("--pareto", "web", "code", "--points", "1000", "--out", str(tmp_path / "fit" / "o.json"))
    status, error = interrupted("optimize", str(tmp_path / "fit"), *front, after=0.9)
    assert status == 130
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.pareto.csv"))
    assert sorted(file.name for file in tmp_path.rglob("*") if file.name != "o.json") == before
