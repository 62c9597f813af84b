"""How the runs are carried out: what here changes, changes how long they take and not what they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Mesh:
    """Devices along each axis; -1, at one of them, takes what the others leave."""

    run: int = 1
    """the runs of a population are spread over it"""
    data: int = -1
    """the sequences of a batch are spread over it"""
    fsdp: int = 1
    """batch and weights are spread over it; weights are gathered where they are used"""
    tensor: int = 1
    """heads and hidden units are spread over it"""


@dataclass(frozen=True)
class Hosts:
    """The processes of one run over several machines."""

    coordinator: str = ""
    """HOST:PORT of process 0; `auto` asks SLURM or the TPU pod; empty is this process alone"""
    processes: int = 1
    process: int = 0
    """index of this one"""


@dataclass(frozen=True)
class Machine:
    """Devices, memory, checkpoints and what is told meanwhile."""

    workers: int = 0
    """processes that train side by side; 0 means one per core on a CPU, one in all on an accelerator"""
    population: int = 0
    """runs of a shape that are trained together in one program; 0 means as many as memory holds on an accelerator,
    up to a million tokens a step, and one on a CPU, where more gain nothing"""
    mesh: Mesh = Mesh()
    hosts: Hosts = Hosts()
    steps_per_dispatch: int = 32
    checkpoint_steps: int = 200
    """steps between checkpoints"""
    accumulate: int = 1
    """parts that a batch is computed in, one after another, where memory is short"""
    remat: bool = False
    """compute each layer's activations again for the gradient, and do not keep them"""
    layers: Literal["auto", "scan", "unroll"] = "auto"
    """`scan` compiles one layer for all, `unroll` each; auto scans from eight layers"""
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    """auto takes cuDNN's flash attention where the device, dtype and shape allow it"""
    loss_chunk: int = 0
    """positions of a sequence whose logits are held at a time; 0 chooses by their size"""
    resident_gb: float = 4.0
    """token rows up to this size live on the devices; more are streamed"""
    wandb: str = ""
    """project on Weights & Biases that metrics go to as well"""
    profile: int = 0
    """dispatches, after the first two, that are traced for TensorBoard and Perfetto"""
