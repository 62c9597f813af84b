"""The settings of an experiment as frozen, validated dataclasses, one file a topic.

A config is a Python file that binds `experiment = Experiment(...)`. The command line overrides any field by its
dotted name (`--optimizer.learning-rate 0.01`). The resolved config is saved as JSON beside every run, and the hash of
all settings that determine a run's results is the run's id. Nothing here reads data or imports JAX.
"""

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
from mixscale.config.design import BaselineName, Baselines, Design, Stage, Verify
from mixscale.config.experiment import Experiment, content_hash, load, to_json
from mixscale.config.machine import Hosts, Launcher, Local, Machine, Mesh, Ray, Slurm
from mixscale.config.training import Model, Optimizer, Train
from mixscale.constraints import Constraints, Group
from mixscale.objective import Objective

__all__ = [
    "BaselineName", "Baselines", "Cap", "Cleaning", "Constraints", "Corpus", "Design", "Embedded", "Experiment",
    "Group", "Hosts", "HuggingFace", "Jsonl", "Launcher", "Local", "Machine", "Mesh", "Model", "Objective",
    "Optimizer", "Parquet", "Ray", "Slurm", "Source", "Stage", "TextFiles", "Tfds", "Tokenizer", "Train", "Verify",
    "Where", "by_field", "content_hash", "load", "to_json",
]  # fmt: skip
