"""Which documents are held out, and which are left out because their text is there already.

Works are held out whole, never a part of one. Where the same text stands in a work that is held out and in one that
is not, training loses it, so that no text is in both splits. Nothing here knows of files or tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from mixscale.corpus.sources import Document
from mixscale.experiment import Corpus


@dataclass(frozen=True)
class Survey:
    """What a first reading of a domain, or of several together, finds."""

    documents: int
    """all of them, copies too"""
    train_characters: int
    """least of any domain, without copies inside it; what only another domain holds out is still counted"""
    held_out: frozenset[bytes]
    """digests of the texts that are held out"""


def split_of(corpus: Corpus, document: Document) -> str:
    """A pure function of the seed and the document's work; of its text where it stands alone."""
    whole = document.work or document.text
    digest = hashlib.blake2b(whole.encode(), digest_size=8, key=str(corpus.seed).encode()).digest()
    return "validation" if int.from_bytes(digest) < corpus.validation_share * 2**64 else "train"


def survey(corpus: Corpus, documents: Iterable[Document]) -> Survey:
    held_out: set[bytes] = set()
    training: set[bytes] = set()
    number = characters = 0
    for document in documents:
        number += 1
        digest = _digest(document.text)
        if split_of(corpus, document) == "validation":
            held_out.add(digest)
        elif digest not in training:
            training.add(digest)
            characters += len(document.text)
    return Survey(number, characters, frozenset(held_out))


def together(surveys: Collection[Survey]) -> Survey:
    return Survey(
        sum(s.documents for s in surveys),
        min(s.train_characters for s in surveys),
        frozenset[bytes]().union(*(s.held_out for s in surveys)),
    )


def kept(corpus: Corpus, documents: Iterable[Document], held_out: frozenset[bytes]) -> Iterator[tuple[str, str]]:
    """Text and split of each document, but for copies; `held_out` has the digests of every domain.

    Left out are the second and later copies of a text within the domain, and training text that is held out in this
    domain or another.
    """
    seen: set[bytes] = set()
    for document in documents:
        digest, split = _digest(document.text), split_of(corpus, document)
        if digest not in seen and (split == "validation" or digest not in held_out):
            seen.add(digest)
            yield document.text, split


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
