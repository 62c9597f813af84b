"""The main job through the real command, on text that is small but real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mixscale.cli import main
from mixscale.config import Design, Experiment
from mixscale.run_table import RunTable


@pytest.fixture(scope="module")
def finished(small: Experiment, tmp_path_factory) -> Path:
    """The folder of an experiment that `mixscale run` has carried out."""
    folder = tmp_path_factory.mktemp("finished")
    experiment = replace(small, output=str(folder), law="effective", design=Design(dirichlet=8, held_out=3))
    config = folder / "small.py"
    config.write_text(f"from mixscale.config import *\nexperiment = {experiment!r}\n")
    assert main(["run", str(config)]) == 0
    return folder / "small"


def test_the_result_holds_what_was_found(finished, small, store):
    result = json.loads((finished / "result.json").read_text())
    assert result["law"] == "effective"
    assert sum(result["optimum"].values()) == pytest.approx(1.0, abs=1e-6)
    for domain, (low, high) in result["optimum_interval"].items():
        assert 0 <= low <= high <= 1, domain
    for name, candidate in result["candidates"].items():
        assert set(candidate["goal"]["observed"]) == {str(s) for s in small.verify.seeds}, name
    assert result["held_out"]["runs"] == 3
    assert result["noise"]["sd"] > 0


def test_observed_losses_are_those_of_the_table(finished):
    result = json.loads((finished / "result.json").read_text())
    frame = RunTable.read(finished).frame
    rows = frame[(frame["role"] == "verify") & frame["origin"].str.split("+").map(lambda o: "optimum" in o)]
    means = rows.set_index("seed").filter(like="loss/").mean(axis=1)
    for seed, loss in result["candidates"]["optimum"]["goal"]["observed"].items():
        assert loss == pytest.approx(means[int(seed)], rel=1e-12)


def test_the_page_and_the_figures_are_there(finished, store):
    page = (finished / "report.html").read_text()
    assert all(domain in page for domain in store.domains)
    assert store.id in page
    assert len(list((finished / "figures").glob("*.png"))) == len(list((finished / "figures").glob("*.pdf"))) >= 6


def test_every_run_keeps_its_config_and_id(finished):
    for run in set(RunTable.read(finished).frame["run"]):
        about = json.loads((finished / "runs" / run / "config.json").read_text())
        assert about["id"] == run
        assert about["experiment"]["name"] == "small"


def test_realized_tokens_are_those_asked_for(finished, store):
    frame = RunTable.read(finished).frame
    for domain in store.domains:
        asked = frame[f"mix/{domain}"] * frame["n_tokens"]
        assert ((frame[f"tokens/{domain}"] - asked).abs() < store.context).all()


def test_running_it_again_trains_nothing_and_finds_the_same(finished):
    before = pd.read_csv(finished / "runs.csv", dtype=str)
    result = json.loads((finished / "result.json").read_text())
    assert main(["run", str(finished.parent / "small.py")]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(finished / "runs.csv", dtype=str), before)
    assert json.loads((finished / "result.json").read_text()) == result


def test_the_plan_names_every_run_and_starts_none(small, tmp_path, capsys):
    config = tmp_path / "small.py"
    config.write_text(f"from mixscale.config import *\nexperiment = {replace(small, output=str(tmp_path))!r}\n")
    assert main(["plan", str(config)]) == 0
    said = capsys.readouterr().out
    assert "12 runs" in said
    assert not (tmp_path / "small").exists()


def test_a_new_design_forgets_the_verification_of_the_old(finished):
    config = str(finished.parent / "small.py")
    assert main(["sweep", config, "--design.held-out", "2"]) == 0
    assert "verify" not in set(RunTable.read(finished).frame["role"])
