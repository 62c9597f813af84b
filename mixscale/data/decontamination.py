"""Finds training text that shares consecutive words with held-out text (Brown et al. 2020, arXiv:2005.14165, app. C).

The hashes of held-out n-grams are in a sorted file that every process maps; a bitmap answers most look-ups first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mixscale.data.minhash import ngrams
from mixscale.io import atomic_write

MAX_DOCUMENTS = 10  # an n-gram of more held-out documents, such as a licence or a heading, does not count
HASHES_AT_ONCE = 2**24


def distinct_ngrams(text: str, words: int) -> np.ndarray:
    """Hashes of the n-grams of a document, uint64, each once."""
    return np.unique(ngrams(text, words))


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
        """Whether a text shares an n-gram with it."""
        hashes = ngrams(text, self._words)
        byte, bit = self._bit(hashes)
        likely = hashes[(self._bitmap[byte] & bit) != 0]
        at = np.searchsorted(self._hashes, likely)
        return bool((self._hashes[np.minimum(at, len(self._hashes) - 1)] == likely).any()) if len(likely) else False

    def _bit(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = hashes >> self._shift
        return index >> np.uint64(3), np.left_shift(np.uint8(1), (index & np.uint64(7)).astype(np.uint8))
