"""What `mixscale status` says of a folder with runs in every state, each brought there by what brings them there."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.cli import main
from mixscale.sweeps import claims, failures, standing
from mixscale.sweeps.claims import claimed
from mixscale.sweeps.directory import open_directory, run_directory, write_json
from mixscale.sweeps.labels import read_plans, write_plan
from mixscale.sweeps.plan import Planned, plan
from mixscale.sweeps.standing import Notes, standings
from mixscale.sweeps.status import Status
from mixscale.training import Progress


@pytest.fixture
def begun(small, store, tmp_path) -> tuple[Path, list[Planned]]:
    """A folder whose first run is complete, whose second diverged, whose third failed for good and fourth once."""
    experiment = replace(small, output=str(tmp_path))
    planned, directory = plan(experiment, store), open_directory(experiment, store)
    write_plan(directory, "design", planned, store)
    paths = [run_directory(directory, item.run.id) for item in planned]
    flops = [label["flops"] for label in read_plans(directory)]
    for path, status, spent in ((paths[0], "complete", flops[0]), (paths[1], "diverged", flops[1] / 2)):
        with claimed(path):
            write_json(path / "rows.json", [{"run": path.name, "status": status, "seconds": 2.0, "flops": spent}])
    for path, times in ((paths[2], failures.ATTEMPTS), (paths[3], 1)):
        for _ in range(times):
            with pytest.raises(ValueError, match="boom"), claimed(path):
                raise ValueError("boom")
    return directory, planned


def test_every_run_is_counted_in_its_state_and_flops_are_those_spent(begun, capsys):
    directory, planned = begun
    flops = [label["flops"] for label in read_plans(directory)]
    with claimed(run_directory(directory, planned[4].run.id)):
        Notes(directory, lambda message: None)(Progress(planned[4].run.id, 10, 40, 0))
        status = Status.read(directory)
        assert main(["status", str(directory)]) == 0
    shown = capsys.readouterr().out
    counts = {state: count for (_, state), count in status.states.items()}
    assert counts == {"complete": 1, "diverged": 1, "running": 1, "failed": 1, "waiting": len(planned) - 4}
    assert sum(status.spent.values()) == pytest.approx(flops[0] + flops[1] / 2 + flops[4] / 4)
    # Nobody knows yet how fast the fifth is, so it counts as those that have ended.
    assert status.rate == pytest.approx((flops[0] / 2 + flops[1] / 4) / 2)
    assert shown.count("ValueError: boom") == 2
    assert "left alone" in shown
    assert "is tried again" in shown
    assert str(os.getpid()) in shown


def test_speed_is_that_since_the_first_dispatch_which_compiles(begun, monkeypatch):
    directory, planned = begun
    run, clock = planned[4].run.id, [time.time()]
    monkeypatch.setattr(standing.time, "time", lambda: clock[0])
    notes = Notes(directory, lambda message: None)
    with claimed(run_directory(directory, run)):
        for done in (8, 12, 16, 20):
            notes(Progress(run, done, 40, 1000))
            clock[0] += standing.OFTEN
        (found,) = standings(directory, [run])
    assert found.state == "running"
    assert found.reached.steps_per_second == pytest.approx(4 / standing.OFTEN)
    assert found.reached.tokens == 3000


def test_eighty_columns_are_enough_and_what_an_error_says_is_no_markup(begun, capsys, monkeypatch):
    directory, planned = begun
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(claims.platform, "node", lambda: "accelerated-17.cluster.example.org")
    told = f"no [/room] for {'an array ' * 20}"
    with pytest.raises(ValueError, match="room"), claimed(run_directory(directory, planned[5].run.id)):
        raise ValueError(told)
    with claimed(run_directory(directory, planned[4].run.id)):
        assert main(["status", str(directory)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 80
    (line,) = (line for line in shown if planned[4].run.id in line)
    assert "accelerated-17 " in line
    assert str(os.getpid()) in line
    assert " ".join(told.split()) in " ".join(" ".join(shown).split())


def test_a_folder_without_a_plan_is_named(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert "holds no plan of a sweep" in capsys.readouterr().err
