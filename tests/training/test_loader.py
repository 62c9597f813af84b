"""Rows streamed from disk against rows resident on the devices."""

import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from mixscale.data import TokenStore
from mixscale.data.store import flat_rows
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Run, Trainer, train_run
from mixscale.training.loader import StepRange, Wanted, make_loader
from mixscale.training.mesh import AXES, Layout, make_layout
from mixscale.training.sampler import Sampler


@pytest.fixture
def run(small, store) -> Run:
    mixture = Mixture({"code": 0.5, "fiction": 0.3, "romance": 0.2})
    return Run(Constant(mixture), "tiny", small.models["tiny"], small.optimizer, small.train, 1, store.id)


def test_streamed_rows_equal_resident_rows(run, small, store):
    layout = make_layout(small.machine.mesh, run.model, run.train.batch, 1, 1)
    resident = make_loader(store, layout, 0, small.machine)
    streamed = make_loader(store, layout, 0, replace(small.machine, resident_gb=0.0))
    assert resident.resident is not None
    assert streamed.resident is None
    sampler = Sampler([(40 * 8, run.mixture)], resident.offered(run), run.seed)
    # In order, then back to a checkpoint, as a resumed run.
    for first in (0, 3, 6, 3, 33):
        part = StepRange(run, sampler, first, np.zeros(3, np.float32))
        row_1xSxB = np.asarray(resident.dispatch([part], 8, 4))
        rows_1xSxBxT1 = np.asarray(streamed.dispatch([part], 8, 4))
        np.testing.assert_array_equal(rows_1xSxBxT1[0, :3], np.asarray(resident.resident)[row_1xSxB[0, :3]])


@pytest.mark.mesh
@pytest.mark.parametrize("axes", [(1, 4, 2, 1), (2, 2, 1, 2), (4, 2, 1, 1)])
def test_a_host_reads_the_rows_of_its_devices_anywhere_on_the_mesh(axes):
    """Two hosts with four devices each, in an order that `jax.make_mesh` gives TPUs."""
    devices = np.array(jax.devices())[[0, 5, 1, 4, 6, 2, 7, 3]].reshape(axes)
    sharding = Layout(jax.sharding.Mesh(devices, AXES)).placed("run", None, "batch", None)
    shape = (4, 3, 16, 5)
    rows_RxSxBxT1 = np.arange(np.prod(shape)).reshape(shape)
    for host in (range(4), range(4, 8)):
        blocks = [block for device, block in sharding.devices_indices_map(shape).items() if device.id in host]
        wanted = Wanted.by(blocks, shape)
        held = {(r, b) for block in blocks for r in range(4)[block[0]] for b in range(16)[block[2]]}
        assert set(wanted.runs) == {r for r, _ in held}
        assert set(wanted.sequences) == {b for _, b in held}
        mine_rxSxbxT1 = rows_RxSxBxT1[wanted.runs][:, :, wanted.sequences]
        for block in blocks:
            np.testing.assert_array_equal(mine_rxSxbxT1[wanted.at(block)], rows_RxSxBxT1[block])


def test_readers_end_with_runs_that_stop_early(run, small, store):
    layout = make_layout(small.machine.mesh, run.model, run.train.batch, 1, 1)
    rows = make_loader(store, layout, 0, replace(small.machine, resident_gb=0.0))
    sampler = Sampler([(40 * 8, run.mixture)], rows.offered(run), 1)
    threads = []
    for seed in range(8):
        # A run that diverges at once; the next one follows.
        rows.dispatch([StepRange(replace(run, seed=seed), sampler, 0, np.zeros(2, np.float32))], 8, 2)
        threads.append(threading.active_count())
    until = time.monotonic() + 30
    while threading.active_count() > threads[0] and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= threads[0], threads


def test_runs_of_different_lengths_share_their_offered_rows(run, small, store):
    """Recomputing them would take the host as long as a dispatch of small models takes."""
    loader = make_loader(store, make_layout(small.machine.mesh, run.model, run.train.batch, 1, 1), 0, small.machine)
    longer = [replace(run.train, tokens=run.train.tokens * n) for n in range(1, 65)]
    first = loader.offered(run)
    assert all(loader.offered(replace(run, train=train)) is first for train in longer)
    repeated = replace(run.train, like_tokens=10 * run.train.tokens)
    assert len(loader.offered(replace(run, train=repeated))["code"]) == round(len(first["code"]) / 10)


def test_a_run_on_streamed_rows_gets_the_same_losses(run, small, store, tmp_path):
    found = []
    for gigabytes in (4.0, 0.0):
        trainer = Trainer(run, store, small.corpus.seed, replace(small.machine, resident_gb=gigabytes))
        rows = train_run(trainer, run, tmp_path / str(gigabytes), lambda progress: None)
        found.append([rows[-1][f"loss/{domain}"] for domain in store.domains])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_child_continues_each_domain_where_its_parent_stopped(run):
    rows = {"code": np.arange(30), "fiction": np.arange(20), "romance": np.arange(10)}
    whole = Sampler([(100, run.mixture)], rows, 1)
    dataset = whole.counts(60)
    child = Sampler([(40, run.mixture)], rows, 1, dataset)
    for domain in rows:
        drawn = [r for d, r in zip(*whole.draws(0, 100), strict=True) if whole.domains[d] == domain]
        more = [r for d, r in zip(*child.draws(0, 40), strict=True) if child.domains[d] == domain]
        assert more[: len(drawn) - dataset[domain]] == drawn[dataset[domain] :][: len(more)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount a small disk")
def test_a_disk_too_small_for_the_flat_file_is_an_os_error(store, tmp_path):
    shutil.copytree(store.path, tmp_path / "store", ignore=shutil.ignore_patterns("flat"))
    flat = tmp_path / "store" / "flat"
    flat.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(flat)], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            flat_rows(TokenStore.open(tmp_path / "store"), "code")
        assert [path.name for path in flat.iterdir()] == ["code.lock"]
    finally:
        subprocess.run(["umount", str(flat)], check=True)
    np.testing.assert_array_equal(flat_rows(TokenStore.open(tmp_path / "store"), "code"), store.rows("code", "train"))
