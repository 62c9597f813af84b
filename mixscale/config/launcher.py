"""On which machines a sweep's runs are trained; what here changes, changes when they end and not what they find."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Local:
    """Worker processes of this machine, as many as `machine.workers` says."""


@dataclass(frozen=True)
class Slurm:
    """An array of jobs through submitit; each trains one run after another until none is left to take."""

    jobs: int = 8
    """at a time"""
    hosts: int = 1
    """nodes of one job; where more than one, they train each run together"""
    cpus: int = 1
    """of each node; small models on a CPU go fastest on one, with more jobs"""
    gpus: int = 0
    """of each node"""
    memory_gb: float = 4.0
    """of each node"""
    minutes: int = 240
    """limit of a job's time; what it has not ended by then goes on from its checkpoint"""
    warning_seconds: int = 120
    """how long before its limit a job saves where it stands and queues again"""
    partition: str = ""
    account: str = ""
    options: dict[str, str] = field(default_factory=dict)
    """more options of sbatch by their long names, for example `{"qos": "low", "constraint": "a100"}`"""
    setup: tuple[str, ...] = ()
    """shell lines before Python starts, for example `module load cuda`"""


@dataclass(frozen=True)
class Ray:
    """Tasks on a Ray cluster; each trains one run after another until none is left to take."""

    address: str = "auto"
    """of the cluster; `auto` finds the one that this machine belongs to"""
    jobs: int = 8
    """tasks at a time, as far as the cluster has room"""
    hosts: int = 1
    """nodes of one job; where more than one, they train each run together"""
    cpus: float = 1.0
    """of each node"""
    gpus: float = 0.0
    """of each node"""
    memory_gb: float = 0.0
    """of each node; 0 asks for none in particular"""
    resources: dict[str, float] = field(default_factory=dict)
    """other resources of each node by their names in Ray, for example `{"TPU": 4}`"""


Launcher = Local | Slurm | Ray
