"""Sweeps on a real Ray cluster of several nodes on this machine; one node is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mixscale.config import Design, Experiment, Mesh, Ray, Train
from mixscale.errors import InputError
from mixscale.sweeps.directory import read_manifests

pytest.importorskip("ray", reason="Ray is not installed; `pip install 'mixscale[ray]'`")


@contextmanager
def cluster(nodes: int) -> Iterator[tuple[Any, list[Any]]]:
    """A head that trains nothing, and `nodes` of one core."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made, [made.add_node(num_cpus=1) for _ in range(nodes)]
    finally:
        made.shutdown()


def once_half_is_done(folder: Path, runs: int, act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        while len(list(folder.glob("runs/*/rows.json"))) < runs // 2:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def sweep_with_a_node_killed(
    trained: Callable[[Experiment, Path], pd.DataFrame], experiment: Experiment, nodes: int, output: Path
) -> pd.DataFrame:
    runs = len(read_manifests(output / "here" / experiment.name))
    with cluster(nodes) as (made, workers):
        launcher = Ray(address=made.address, jobs=nodes)
        folder = output / "ray" / experiment.name
        kill = once_half_is_done(folder, runs, lambda: made.remove_node(workers[0], allow_graceful=False))
        table = trained(replace(experiment, launcher=launcher), output / "ray")
        kill.join(timeout=1)
        assert not kill.is_alive(), "the sweep ended before the node was killed"
    return table


def test_a_sweep_that_loses_one_of_two_nodes_gives_the_table_of_a_local_sweep(small, trained, tmp_path):
    few = replace(small, design=Design(dirichlet=1, held_out=1, replicates=0, vertices=False))
    here = trained(few, tmp_path / "here")
    ray = sweep_with_a_node_killed(trained, few, 2, tmp_path)
    pd.testing.assert_frame_equal(ray, here)
    assert ray["run"].is_unique


@pytest.mark.slow
def test_64_runs_on_three_nodes_complete_after_one_node_dies(small, trained, tmp_path):
    longer = Train(tokens=32 * 8 * 100, batch=8, validation_rows=8, measure_at=(32 * 8 * 50,))
    many = replace(small, train=longer, design=Design(dirichlet=50, held_out=8, replicates=1))
    here = trained(many, tmp_path / "here")
    ray = sweep_with_a_node_killed(trained, many, 3, tmp_path)
    pd.testing.assert_frame_equal(ray, here)
    assert ray["run"].nunique() == 64
    assert not ray.duplicated(["run", "step"]).any()


@pytest.mark.slow
@pytest.mark.mesh
def test_a_job_over_two_nodes_trains_each_run_on_both(small, trained, tmp_path, monkeypatch):
    few = Design(dirichlet=0, held_out=0, replicates=0, vertices=False)
    wide = replace(small, design=few, machine=replace(small.machine, workers=1, mesh=Mesh(data=4, fsdp=2)))
    here = trained(wide, tmp_path / "here")
    # Each node gives half of the devices that this process has.
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    with cluster(2) as (made, _):
        launcher = Ray(address=made.address, jobs=1, hosts=2)
        ray = trained(replace(wide, launcher=launcher), tmp_path / "ray")
    pd.testing.assert_frame_equal(ray, here, rtol=1e-5)


def test_a_cluster_that_does_not_exist_is_an_input_error(small, trained, tmp_path):
    with pytest.raises(InputError, match="launcher.address 'auto'"):
        trained(replace(small, launcher=Ray()), tmp_path)
