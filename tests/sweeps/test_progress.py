"""The progress that a sweep shows, and its estimate of the time left."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from mixscale.config import Model, Optimizer, Train
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.objective import Objective
from mixscale.sweeps import status
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.status import Pace, SweepProgress, duration
from mixscale.training import Progress, Run

RUN = Run(Constant(Mixture({"web": 0.5, "code": 0.5})), "tiny", Model(), Optimizer(), Train(), seed=1, store="none")
PLANNED = [Planned(replace(RUN, seed=seed), "fit", "sobol") for seed in range(3)]


def test_work_of_an_earlier_process_does_not_count_as_speed():
    """Two runs of work 1 and one of 2; the first was half done before this sweep began."""
    pace = Pace({"a": 1.0, "b": 1.0, "c": 2.0})
    pace.take("a", 0.5)
    assert pace.seconds_left(10.0) is None
    pace.take("a", 1.0)
    pace.take("b", 0.0)
    pace.take("b", 0.5)
    assert pace.share == pytest.approx(1.5 / 4)
    assert pace.seconds_left(10.0) == pytest.approx(25.0)
    pace.take("c", 1.0, before=0.0)
    assert pace.seconds_left(30.0) == pytest.approx(5.0)


def test_long_durations_have_hours_and_days():
    assert [duration(s) for s in (9.6, 61, 3600, 90_061)] == ["0:10", "1:01", "1:00:00", "1d 1:01:01"]


def shown_of(monkeypatch, terminal: bool, objective: Objective = Objective()) -> str:  # noqa: B008
    monkeypatch.setattr(status, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(status, "SPEED_SECONDS", 0.0)
    monkeypatch.setattr(status, "DRAW_SECONDS", 0.0)
    out = StringIO()
    first, second, third = (p.run.id for p in PLANNED)
    row = {
        "run": second,
        "seed": 1,
        "status": "complete",
        "loss/web": 2.0,
        "loss/code": 4.0,
        "seconds": 9.0,
        "spikes": 2,
    }
    console = Console(file=out, force_terminal=terminal, width=70)
    with SweepProgress(PLANNED, PLANNED[:2], objective, console) as shown:
        for message in (Progress(first, 10, 100, 500), Progress(first, 20, 100, 500, mfu=0.4), row):
            shown.take(message)
    return out.getvalue()


def test_a_log_has_plain_lines(monkeypatch):
    lines = shown_of(monkeypatch, terminal=False).splitlines()
    assert all(line.isprintable() for line in lines)
    assert any(line.startswith("1/3 runs  10%") and "tokens/s  MFU 40%" in line and "left" in line for line in lines)
    assert f"[2/3] {PLANNED[1].run.id}  tiny  seed 1  fit/sobol  mean loss 3.0000  2 loss spikes  9.0 s" in lines


def test_the_line_of_a_run_has_the_objective(monkeypatch):
    for objective, shown in (
        (Objective({"loss/code": 3.0, "web": 1.0}), "weighted mean loss 3.5000"),
        (Objective({"web": 1.0}), "weighted mean loss 2.0000"),
        (Objective({"web": 2.0, "code": 2.0}), "mean loss 3.0000"),
        (Objective(kind="worst"), "worst loss 4.0000"),
        (Objective(kind="worst", relative_to="best"), "mean loss 3.0000"),  # the best is known only by a law
    ):
        assert f"  {shown}  " in shown_of(monkeypatch, False, objective)


def test_a_terminal_has_a_bar(monkeypatch):
    assert "\x1b[" in shown_of(monkeypatch, terminal=True)
