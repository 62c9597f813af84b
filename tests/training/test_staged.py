"""Runs with a staged mixture: in the table, interrupted, and in a population."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixscale.config import Experiment, Stage
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant, Staged
from mixscale.run_table import RunTable
from mixscale.sweeps.plan import plan
from mixscale.training import Progress, Run, Trainer, train_population, train_run
from mixscale.training.cursor import Position

SCHEDULE = Staged(((0.6, Mixture({"code": 0.2, "fiction": 0.8})), (0.4, Mixture({"code": 0.5, "romance": 0.5}))))


class Cut(Exception):
    """A preemption: nothing after it runs."""


def numbers(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def run(small: Experiment, store: TokenStore) -> Run:
    return Run(SCHEDULE, "tiny", small.models["tiny"], small.optimizer, small.train, seed=1, store=store.id)


@pytest.fixture(scope="module")
def trainer(run: Run, small: Experiment, store: TokenStore) -> Trainer:
    return Trainer(run, store, small.corpus.seed, small.machine)


@pytest.fixture(scope="module")
def uncut(trainer: Trainer, run: Run, tmp_path_factory) -> list[dict]:
    return train_run(trainer, run, tmp_path_factory.mktemp("uncut"), lambda progress: None)


def test_the_row_has_the_aggregate_mixture_the_stages_and_the_drawn_tokens(uncut, run, store):
    (row,) = uncut
    assert [row[f"mix/{d}"] for d in ("code", "fiction", "romance")] == pytest.approx([0.32, 0.48, 0.2])
    assert [row[f"stage/{i}/share"] for i in range(2)] == [0.6, 0.4]
    assert [row[f"stage/1/mix/{d}"] for d in ("code", "fiction", "romance")] == [0.5, 0.0, 0.5]
    for domain in store.domains:
        assert abs(row[f"tokens/{domain}"] - row[f"mix/{domain}"] * row["n_tokens"]) < store.context
    assert RunTable(pd.DataFrame(uncut)).domains == store.domains


def test_each_step_draws_from_the_mixture_of_its_stage(trainer, run):
    sampler, batch = trainer.cursor(run, Position()).next_steps(1).sampler, run.train.batch
    romance = sampler.domains.index("romance")
    last_of_first = 24 * batch
    assert (sampler.draws(0, last_of_first)[0] != romance).all()
    drawn_N = np.cumsum(sampler.draws(last_of_first, 40 * batch)[0] == romance)
    assert np.abs(drawn_N - 0.5 * np.arange(1, len(drawn_N) + 1)).max() < 1


def test_a_staged_run_interrupted_many_times_gets_the_same_rows(trainer, run, uncut, tmp_path):
    left, cuts = 0, 0

    def cut_after(progress: Progress) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cut

    while True:
        left = 3
        try:
            rows = train_run(trainer, run, tmp_path, cut_after)
            break
        except Cut:
            cuts += 1
    assert cuts >= 2
    assert numbers(rows) == numbers(uncut)


def test_a_staged_run_in_a_population_gets_the_rows_that_it_gets_alone(trainer, run, small, store, tmp_path: Path):
    """At a rate that does not multiply rounding from step to step."""
    run = replace(run, optimizer=replace(run.optimizer, learning_rate=0.003))
    (alone,) = train_run(trainer, run, tmp_path / "alone", lambda progress: None)
    runs = [replace(run, seed=2), run, replace(run, schedule=Constant(SCHEDULE.mixture))]
    population = Trainer(run, store, small.corpus.seed, small.machine, population=3)
    together = train_population(population, runs, [tmp_path / r.id for r in runs], tmp_path / "shared", lambda _: None)
    for column, value in alone.items():
        if column.startswith("loss/"):
            assert together[1][0][column] == pytest.approx(value, rel=1e-5)
            assert together[2][0][column] != pytest.approx(value, rel=1e-5)


def test_the_schedule_is_part_of_a_runs_identity(run):
    turned = replace(run, schedule=Staged(SCHEDULE.stages[::-1]))
    constant = replace(run, schedule=Constant(SCHEDULE.mixture))
    assert len({run.id, turned.id, constant.id}) == 3


def test_an_earlier_measurement_of_a_staged_run_is_refused(run):
    with pytest.raises(InputError, match="measure_at"):
        replace(run, train=replace(run.train, measure_at=(32 * 8 * 20,)))


def test_a_design_trains_staged_schedules_with_each_seed_and_does_not_fit_them(small, store):
    stages = Stage(0.6, {"code": 0.2, "fiction": 0.8}), Stage(0.4, {"code": 0.5, "romance": 0.5})
    planned = plan(replace(small, design=replace(small.design, staged=(stages,))), store)
    with pytest.raises(InputError, match="'codde'"):
        replace(small, design=replace(small.design, staged=((Stage(1.0, {"codde": 1.0}),),)))
    staged = [item for item in planned if item.role == "staged"]
    assert [item.run.seed for item in staged] == [0, 1]
    assert {item.run.schedule for item in staged} == {Staged.of(stages)}
    assert len(planned) == len(plan(small, store)) + 2
