"""The rows that a dispatch trains on: resident on the devices where they fit, else streamed to them by Grain.

Which rows these are is the sampler's to say, in either case; here is only how they get to where they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from mixscale.corpus.flat import flat_rows
from mixscale.experiment import Machine, Train
from mixscale.train.mesh import Layout
from mixscale.train.run import Run
from mixscale.train.sampler import Sampler, epoch_order

if TYPE_CHECKING:
    from mixscale.corpus import TokenStore

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
        runs, sequences = _local(sharding, shape)
        dtype = next(iter(self._files.values())).dtype
        mine = np.zeros((len(runs), steps, len(sequences), shape[3]), dtype)
        for r in runs:
            if not len(draws[r].learning_rate_S):
                continue
            rows = self._ahead(draws[r], batch, sequences)
            for s in range(len(draws[r].learning_rate_S)):
                mine[r - runs.start, s] = next(rows)
        return jax.make_array_from_process_local_data(sharding, mine, shape)

    def _ahead(self, draw: Draw, batch: int, sequences: range) -> Iterator[np.ndarray]:
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

    def _read(self, draw: Draw, batch: int, sequences: range) -> Iterator[np.ndarray]:
        import grain

        source = _Steps(draw.sampler, self.offered(draw.run), self._files, batch, sequences)
        options = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=AHEAD)
        return iter(grain.MapDataset.source(source).slice(slice(draw.first, None)).to_iter_dataset(options))


@dataclass(frozen=True)
class _Steps:
    """The rows of each step of a run, as Grain's random-access source."""

    sampler: Sampler
    of_run: dict[str, np.ndarray]
    files: dict[str, np.ndarray]
    batch: int
    sequences: range
    """of a batch, those that are wanted"""

    def __len__(self) -> int:
        return self.sampler.sequences // self.batch

    def __getitem__(self, step: Any) -> np.ndarray:
        first = int(step) * self.batch
        domain_b, row_b = self.sampler.draws(first + self.sequences.start, first + self.sequences.stop)
        out_bxT1 = np.empty((len(row_b), next(iter(self.files.values())).shape[1]), self._dtype())
        for j, domain in enumerate(self.sampler.domains):
            here_b = domain_b == j
            out_bxT1[here_b] = self.files[domain][self.of_run[domain][row_b[here_b]]]
        return out_bxT1

    def _dtype(self) -> np.dtype:
        return next(iter(self.files.values())).dtype


def make_rows(store: TokenStore, layout: Layout, seed: int, machine: Machine) -> Rows:
    """Resident where the store's training rows are within `machine.resident_gb`."""
    width = (2 if store.vocab_size <= 1 << 16 else 4) * (store.context + 1)
    size = width * sum(facts["train_rows"] for facts in store.facts.values())
    kind = Resident if size <= machine.resident_gb * 1e9 else Streamed
    return kind(store, layout, seed)


@lru_cache(maxsize=8)
def offered(store: TokenStore, train: Train, seed: int) -> dict[str, np.ndarray]:
    """Of every domain all rows, or the share that makes a run repeat its data like its target; int32 (rows,)."""
    return {domain: _offered(store.facts[domain]["train_rows"], domain, train, seed) for domain in store.domains}


def _offered(rows: int, domain: str, train: Train, seed: int) -> np.ndarray:
    if train.like_tokens is None:
        return np.arange(rows, dtype=np.int32)
    keep = max(1, min(rows, round(rows * train.tokens / train.like_tokens)))
    return np.sort(epoch_order(seed, f"{domain}/offered", 0, rows)[:keep])


def _firsts(store: TokenStore) -> list[int]:
    """Number of each domain's first row among all."""
    return [0, *np.cumsum([store.facts[d]["train_rows"] for d in store.domains])[:-1].tolist()]


def _local(sharding: jax.sharding.NamedSharding, shape: tuple[int, ...]) -> tuple[range, range]:
    """The runs and the sequences of a batch that this process's devices hold, out of (R, S, B, T+1)."""
    held = [index for index in sharding.addressable_devices_indices_map(shape).values() if index is not None]
    bounds = [[index[dim].indices(shape[dim])[:2] for index in held] for dim in (0, 2)]
    runs, sequences = (range(min(a for a, _ in b), max(z for _, z in b)) for b in bounds)
    return runs, sequences
