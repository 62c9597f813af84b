"""Loss on every domain's held-out text, on rows that are fixed for the whole experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mixscale.training.sampler import epoch_order

if TYPE_CHECKING:
    from mixscale.data import TokenStore


class HeldOut:
    """Held-out rows of every domain, laid out in batches.

    Args:
        store: where the rows come from.
        rows: how many to take of each domain, chosen by `seed`; all where a domain has fewer.
        batch: rows evaluated at a time.

    Attributes:
        rows_NxBxT1: the rows, padded with zeros to whole batches.
    """

    def __init__(self, store: TokenStore, rows: int, seed: int, batch: int):
        chosen = {}
        for domain in store.domains:
            all_RxT1 = store.rows(domain, "validation")
            chosen[domain] = all_RxT1[np.sort(epoch_order(seed, f"{domain}/validation", 0, len(all_RxT1))[:rows])]
        self._sizes = {d: len(r) for d, r in chosen.items()}
        joined_RxT1 = np.concatenate(list(chosen.values()))
        padding = -len(joined_RxT1) % batch
        padded_RxT1 = np.pad(joined_RxT1, ((0, padding), (0, 0)))
        self.rows_NxBxT1 = padded_RxT1.reshape(-1, batch, joined_RxT1.shape[1])

    def by_domain(self, loss_NxB: np.ndarray) -> dict[str, float]:
        """Mean loss of each domain in nats a token, from the loss of every row."""
        loss_R = loss_NxB.reshape(-1).astype(np.float64)
        means, first = {}, 0
        for domain, size in self._sizes.items():
            means[domain] = float(loss_R[first : first + size].mean())
            first += size
        return means
