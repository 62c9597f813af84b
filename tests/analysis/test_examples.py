"""The examples run, and they save what their docstrings announce."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "analysis" / "examples"


def test_a_table_becomes_an_answer(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "from_a_table.py", tmp_path], capture_output=True, text=True, check=True
    )
    assert "current mixture" in done.stdout
    best = json.loads((tmp_path / "optimum.json").read_text())["mixture"]
    assert best["web"] <= 0.5 + 1e-9
    handed = yaml.safe_load((tmp_path / "levanter.yaml").read_text())["data"]["train_weights"]
    assert handed == pytest.approx({d: w for d, w in best.items() if w > 0}, abs=1e-12)
    assert {f.stem for f in tmp_path.glob("*.pdf")} == {"predicted", "proportion", "swarm"}


def test_baselines_sum_to_one_and_find_the_code():
    frame = runpy.run_path(str(EXAMPLES / "baselines.py"))["main"]()
    assert frame.sum(axis=1).to_numpy() == pytest.approx([1.0] * len(frame))
    assert frame.loc["similar to the target", "code"] > 0.9
    assert frame.loc["UniMax, 4 epochs of 200B", "wiki"] * 200e9 == pytest.approx(4 * 5e9)
