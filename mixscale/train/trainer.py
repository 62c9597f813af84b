"""`Trainer`: one shape of run, compiled once and held on the devices together with its tokens.

It advances and measures states; the order in which that happens, and what is kept, is `loop.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from mixscale.errors import InputError
from mixscale.experiment import Machine, Train
from mixscale.train.evaluation import HeldOut
from mixscale.train.mesh import make_mesh
from mixscale.train.run import Run
from mixscale.train.sampler import Sampler, epoch_order
from mixscale.train.schedule import steps_of
from mixscale.train.step import Program, State

if TYPE_CHECKING:
    from mixscale.corpus import TokenStore


class Trainer:
    """Trains runs that differ in mixture and seed only.

    Args:
        run: any run of the shape.
        store: tokens of every domain; must be the store that the run names.
        corpus_seed: of the choice of held-out rows, which all experiments on the corpus share.
        machine: devices to use, and how many steps a dispatch holds.

    Attributes:
        rows: rows that each domain offers.

    Raises:
        InputError: the run was planned with another store, or its shape or mesh is impossible.
    """

    def __init__(self, run: Run, store: TokenStore, corpus_seed: int, machine: Machine):
        if run.store != store.id:
            raise InputError(f"run {run.id} was planned on token store {run.store}, this is store {store.id}")
        self.store, self.machine, self._train = store, machine, run.train
        mesh = make_mesh(machine.mesh, run.train.batch)
        whole = jax.sharding.NamedSharding(mesh, jax.P())
        self._by_batch = jax.sharding.NamedSharding(mesh, jax.P(None, "data"))
        offered = {d: offered_rows(store, d, run.train, corpus_seed) for d in store.domains}
        self.rows = {d: len(rows_RxT1) for d, rows_RxT1 in offered.items()}
        self._first = dict(zip(offered, np.cumsum([0, *self.rows.values()]), strict=False))
        self._tokens_RxT1 = jax.device_put(np.concatenate(list(offered.values())), whole)
        self._held_out = HeldOut(store, run.train.validation_rows, corpus_seed, run.train.batch)
        self._held_out_NxBxT1 = jax.device_put(self._held_out.rows_NxBxT1, self._by_batch)
        program = Program(run.model, store.vocab_size, run.optimiser, run.train.dtype)
        self._init = jax.jit(program.init, out_shardings=whole)
        self._steps = jax.jit(program.steps, donate_argnums=0, out_shardings=whole)
        self._evaluate = jax.jit(program.evaluate, out_shardings=whole)
        self._copy = jax.jit(lambda state: jax.tree.map(lambda x: x.copy(), state))

    def sampler(self, run: Run) -> Sampler:
        """The sequences that `run` draws."""
        steps = steps_of(self._train.tokens, self._train, self.store.context)
        return Sampler(run.mixture, self.rows, run.seed, steps * self._train.batch)

    def start(self, seed: int) -> State:
        """Fresh weights and optimiser state."""
        return self._init(np.uint32(seed))

    def copy(self, state: State) -> State:
        """A state of its own, which survives that the original is trained on."""
        return self._copy(state)

    def advance(
        self, state: State, sampler: Sampler, first: int, learning_rate_S: np.ndarray
    ) -> tuple[State, dict[str, jax.Array]]:
        """Trains step `first` and those after it, one a learning rate; consumes `state`.

        Returns without waiting for the device; metrics have the shape of a whole dispatch.
        """
        B, S = self._train.batch, len(learning_rate_S)
        domain_n, row_n = sampler.draws(first * B, (first + S) * B)
        first_K = np.array([self._first[d] for d in sampler.domains])
        row_SxB = (first_K[domain_n] + row_n).reshape(S, B).astype(np.int32)
        rows = jax.device_put(self._whole_dispatch(row_SxB), self._by_batch)
        return self._steps(state, self._tokens_RxT1, rows, self._whole_dispatch(learning_rate_S), np.int32(S))

    def held_out_losses(self, state: State) -> dict[str, float]:
        """Loss on each domain's held-out rows in nats a token."""
        return self._held_out.by_domain(np.asarray(self._evaluate(state.params, self._held_out_NxBxT1)))

    def _whole_dispatch(self, steps_S: np.ndarray) -> np.ndarray:
        """Zeros after the given steps, so that every dispatch has one shape and compiles once."""
        missing = self.machine.steps_per_dispatch - len(steps_S)
        return np.pad(steps_S, [(0, missing)] + [(0, 0)] * (steps_S.ndim - 1))


def offered_rows(store: TokenStore, domain: str, train: Train, seed: int) -> np.ndarray:
    """Training rows (R, T+1) that a domain offers: all, or the share that makes the proxy repeat like its target."""
    rows_RxT1 = store.rows(domain, "train")
    if train.like_tokens is None:
        return rows_RxT1
    keep = max(1, min(len(rows_RxT1), round(len(rows_RxT1) * train.tokens / train.like_tokens)))
    return rows_RxT1[np.sort(epoch_order(seed, f"{domain}/offered", 0, len(rows_RxT1))[:keep])]
