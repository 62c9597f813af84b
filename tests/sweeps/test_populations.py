"""Sweeps whose runs are trained together, compared with the same sweep trained one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixscale.config import Machine, Mesh, Model
from mixscale.launch import build_corpus, train_design
from mixscale.sweeps.directory import run_directory
from mixscale.sweeps.plan import plan
from mixscale.sweeps.populations import Population, population_size, populations
from mixscale.sweeps.worker import too_large


def test_every_run_is_in_one_population_of_its_shape(small, store):
    wide = replace(small, models={**small.models, "wide": Model(d_model=32, layers=1, heads=2, kv_heads=1)})
    planned = plan(wide, store)
    packed = populations(planned, Machine(population=4), store)
    assert sorted(run for population in packed for run in population.runs) == sorted(p.run.id for p in planned)
    for population in packed:
        assert len({p.run.size for p in population.planned}) == 1
        assert len(population.planned) <= population.places == 4


def test_removing_whole_populations_does_not_change_the_others(small, store):
    planned = plan(small, store)
    packed = populations(planned, Machine(population=4), store)
    done = {p.run.id for p in packed[0].planned} | {p.run.id for p in packed[-1].planned}
    left = populations([p for p in planned if p.run.id not in done], Machine(population=4), store)
    assert [p.id for p in left] == [p.id for p in packed[1:-1]]


def test_a_cpu_trains_one_run_at_a_time_by_default(small, store):
    run = plan(small, store)[0].run
    assert population_size(run, Machine(), store) == 1
    assert population_size(run, Machine(population=6), store) == 6


@pytest.mark.mesh
def test_a_mesh_with_an_axis_of_runs_sets_the_population(small, store):
    assert population_size(plan(small, store)[0].run, Machine(mesh=Mesh(run=4, data=2)), store) == 4


def test_a_sweep_in_populations_gives_the_table_of_single_runs(small, tmp_path):
    """And every run ends with a checkpoint of its own."""
    tables = []
    for places in (1, 4):
        machine = replace(small.machine, workers=1, population=places)
        experiment = replace(small, output=str(tmp_path / str(places)), machine=machine)
        tables.append(train_design(experiment, build_corpus(experiment)).frame)
        for run in tables[-1]["run"]:
            assert list((run_directory(experiment.directory, run) / "checkpoints").glob("*/"))
        assert not list((experiment.directory / "populations").glob("*"))
    single, packed = tables
    losses = [c for c in single.columns if c.startswith(("loss/", "bits_per_byte/"))]
    exact = [c for c in single.columns if c not in losses and c != "seconds"]
    assert single[exact].equals(packed[exact])
    np.testing.assert_allclose(single[losses], packed[losses], rtol=1e-5)


@pytest.mark.parametrize(("places", "word"), [(8, "--machine.population 4"), (1, "--machine.remat")])
def test_the_error_for_runs_that_do_not_fit_in_memory_names_an_option(small, store, places, word):
    assert word in too_large(small, Population(tuple(plan(small, store)[:1]), places))
