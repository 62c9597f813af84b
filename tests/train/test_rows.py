"""Rows that are streamed from disk against those that live on the devices."""

from dataclasses import replace

import numpy as np
import pytest

from mixscale.mixture import Mixture
from mixscale.train import Run, Trainer, train_run
from mixscale.train.mesh import make_layout
from mixscale.train.rows import Draw, make_rows
from mixscale.train.sampler import Sampler


@pytest.fixture
def run(small, store) -> Run:
    mixture = Mixture({"code": 0.5, "fiction": 0.3, "romance": 0.2})
    return Run(mixture, "tiny", small.models["tiny"], small.optimiser, small.train, 1, store.id)


def test_streamed_rows_are_the_resident_ones(run, small, store):
    layout = make_layout(small.machine.mesh, run.model, run.train.batch, 1, 1)
    resident = make_rows(store, layout, 0, small.machine)
    streamed = make_rows(store, layout, 0, replace(small.machine, resident_gb=0.0))
    assert resident.resident is not None
    assert streamed.resident is None
    offered = {domain: len(rows_R) for domain, rows_R in resident.offered(run).items()}
    sampler = Sampler(run.mixture, offered, run.seed, 40 * 8)
    # In order, then back to where a checkpoint was, as a run does that goes on.
    for first in (0, 3, 6, 3, 33):
        draw = Draw(run, sampler, first, np.zeros(3, np.float32))
        row_1xSxB = np.asarray(resident.dispatch([draw], 8, 4))
        rows_1xSxBxT1 = np.asarray(streamed.dispatch([draw], 8, 4))
        np.testing.assert_array_equal(rows_1xSxBxT1[0, :3], np.asarray(resident.resident)[row_1xSxB[0, :3]])


def test_a_run_on_streamed_rows_finds_the_same_losses(run, small, store, tmp_path):
    found = []
    for gigabytes in (4.0, 0.0):
        trainer = Trainer(run, store, small.corpus.seed, replace(small.machine, resident_gb=gigabytes))
        rows = train_run(trainer, run, tmp_path / str(gigabytes), lambda progress: None)
        found.append([rows[-1][f"loss/{domain}"] for domain in store.domains])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_child_goes_on_in_each_domain_where_its_parent_stopped(run):
    rows = {"code": 30, "fiction": 20, "romance": 10}
    whole = Sampler(run.mixture, rows, 1, 100)
    seen = whole.counts(60)
    child = Sampler(run.mixture, rows, 1, 40, seen)
    for domain in rows:
        drawn = [r for d, r in zip(*whole.draws(0, 100), strict=True) if whole.domains[d] == domain]
        more = [r for d, r in zip(*child.draws(0, 40), strict=True) if child.domains[d] == domain]
        assert more[: len(drawn) - seen[domain]] == drawn[seen[domain] :][: len(more)]
