"""The rows of a dispatch, which the sampler chooses: resident on the devices if they fit, else streamed by Grain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from mixscale.config import Machine
from mixscale.data import TokenStore
from mixscale.data.store import flat_rows
from mixscale.training.mesh import Layout
from mixscale.training.run import Run
from mixscale.training.sampler import Sampler, epoch_order

READERS = 4  # threads per run that read rows ahead of the devices
AHEAD = 64  # steps that they read ahead


@dataclass(frozen=True)
class StepRange:
    """Consecutive steps of one run, from `first` on, one per learning rate; there may be none."""

    run: Run
    sampler: Sampler
    first: int
    learning_rate_S: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.learning_rate_S)

    @property
    def last(self) -> int:
        return self.first + self.steps


class Loader(ABC):
    """Brings the rows of the store to the devices; `seed` chooses the rows that a run is offered if not all."""

    resident: jax.Array | None = None  # all training rows (N, T+1) on the devices; None if they are streamed

    def __init__(self, store: TokenStore, layout: Layout, seed: int):
        self._store, self._layout, self._seed = store, layout, seed

    def offered(self, run: Run) -> dict[str, np.ndarray]:
        """Numbers of the rows of each domain that a run may draw, int32 (rows,)."""
        share = None if run.train.like_tokens is None else (run.train.tokens, run.train.like_tokens)
        return offered(self._store, share, self._seed)

    @abstractmethod
    def dispatch(self, ranges: Sequence[StepRange], batch: int, steps: int) -> jax.Array:
        """int32 (R, S, B) numbers of resident rows, or the rows (R, S, B, T+1), of S = `steps` of each run."""


class Resident(Loader):
    """All training rows, on every device."""

    def __init__(self, store: TokenStore, layout: Layout, seed: int):
        super().__init__(store, layout, seed)
        sizes = [store.facts[d]["train_rows"] for d in store.domains]
        self._first = dict(zip(store.domains, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self.resident = layout.put(np.concatenate([store.rows(d, "train") for d in store.domains]), None, None)

    def dispatch(self, ranges: Sequence[StepRange], batch: int, steps: int) -> jax.Array:
        row_RxSxB = np.zeros((len(ranges), steps, batch), np.int32)
        for r, part in enumerate(ranges):
            domain_n, row_n = part.sampler.draws(part.first * batch, part.last * batch)
            first_K = np.array([self._first[domain] for domain in part.sampler.domains], np.int32)
            row_RxSxB[r, : part.steps] = (first_K[domain_n] + row_n).reshape(part.steps, batch)
        return self._layout.put(row_RxSxB, "run", None, "batch")


class Streamed(Loader):
    """Rows read from disk ahead of their steps; every process reads only those that its devices train on."""

    def __init__(self, store: TokenStore, layout: Layout, seed: int):
        super().__init__(store, layout, seed)
        self._files = {domain: flat_rows(store, domain) for domain in store.domains}
        self._open: dict[str, tuple[int, Iterator[np.ndarray]]] = {}  # by run: the next step of its reader, the reader

    def dispatch(self, ranges: Sequence[StepRange], batch: int, steps: int) -> jax.Array:
        shape = (len(ranges), steps, batch, self._store.context + 1)
        sharding = self._layout.placed("run", None, "batch", None)
        wanted = Wanted.by(sharding.addressable_devices_indices_map(shape).values(), shape)
        dtype = next(iter(self._files.values())).dtype
        mine_rxSxbxT1 = np.zeros((len(wanted.runs), steps, len(wanted.sequences), shape[3]), dtype)
        for run in self._open.keys() - {part.run.id for part in ranges if part.steps}:
            # The run ended early, or belongs to an earlier population.
            del self._open[run]
        for r, part in enumerate(ranges):
            if part.steps and r in wanted.runs:
                rows = self._reader(part, batch, wanted.sequences)
                for s in range(part.steps):
                    mine_rxSxbxT1[np.searchsorted(wanted.runs, r), s] = next(rows)
        return jax.make_array_from_callback(shape, sharding, lambda block: mine_rxSxbxT1[wanted.at(block)])

    def _reader(self, part: StepRange, batch: int, sequences: np.ndarray) -> Iterator[np.ndarray]:
        """This process's rows of every step from `part.first` on, by the open reader if that is its next step."""
        at, rows = self._open.pop(part.run.id, (-1, iter(())))
        if at != part.first:
            import grain

            source = _Steps(part.sampler, self._files, batch, sequences)
            options = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=AHEAD)
            rows = iter(grain.MapDataset.source(source).slice(slice(part.first, None)).to_iter_dataset(options))
        if part.last * batch < part.sampler.sequences:
            # Otherwise its threads must not outlive the run.
            self._open[part.run.id] = part.last, rows
        return rows


