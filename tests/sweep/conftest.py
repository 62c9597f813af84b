"""A sweep's table for comparing, and a real SLURM of one machine, from Debian's slurm-wlm and munge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mixscale.experiment import Experiment
from mixscale.launch import build_corpus, train_design

SBIN = ("munged", "slurmctld", "slurmd")
CONFIG = """
ClusterName=mixscale
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is queued again waits for as long as a credential may live, two minutes where nothing is said.
AuthInfo=socket={folder}/munge.socket,cred_expire=2
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
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
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def trained() -> Callable[[Experiment, Path], pd.DataFrame]:
    """The table of a sweep, without what a clock said."""

    def table(experiment: Experiment, output: Path) -> pd.DataFrame:
        experiment = replace(experiment, output=str(output))
        return train_design(experiment, build_corpus(experiment)).frame.drop(columns="seconds")

    return table


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """slurmctld, slurmd and munged of this session's own, which `sbatch` and its like find through SLURM_CONF."""
    missing = [
        name for name in (*SBIN, "sbatch") if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    if missing:
        pytest.skip(f"SLURM is not installed ({', '.join(missing)}); `apt-get install slurm-wlm munge` as root")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs, for which this test would have to be root")
    pytest.importorskip("submitit", reason="submitit is not installed; `pip install 'mixscale[slurm]'`")
    # A path of a socket has a hundred characters at most, and pytest's folders have long names.
    folder = Path(subprocess.run(["mktemp", "-d", "/tmp/slurm-XXXXXX"], capture_output=True, text=True).stdout.strip())
    processes = []
    before = os.environ.get("SLURM_CONF")
    try:
        _write_config(folder)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        for command in _commands(folder):
            with open(folder / "out", "a") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=out))
        _wait_until_idle(folder)
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
        os.environ.pop("SLURM_CONF", None)
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def _write_config(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    # Held together until both are known, so that they differ.
    with socket.socket() as one, socket.socket() as other:
        one.bind(("", 0)), other.bind(("", 0))
        ports = {"controller": one.getsockname()[1], "node": other.getsockname()[1]}
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, **ports))


def _commands(folder: Path) -> list[list[str]]:
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    munged = [f"--{option}={folder / name}" for option, name in files.items()]
    return [
        ["/usr/sbin/munged", "--foreground", "--force", *munged, f"--seed-file={folder}/munge.seed"],
        ["/usr/sbin/slurmctld", "-D"],
        ["/usr/sbin/slurmd", "-D"],
    ]


def _wait_until_idle(folder: Path) -> None:
    for _ in range(150):
        answer = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
        if answer.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    said = "\n".join((folder / name).read_text()[-2000:] for name in ("out", "slurmctld.log", "slurmd.log"))
    pytest.skip(f"SLURM does not start here: {answer.stderr}{said}")
