"""`mixscale status` of a folder with runs in every state, each brought there in the way a sweep does it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.cli import main
from mixscale.run_table import Status
from mixscale.sweeps import queue, run_state
from mixscale.sweeps.directory import open_directory, read_manifests, run_directory, write_rows
from mixscale.sweeps.plan import Planned, plan, save_plan
from mixscale.sweeps.run_state import ATTEMPTS, ProgressWriter, Stage, claimed, run_states
from mixscale.sweeps.status import SweepStatus
from mixscale.training import Progress


@pytest.fixture
def half_done(small, store, tmp_path) -> tuple[Path, list[Planned]]:
    """A folder whose first run is complete, whose second diverged, whose third failed for good and fourth once."""
    experiment = replace(small, output=str(tmp_path))
    planned, directory = plan(experiment, store), open_directory(experiment, store)
    save_plan(directory, "design", planned, store)
    paths = [run_directory(directory, item.run.id) for item in planned]
    flops = [label["flops"] for label in read_manifests(directory)]
    for path, status, spent in ((paths[0], Status.COMPLETE, flops[0]), (paths[1], Status.DIVERGED, flops[1] / 2)):
        with claimed(path):
            write_rows(directory, path.name, [{"run": path.name, "status": status, "seconds": 2.0, "flops": spent}])
    for path, times in ((paths[2], ATTEMPTS), (paths[3], 1)):
        for _ in range(times):
            with pytest.raises(ValueError, match="boom"), claimed(path):
                raise ValueError("boom")
    return directory, planned


def test_status_counts_runs_by_state_and_sums_spent_flops(half_done, capsys):
    directory, planned = half_done
    flops = [label["flops"] for label in read_manifests(directory)]
    with claimed(run_directory(directory, planned[4].run.id)):
        ProgressWriter(directory)(Progress(planned[4].run.id, 10, 40, 0))
        status = SweepStatus(directory)
        assert main(["status", str(directory)]) == 0
    shown = capsys.readouterr().out
    counts = {state: count for (_, state), count in status.counts.items()}
    assert counts == {"complete": 1, "diverged": 1, "running": 1, "failed": 1, "waiting": len(planned) - 4}
    assert sum(status.spent.values()) == pytest.approx(flops[0] + flops[1] / 2 + flops[4] / 4)
    # Nobody knows yet how fast the fifth is, so it counts as those that have ended.
    assert status.rate == pytest.approx((flops[0] / 2 + flops[1] / 4) / 2)
    assert shown.count("ValueError: boom") == 2
    assert "given up" in shown
    assert "will be retried" in shown
    assert str(os.getpid()) in shown


def test_speed_excludes_the_first_dispatch_which_compiles(half_done, monkeypatch):
    directory, planned = half_done
    run, clock = planned[4].run.id, [time.time()]
    monkeypatch.setattr(run_state.time, "time", lambda: clock[0])
    writer = ProgressWriter(directory)
    with claimed(run_directory(directory, run)):
        for done in (8, 12, 16, 20):
            writer(Progress(run, done, 40, 1000))
            clock[0] += run_state.PROGRESS_SECONDS
        (found,) = run_states(directory, [run])
    assert found.stage is Stage.RUNNING
    assert found.progress.steps_per_second == pytest.approx(4 / run_state.PROGRESS_SECONDS)
    assert found.progress.tokens == 3000


def test_status_fits_eighty_columns_and_prints_errors_without_markup(half_done, capsys, monkeypatch):
    directory, planned = half_done
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(queue.platform, "node", lambda: "accelerated-17.cluster.example.org")
    reason = f"no [/room] for {'an array ' * 20}"
    with pytest.raises(ValueError, match="room"), claimed(run_directory(directory, planned[5].run.id)):
        raise ValueError(reason)
    with claimed(run_directory(directory, planned[4].run.id)):
        assert main(["status", str(directory)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 80
    (line,) = (line for line in shown if planned[4].run.id in line)
    assert "accelerated-17 " in line
    assert str(os.getpid()) in line
    assert " ".join(reason.split()) in " ".join(" ".join(shown).split())


def test_a_folder_without_a_plan_is_an_input_error(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
