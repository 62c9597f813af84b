"""Whether an experiment can be carried out at all, said before anything of it is started."""

from __future__ import annotations

from mixscale.config import Experiment
from mixscale.errors import InputError, did_you_mean
from mixscale.mixtures import baselines

LEAST = {
    "corpus.context": 1,
    "train.tokens": 1,
    "train.batch": 1,
    "train.validation_rows": 1,
    "design.dirichlet": 0,
    "design.sobol": 0,
    "design.held_out": 0,
    "design.replicates": 0,
    "design.seed": 0,
    "machine.workers": 0,
    "machine.population": 0,
    "machine.accumulate": 1,
    "machine.loss_chunk": 0,
    "machine.resident_gb": 0.0,
    "machine.profile": 0,
    "machine.steps_per_dispatch": 1,
    "machine.checkpoint_steps": 1,
    "optimizer.learning_rate": 0.0,
    "optimizer.warmup": 0.0,
    "optimizer.decay": 0.0,
    "seed": 0,
}
"""Smallest value of each field that has one."""
SHARES = ("optimizer.warmup", "optimizer.decay", "optimizer.ema", "optimizer.momentum", "corpus.validation_share")


def check(experiment: Experiment) -> None:
    """Raises InputError where a value is out of range, seeds collide or names do not match."""
    for name, least in LEAST.items():
        value = _field(experiment, name)
        if not value >= least:  # NaN is not
            raise InputError(f"{name} is {value}; it must be at least {least}")
    for name in SHARES:
        value = _field(experiment, name)
        if not 0 <= value < 1:
            raise InputError(f"{name} is {value}; it is a share, at least 0 and less than 1")
    if not experiment.models:
        raise InputError("the experiment has no models; give at least one size")
    if len(experiment.corpus.domains) < 2:
        raise InputError(f"the corpus has {len(experiment.corpus.domains)} domain; mixing takes at least two")
    _check_seeds(experiment)
    _check_objective(experiment)
    baselines.check(experiment)


def _check_seeds(experiment: Experiment) -> None:
    """Runs that share a seed are the same run, so noise and verification need seeds of their own."""
    used: dict[int, str] = {}
    groups = {
        "seed": (experiment.seed,),
        "design.replicate_seeds": experiment.design.replicate_seeds,
        "verify.seeds": experiment.verify.seeds,
    }
    for name, seeds in groups.items():
        for seed in seeds:
            if seed < 0:
                raise InputError(f"{name} holds {seed}; seeds are not negative")
            if seed in used:
                raise InputError(f"seed {seed} is both in {used[seed]} and in {name}; every seed may be used once")
            used[seed] = name


def _check_objective(experiment: Experiment) -> None:
    domains = experiment.corpus.domains
    named = {"objective.weights": experiment.objective.weights, "current": experiment.current}
    for kind in ("lower", "upper", "fixed", "available", "keep"):
        named[f"constraints.{kind}"] = getattr(experiment.constraints, kind)
    for name, values in named.items():
        for domain, value in values.items():
            if domain not in domains:
                raise InputError(f"{name} names '{domain}', which is no domain{did_you_mean(domain, domains)}")
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} of '{domain}' is {value:g}; it must be finite and not negative")


def _field(experiment: Experiment, dotted: str) -> float:
    value: object = experiment
    for part in dotted.split("."):
        value = getattr(value, part)
    return value  # type: ignore[return-value]
