"""What a worker does with runs that fail: single runs, populations, and devices that fail."""

from __future__ import annotations

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
from mixscale.sweeps import launchers, worker
from mixscale.sweeps.directory import open_directory, population_directory, read_rows, run_directory, write_json
from mixscale.sweeps.launchers import Job
from mixscale.sweeps.plan import Planned, plan
from mixscale.sweeps.populations import populations, resumed_populations
from mixscale.sweeps.run_state import ATTEMPTS, Failure, Stage, record_failure, run_states
from mixscale.training import Progress, Run


@pytest.fixture
def planned_in_threes(small: Experiment, store: TokenStore, tmp_path: Path) -> tuple[Experiment, list[Planned]]:
    """Six runs in populations of three."""
    machine = replace(small.machine, workers=1, population=3)
    design = Design(dirichlet=5, held_out=0, replicates=0, vertices=False, centre=False)
    experiment = replace(small, output=str(tmp_path), machine=machine, design=design)
    open_directory(experiment, store)
    return experiment, plan(experiment, store)


def job(experiment: Experiment, store: TokenStore, planned: list[Planned]) -> Job:
    return Job(experiment, store.path.absolute(), planned, Path.cwd(), False)


def losses(path: Path) -> list[float]:
    rows = read_rows(path.parent.parent, path.name)
    return [v for row in rows for k, v in row.items() if k.startswith("loss/")]


def test_only_the_bad_run_of_a_population_is_given_up(planned_in_threes, store, monkeypatch):
    experiment, planned = planned_in_threes
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
    states = {s.run: s.stage for s in run_states(experiment.directory, runs)}
    assert states == {run: Stage.FAILED if run == bad else Stage.ENDED for run in runs}
    failed = Failure.read(run_directory(experiment.directory, bad))
    assert (failed.times, failed.together) == (ATTEMPTS, 1)
    assert trained == [runs[3:], runs[:1], runs[2:3]]


@pytest.mark.slow
def test_a_run_trained_with_a_bad_one_resumes_from_its_own_checkpoint(planned_in_threes, store, tmp_path, monkeypatch):
    experiment, planned = planned_in_threes
    experiment = replace(experiment, machine=replace(experiment.machine, population=2))
    good, bad = [run_directory(experiment.directory, item.run.id) for item in planned[:2]]
    bad.mkdir(parents=True)
    # Found out when each run is given a checkpoint of its own, at the end of the phase at full rate.
    (bad / "checkpoints").write_text("a file where a folder must be")
    messages: list[Any] = []
    monkeypatch.setattr(launchers, "ProgressWriter", lambda directory: messages.append)
    job(experiment, store, planned[:2])()
    states = [s.stage for s in run_states(experiment.directory, [good.name, bad.name])]
    assert states == [Stage.ENDED, Stage.FAILED]
    assert Failure.read(good) is None, "what failed before it ended is forgotten"
    steps = [m.done for m in messages if isinstance(m, Progress) and m.run == good.name]
    assert steps.count(4) == 1, "it never started again"
    alone = replace(experiment.machine, population=1)
    elsewhere = replace(experiment, output=str(tmp_path / "elsewhere"), machine=alone)
    open_directory(elsewhere, store)
    job(elsewhere, store, planned[:1])()
    found = losses(run_directory(elsewhere.directory, good.name))
    np.testing.assert_allclose(losses(good), found, rtol=1e-5)


def test_a_population_resumes_with_the_same_runs_after_others_have_ended(planned_in_threes, store):
    experiment, planned = planned_in_threes
    first, second = populations(planned, experiment.machine, store)
    second.save(experiment.directory)
    left = [item for item in planned if item != first.planned[0]]
    assert resumed_populations(experiment.directory, left, experiment.machine, store)[0] == second
    # The config has another population size.
    for population in resumed_populations(experiment.directory, left, Machine(population=2), store):
        assert population.places == 2


def test_a_population_that_was_split_stays_split(planned_in_threes, store):
    experiment, planned = planned_in_threes
    first, second = populations(planned, experiment.machine, store)
    first.save(experiment.directory)
    first.split(experiment.directory)
    again = resumed_populations(experiment.directory, planned, experiment.machine, store)
    assert again == [second, *first.alone(experiment.machine)]
    assert [population.places for population in again] == [3, 1, 1, 1]


def test_a_population_with_one_run_that_makes_progress_is_not_split(planned_in_threes, store):
    experiment, planned = planned_in_threes
    population, _ = populations(planned, experiment.machine, store)
    folders = [run_directory(experiment.directory, run) for run in population.runs]
    for _ in range(ATTEMPTS):
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            record_failure(folder, Unfinished("the devices failed"), together=3)
    assert population.keeps_failing(experiment.directory)
    assert not Failure.read(folders[0]).final
    Failure.clear(folders[1])
    assert not population.keeps_failing(experiment.directory)


def test_a_population_that_another_process_has_just_ended_is_skipped(planned_in_threes, store, monkeypatch):
    experiment, planned = planned_in_threes
    done = population_directory(experiment.directory, "ended") / worker.MEASURED
    write_json(done, {"runs": {}})
    read = Path.read_text

    def too_late(path: Path, *arguments: object) -> str:
        if path == done:
            shutil.rmtree(done.parent)
        return read(path, *arguments)

    monkeypatch.setattr(Path, "read_text", too_late)
    worker.work(experiment, store.path, planned[:0], lambda message: None)
    assert not done.exists()


def test_a_run_whose_devices_keep_failing_is_given_up(planned_in_threes, store, monkeypatch):
    experiment, planned = planned_in_threes
    experiment = replace(experiment, machine=replace(experiment.machine, population=1))

    def lost(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: device 0 is lost")

    monkeypatch.setattr(train, "train_population", lost)
    for _ in range(ATTEMPTS):
        with pytest.raises(Unfinished, match="device 0 is lost"):
            job(experiment, store, planned[:1])()
    (found,) = run_states(experiment.directory, [planned[0].run.id])
    assert found.stage is Stage.FAILED
    assert "device 0 is lost" in found.failure.why
    job(experiment, store, planned[:1])()
    assert Failure.read(run_directory(experiment.directory, planned[0].run.id)).times == ATTEMPTS