Block = tuple[slice, ...]  # the part of an array that one device holds


@dataclass(frozen=True)
class Wanted:
    """What the devices of a process hold of (R, S, B, T+1): of some runs, some sequences of each batch.

    These need not be contiguous: the devices of a host may be anywhere on a mesh of TPUs.
    """

    runs: np.ndarray
    sequences: np.ndarray

    @classmethod
    def by(cls, blocks: Iterable[Block | None], shape: tuple[int, ...]) -> Wanted:
        """All that is in `blocks` of an array of this shape."""
        held = [block for block in blocks if block is not None]
        return cls(*(np.unique([np.arange(shape[dim])[block[dim]] for block in held]) for dim in (0, 2)))

    def at(self, block: Block) -> Block:
        """Indices of a block, which is contiguous, in the array of what is wanted."""
        runs, sequences = (
            slice(*np.searchsorted(numbers, [part.start or 0, numbers[-1] + 1 if part.stop is None else part.stop]))
            for numbers, part in ((self.runs, block[0]), (self.sequences, block[2]))
        )
        return runs, slice(None), sequences


@dataclass(frozen=True)
class _Steps:
    """The rows of each step of a run, as Grain's random-access source."""

    sampler: Sampler
    files: dict[str, np.ndarray]
    batch: int
    sequences: np.ndarray  # those of a batch that are wanted, ascending

    def __len__(self) -> int:
        return self.sampler.sequences // self.batch

    def __getitem__(self, step: Any) -> np.ndarray:
        first = int(step) * self.batch
        domain_b, row_b = (x_B[self.sequences] for x_B in self.sampler.draws(first, first + self.batch))
        some_RxT1 = next(iter(self.files.values()))
        out_bxT1 = np.empty((len(row_b), some_RxT1.shape[1]), some_RxT1.dtype)
        for j, domain in enumerate(self.sampler.domains):
            here_b = domain_b == j
            out_bxT1[here_b] = self.files[domain][row_b[here_b]]
        return out_bxT1


def make_loader(store: TokenStore, layout: Layout, seed: int, machine: Machine) -> Loader:
    """Resident if the store's training rows take at most `machine.resident_gb`."""
    kind = Resident if row_bytes(store) <= machine.resident_gb * 1e9 else Streamed
    return kind(store, layout, seed)


def row_bytes(store: TokenStore) -> int:
    width = (2 if store.vocab_size <= 1 << 16 else 4) * (store.context + 1)
    return width * sum(facts["train_rows"] for facts in store.facts.values())


@lru_cache(maxsize=64)
def offered(store: TokenStore, share: tuple[int, int] | None, seed: int) -> dict[str, np.ndarray]:
    """All rows of every domain, or a share (a, b) = a/b that `seed` chooses; int32 (rows,), the same for all runs."""
    chosen = {}
    for domain in store.domains:
        rows = store.facts[domain]["train_rows"]
        if share is None:
            chosen[domain] = np.arange(rows, dtype=np.int32)
        else:
            keep = max(1, min(rows, round(rows * share[0] / share[1])))
            chosen[domain] = np.sort(epoch_order(seed, f"{domain}/offered", 0, rows)[:keep])
    return chosen
