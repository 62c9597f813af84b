"""Sweeps whose runs are trained together, beside the same sweep one run after another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixscale.config import Machine, Mesh, Model
from mixscale.launch import build_corpus, train_design
from mixscale.sweeps.directory import run_directory
from mixscale.sweeps.packing import Pack, packs, population
from mixscale.sweeps.plan import plan
from mixscale.sweeps.worker import too_large


def test_packs_hold_runs_of_one_shape_and_all_of_them(small, store):
    wide = replace(small, models={**small.models, "wide": Model(d_model=32, layers=1, heads=2, kv_heads=1)})
    planned = plan(wide, store)
    packed = packs(planned, Machine(population=4), store)
    assert sorted(p.run.id for pack in packed for p in pack.planned) == sorted(p.run.id for p in planned)
    for pack in packed:
        assert len({p.run.size for p in pack.planned}) == 1
        assert len(pack.planned) <= pack.places == 4


def test_taking_whole_packs_away_leaves_the_others_as_they_were(small, store):
    planned = plan(small, store)
    packed = packs(planned, Machine(population=4), store)
    done = {p.run.id for p in packed[0].planned} | {p.run.id for p in packed[-1].planned}
    left = packs([p for p in planned if p.run.id not in done], Machine(population=4), store)
    assert [pack.id for pack in left] == [pack.id for pack in packed[1:-1]]


def test_a_cpu_trains_one_run_at_a_time_unless_told(small, store):
    run = plan(small, store)[0].run
    assert population(run, Machine(), store) == 1
    assert population(run, Machine(population=6), store) == 6
    assert population(run, Machine(mesh=Mesh(run=4, data=2)), store) == 4


def test_a_sweep_in_populations_gives_the_table_of_one_run_after_another(small, tmp_path):
    """And every run ends with a checkpoint of its own."""
    tables = []
    for places in (1, 4):
        machine = replace(small.machine, workers=1, population=places)
        experiment = replace(small, output=str(tmp_path / str(places)), machine=machine)
        tables.append(train_design(experiment, build_corpus(experiment)).frame)
        for run in tables[-1]["run"]:
            assert list((run_directory(experiment.directory, run) / "checkpoints").glob("*/"))
        assert not list((experiment.directory / "packs").glob("*"))
    single, packed = tables
    losses = [c for c in single.columns if c.startswith(("loss/", "bits_per_byte/"))]
    exact = [c for c in single.columns if c not in losses and c != "seconds"]
    assert single[exact].equals(packed[exact])
    np.testing.assert_allclose(single[losses], packed[losses], rtol=1e-5)


@pytest.mark.parametrize(("places", "word"), [(8, "--machine.population 4"), (1, "--machine.remat")])
def test_runs_that_do_not_fit_in_memory_say_what_would(small, store, places, word):
    assert word in too_large(small, Pack(tuple(plan(small, store)[:1]), places))
