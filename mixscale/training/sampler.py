"""Which row is the k-th sequence of a run: a pure function of (mixture, seed, rows per domain, k).

There is no iterator state. The domain of every sequence follows from the mixture alone, the row within the domain
from the seed, the domain's name and how often the domain was drawn before. So a run resumes from its step number,
reads the same tokens on any number of devices, and two mixtures with one seed see the same rows of a domain in the
same order, which takes the sampling noise out of their difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache, partial
from weakref import WeakValueDictionary

import numpy as np

from mixscale.errors import InputError
from mixscale.mixture import Mixture

QUANTA = 1 << 30
"""Weights are held as integers over this, so that the order of draws does not depend on floating point."""


class Sampler:
    """The sequence of rows that a run draws.

    Args:
        mixture: asked shares; a domain of weight zero is never drawn and leaves no trace.
        rows: rows that each domain offers.
        seed: of the order of the rows; the order of the domains does not depend on it.
        sequences: how many sequences the run draws in all.
        seen: rows of each domain that were drawn before, by a run that this one goes on from.

    Raises:
        InputError: a domain with weight has no rows.
    """

    def __init__(
        self,
        mixture: Mixture,
        rows: Mapping[str, int],
        seed: int,
        sequences: int,
        seen: Mapping[str, int] | None = None,
    ):
        self.domains = tuple(sorted(d for d, w in mixture.items() if w > 0))
        for domain in self.domains:
            if rows.get(domain, 0) < 1:
                raise InputError(f"mixture gives domain '{domain}' weight {mixture[domain]:g}, but it has no rows")
        self._rows, self.sequences = {d: rows[d] for d in self.domains}, sequences
        # Two of each domain, because readers ahead of the devices are in the next pass before all have left this one.
        self._order = {d: lru_cache(2)(partial(epoch_order, seed, d, rows=rows[d])) for d in self.domains}
        self._domain_N = apportion(mixture.array(self.domains), sequences)
        # How often the domain of each sequence was drawn before it, once for all dispatches.
        self._before_N = np.empty(sequences, np.int32)
        for j in range(len(self.domains)):
            drawn = np.flatnonzero(self._domain_N == j)
            self._before_N[drawn] = (seen or {}).get(self.domains[j], 0) + np.arange(len(drawn))

    def draws(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Sequences `first` to `last` (excluded): domain (index into `domains`) and row, each int32 (last-first,)."""
        domain_n, before_n = self._domain_N[first:last], self._before_N[first:last]
        row_n = np.empty(len(domain_n), np.int32)
        for j, domain in enumerate(self.domains):
            here = np.flatnonzero(domain_n == j)
            epoch_n, place_n = np.divmod(before_n[here], self._rows[domain])
            for epoch in np.unique(epoch_n):
                order_R = self._order[domain](int(epoch))
                row_n[here[epoch_n == epoch]] = order_R[place_n[epoch_n == epoch]]
        return domain_n.astype(np.int32), row_n

    def counts(self, sequences: int) -> dict[str, int]:
        """How many of the first `sequences` come from each drawn domain."""
        drawn_K = np.bincount(self._domain_N[:sequences], minlength=len(self.domains))
        return {d: int(n) for d, n in zip(self.domains, drawn_K, strict=True)}


def apportion(weights_K: np.ndarray, sequences: int) -> np.ndarray:
    """Domain of each sequence, int16 (sequences,), so that every prefix is within one sequence of every share.

    The rule is Tijdeman's for the chairman assignment problem (Discrete Mathematics 32, 1980): of the domains that
    are owed at least 1/(2K-2) of a sequence, the one whose debt falls due first. After any number n of draws the
    count of domain j differs from n·w_j by at most 1 - 1/(2K-2).
    """
    share_K = _quantised(weights_K)
    K = len(share_K)
    if K == 1:
        return np.zeros(sequences, np.int16)
    shares = share_K.tolist()
    threshold = QUANTA // (2 * K - 2)
    due = [0] * K
    domain_N = np.empty(sequences, np.int16)
    limit = QUANTA - threshold
    for n in range(sequences):
        best, soonest = -1, 0.0
        for j in range(K):
            debt = due[j] = due[j] + shares[j]
            if debt >= threshold:
                deadline = (limit - debt) / shares[j]
                if best < 0 or deadline < soonest:
                    best, soonest = j, deadline
        due[best] -= QUANTA
        domain_N[n] = best
    return domain_N


def epoch_order(seed: int, domain: str, epoch: int, rows: int) -> np.ndarray:
    """Permutation of a domain's rows in its `epoch`-th pass, int32 (rows,); one array for all who hold it.

    Sorts the raw stream of a Philox generator keyed by the arguments, because raw streams, unlike shuffles, are
    promised not to change between NumPy versions.
    """
    order_R = _HELD.get((seed, domain, epoch, rows))
    if order_R is None:
        digest = hashlib.sha256(f"{seed}/{domain}/{epoch}".encode()).digest()
        keys_R = np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)).random_raw(rows)
        order_R = _HELD[seed, domain, epoch, rows] = np.argsort(keys_R, kind="stable").astype(np.int32)
    return order_R


_HELD: WeakValueDictionary[tuple[int, str, int, int], np.ndarray] = WeakValueDictionary()
"""Permutations that some sampler holds: the runs of a population mostly share a seed."""


def _quantised(weights_K: np.ndarray) -> np.ndarray:
    """Integers proportional to the weights that sum to QUANTA exactly; the largest remainders take the rest."""
    exact_K = weights_K / weights_K.sum() * QUANTA
    share_K = np.floor(exact_K).astype(np.int64)
    missing = QUANTA - int(share_K.sum())
    share_K[np.argsort(share_K - exact_K, kind="stable")[:missing]] += 1
    return np.maximum(share_K, 0)
