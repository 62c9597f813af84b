"""`Run`: everything that determines one run's numbers, and the id that hashes it; its segments and learning rates.

The purpose of a run (its role, the origin of its mixture) is not part of it, so that one run can serve several. A run
with the warm-up, stable, decay schedule (wsd) is a trunk at full rate; for each token count to be measured a branch of
it decays (Hu et al., arXiv 2404.06395), so one run gives several points in D.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from mixscale.config import Model, Optimizer, Train, content_hash
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant, Schedule
from mixscale.training.pretrained import identity
from mixscale.training.tasks import LanguageModelling, Task

# Of `Run.config`. Raise it with every change that gives equal configs other numbers; old runs then keep their ids.
FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One proxy to train; raises InputError for `train.measure_at` with a staged schedule."""

    schedule: Schedule
    size: str  # name of the model's shape in the experiment
    model: Model
    optimizer: Optimizer
    train: Train
    seed: int  # of the weights and of the order of the rows
    store: str  # id of the token store
    task: Task = LanguageModelling()

    def __post_init__(self) -> None:
        if self.train.measure_at and not isinstance(self.schedule, Constant):
            raise InputError(
                f"train.measure_at {self.train.measure_at} with a staged schedule: its stages are shares of all "
                f"{self.train.tokens} tokens, so an earlier measurement would be of another schedule; "
                "remove train.measure_at, or train the schedule once for each number of tokens"
            )

    @property
    def mixture(self) -> Mixture:
        """Of the whole run: of a staged schedule, the mean weighted by tokens."""
        return self.schedule.mixture

    @cached_property
    def config(self) -> dict[str, object]:
        """JSON-ready; equal configs are equal runs."""
        return {
            "format": FORMAT,
            "task": self.task.name,
            "schedule": self.schedule.config,
            "model": self.model,
            "optimizer": self.optimizer,
            # A parent is identified by its id or content, not by the place of its folder.
            "train": replace(self.train, parent=identity(self.train.parent)),
            "seed": self.seed,
            "store": self.store,
        }

    @cached_property
    def id(self) -> str:
        return content_hash(self.config)


@dataclass(frozen=True)
class Segment:
    """Steps `first` to `last` (excluded)."""

    first: int
    last: int
    branch: bool  # trained on a copy of the trunk, which continues from where it forked
    measure: bool  # whether the held-out losses are measured at its end


def steps_of(tokens: int, train: Train, context: int) -> int:
    """Whole steps in `tokens`; raises InputError if there are none."""
    steps = tokens // (train.batch * context)
    if steps < 1:
        short = f"{tokens} tokens are less than one step of {train.batch} sequences of {context}"
        raise InputError(f"{short}; train on at least {train.batch * context}")
    return steps


def segments(optimizer: Optimizer, train: Train, context: int) -> tuple[Segment, ...]:
    """The run as segments in training order, the last one measured at `train.tokens`.

    Raises InputError if a token count of `measure_at` is beyond the run, or would decay within the warm-up.
    """
    total = steps_of(train.tokens, train, context)
    points = sorted({*(steps_of(t, train, context) for t in train.measure_at), total})
    if points[-1] > total:
        raise InputError(f"measure_at {max(train.measure_at)} is beyond the run's {train.tokens} tokens")
    if optimizer.schedule != "wsd":
        starts = [0, *points[:-1]]
        return tuple(Segment(a, b, branch=False, measure=True) for a, b in zip(starts, points, strict=True))
    planned: list[Segment] = []
    trunk, warmup = 0, _warmup_steps(optimizer, total)
    for point in points:
        fork = point - _decay_steps(optimizer, point)
        if fork < warmup:
            problem = f"measuring at step {point} would decay from step {fork}, within the warm-up of {warmup} steps"
            raise InputError(f"{problem}; measure later or warm up for less")
        if fork > trunk:
            planned.append(Segment(trunk, fork, branch=False, measure=False))
            trunk = fork
        planned.append(Segment(fork, point, branch=point != total, measure=True))
    return tuple(planned)


@lru_cache(maxsize=256)
def learning_rates(optimizer: Optimizer, total: int, segment: Segment) -> np.ndarray:
    """Rate of each step of a segment, float32 (last - first,), in a run of `total` steps; do not write to it."""
    step_S = np.arange(segment.first, segment.last)
    warmup = _warmup_steps(optimizer, total)
    share_S = np.minimum(1.0, (step_S + 1) / warmup)
    if optimizer.schedule == "cosine":
        share_S = share_S * (0.55 + 0.45 * np.cos(np.pi * step_S / total))
    elif optimizer.schedule == "linear":
        # One more than the steps that decay, so that the first is below the peak and the last above zero.
        share_S = np.minimum(share_S, (total - step_S) / (total - warmup + 1))
    elif segment.measure:
        share_S = share_S * (segment.last - step_S) / (_decay_steps(optimizer, segment.last) + 1)
    return (optimizer.learning_rate * share_S).astype(np.float32)


def _warmup_steps(optimizer: Optimizer, total: int) -> int:
    return max(1, round(optimizer.warmup * total))


def _decay_steps(optimizer: Optimizer, point: int) -> int:
    return max(1, round(optimizer.decay * point))
