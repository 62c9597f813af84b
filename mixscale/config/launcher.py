"""Where the runs of a sweep are trained. The launcher changes how long a sweep takes, never its results."""

from __future__ import annotations

from dataclasses import dataclass, field

from mixscale.validation import Validated, setting


@dataclass(frozen=True)
class Local(Validated, section="launcher"):
    """Worker processes on this machine; `machine.workers` sets their number."""


@dataclass(frozen=True)
class Slurm(Validated, section="launcher"):
    """A job array through submitit; each job trains one run after another until none is left."""

    jobs: int = setting(8, least=1)
    """jobs at a time"""
    hosts: int = setting(1, least=1)
    """nodes of a job; several nodes train each run together"""
    cpus: int = setting(1, least=1)
    """CPUs of a node; small models on CPUs are fastest with one CPU and more jobs"""
    gpus: int = setting(0, least=0)
    """GPUs of a node"""
    memory_gb: float = setting(4.0, above=0)
    """memory of a node in GB"""
    minutes: int = setting(240, least=1)
    """time limit of a job; unfinished runs resume from their checkpoints in the next job"""
    warning_seconds: int = setting(120, least=0)
    """how long before its time limit a job saves a checkpoint and requeues itself"""
    partition: str = ""
    """SLURM partition; empty for the default one"""
    account: str = ""
    """SLURM account to charge; empty for the default one"""
    options: dict[str, str] = field(default_factory=dict)
    """more sbatch options by their long names, for example `{"qos": "low", "constraint": "a100"}`"""
    setup: tuple[str, ...] = ()
    """shell commands to run before Python starts, for example `module load cuda`"""


@dataclass(frozen=True)
class Ray(Validated, section="launcher"):
    """Tasks on a Ray cluster; each task trains one run after another until none is left."""

    address: str = "auto"
    """address of the cluster; `auto` finds the cluster that this machine belongs to"""
    jobs: int = setting(8, least=1)
    """tasks at a time, as far as the cluster has room"""
    hosts: int = setting(1, least=1)
    """nodes of a job; several nodes train each run together"""
    cpus: float = setting(1.0, least=0)
    """CPUs of a node"""
    gpus: float = setting(0.0, least=0)
    """GPUs of a node"""
    memory_gb: float = setting(0.0, least=0)
    """memory of a node in GB; 0 reserves none"""
    resources: dict[str, float] = setting(factory=dict, least=0)
    """other resources of a node by their names in Ray, for example `{"TPU": 4}`"""


Launcher = Local | Slurm | Ray
