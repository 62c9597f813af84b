"""Training text that shares words in a row with held-out text (Brown et al. 2020, arXiv:2005.14165, appendix C).

The hashes of what is held out lie sorted in a file that every process maps; a bitmap in front of it answers most
questions. A sequence that stands in many held-out documents is a licence or a heading and tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mixscale.data.words import ngrams
from mixscale.io import atomic_write

COMMON = 10
"""held-out documents in which a sequence may stand and still tell"""
AT_ONCE = 2**24
"""hashes sorted at a time"""


def distinct(text: str, words: int) -> np.ndarray:
    """Hashes of a document's sequences, uint64, each once."""
    return np.unique(ngrams(text, words))


def write(path: Path, parts: Callable[[], Iterable[np.ndarray]]) -> None:
    """Writes the sorted hashes of the sequences that tell.

    Args:
        path: file to write.
        parts: gives all hashes, uint64, each once a document, in arrays; called anew for every `AT_ONCE` of them.
    """
    slices = -(-sum(map(len, parts())) // AT_ONCE) or 1
    bounds = [s * 2**64 // slices for s in range(slices + 1)]
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for low, high in zip(bounds, bounds[1:], strict=False):
            here = [part[(part >= low) & (part <= high - 1)] for part in parts()]
            hashes, times = np.unique(np.concatenate([np.zeros(0, np.uint64), *here]), return_counts=True)
            file.write(hashes[times <= COMMON].tobytes())


class HeldOutText:
    """Answers whether a text shares a sequence of words with what is held out.

    Args:
        path: what `write` wrote.
        words: in a row.
    """

    def __init__(self, path: Path, words: int):
        self._words = words
        self._hashes = np.memmap(path, np.uint64, "r") if path.stat().st_size else np.zeros(0, np.uint64)
        bits = max(16, int(len(self._hashes)).bit_length() + 3)
        self._shift = np.uint64(64 - bits)
        self._bitmap = np.zeros(2 ** (bits - 3), np.uint8)
        for start in range(0, len(self._hashes), AT_ONCE):
            byte, bit = self._place(np.asarray(self._hashes[start : start + AT_ONCE]))
            np.bitwise_or.at(self._bitmap, byte, bit)

    def shares(self, text: str) -> bool:
        asked = ngrams(text, self._words)
        byte, bit = self._place(asked)
        likely = asked[(self._bitmap[byte] & bit) != 0]
        at = np.searchsorted(self._hashes, likely)
        return bool((self._hashes[np.minimum(at, len(self._hashes) - 1)] == likely).any()) if len(likely) else False

    def _place(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = hashes >> self._shift
        return index >> np.uint64(3), np.left_shift(np.uint8(1), (index & np.uint64(7)).astype(np.uint8))
