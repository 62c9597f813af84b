"""One run of a population: where it stands in its segments, what it does next, and the rows it has measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mixscale.models import count_parameters, flops_per_token
from mixscale.run_table import Status
from mixscale.training.rows import Draw
from mixscale.training.run import Run
from mixscale.training.sampler import Sampler
from mixscale.training.schedule import Segment, learning_rates, segments, steps_of
from mixscale.training.spikes import Spikes

if TYPE_CHECKING:
    from mixscale.data import TokenStore


@dataclass
class Position:
    """Where a run stands; what a checkpoint records of it beside the weights."""

    segment: int = 0
    step: int = 0
    done: int = 0
    """optimizer steps, of all segments together"""
    ended: bool = False
    stable: bool = False
    """whether it has come to the end of a phase at full rate, from which other runs may go on"""
    on_branch: bool = False
    """whether the state to return to is kept in the trunk"""
    spikes: Spikes = field(default_factory=Spikes)
    trunk_spikes: Spikes | None = None
    """those to return to, while on a branch"""
    seen: dict[str, int] | None = None
    """rows of each domain that its parents had drawn; None before they were asked"""
    drawn: dict[str, int] = field(default_factory=dict)
    """rows of each domain so far, those of its parents included"""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def read(recorded: dict[str, Any]) -> Position:
        """From what `asdict` gave and JSON kept."""
        spikes = {name: Spikes(**recorded[name]) for name in ("spikes", "trunk_spikes") if recorded[name]}
        return Position(**recorded | spikes)


class Member:
    """Walks one run through its segments; knows nothing of devices.

    Args:
        run: what is trained.
        store: whose domains its rows name.
        sampler: what it draws.
        offered: rows that each domain offers it.
        position: where it stands.
    """

    def __init__(self, run: Run, store: TokenStore, sampler: Sampler, offered: Mapping[str, int], position: Position):
        self.run, self._store, self._sampler, self._offered, self.position = run, store, sampler, offered, position
        self._total = steps_of(run.train.tokens, run.train, store.context)
        self._plan = segments(run.optimizer, run.train, store.context)
        self.steps = sum(segment.last - segment.first for segment in self._plan)
        self._rates: tuple[int, np.ndarray] | None = None

    @property
    def segment(self) -> Segment:
        return self._plan[self.position.segment]

    @property
    def tokens_per_step(self) -> int:
        return self.run.train.batch * self._store.context

    @property
    def flops_per_token(self) -> float:
        return flops_per_token(self.run.model, self._store.vocab_size, self._store.context)

    def forks(self) -> bool:
        """Whether the next step is the first of a branch, so that the state must be kept to return to."""
        return not self.position.ended and self.segment.branch and not self.position.on_branch

    def at_end(self) -> bool:
        """Whether the segment has been walked to its end."""
        return not self.position.ended and self.position.step == self.segment.last

    def draw(self, most: int) -> Draw:
        """Its next steps: at most `most`, none beyond the segment, none where it has ended."""
        position = self.position
        if position.ended:
            return Draw(self.run, self._sampler, position.step, np.zeros(0, np.float32))
        if self._rates is None or self._rates[0] != position.segment:
            self._rates = position.segment, learning_rates(self.run.optimizer, self._total, self.segment)
        first = position.step - self.segment.first
        return Draw(self.run, self._sampler, position.step, self._rates[1][first : first + most])

    def advance(self, steps: int) -> None:
        self.position.step += steps
        self.position.done += steps

    def fork(self) -> None:
        """Begins a branch."""
        self.position.on_branch, self.position.trunk_spikes = True, deepcopy(self.position.spikes)

    def leave(self) -> bool:
        """Goes to the start of the next segment; returns whether the state is that of the trunk again."""
        position, back = self.position, self.segment.branch
        position.on_branch = False
        if position.trunk_spikes is not None:
            position.spikes, position.trunk_spikes = position.trunk_spikes, None
        position.stable |= not (self.segment.branch or self.segment.measure)
        position.segment += 1
        if position.segment == len(self._plan):
            position.ended = True
        else:
            position.step = self.segment.first
        return back

    def measured(self, losses: Mapping[str, float], diverged: bool, seconds: float) -> dict[str, float]:
        """Adds the row of the RunTable for where the run stands; a run that diverged ends. Returns finite losses."""
        finite = all(map(math.isfinite, losses.values()))
        kept = dict(losses) if finite and not diverged else {}
        self.position.rows.append(self._row(kept, seconds))
        if not kept:
            self.position.ended, self.position.on_branch = True, False
        return kept

    @property
    def mean_loss(self) -> float | None:
        """Over all domains, of what was measured last; None where nothing was, or the run diverged."""
        last = self.position.rows[-1] if self.position.rows else {}
        losses = [value for name, value in last.items() if name.startswith("loss/")]
        return None if not losses or None in losses else sum(losses) / len(losses)

    def tokens(self) -> dict[str, int]:
        """Tokens of every domain drawn so far, its parent's not among them: the ledger."""
        drawn = self._sampler.counts(self.position.step * self.run.train.batch)
        return {domain: drawn.get(domain, 0) * self._store.context for domain in self._store.domains}

    def recorded(self) -> dict[str, Any]:
        """The position, for a checkpoint."""
        context, seen = self._store.context, self.position.seen or {}
        self.position.drawn = {d: n // context + seen.get(d, 0) for d, n in self.tokens().items()}
        return asdict(self.position)

    def _row(self, losses: dict[str, float], seconds: float) -> dict[str, Any]:
        """The row of the RunTable for where the run stands; without losses it is that of a run that diverged."""
        store, run, step = self._store, self.run, self.position.step
        body, everything = count_parameters(run.model, store.vocab_size)
        tokens, seen = step * self.tokens_per_step, self.tokens()
        unique = {d: n * store.context for d, n in self._offered.items()}
        per_byte = {d: math.log(2) * store.bytes_per_token[d] for d in store.domains}
        parent = {"parent": run.train.parent} if run.train.parent else {}
        return {
            "run": run.id,
            "seed": run.seed,
            **parent,
            "step": step,
            "n_params": body,
            "n_params_total": everything,
            "n_tokens": tokens,
            "flops": self.flops_per_token * tokens,
            "status": Status.COMPLETE if losses else Status.DIVERGED,
            **{f"mix/{d}": run.mixture.get(d, 0.0) for d in store.domains},
            **run.schedule.columns(store.domains),
            **{f"tokens/{d}": seen[d] for d in store.domains},
            **{f"unique_tokens/{d}": unique[d] for d in store.domains},
            **{f"epochs/{d}": seen[d] / unique[d] for d in store.domains},
            # JSON has no NaN: a loss that is not there is null.
            **{f"loss/{d}": losses.get(d) for d in store.domains},
            **{f"bits_per_byte/{d}": losses[d] / per_byte[d] if losses else None for d in store.domains},
            "spikes": self.position.spikes.count,
            "seconds": seconds,
        }


Report = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """What a run tells while it trains."""

    run: str
    done: int
    """optimizer steps, of all segments"""
    total: int
    tokens: int
    """trained since the last report"""
    mfu: float | None = None
    """share of the devices' peak arithmetic, of all that train together; None where it is not known (yet)"""
