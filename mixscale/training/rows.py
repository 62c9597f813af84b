"""The rows that a dispatch trains on: resident on the devices where they fit, else streamed to them by Grain.

Which rows these are is the sampler's to say, in either case; here is only how they get to where they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from mixscale.config import Machine, Train
from mixscale.data.store import flat_rows
from mixscale.training.mesh import Layout
from mixscale.training.run import Run
from mixscale.training.sampler import Sampler, epoch_order

if TYPE_CHECKING:
    from mixscale.data import TokenStore

READERS = 4
"""threads that read rows ahead of the devices, for each run"""
AHEAD = 64
"""steps that they read ahead"""


@dataclass(frozen=True)
class Draw:
    """What one run does in a dispatch: the steps from `first` on, one a learning rate."""

    run: Run
    sampler: Sampler
    first: int
    learning_rate_S: np.ndarray


class Rows(Protocol):
    """Where a trainer's rows come from."""

    resident: jax.Array | None
    """all rows (N, T+1) on the devices, or None where every dispatch brings its own"""

    def offered(self, run: Run) -> dict[str, np.ndarray]:
        """Rows of each domain that a run may draw, by number, int32 (rows,)."""

    def dispatch(self, draws: Sequence[Draw], batch: int, steps: int) -> jax.Array:
        """int32 (R, S, B) numbers of resident rows, or the rows (R, S, B, T+1), of S = `steps` of each run."""


class Resident:
    """All training rows, on every device.

    Args:
        store: where they come from.
        layout: of the devices.
        seed: of the choice of the rows that a run is offered, where not all.
    """

    def __init__(self, store: TokenStore, layout: Layout, seed: int):
        self._store, self._layout, self._seed = store, layout, seed
        self._first = dict(zip(store.domains, _firsts(store), strict=True))
        all_NxT1 = np.concatenate([store.rows(d, "train") for d in store.domains])
        self.resident: jax.Array | None = layout.put(all_NxT1, None, None)

    def offered(self, run: Run) -> dict[str, np.ndarray]:
        return offered(self._store, run.train, self._seed)

    def dispatch(self, draws: Sequence[Draw], batch: int, steps: int) -> jax.Array:
        row_RxSxB = np.zeros((len(draws), steps, batch), np.int32)
        for r, draw in enumerate(draws):
            S = len(draw.learning_rate_S)
            domain_n, row_n = draw.sampler.draws(draw.first * batch, (draw.first + S) * batch)
            of_run = self.offered(draw.run)
            for j, domain in enumerate(draw.sampler.domains):
                here_n = domain_n == j
                row_n[here_n] = self._first[domain] + of_run[domain][row_n[here_n]]
            row_RxSxB[r, :S] = row_n.reshape(S, batch)
        return self._layout.put(row_RxSxB, "run", None, "batch")


class Streamed:
    """Rows read from disk ahead of their steps; every process reads only those that its devices train on."""

    resident: jax.Array | None = None

    def __init__(self, store: TokenStore, layout: Layout, seed: int):
        self._store, self._layout, self._seed = store, layout, seed
        self._files = {domain: flat_rows(store, domain) for domain in store.domains}
        self._open: dict[str, tuple[int, Iterator[np.ndarray]]] = {}

    def offered(self, run: Run) -> dict[str, np.ndarray]:
        return offered(self._store, run.train, self._seed)

    def dispatch(self, draws: Sequence[Draw], batch: int, steps: int) -> jax.Array:
        shape = (len(draws), steps, batch, self._store.context + 1)
        sharding = self._layout.placed("run", None, "batch", None)
        wanted = Wanted.by(sharding.addressable_devices_indices_map(shape).values(), shape)
        dtype = next(iter(self._files.values())).dtype
        mine_rxSxbxT1 = np.zeros((len(wanted.runs), steps, len(wanted.sequences), shape[3]), dtype)
        for r, draw in enumerate(draws):
            if not len(draw.learning_rate_S):
                # It has ended, perhaps before all that was read for it.
                self._open.pop(draw.run.id, None)
            elif r in wanted.runs:
                rows = self._ahead(draw, batch, wanted.sequences)
                for s in range(len(draw.learning_rate_S)):
                    mine_rxSxbxT1[np.searchsorted(wanted.runs, r), s] = next(rows)
        for run in self._open.keys() - {draw.run.id for draw in draws}:
            # Of a population before this one, which ended before all that was read for it.
            del self._open[run]
        return jax.make_array_from_callback(shape, sharding, lambda block: mine_rxSxbxT1[wanted.at(block)])

    def _ahead(self, draw: Draw, batch: int, sequences: np.ndarray) -> Iterator[np.ndarray]:
        """This process's rows of every step from `draw.first` on; goes on where the last dispatch ended."""
        at, rows = self._open.get(draw.run.id, (-1, iter(())))
        if at != draw.first:
            rows = self._read(draw, batch, sequences)
        last = draw.first + len(draw.learning_rate_S)
        self._open[draw.run.id] = last, rows
        if last * batch == draw.sampler.sequences:
            # Its readers must not outlive the run.
            del self._open[draw.run.id]
        return rows

    def _read(self, draw: Draw, batch: int, sequences: np.ndarray) -> Iterator[np.ndarray]:
        import grain

        source = _Steps(draw.sampler, self.offered(draw.run), self._files, batch, sequences)
        options = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=AHEAD)
        return iter(grain.MapDataset.source(source).slice(slice(draw.first, None)).to_iter_dataset(options))


