"""How runs are computed. These settings change how long a run takes, never its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mixscale.errors import InputError
from mixscale.validation import Validated, setting


@dataclass(frozen=True)
class Mesh(Validated, section="machine.mesh"):
    """Number of devices along each axis; one axis may be -1, which takes all remaining devices."""

    run: int = setting(1, least=-1)
    """splits the runs of a population"""
    data: int = setting(-1, least=-1)
    """splits the sequences of a batch"""
    fsdp: int = setting(1, least=-1)
    """splits batch and weights; weights are gathered where they are used"""
    tensor: int = setting(1, least=-1)
    """splits heads and hidden units"""


@dataclass(frozen=True)
class Hosts(Validated, section="machine.hosts"):
    """The processes of one run over several machines."""

    coordinator: str = ""
    """HOST:PORT of process 0; `auto` asks SLURM or the TPU pod; empty for a single process"""
    processes: int = setting(1, least=1)
    """number of processes"""
    process: int = setting(0, least=0)
    """index of this process"""

    def check(self) -> None:
        if self.process >= self.processes:
            raise InputError(
                f"machine.hosts.process is {self.process}; with {self.processes} processes it must be at most "
                f"{self.processes - 1}"
            )


@dataclass(frozen=True)
class Machine(Validated, section="machine"):
    """Devices, memory, checkpoints and logging."""

    workers: int = setting(0, least=0)
    """training processes side by side; 0 means one per core on a CPU, and one in all on an accelerator"""
    population: int = setting(0, least=0)
    """runs of the same shape that train together in one program; 0 means as many as fit in memory (up to a million
    tokens a step) on an accelerator, and one on a CPU, where more bring no gain"""
    mesh: Mesh = Mesh()
    hosts: Hosts = Hosts()
    steps_per_dispatch: int = setting(32, least=1)
    """training steps in one call of the compiled program"""
    checkpoint_steps: int = setting(200, least=1)
    """steps between checkpoints"""
    accumulate: int = setting(1, least=1)
    """parts in which a batch is computed, one after another, to save memory"""
    remat: bool = False
    """recompute each layer's activations in the backward pass, to save memory"""
    layers: Literal["auto", "scan", "unroll"] = "auto"
    """`scan` compiles one layer for all, `unroll` compiles each; `auto` scans from eight layers up"""
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    """`auto` uses cuDNN's flash attention where device, dtype and shape allow it"""
    loss_chunk: int = setting(0, least=0)
    """positions of a sequence for which logits are held at a time; 0 chooses by their size"""
    resident_gb: float = setting(4.0, least=0)
    """token rows up to this size are kept on the devices; larger ones are streamed"""
    wandb: str = ""
    """project on Weights & Biases to log to as well"""
    profile: int = setting(0, least=0)
    """number of calls of the compiled program, after the first two, to trace for TensorBoard and Perfetto"""
