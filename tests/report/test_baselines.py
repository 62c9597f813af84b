"""A starting mixture that was trained beside the optimum is told wherever natural and uniform are."""

import shutil

import pytest

from mixscale import report
from mixscale.run_table import RunTable


def test_a_trained_baseline_stands_on_the_page(planted, tmp_path):
    shutil.copytree(planted.folder, tmp_path / "copy")
    frame = planted.frame.assign(origin=planted.frame["origin"].replace({"natural": "unimax"}))
    RunTable(frame).write(tmp_path / "copy" / "runs.parquet")
    found = report.findings(report.load(tmp_path / "copy"))
    assert found.comparisons["unimax"].mean == pytest.approx(-0.05, abs=1e-6)  # the lift planted for `natural`
    assert "given" not in found.candidates  # nobody trained it
    page = report.write(tmp_path / "copy").read_text()
    told = (tmp_path / "copy" / "summary.txt").read_text()
    assert "against UniMax" in page
    assert "UniMax" in told
    assert "the UniMax mixture" in " ".join(told.split())
