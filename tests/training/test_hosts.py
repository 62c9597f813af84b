"""One run over two processes of this machine, which connect like hosts of a cluster."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.config import Experiment, Hosts, Mesh
from mixscale.data import TokenStore
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Run, Trainer, train_run

PROGRAM = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from mixscale.data import TokenStore
from mixscale.errors import Interrupted
from mixscale.config import *
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Run, Trainer, hosts, train_run
from mixscale.training.mesh import AXES, Layout
from mixscale.training.cursor import Position
from mixscale.training.loader import make_loader
from mixscale.training.metrics import peak_flops

machine, index = {machine!r}, int(sys.argv[1])
hosts.join(Hosts(machine.hosts.coordinator, 2, index))
import jax
assert jax.process_count() == 2 and jax.device_count() == 8
run = Run(Constant(Mixture({mixture!r})), "tiny", {run.model!r}, {run.optimizer!r}, {run.train!r}, 1, {run.store!r})
store = TokenStore.open({store!r})

agreement = hosts.Agreement()
assert [agreement.on(flag) for flag in (index == 1, False, False)] == [False, True, False]
assert peak_flops(jax.devices(), "float32") < 3e13

# A mesh as on TPUs, on which no host's devices are contiguous: streamed rows against resident ones.
devices = np.array(jax.devices())[[0, 5, 1, 4, 6, 2, 7, 3]].reshape(1, 4, 2, 1)
layout = Layout(jax.sharding.Mesh(devices, AXES))
resident, streamed = (make_loader(store, layout, 0, replace(machine, resident_gb=gb)) for gb in (4.0, 0.0))
trainer = Trainer(run, store, 0, machine)
part = trainer.cursor(run, Position(seen={{}})).next_steps(3)
numbers, rows = (each.dispatch([part], 8, 3).addressable_shards for each in (resident, streamed))
for number, row in zip(numbers, rows, strict=True):
    np.testing.assert_array_equal(np.asarray(resident.resident.addressable_data(0))[number.data], row.data)

def send_signal(progress):
    if index == 1 and progress.done == 12:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    train_run(trainer, run, Path({folder!r}), send_signal)
    raise SystemExit("it did not stop")
except Interrupted as interrupted:
    assert interrupted.status == 143
rows = train_run(trainer, run, Path({folder!r}), lambda progress: None)
if hosts.first():
    Path({folder!r}, "rows.json").write_text(json.dumps(rows))
"""


SWEEP = """
import sys
from dataclasses import replace
from pathlib import Path
from mixscale.data import TokenStore
from mixscale.config import *
from mixscale.sweeps.launchers import train_all
from mixscale.sweeps.plan import plan

index, store = int(sys.argv[1]), TokenStore.open({store!r})
experiment = {experiment!r}
machine = replace(experiment.machine, hosts=Hosts({coordinator!r}, 2, index))
experiment = replace(experiment, output=f"{folder}/{{index}}", machine=machine)
planned = plan(experiment, store)
for item in planned if index == 0 else ():
    folder = experiment.directory / "runs" / item.run.id
    folder.mkdir(parents=True)
    (folder / "rows.json").write_text("[]")
train_all(experiment, store.path, planned)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def run_twice(program: Path) -> None:
    """The program as process 0 and as process 1, with four devices each."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), str(index)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for index in range(2)
    ]  # fmt: skip
    try:
        output = [process.communicate(timeout=300)[0].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], output


def test_process_0_decides_which_runs_of_a_sweep_remain(small: Experiment, store: TokenStore, tmp_path: Path):
    """Other processes may not see its files yet; a process that trains alone would wait for the others forever."""
    coordinator = f"localhost:{free_port()}"
    program = SWEEP.format(store=str(store.path), experiment=small, coordinator=coordinator, folder=tmp_path)
    (tmp_path / "program.py").write_text(program)
    run_twice(tmp_path / "program.py")
    assert not list(tmp_path.glob("1/*/runs/*"))


@pytest.mark.mesh
def test_two_processes_get_the_losses_of_one_process(small: Experiment, store: TokenStore, tmp_path: Path):
    """Even if one of them receives a signal: both stop, and both resume."""
    mixture = {"code": 0.5, "fiction": 0.3, "romance": 0.2}
    # Streamed rows, so that each process reads only its part of every batch.
    machine = replace(small.machine, mesh=Mesh(data=4, fsdp=2), resident_gb=0.0)
    run = Run(Constant(Mixture(mixture)), "tiny", small.models["tiny"], small.optimizer, small.train, 1, store.id)
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
    run_twice(tmp_path / "program.py")
    two = json.loads((tmp_path / "two" / "rows.json").read_text())
    for row, single in zip(two, one, strict=True):
        for domain in store.domains:
            assert row[f"loss/{domain}"] == pytest.approx(single[f"loss/{domain}"], rel=1e-6)
