"""Everything a launch needs, as frozen typed dataclasses.

A config is a Python file that binds `experiment = Experiment(...)`. The command line overrides any field by its
dotted name (`--optimizer.learning-rate 0.01`); the resolved whole is echoed as JSON beside every run, and the hash
of what determines a run's numbers is the run's id. Nothing here reads data or imports JAX.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import runpy
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixscale.config.baselines import Baselines
from mixscale.config.corpus import (
    Cap,
    Cleaning,
    Corpus,
    Embedded,
    HuggingFace,
    Jsonl,
    Parquet,
    Source,
    TextFiles,
    Tfds,
    Tokenizer,
    Where,
    by_field,
)
from mixscale.config.launcher import Launcher, Local, Ray, Slurm
from mixscale.config.machine import Hosts, Machine, Mesh
from mixscale.config.question import Design, Verify
from mixscale.config.training import Model, Optimizer, Train
from mixscale.constraints import Constraints, Group
from mixscale.errors import InputError
from mixscale.objective import Objective

__all__ = [
    "Baselines", "Cap", "Cleaning", "Constraints", "Corpus", "Design", "Embedded", "Experiment", "Group",
    "Hosts", "HuggingFace", "Jsonl", "Launcher", "Local", "Machine", "Mesh", "Model", "Objective", "Optimizer",
    "Parquet", "Ray", "Slurm", "Source", "TextFiles", "Tfds", "Tokenizer", "Train", "Verify", "Where",
    "by_field", "content_hash", "load", "to_json",
]  # fmt: skip

PLAIN = (str, int, float, type(None))
"""What JSON has, asked first: ids of ten thousand runs must not take seconds."""


@dataclass(frozen=True)
class Experiment:
    name: str
    corpus: Corpus
    models: dict[str, Model]
    """sizes to train, by name"""
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    design: Design = Design()
    baselines: Baselines = Baselines()
    seed: int = 0
    """of the weights and the order of the rows, for the runs of the design"""
    law: str = "auto"
    objective: Objective = Objective()
    constraints: Constraints = Constraints()
    current: dict[str, float] = field(default_factory=dict)
    """the mixture in use, which `constraints.keep` and `objective.relative_to` refer to"""
    verify: Verify = Verify()
    output: str = "runs"
    """parent folder of the experiment's own"""
    machine: Machine = Machine()
    launcher: Launcher = Local()

    @property
    def directory(self) -> Path:
        return Path(self.output) / self.name


def load(path: str | Path) -> Experiment:
    """The `experiment` that the Python file at `path` binds.

    Raises:
        InputError: there is no such file, it fails, or it binds no `experiment`.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"config '{file}' does not exist; give a Python file such as configs/quickstart.py")
    try:
        found = runpy.run_path(str(file)).get("experiment")
    except InputError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise InputError(f"config {where}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Experiment):
        raise InputError(f"config '{file}' binds no `experiment = Experiment(...)`, found {type(found).__name__}")
    return found


def to_json(config: Any) -> Any:
    """JSON-ready copy of a config; a dataclass that is one of several choices carries its `type`."""
    if isinstance(config, PLAIN):
        return config
    if dataclasses.is_dataclass(config):
        fields = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"type": type(config).__name__, **fields} if isinstance(config, Source | Launcher) else fields
    if isinstance(config, dict):
        return {str(k): to_json(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [to_json(v) for v in config]
    return config


def content_hash(*parts: Any) -> str:
    """Ten hexadecimal digits that are equal exactly where the JSON of `parts` is."""
    text = json.dumps([to_json(p) for p in parts], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
