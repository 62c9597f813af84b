"""One run over two processes of this machine, which find each other as hosts of a cluster do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.corpus import TokenStore
from mixscale.experiment import Experiment, Hosts, Mesh
from mixscale.mixture import Mixture
from mixscale.train import Run, Trainer, train_run

PROGRAM = """
import json, sys
from pathlib import Path
from mixscale.corpus import TokenStore
from mixscale.experiment import *
from mixscale.mixture import Mixture
from mixscale.train import Run, Trainer, hosts, train_run

machine, index = {machine!r}, int(sys.argv[1])
hosts.join(Hosts(machine.hosts.coordinator, 2, index))
import jax
assert jax.process_count() == 2 and jax.device_count() == 8
run = Run(Mixture({mixture!r}), "tiny", {run.model!r}, {run.optimiser!r}, {run.train!r}, 1, {run.store!r})
store = TokenStore.open({store!r})
rows = train_run(Trainer(run, store, 0, machine), run, Path({folder!r}), lambda progress: None)
if hosts.first():
    Path({folder!r}, "rows.json").write_text(json.dumps(rows))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_two_processes_find_what_one_finds_with_the_same_devices(small: Experiment, store: TokenStore, tmp_path: Path):
    mixture = {"code": 0.5, "fiction": 0.3, "romance": 0.2}
    # Streamed rows, so that each process also reads its own part of every batch and no more.
    machine = replace(small.machine, mesh=Mesh(data=4, fsdp=2), resident_gb=0.0)
    run = Run(Mixture(mixture), "tiny", small.models["tiny"], small.optimiser, small.train, 1, store.id)
    one = train_run(Trainer(run, store, small.corpus.seed, machine), run, tmp_path / "one", lambda progress: None)

    asked = replace(machine, hosts=Hosts(f"localhost:{free_port()}", 2))
    facts = {
        "machine": asked,
        "run": run,
        "mixture": mixture,
        "store": str(store.path),
        "folder": str(tmp_path / "two"),
    }
    (tmp_path / "program.py").write_text(PROGRAM.format(**facts))
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "program.py"), str(index)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for index in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    two = json.loads((tmp_path / "two" / "rows.json").read_text())
    for row, single in zip(two, one, strict=True):
        for domain in store.domains:
            assert row[f"loss/{domain}"] == pytest.approx(single[f"loss/{domain}"], rel=1e-6)
