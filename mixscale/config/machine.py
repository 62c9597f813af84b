"""How and where runs are computed. These settings change how long a sweep takes, never its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mixscale.errors import InputError
from mixscale.validation import Validated, setting


@dataclass(frozen=True)
class Mesh(Validated, section="machine.mesh"):
    """Number of devices along each axis; one axis may be -1, which takes all remaining devices."""

    run: int = setting(1, least=-1)  # splits the runs of a population
    data: int = setting(-1, least=-1)  # splits the sequences of a batch
    fsdp: int = setting(1, least=-1)  # splits batch and weights; weights are gathered where they are used
    tensor: int = setting(1, least=-1)  # splits heads and hidden units


@dataclass(frozen=True)
class Hosts(Validated, section="machine.hosts"):
    """The processes of one run over several machines."""

    coordinator: str = ""  # HOST:PORT of process 0; `auto` finds it on SLURM and TPU pods; empty for one process
    processes: int = setting(1, least=1)  # number of processes
    process: int = setting(0, least=0)  # index of this process

    def check(self) -> None:
        if self.process >= self.processes:
            raise InputError(
                f"machine.hosts.process is {self.process}; with {self.processes} processes it must be at most "
                f"{self.processes - 1}"
            )


@dataclass(frozen=True)
class Machine(Validated, section="machine"):
    """Devices, memory, checkpoints and logging."""

    workers: int = setting(0, least=0)  # training processes at a time; 0: one per core on a CPU, one on an accelerator
    population: int = setting(0, least=0)
    """runs of the same shape that train together in one program; 0: one on a CPU, where more are not faster;
    on an accelerator as many as fit in memory, up to a million tokens per step"""
    mesh: Mesh = Mesh()
    hosts: Hosts = Hosts()
    steps_per_dispatch: int = setting(32, least=1)  # training steps in one call of the compiled program
    checkpoint_steps: int = setting(200, least=1)  # steps between checkpoints
    accumulate: int = setting(1, least=1)  # gradient accumulation: parts in which a batch is computed, to save memory
    remat: bool = False  # recompute each layer's activations in the backward pass, to save memory
    layers: Literal["auto", "scan", "unroll"] = "auto"  # `scan` compiles one layer for all; `auto` scans 8 or more
    attention: Literal["auto", "xla", "cudnn"] = "auto"  # `auto`: cuDNN's flash attention where it is available
    loss_chunk: int = setting(0, least=0)  # positions whose logits are in memory at a time; 0: chosen by size
    resident_gb: float = setting(4.0, least=0)  # token rows up to this size stay on the devices; others are streamed
    wandb: str = ""  # project on Weights & Biases to log to as well
    profile: int = setting(0, least=0)  # calls of the compiled program, after the first two, to trace for TensorBoard


@dataclass(frozen=True)
class Local(Validated, section="launcher"):
    """Worker processes on this machine; `machine.workers` sets their number."""


@dataclass(frozen=True)
class Slurm(Validated, section="launcher"):
    """A job array through submitit; each job trains one run after another until none is left."""

    jobs: int = setting(8, least=1)  # jobs at a time
    hosts: int = setting(1, least=1)  # nodes of a job; several nodes train each run together
    cpus: int = setting(1, least=1)  # CPUs of a node; small models on CPUs are fastest with one CPU and more jobs
    gpus: int = setting(0, least=0)  # GPUs of a node
    memory_gb: float = setting(4.0, above=0)  # memory of a node in GB
    minutes: int = setting(240, least=1)  # time limit of a job; the next job resumes its unfinished runs
    warning_seconds: int = setting(120, least=0)  # how long before its time limit a job saves and requeues itself
    partition: str = ""  # SLURM partition; empty for the default one
    account: str = ""  # SLURM account to charge; empty for the default one
    options: dict[str, str] = field(default_factory=dict)  # more sbatch options by long name: `{"qos": "low"}`
    setup: tuple[str, ...] = ()  # shell commands to run before Python starts, for example `module load cuda`


@dataclass(frozen=True)
class Ray(Validated, section="launcher"):
    """Tasks on a Ray cluster; each task trains one run after another until none is left."""

    address: str = "auto"  # address of the cluster; `auto` finds the cluster that this machine belongs to
    jobs: int = setting(8, least=1)  # tasks at a time; fewer if the cluster has no room
    hosts: int = setting(1, least=1)  # nodes of a job; several nodes train each run together
    cpus: float = setting(1.0, least=0)  # CPUs of a node
    gpus: float = setting(0.0, least=0)  # GPUs of a node
    memory_gb: float = setting(0.0, least=0)  # memory of a node in GB; 0 reserves none
    resources: dict[str, float] = setting(factory=dict, least=0)  # other resources of a node in Ray: `{"TPU": 4}`


Launcher = Local | Slurm | Ray
