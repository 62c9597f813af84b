"""What a worker does with runs that fail: alone, in populations, and with devices that disappear."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mixscale import training as train
from mixscale.config import Design, Experiment, Machine
from mixscale.data import TokenStore
from mixscale.errors import Unfinished
from mixscale.sweeps import begun, failures, worker
from mixscale.sweeps.directory import open_directory, pack_directory, run_directory, write_json
from mixscale.sweeps.launchers import job as launcher
from mixscale.sweeps.launchers.job import Job
from mixscale.sweeps.packing import packs
from mixscale.sweeps.plan import Planned, plan
from mixscale.sweeps.standing import standings
from mixscale.training import Progress, Run


@pytest.fixture
def packed(small: Experiment, store: TokenStore, tmp_path: Path) -> tuple[Experiment, list[Planned]]:
    """Six runs in populations of three."""
    machine = replace(small.machine, workers=1, population=3)
    design = Design(dirichlet=5, held_out=0, replicates=0, vertices=False, centre=False)
    experiment = replace(small, output=str(tmp_path), machine=machine, design=design)
    open_directory(experiment, store)
    return experiment, plan(experiment, store)


def job(experiment: Experiment, store: TokenStore, planned: list[Planned]) -> Job:
    return Job(experiment, store.path.absolute(), planned, Path.cwd(), False)


def losses(path: Path) -> list[float]:
    return [v for row in json.loads((path / "rows.json").read_text()) for k, v in row.items() if k.startswith("loss/")]


def test_one_bad_run_is_left_alone_and_neither_its_population_nor_the_next(packed, store, monkeypatch):
    experiment, planned = packed
    _, bad, *_ = runs = [item.run.id for item in planned]
    trained: list[list[str]] = []

    def train_population(trainer: object, together: list[Run], *_: object) -> list[list[dict[str, Any]]]:
        ids = [run.id for run in together]
        if bad in ids:
            raise ValueError("boom")
        trained.append(ids)
        return [[{"run": run}] for run in ids]

    monkeypatch.setattr(train, "train_population", train_population)
    job(experiment, store, planned)()
    states = {s.run: s.state for s in standings(experiment.directory, runs)}
    assert states == {run: "failed" if run == bad else "ended" for run in runs}
    failed = failures.read(run_directory(experiment.directory, bad))
    assert (failed.times, failed.together) == (failures.ATTEMPTS, 1)
    assert trained == [runs[3:], runs[:1], runs[2:3]]


@pytest.mark.slow
def test_a_neighbour_of_a_bad_run_goes_on_from_a_checkpoint_of_its_own(packed, store, tmp_path, monkeypatch):
    experiment, planned = packed
    experiment = replace(experiment, machine=replace(experiment.machine, population=2))
    good, bad = [run_directory(experiment.directory, item.run.id) for item in planned[:2]]
    bad.mkdir(parents=True)
    # Found out when each run is given a checkpoint of its own, at the end of the phase at full rate.
    (bad / "checkpoints").write_text("a file where a folder must be")
    told: list[Any] = []
    monkeypatch.setattr(launcher, "Notes", lambda directory, report: told.append)
    job(experiment, store, planned[:2])()
    states = [s.state for s in standings(experiment.directory, [good.name, bad.name])]
    assert states == ["ended", "failed"]
    assert failures.read(good) is None, "what failed before it ended is forgotten"
    steps = [m.done for m in told if isinstance(m, Progress) and m.run == good.name]
    assert steps.count(4) == 1, "it never started again"
    alone = replace(experiment.machine, population=1)
    elsewhere = replace(experiment, output=str(tmp_path / "elsewhere"), machine=alone)
    open_directory(elsewhere, store)
    job(elsewhere, store, planned[:1])()
    found = losses(run_directory(elsewhere.directory, good.name))
    np.testing.assert_allclose(losses(good), found, rtol=1e-5)


def test_a_population_goes_on_as_it_was_begun_whatever_else_has_ended(packed, store):
    experiment, planned = packed
    first, second = packs(planned, experiment.machine, store)
    begun.begin(experiment.directory, second)
    left = [item for item in planned if item != first.planned[0]]
    assert begun.regrouped(experiment.directory, left, experiment.machine, store)[0] == second
    # Another size of populations was asked for.
    for pack in begun.regrouped(experiment.directory, left, Machine(population=2), store):
        assert pack.places == 2


def test_a_population_that_was_parted_stays_so(packed, store):
    experiment, planned = packed
    first, second = packs(planned, experiment.machine, store)
    begun.begin(experiment.directory, first)
    begun.part(experiment.directory, first)
    again = begun.regrouped(experiment.directory, planned, experiment.machine, store)
    assert again == [second, *begun.alone(first, experiment.machine)]
    assert [pack.places for pack in again] == [3, 1, 1, 1]


def test_a_population_of_which_one_run_gets_further_is_not_parted(packed, store):
    experiment, planned = packed
    pack, _ = packs(planned, experiment.machine, store)
    folders = [run_directory(experiment.directory, item.run.id) for item in pack.planned]
    for _ in range(failures.ATTEMPTS):
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            failures.record(folder, Unfinished("the devices failed"), together=3)
    assert begun.hopeless(experiment.directory, pack)
    assert not failures.read(folders[0]).final
    failures.forget(folders[1])
    assert not begun.hopeless(experiment.directory, pack)


def test_rows_that_another_process_hands_out_at_the_same_time_are_no_failure(packed, store, monkeypatch):
    experiment, planned = packed
    done = pack_directory(experiment.directory, "ended") / worker.DONE
    write_json(done, {})
    read = Path.read_text

    def too_late(path: Path, *arguments: object) -> str:
        if path == done:
            shutil.rmtree(done.parent)
        return read(path, *arguments)

    monkeypatch.setattr(Path, "read_text", too_late)
    worker.work(experiment, store.path, planned[:0], lambda message: None)
    assert not done.exists()


def test_devices_that_keep_disappearing_are_told_and_the_run_left_alone_at_its_checkpoint(packed, store, monkeypatch):
    experiment, planned = packed
    experiment = replace(experiment, machine=replace(experiment.machine, population=1))

    def lost(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: device 0 is lost")

    monkeypatch.setattr(train, "train_population", lost)
    for _ in range(failures.ATTEMPTS):
        with pytest.raises(Unfinished, match="the devices failed .*device 0 is lost"):
            job(experiment, store, planned[:1])()
    (found,) = standings(experiment.directory, [planned[0].run.id])
    assert found.state == "failed"
    assert "device 0 is lost" in found.failure.why
    job(experiment, store, planned[:1])()
    assert failures.read(run_directory(experiment.directory, planned[0].run.id)).times == failures.ATTEMPTS
