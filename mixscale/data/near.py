"""Texts that are nearly the same: MinHash sketches of three-word sequences, candidates by bands, groups.

Two texts are near copies where the sketches agree in a share of places that estimates the Jaccard similarity of their
sets of sequences (Broder 1997). Candidates agree in a whole band of places (locality-sensitive hashing). All is done
on arrays, a band at a time, so that memory grows with the number of documents and not with their pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixscale.data.words import ngrams

WORDS = 3
PLACES = 256
FOUND = 0.99
"""chance that a pair just similar enough becomes a candidate"""
SEED = 1
COMPARED = 2**16
"""pairs compared at a time"""


def sketch(texts: Sequence[str]) -> np.ndarray:
    """MinHash sketch of each text, uint32, shape (texts, PLACES)."""
    from rensa import RMinHash

    hashes = [ngrams(text, WORDS) for text in texts]
    ends = np.cumsum([0, *map(len, hashes)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), ends, PLACES, SEED)
    return np.array(matrix.to_rows(), np.uint32).reshape(len(texts), PLACES)


def groups(sketch_DxP: np.ndarray, similarity: float, of_D: np.ndarray | None = None) -> np.ndarray:
    """Group of each document, int32 (D,): those of one group are near copies of each other, or of others between.

    Args:
        sketch_DxP: of all documents; may be mapped from a file.
        similarity: estimated Jaccard similarity of near copies, at least.
        of_D: where given, only documents for which it is the same can be near copies.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    D, band = len(sketch_DxP), _band(similarity)
    pairs = np.zeros(0, np.uint64)
    for first in range(0, PLACES - band + 1, band):
        pairs = np.union1d(pairs, _candidates(sketch_DxP[:, first : first + band], of_D))
    a, b = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    same = np.zeros(len(pairs), bool)
    for first in range(0, len(pairs), COMPARED):
        some = slice(first, first + COMPARED)
        same[some] = (sketch_DxP[a[some]] == sketch_DxP[b[some]]).mean(1) >= similarity
    links = coo_array((np.ones(int(same.sum()), bool), (a[same], b[same])), shape=(D, D))
    return connected_components(links, directed=False)[1].astype(np.int32)


def _band(similarity: float) -> int:
    """Places of a band: as many as leave a pair of this similarity the chance `FOUND` to share one of the bands."""
    sizes = (r for r in range(PLACES, 1, -1) if 1 - (1 - similarity**r) ** (PLACES // r) >= FOUND)
    return next(sizes, 1)


def _candidates(band_DxB: np.ndarray, of_D: np.ndarray | None) -> np.ndarray:
    """Pairs (one << 32 | another) of documents that agree in a band: each with the first such and the one before."""
    key_D = np.zeros(len(band_DxB), np.uint64)
    for row_D in [*band_DxB.T, *([] if of_D is None else [of_D])]:
        key_D = (key_D ^ row_D.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key_D ^= key_D >> np.uint64(29)
    order_D = np.argsort(key_D, kind="stable")
    follows_D = np.concatenate([[False], key_D[order_D][1:] == key_D[order_D][:-1]])
    at = np.flatnonzero(follows_D)
    first = np.maximum.accumulate(np.where(follows_D, 0, np.arange(len(order_D))))[at]
    joined = np.concatenate([order_D[first] << 32 | order_D[at], order_D[at - 1] << 32 | order_D[at]])
    return np.unique(joined).astype(np.uint64)
