"""Words of a text and hashes of the words that stand in a row, for what compares texts.

Case and punctuation do not count. A Chinese, Japanese or Thai character is a word of its own, since these scripts put
no spaces between words.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
_KEPT = 2**19
"""different words whose hashes are remembered"""
_FACTOR = 0x9E3779B97F4A7C15
"""odd, so that multiplying by it loses nothing modulo 2^64"""


class _Hashes(dict[str, int]):
    """64-bit hash of a word, the same on every machine."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _KEPT:
            self.clear()
        value = self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return value


_hash_of = _Hashes()


def ngrams(text: str, n: int) -> np.ndarray:
    """Hashes of every `n` words in a row, uint64, in order; one for all words of a text that has fewer."""
    # A text of signs alone is one word.
    words = _WORD.findall(text.casefold()) or [text.strip()]
    hashes_W = np.fromiter(map(_hash_of.__getitem__, words), np.uint64, len(words))
    out_G = _rolled(hashes_W, min(n, len(words)))
    # Sums of products leave the low bits weak; a sketch looks at all of them.
    out_G = out_G ^ (out_G >> np.uint64(32))
    out_G *= np.uint64(0xD6E8FEB86659FD93)
    out_G ^= out_G >> np.uint64(32)
    return out_G


def _rolled(hashes_W: np.ndarray, n: int) -> np.ndarray:
    """A polynomial, modulo 2^64, of every `n` in a row: made of two halves, and of one more where `n` is odd."""
    if n == 1:
        return hashes_W
    half = n // 2
    halves = _rolled(hashes_W, half)
    out_G = halves[:-half] * np.uint64(pow(_FACTOR, half, 2**64)) + halves[half:]
    return out_G[:-1] * np.uint64(_FACTOR) + hashes_W[n - 1 :] if n % 2 else out_G
