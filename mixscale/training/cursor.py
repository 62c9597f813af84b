"""`RunCursor`: the place of one run in its segments, its next steps, and the rows of the RunTable it has measured.

It knows nothing of devices. Its state is a `Position`, which checkpoints store as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.models import count_parameters, flops_per_token
from mixscale.run_table import Status
from mixscale.training.checkpoint import Checkpoints, Restored
from mixscale.training.loader import StepRange
from mixscale.training.metrics import Spikes
from mixscale.training.pretrained import is_hugging_face, load_parent
from mixscale.training.run import Run, Segment, learning_rates, segments, steps_of
from mixscale.training.sampler import Sampler
from mixscale.training.step import State


@dataclass
class Position:
    """What a checkpoint records of a run besides its weights."""

    segment: int = 0
    step: int = 0
    done: int = 0  # optimizer steps of all segments together
    ended: bool = False
    stable: bool = False  # whether it has reached the end of a phase at full rate, from which other runs can start
    on_branch: bool = False  # whether the state to return to is kept in the trunk
    spikes: Spikes = field(default_factory=Spikes)
    trunk_spikes: Spikes | None = None  # those to return to, while on a branch
    seen: dict[str, int] | None = None  # rows of each domain that its parents have drawn; None before they were read
    drawn: dict[str, int] = field(default_factory=dict)  # rows of each domain so far, those of its parents included
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the RunTable
    mean: float | None = None  # of the last measurement, over domains; None before the first and after a divergence

    @staticmethod
    def read(recorded: dict[str, Any]) -> Position:
        spikes = {name: Spikes(**recorded[name]) for name in ("spikes", "trunk_spikes") if recorded[name]}
        return Position(**recorded | spikes)


class RunCursor:
    """Moves one run through its segments, from `position` on."""

    def __init__(self, run: Run, store: TokenStore, sampler: Sampler, position: Position):
        self.run, self._store, self._sampler, self.position = run, store, sampler, position
        self._total = steps_of(run.train.tokens, run.train, store.context)
        self._segments = segments(run.optimizer, run.train, store.context)
        self.steps = sum(segment.last - segment.first for segment in self._segments)
        self.tokens_per_step = run.train.batch * store.context
        self.flops_per_token = flops_per_token(run.model, store.vocab_size, store.context)

    @property
    def segment(self) -> Segment:
        return self._segments[self.position.segment]

    def forks(self) -> bool:
        """Whether the next step is the first of a branch, so that the state must be kept to return to."""
        return not self.position.ended and self.segment.branch and not self.position.on_branch

    def at_end(self) -> bool:
        return not self.position.ended and self.position.step == self.segment.last

    def next_steps(self, most: int) -> StepRange:
        """At most `most` steps of the segment; none if the run has ended."""
        position = self.position
        if position.ended:
            return StepRange(self.run, self._sampler, position.step, np.zeros(0, np.float32))
        first = position.step - self.segment.first
        rate_S = learning_rates(self.run.optimizer, self._total, self.segment)[first : first + most]
        return StepRange(self.run, self._sampler, position.step, rate_S)

    def advance(self, steps: int) -> None:
        self.position.step += steps
        self.position.done += steps

    def fork(self) -> None:
        self.position.on_branch, self.position.trunk_spikes = True, deepcopy(self.position.spikes)

    def leave(self) -> bool:
        """Moves to the start of the next segment; returns whether the run returns to the state of its trunk."""
        position, back = self.position, self.segment.branch
        position.on_branch = False
        if position.trunk_spikes is not None:
            position.spikes, position.trunk_spikes = position.trunk_spikes, None
        position.stable |= not (self.segment.branch or self.segment.measure)
        position.segment += 1
        if position.segment == len(self._segments):
            position.ended = True
        else:
            position.step = self.segment.first
        return back

    def measured(self, values: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Adds a row of the RunTable for this step and returns the values. Without values, or with one that is not
        finite, the run has diverged: it ends, and returns none."""
        position = self.position
        kept = dict(values) if all(map(math.isfinite, values.values())) else {}
        position.mean = sum(kept.values()) / len(kept) if kept else None
        position.rows.append(self._row(kept, seconds))
        if not kept:
            position.ended, position.on_branch = True, False
        return kept

    def tokens(self) -> dict[str, int]:
        """Tokens of every domain drawn so far, without its parents'."""
        drawn = self._sampler.counts(self.position.step * self.run.train.batch)
        return {domain: drawn.get(domain, 0) * self._store.context for domain in self._store.domains}

    def recorded(self) -> dict[str, Any]:
        """The position as JSON, for a checkpoint."""
        context, seen = self._store.context, self.position.seen or {}
        self.position.drawn = {d: n // context + seen.get(d, 0) for d, n in self.tokens().items()}
        return asdict(self.position)

    def _row(self, values: dict[str, float], seconds: float) -> dict[str, Any]:
        store, run, step = self._store, self.run, self.position.step
        body, everything = count_parameters(run.model, store.vocab_size)
        tokens, drawn = step * self.tokens_per_step, self.tokens()
        unique = {d: len(rows) * store.context for d, rows in self._sampler.offered.items()}
        return {
            "run": run.id,
            "seed": run.seed,
            **({"parent": run.train.parent} if run.train.parent else {}),
            "step": step,
            "n_params": body,
            "n_params_total": everything,
            "n_tokens": tokens,
            "flops": self.flops_per_token * tokens,
            "status": Status.COMPLETE if values else Status.DIVERGED,
            **{f"mix/{d}": run.mixture.get(d, 0.0) for d in store.domains},
            **run.schedule.columns(store.domains),
            **{f"tokens/{d}": drawn[d] for d in store.domains},
            **{f"unique_tokens/{d}": unique[d] for d in store.domains},
            **{f"epochs/{d}": drawn[d] / unique[d] for d in store.domains},
            **run.task.columns(store, values),
            "spikes": self.position.spikes.count,
            "seconds": seconds,
        }


def open_parent(run: Run, store: TokenStore, like: State, made_with: dict[str, Any]) -> Restored | None:
    """What `run` starts from: its parent's last checkpoint at full rate (wsd), or else its last; or the weights of a
    Hugging Face folder, with `opt` None. None without a parent.

    Raises InputError if there is none, it does not fit, or the parent diverged. `like` and `made_with` are as for
    `Checkpoints`.
    """
    folder = run.train.parent
    if not folder:
        return None
    if is_hugging_face(Path(folder)):
        params = load_parent(Path(folder), run.model, store.tokenizer).params
        put = lambda at, x: jax.make_array_from_callback(at.shape, at.sharding, lambda index: x[None][index])  # noqa: E731
        return Restored(0, State(jax.tree.map(put, like.params, params), None), None, {"runs": [{"drawn": {}}]})
    with closing(Checkpoints(Path(folder) / "checkpoints", made_with)) as checkpoints:
        found = checkpoints.restore(like)
        if found is None or not found.position["runs"][0]["ended"]:
            remedy = "give DIR/runs/ID of one, or the folder of a Hugging Face model"
            raise InputError(f"train.parent '{folder}' is not the folder of a finished run; {remedy}")
        position = Position.read(found.position["runs"][0])
        if position.rows[-1]["status"] == Status.DIVERGED:
            step = position.rows[-1]["step"]
            raise InputError(f"train.parent '{folder}' diverged at step {step}; give a run that did not")
        if position.stable:
            found = checkpoints.restore(like, stable=True)
    if found is None:
        raise InputError(f"train.parent '{folder}' no longer has the checkpoint from before its decay; train it again")
    return found
