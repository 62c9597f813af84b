"""`Task`: how rows become examples with a loss mask, and what is measured on held-out ones.

Nothing else in training knows the task: the compiled step, the loop and the table get losses, limits and columns here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.data import TokenStore
from mixscale.models import Transformer
from mixscale.training.sampler import epoch_order

DIVERGED = 3.0  # training loss, relative to that of uniform guessing, from which a run counts as diverged


class Examples(NamedTuple):
    ids_BxT: jax.Array
    target_BxT: jax.Array  # token to predict at each position
    mask_BxT: jax.Array | None = None  # float32, 1 where the loss counts; None: everywhere, which costs nothing


class Task(ABC):
    """Frozen and hashable; methods that take a model or rows are traced into the compiled step."""

    name: ClassVar[str]  # part of a run's identity

    @abstractmethod
    def examples(self, rows_BxT1: jax.Array) -> Examples:
        """The examples in rows of the token store."""

    @abstractmethod
    def loss_limit(self, store: TokenStore) -> float:
        """Training loss from which a run counts as diverged."""

    @abstractmethod
    def columns(self, store: TokenStore, measured: Mapping[str, float]) -> dict[str, float | None]:
        """Columns of the RunTable for the mean of each domain's `measure`; all None if nothing was measured."""

    def loss(self, model: Transformer, rows_BxT1: jax.Array) -> jax.Array:
        return model.loss(*self.examples(rows_BxT1))

    def measure(self, model: Transformer, rows_BxT1: jax.Array) -> jax.Array:
        """What is measured on held-out rows, float32 (B,)."""
        return model.losses(*self.examples(rows_BxT1))


@dataclass(frozen=True)
class LanguageModelling(Task):
    """Next-token prediction at every position; measures the loss in nats per token and in bits per byte."""

    name: ClassVar[str] = "language_modelling"

    def examples(self, rows_BxT1: jax.Array) -> Examples:
        ids_BxT1 = rows_BxT1.astype(jnp.int32)
        return Examples(ids_BxT1[:, :-1], ids_BxT1[:, 1:])

    def loss_limit(self, store: TokenStore) -> float:
        return DIVERGED * math.log(store.vocab_size)

    def columns(self, store: TokenStore, measured: Mapping[str, float]) -> dict[str, float | None]:
        per_byte = {d: math.log(2) * store.bytes_per_token[d] for d in store.domains}
        bits = {f"bits_per_byte/{d}": measured[d] / per_byte[d] if measured else None for d in store.domains}
        return {f"loss/{d}": measured.get(d) for d in store.domains} | bits


class HeldOut:
    """At most `rows` held-out rows of every domain, chosen by `seed`, the same for all runs of an experiment.

    `rows_NxBxT1` is padded with zeros to whole batches.
    """

    def __init__(self, store: TokenStore, rows: int, seed: int, batch: int):
        chosen = {}
        for domain in store.domains:
            all_RxT1 = store.rows(domain, "validation")
            chosen[domain] = all_RxT1[np.sort(epoch_order(seed, f"{domain}/validation", 0, len(all_RxT1))[:rows])]
        self._ends = dict(zip(chosen, np.cumsum([len(rows_RxT1) for rows_RxT1 in chosen.values()]), strict=True))
        joined_RxT1 = np.concatenate(list(chosen.values()))
        padded_RxT1 = np.pad(joined_RxT1, ((0, -len(joined_RxT1) % batch), (0, 0)))
        self.rows_NxBxT1 = padded_RxT1.reshape(-1, batch, joined_RxT1.shape[1])

    def by_domain(self, measured_NxB: np.ndarray) -> dict[str, float]:
        """Mean over the rows of each domain."""
        parts = np.split(measured_NxB.reshape(-1).astype(np.float64), list(self._ends.values()))
        return {domain: float(part_R.mean()) for domain, part_R in zip(self._ends, parts, strict=False)}
