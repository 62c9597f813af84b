"""Documents of a domain from any kind of source; each module here registers the readers of some kinds."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import mixscale.data.sources.columns
import mixscale.data.sources.text
import mixscale.data.sources.tfds  # noqa: F401 (each registers its readers)
from mixscale.config import Corpus, Source, content_hash
from mixscale.data.sources.base import READERS, Damage, Document, Reader, Record, unmet
from mixscale.data.sources.files import hash_all
from mixscale.errors import InputError, listed

PIECE = 2**24  # bytes that a process reads between two progress reports
EXPLAINED = 1000  # records that are read to explain why a source has no text


def reader(source: Source) -> Reader:
    return READERS[type(source).__name__](source)


def documents(source: Source, max_bytes: int = Corpus.max_record_bytes) -> Iterator[Document]:
    """The documents of `source` that are not blank, in order; InputError if there is no source or a bad record."""
    read = reader(source)
    for piece in read.pieces(PIECE):
        for found in read.records(piece, max_bytes, keys([source])):
            document = found if isinstance(found, Damage) else read.take(found)
            if isinstance(document, Damage):
                raise InputError(document.reason)
            if document and document.text and not document.text.isspace():
                yield document


def no_text(source: Source, max_bytes: int = Corpus.max_record_bytes) -> str:
    """Why a source has no text, as a clause."""
    read = reader(source)
    found = (each for piece in read.pieces(PIECE) for each in read.records(piece, max_bytes, keys([source])))
    records = list(itertools.islice((each for each in found if isinstance(each, Record)), EXPLAINED))
    if not records:
        return f"no record can be read from {listed([file.path for file in read.files()])}"
    return f"{unmet(records, source.where)} (the first record is {records[0].location})"


def keys(sources: Collection[Source]) -> set[str]:
    return {source.field for source in sources} | {where.field for source in sources for where in source.where}


def fingerprint(source: Source) -> str:
    """Hash of the bytes that `documents(source)` reads and of how it uses them; InputError if there are none."""
    read = reader(source)
    hashes = hash_all(file.path for file in read.files())
    return content_hash(hashes, type(source).__name__, source.field, source.where, source.cap, read.details())
