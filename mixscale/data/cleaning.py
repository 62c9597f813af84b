"""Rules for single documents: Unicode normalization, length, and the quality rules of Gopher.

The quality rules (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1) are for web text in English. They remove most
code, tables and verse, so they apply only to the domains that the config names.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

from mixscale.config import Cleaning

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
BULLETS = ("•", "‣", "▪", "●", "-", "*")
ELLIPSES = ("...", "…")
# Why a document may be removed.
RULES = (
    "empty", "too short", "too long", "quality: word count", "quality: word length", "quality: symbols",
    "quality: bullets", "quality: ellipses", "quality: words without letters", "quality: no stop words",
    "quality: repeated lines", "quality: repeated words",
)  # fmt: skip


def cleaned(text: str, cleaning: Cleaning, domain: str) -> tuple[str, str]:
    """The normalized text, and the rule that removes it or an empty string."""
    if cleaning.normalize:
        text = unicodedata.normalize("NFC", text)
    if not text or text.isspace():
        return text, "empty"
    if len(text) < cleaning.min_characters:
        return text, "too short"
    if cleaning.max_characters and len(text) > cleaning.max_characters:
        return text, "too long"
    if domain in cleaning.quality or "*" in cleaning.quality:
        return text, _quality(text)
    return text, ""


def _quality(text: str) -> str:
    words = text.split()
    if not 50 <= len(words) <= 100_000:
        return "quality: word count"
    if not 3 <= sum(map(len, words)) / len(words) <= 10:
        return "quality: word length"
    if max(text.count("#"), sum(map(text.count, ELLIPSES))) > 0.1 * len(words):
        return "quality: symbols"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if sum(line.startswith(BULLETS) for line in lines) > 0.9 * len(lines):
        return "quality: bullets"
    if sum(line.endswith(ELLIPSES) for line in lines) > 0.3 * len(lines):
        return "quality: ellipses"
    if sum(any(map(str.isalpha, word)) for word in words) < 0.8 * len(words):
        return "quality: words without letters"
    if len(STOP_WORDS.intersection(word.lower() for word in words)) < 2:
        return "quality: no stop words"
    # Table A1: at most 30% of lines are repeats; the most frequent pair of words is at most 20% of the characters.
    if len(lines) - len(set(lines)) > 0.3 * len(lines):
        return "quality: repeated lines"
    characters = sum(map(len, words))
    pair, times = Counter(zip(words, words[1:], strict=False)).most_common(1)[0]
    if times > 1 and times * sum(map(len, pair)) > 0.2 * characters:
        return "quality: repeated words"
    return ""
