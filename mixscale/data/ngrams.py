"""Texts that share words, by hashes of word n-grams: near-duplicates, and training text that overlaps held-out text.

Near-duplicates: the share of places in which two MinHash sketches agree estimates the Jaccard similarity of the sets
of n-grams (Broder 1997). Candidate pairs agree in a whole band of places (locality-sensitive hashing). One band is
processed at a time, so memory grows with the number of documents and not of pairs.

Overlaps (Brown et al. 2020, arXiv:2005.14165, app. C): the hashes of held-out n-grams are in a sorted file that every
process maps; a bitmap answers most look-ups first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mixscale.io import atomic_write

WORDS = 3  # of an n-gram
PLACES = 256  # of a sketch
CANDIDATE_PROBABILITY = 0.99  # that a pair with exactly the required similarity becomes a candidate
SEED = 1
PAIRS_AT_ONCE = 2**16
MAX_DOCUMENTS = 10  # an n-gram of more held-out documents, such as a licence or a heading, does not count
HASHES_AT_ONCE = 2**24
# Scripts without spaces (Chinese, Japanese, Thai, ...), in which every character is a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
_CACHED_WORDS = 2**19
_FACTOR = 0x9E3779B97F4A7C15  # odd, so multiplication by it modulo 2^64 is invertible


class _Hashes(dict[str, int]):
    """64-bit hash of a word, the same on every machine."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        value = self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return value


_hash_of = _Hashes()


def ngrams(text: str, n: int) -> np.ndarray:
    """Hashes of every `n` consecutive words, or of all if there are fewer, uint64; ignores case and punctuation."""
    # A text of punctuation alone is one word.
    words = _WORD.findall(text.casefold()) or [text.strip()]
    hashes_W = np.fromiter(map(_hash_of.__getitem__, words), np.uint64, len(words))
    out_G = _rolled(hashes_W, min(n, len(words)))
    # Sums of products leave the low bits weak, and a sketch uses all of them.
    out_G = out_G ^ (out_G >> np.uint64(32))
    out_G *= np.uint64(0xD6E8FEB86659FD93)
    out_G ^= out_G >> np.uint64(32)
    return out_G


def _rolled(hashes_W: np.ndarray, n: int) -> np.ndarray:
    """A polynomial modulo 2^64 of every `n` consecutive hashes, from two halves and, if `n` is odd, one more hash."""
    if n == 1:
        return hashes_W
    half = n // 2
    halves = _rolled(hashes_W, half)
    out_G = halves[:-half] * np.uint64(pow(_FACTOR, half, 2**64)) + halves[half:]
    return out_G[:-1] * np.uint64(_FACTOR) + hashes_W[n - 1 :] if n % 2 else out_G


# Near-duplicates


def sketch(texts: Sequence[str]) -> np.ndarray:
    """MinHash sketch of each text, uint32, shape (texts, PLACES)."""
    from rensa import RMinHash

    hashes = [ngrams(text, WORDS) for text in texts]
    ends = np.cumsum([0, *map(len, hashes)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), ends, PLACES, SEED)
    return np.array(matrix.to_rows(), np.uint32).reshape(len(texts), PLACES)


def groups(sketch_DxP: np.ndarray, similarity: float, within_D: np.ndarray | None = None) -> np.ndarray:
    """Group of each document, int32 (D,): a connected component of near-duplicate pairs.

    These have an estimated Jaccard similarity of at least `similarity` and the same value in `within_D`, if given.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    D, band = len(sketch_DxP), band_size(similarity)
    pairs = np.zeros(0, np.uint64)
    for first in range(0, PLACES - band + 1, band):
        pairs = np.union1d(pairs, _candidates(sketch_DxP[:, first : first + band], within_D))
    a, b = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    similar = np.zeros(len(pairs), bool)
    for first in range(0, len(pairs), PAIRS_AT_ONCE):
        some = slice(first, first + PAIRS_AT_ONCE)
        similar[some] = (sketch_DxP[a[some]] == sketch_DxP[b[some]]).mean(1) >= similarity
    edges = coo_array((np.ones(int(similar.sum()), bool), (a[similar], b[similar])), shape=(D, D))
    return connected_components(edges, directed=False)[1].astype(np.int32)


def band_size(similarity: float) -> int:
    """Most places of a band that keep the probability of a candidate at `CANDIDATE_PROBABILITY`."""
    sizes = (r for r in range(PLACES, 1, -1) if 1 - (1 - similarity**r) ** (PLACES // r) >= CANDIDATE_PROBABILITY)
    return next(sizes, 1)


def _candidates(band_DxB: np.ndarray, within_D: np.ndarray | None) -> np.ndarray:
    """Pairs (one << 32 | other) of documents that agree in a band: each with the first of them and the one before."""
    key_D = np.zeros(len(band_DxB), np.uint64)
    for row_D in [*band_DxB.T, *([] if within_D is None else [within_D])]:
        key_D = (key_D ^ row_D.astype(np.uint64)) * np.uint64(_FACTOR)
        key_D ^= key_D >> np.uint64(29)
    order_D = np.argsort(key_D, kind="stable")
    follows_D = np.concatenate([[False], key_D[order_D][1:] == key_D[order_D][:-1]])
    at = np.flatnonzero(follows_D)
    first = np.maximum.accumulate(np.where(follows_D, 0, np.arange(len(order_D))))[at]
    pairs = np.concatenate([order_D[first] << 32 | order_D[at], order_D[at - 1] << 32 | order_D[at]])
    return np.unique(pairs).astype(np.uint64)


# Overlaps with held-out text


def write_index(path: Path, parts: Callable[[], Iterable[np.ndarray]]) -> None:
    """Writes the sorted hashes of the n-grams that count.

    `parts` gives all hashes in arrays of uint64, each once per document; called once per `HASHES_AT_ONCE` of them.
    """
    slices = -(-sum(map(len, parts())) // HASHES_AT_ONCE) or 1
    bounds = [s * 2**64 // slices for s in range(slices + 1)]
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for low, high in zip(bounds, bounds[1:], strict=False):
            inside = [part[(part >= low) & (part <= high - 1)] for part in parts()]
            hashes, documents = np.unique(np.concatenate([np.zeros(0, np.uint64), *inside]), return_counts=True)
            file.write(hashes[documents <= MAX_DOCUMENTS].tobytes())


class HeldOutText:
    """Held-out text, as a file from `write_index` of n-grams of so many words."""

    def __init__(self, path: Path, words: int):
        self._words = words
        self._hashes = np.memmap(path, np.uint64, "r") if path.stat().st_size else np.zeros(0, np.uint64)
        bits = max(16, int(len(self._hashes)).bit_length() + 3)
        self._shift = np.uint64(64 - bits)
        self._bitmap = np.zeros(2 ** (bits - 3), np.uint8)
        for start in range(0, len(self._hashes), HASHES_AT_ONCE):
            byte, bit = self._bit(np.asarray(self._hashes[start : start + HASHES_AT_ONCE]))
            np.bitwise_or.at(self._bitmap, byte, bit)

    def overlaps(self, text: str) -> bool:
        hashes = ngrams(text, self._words)
        byte, bit = self._bit(hashes)
        likely = hashes[(self._bitmap[byte] & bit) != 0]
        at = np.searchsorted(self._hashes, likely)
        return bool((self._hashes[np.minimum(at, len(self._hashes) - 1)] == likely).any()) if len(likely) else False

    def _bit(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = hashes >> self._shift
        return index >> np.uint64(3), np.left_shift(np.uint8(1), (index & np.uint64(7)).astype(np.uint8))