Block = tuple[slice, ...]
"""Of an array, the part that one device holds."""


@dataclass(frozen=True)
class Wanted:
    """What the devices of a process hold of (R, S, B, T+1): of some runs, some sequences of each batch.

    They need not be neighbours: a mesh of TPUs follows the wires, and a host's devices may stand anywhere on it.
    """

    runs: np.ndarray
    sequences: np.ndarray

    @classmethod
    def by(cls, blocks: Iterable[Block | None], shape: tuple[int, ...]) -> Wanted:
        """All that is in `blocks` of an array of this shape."""
        held = [block for block in blocks if block is not None]
        runs, sequences = (
            np.unique(np.concatenate([np.arange(shape[dim])[block[dim]] for block in held])) for dim in (0, 2)
        )
        return cls(runs, sequences)

    def at(self, block: Block) -> Block:
        """Where a block is in an array of what is wanted; within a block all are neighbours."""
        runs, sequences = (
            slice(*np.searchsorted(numbers, [part.start or 0, numbers[-1] + 1 if part.stop is None else part.stop]))
            for numbers, part in ((self.runs, block[0]), (self.sequences, block[2]))
        )
        return runs, slice(None), sequences


@dataclass(frozen=True)
class _Steps:
    """The rows of each step of a run, as Grain's random-access source."""

    sampler: Sampler
    of_run: dict[str, np.ndarray]
    files: dict[str, np.ndarray]
    batch: int
    sequences: np.ndarray
    """of a batch, those that are wanted, in rising order"""

    def __len__(self) -> int:
        return self.sampler.sequences // self.batch

    def __getitem__(self, step: Any) -> np.ndarray:
        first = int(step) * self.batch
        domain_B, row_B = self.sampler.draws(first, first + self.batch)
        domain_b, row_b = domain_B[self.sequences], row_B[self.sequences]
        out_bxT1 = np.empty((len(row_b), next(iter(self.files.values())).shape[1]), self._dtype())
        for j, domain in enumerate(self.sampler.domains):
            here_b = domain_b == j
            out_bxT1[here_b] = self.files[domain][self.of_run[domain][row_b[here_b]]]
        return out_bxT1

    def _dtype(self) -> np.dtype:
        return next(iter(self.files.values())).dtype


def make_rows(store: TokenStore, layout: Layout, seed: int, machine: Machine) -> Rows:
    """Resident where the store's training rows are within `machine.resident_gb`."""
    kind = Resident if row_bytes(store) <= machine.resident_gb * 1e9 else Streamed
    return kind(store, layout, seed)


def row_bytes(store: TokenStore) -> int:
    """Bytes of a store's training rows."""
    width = (2 if store.vocab_size <= 1 << 16 else 4) * (store.context + 1)
    return width * sum(facts["train_rows"] for facts in store.facts.values())


def offered(store: TokenStore, train: Train, seed: int) -> dict[str, np.ndarray]:
    """Of every domain all rows, or the share that makes a run repeat its data like its target; int32 (rows,)."""
    return _offered(store, None if train.like_tokens is None else (train.tokens, train.like_tokens), seed)


@lru_cache(maxsize=64)
def _offered(store: TokenStore, share: tuple[int, int] | None, seed: int) -> dict[str, np.ndarray]:
    # Of a whole population, so that no dispatch makes them anew: runs that are offered all rows have one entry.
    return {domain: _of_domain(store.facts[domain]["train_rows"], domain, share, seed) for domain in store.domains}


def _of_domain(rows: int, domain: str, share: tuple[int, int] | None, seed: int) -> np.ndarray:
    if share is None:
        return np.arange(rows, dtype=np.int32)
    keep = max(1, min(rows, round(rows * share[0] / share[1])))
    return np.sort(epoch_order(seed, f"{domain}/offered", 0, rows)[:keep])


def _firsts(store: TokenStore) -> list[int]:
    """Number of each domain's first row among all."""
    return [0, *np.cumsum([store.facts[d]["train_rows"] for d in store.domains])[:-1].tolist()]
