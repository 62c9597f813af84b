"""`Experiment`: everything that a run of mixscale needs, loaded from a Python file and written as JSON.

It reads no data and imports neither JAX nor pandas. Each field is checked by its own class; `Experiment.check` adds
what needs the whole: names that refer to domains, and seeds that must differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import runpy
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixscale.config.corpus import Corpus, Source
from mixscale.config.design import Baselines, Design, Verify
from mixscale.config.machine import Launcher, Local, Machine
from mixscale.config.training import Model, Optimizer, Train
from mixscale.constraints import Constraint, Constraints, as_array
from mixscale.errors import InputError
from mixscale.mixture import unknown_domain
from mixscale.objective import Objective
from mixscale.validation import Validated, setting

PLAIN = (str, int, float, type(None))  # JSON's types; tested first, as ten thousand runs are hashed


@dataclass(frozen=True)
class Experiment(Validated):
    """Everything that a run of mixscale needs."""

    name: str  # name of the experiment's folder inside `output`
    corpus: Corpus
    models: dict[str, Model]  # model sizes to train, by name
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    design: Design = Design()
    baselines: Baselines = Baselines()
    seed: int = setting(0, least=0)  # seed of the weights and of the order of the data, for the runs of the design
    law: str = "auto"  # law to fit; `auto` chooses one by cross-validation, `mixscale laws` lists them
    objective: Objective = Objective()
    constraints: Constraints = Constraints()
    current: dict[str, float] = setting(factory=dict, least=0)  # mixture in use, for `keep` and guardrails
    verify: Verify = Verify()
    output: str = "runs"  # parent folder of the experiment's folder
    machine: Machine = Machine()
    launcher: Launcher = Local()

    @property
    def directory(self) -> Path:
        return Path(self.output) / self.name

    def check(self) -> None:
        if not self.models:
            raise InputError("models is empty; give at least one size")
        if len(self.corpus.domains) < 2:
            raise InputError(f"the corpus has {len(self.corpus.domains)} domain; a mixture needs at least two")
        self._check_seeds()
        self._check_names()
        self.expand_constraints()
        if self.objective.reference == "current" and not self.current:
            raise InputError("the objective is relative to the current mixture; set current")
        used = [("design.prior is", self.design.prior), *(("verify.baselines has", b) for b in self.verify.baselines)]
        for where, baseline in used:
            if field := self.baselines.missing(baseline):
                raise InputError(f"{where} {baseline}, which needs baselines.{field}; set it in the config")

    def expand_constraints(self) -> tuple[Constraint, ...]:
        """The constraints on the mixture, without the limits of kept targets, which need a fit; raises InputError if a
        name is unknown, a bound is impossible, or the current mixture is missing."""
        domains = tuple(self.corpus.domains)
        columns = [f"loss/{d}" for d in domains]
        current_K = as_array(self.current, domains, "current") if self.current else None
        costs_T = None if current_K is None else np.zeros(len(domains))
        # Available tokens are those of the target run, so caps on weights follow from its tokens.
        n_tokens = self.train.like_tokens or self.train.tokens
        return self.constraints.expand(domains, n_tokens, current_K, (), domains, columns, costs_T)

    def _check_seeds(self) -> None:
        """Replicates and verification need seeds of their own: runs with the same seed are the same run."""
        seeds = [("seed", self.seed)]
        seeds += [("design.replicate_seeds", seed) for seed in self.design.replicate_seeds]
        seeds += [("verify.seeds", seed) for seed in self.verify.seeds]
        used: dict[int, str] = {}
        for name, seed in seeds:
            if seed in used:
                raise InputError(f"seed {seed} is both in {used[seed]} and in {name}; use every seed once")
            used[seed] = name

    def _check_names(self) -> None:
        """Targets and inputs of baselines are named after domains."""
        places = [(self.objective, "weights"), (self.objective, "guardrails"), (self.constraints, "keep")]
        places += [(self.baselines, name) for name in ("classes", "scores", "weights")]
        named = [(f"{part.section}.{field}", getattr(part, field)) for part, field in places]
        named += [("design.staged", stage.mixture) for stages in self.design.staged for stage in stages]
        for where, names in named:
            for name in names:
                if name.removeprefix("loss/") not in self.corpus.domains:
                    raise unknown_domain(where, name, self.corpus.domains)


def load(path: str | Path) -> Experiment:
    """The `experiment` of the Python file at `path`; raises InputError if the file fails or has none."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"config '{file}' does not exist; give a Python file such as configs/quickstart.py")
    try:
        found = runpy.run_path(str(file)).get("experiment")
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"config {where}: {reason}") from error
    if not isinstance(found, Experiment):
        raise InputError(f"config '{file}' defines no `experiment = Experiment(...)`; found {type(found).__name__}")
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
