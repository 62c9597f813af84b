"""A sweep's table for comparing, and a real SLURM of one machine, from Debian's slurm-wlm and munge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mixscale.config import Experiment
from mixscale.launch import build_corpus, train_design

SBIN = ("munged", "slurmctld", "slurmd")
CONFIG = """
ClusterName=mixscale
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is queued again waits for as long as a credential may live, by default two minutes.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ReturnToService=2
KillWait=5
MailProg=/bin/true
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={one} CPUs=1 RealMemory=2000 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={two} CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def trained() -> Callable[[Experiment, Path], pd.DataFrame]:
    """Trains a sweep's design; its table without the column of measured time."""

    def table(experiment: Experiment, output: Path) -> pd.DataFrame:
        experiment = replace(experiment, output=str(output))
        return train_design(experiment, build_corpus(experiment)).frame.drop(columns="seconds")

    return table


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """munged, slurmctld and a slurmd for each of two nodes, which `sbatch` and its like find through SLURM_CONF."""
    missing = [
        name for name in (*SBIN, "sbatch") if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    if missing:
        pytest.skip(f"SLURM is not installed ({', '.join(missing)}); `apt-get install slurm-wlm munge` as root")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs, for which this test would have to be root")
    pytest.importorskip("submitit", reason="submitit is not installed; `pip install 'mixscale[slurm]'`")
    # A path of a socket has a hundred characters at most, and pytest's folders have long names.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    processes = []
    before = os.environ.get("SLURM_CONF")
    try:
        _write_config(folder)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        for command in _commands(folder):
            with open(folder / "out", "a") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=out))
        _wait_until_idle(folder, processes)
        yield
        # The daemons must not go before their jobs have: those would wait for them for ever.
        subprocess.run(["scancel", "--me"], check=True)
        _wait_until_idle(folder, processes)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
        os.environ.pop("SLURM_CONF", None)
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def _write_config(folder: Path) -> None:
    for name in ("state", "spool-one", "spool-two"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    with ExitStack() as stack:
        # Held together until all are known, so that they differ.
        probes = {name: stack.enter_context(socket.socket()) for name in ("controller", "one", "two")}
        for probe in probes.values():
            probe.bind(("", 0))
        ports = {name: probe.getsockname()[1] for name, probe in probes.items()}
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, **ports))


def _commands(folder: Path) -> list[list[str]]:
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    munged = [f"--{option}={folder / name}" for option, name in files.items()]
    return [
        ["/usr/sbin/munged", "--foreground", "--force", *munged, f"--seed-file={folder}/munge.seed"],
        ["/usr/sbin/slurmctld", "-D"],
        *(["/usr/sbin/slurmd", "-D", "-N", name] for name in ("one", "two")),
    ]


def _wait_until_idle(folder: Path, daemons: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and all(daemon.poll() is None for daemon in daemons):
        answer = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
        if answer.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    output = "\n".join((folder / name).read_text()[-2000:] for name in ("out", "slurmctld.log"))
    pytest.skip(f"SLURM does not start here: {output}")
