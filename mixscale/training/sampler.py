"""Which row is the k-th sequence of a run: a pure function of (schedule, seed, offered rows, k).

The schedule alone decides the domain of every sequence; the row within the domain follows from the seed, the domain's
name and the number of earlier draws from it. So a run resumes from its step number and reads the same tokens on any
number of devices. Two runs with one seed draw the same rows of a domain in the same order, which removes the sampling
noise from their difference.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from weakref import WeakValueDictionary

import numpy as np

from mixscale.errors import InputError
from mixscale.mixture import Mixture

QUANTA = 1 << 30  # weights are integers over this, so that the order of draws does not depend on floating point


class Sampler:
    """The sequence of rows that a run draws.

    Args:
        stages: (number of sequences, mixture) of each stage of the run.
        offered: numbers of the rows of each domain that may be drawn, int32 (rows,); InputError if one lacks rows.
        seed: decides the order of the rows, not that of the domains.
        seen: rows of each domain that the run's parents have drawn.
    """

    def __init__(
        self,
        stages: Sequence[tuple[int, Mixture]],
        offered: Mapping[str, np.ndarray],
        seed: int,
        seen: Mapping[str, int] | None = None,
    ):
        self.sequences = sum(length for length, _ in stages)
        weight = {d: w for _, mixture in stages for d, w in mixture.items() if w > 0}
        self.domains = tuple(sorted(weight))
        for domain in self.domains:
            if not len(offered.get(domain, ())):
                raise InputError(
                    f"mixture gives domain '{domain}' weight {weight[domain]:g}, but it has no rows; set it to 0"
                )
        self.offered = offered
        # Two per domain, because readers ahead of the devices start the next epoch before all have finished this one.
        self._order = {d: lru_cache(2)(partial(epoch_order, seed, d, rows=len(offered[d]))) for d in self.domains}
        self._domain_N = apportion(
            [(n, np.array([mixture.get(d, 0.0) for d in self.domains])) for n, mixture in stages]
        )
        # The number of earlier draws from the domain of each sequence, computed once for all dispatches.
        self._before_N = np.empty(self.sequences, np.int32)
        for j, domain in enumerate(self.domains):
            drawn = np.flatnonzero(self._domain_N == j)
            self._before_N[drawn] = (seen or {}).get(domain, 0) + np.arange(len(drawn))

    def draws(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Sequences `first` to `last` (excluded): domain (index into `domains`) and row, each int32 (last-first,)."""
        domain_n, before_n = self._domain_N[first:last], self._before_N[first:last]
        row_n = np.empty(len(domain_n), np.int32)
        for j, domain in enumerate(self.domains):
            here = np.flatnonzero(domain_n == j)
            epoch_n, place_n = np.divmod(before_n[here], len(self.offered[domain]))
            for epoch in np.unique(epoch_n):
                order_R = self._order[domain](int(epoch))
                row_n[here[epoch_n == epoch]] = self.offered[domain][order_R[place_n[epoch_n == epoch]]]
        return domain_n.astype(np.int32), row_n

    def counts(self, sequences: int) -> dict[str, int]:
        """How many of the first `sequences` come from each drawn domain."""
        drawn_K = np.bincount(self._domain_N[:sequences], minlength=len(self.domains))
        return {d: int(n) for d, n in zip(self.domains, drawn_K, strict=True)}


def apportion(stages: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """Domain of each sequence, int16 (N,), so that every prefix is within one sequence of every cumulative share.

    Tijdeman's rule for the chairman assignment problem (Discrete Mathematics 32, 1980), also for weights that change.
    The debt of a domain is its cumulative share minus its count. Each draw takes, of the domains with a debt of at
    least 1/(2K-2), that which would reach 1 - 1/(2K-2) first. No debt then ever exceeds 1 - 1/(2K-2). `stages` are
    (number of sequences, weights (K,)).
    """
    K = len(stages[0][1])
    if K == 1:
        return np.zeros(sum(length for length, _ in stages), np.int16)
    merged: list[tuple[int, list[int]]] = []
    for length, weights_K in stages:
        shares = _quantized(weights_K).tolist()
        if merged and merged[-1][1] == shares:
            length += merged.pop()[0]
        merged.append((length, shares))
    threshold = QUANTA // (2 * K - 2)
    limit = QUANTA - threshold
    due = [0] * K
    drawn: list[int] = []
    for stage, (length, shares) in enumerate(merged):
        later = merged[stage + 1 :]
        # `left` sequences of this stage follow; the last stage counts as endless.
        for left in range(length - 1, -1, -1):
            best, soonest = -1, math.inf
            for j in range(K):
                debt = due[j] = due[j] + shares[j]
                if debt >= threshold:
                    deadline = (limit - debt) / shares[j] if shares[j] else math.inf
                    if deadline > left and later:
                        deadline = _deadline(debt, limit, left, shares[j], [(n, s[j]) for n, s in later])
                    if best < 0 or deadline < soonest:
                        best, soonest = j, deadline
            due[best] -= QUANTA
            drawn.append(best)
    return np.array(drawn, np.int16)


def _deadline(debt: int, limit: int, left: int, share: int, later: Sequence[tuple[int, int]]) -> float:
    """Sequences until a debt reaches `limit` in a later stage, after `left` more with this `share`."""
    wait, debt = left, debt + share * left
    for i, (length, share) in enumerate(later):
        last = i == len(later) - 1
        if share and (last or debt + share * length >= limit):
            return wait + (limit - debt) / share
        wait, debt = wait + length, debt + share * length
    return math.inf


# Permutations that some sampler holds: the runs of a population mostly share a seed.
_HELD: WeakValueDictionary[tuple[int, str, int, int], np.ndarray] = WeakValueDictionary()


def epoch_order(seed: int, domain: str, epoch: int, rows: int) -> np.ndarray:
    """Permutation of a domain's rows in an epoch, int32 (rows,); all callers share one array.

    It sorts a raw Philox stream, because NumPy guarantees that raw streams, unlike shuffles, never change.
    """
    order_R = _HELD.get((seed, domain, epoch, rows))
    if order_R is None:
        digest = hashlib.sha256(f"{seed}/{domain}/{epoch}".encode()).digest()
        keys_R = np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)).random_raw(rows)
        order_R = _HELD[seed, domain, epoch, rows] = np.argsort(keys_R, kind="stable").astype(np.int32)
    return order_R


def _quantized(weights_K: np.ndarray) -> np.ndarray:
    """Integers proportional to the weights that sum to QUANTA exactly; the largest remainders are rounded up."""
    exact_K = weights_K / weights_K.sum() * QUANTA
    share_K = np.floor(exact_K).astype(np.int64)
    missing = QUANTA - int(share_K.sum())
    share_K[np.argsort(share_K - exact_K, kind="stable")[:missing]] += 1
    return np.maximum(share_K, 0)
