"""Documents of a domain from whatever kind of source the config names.

One module for each kind of source; each registers a reader (`base.Reader`). Nothing here knows tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import mixscale.data.sources.columns
import mixscale.data.sources.jsonl
import mixscale.data.sources.text
import mixscale.data.sources.tfds  # noqa: F401 (each registers its readers)
from mixscale.config import Cap, Corpus, Source, content_hash
from mixscale.data.sources.base import READERS, Damage, Document, Found, Piece, Reader, Record, meets, text_of
from mixscale.errors import InputError

PIECE = 2**24
"""bytes that a process reads between two reports of its progress"""


def documents(source: Source, max_bytes: int = Corpus.max_record_bytes) -> Iterator[Document]:
    """The documents of `source`, always in the same order, without those that contain only white space.

    Raises:
        InputError: nothing has that name or pattern, or a record cannot be used.
    """
    take = taker(source)
    for piece in pieces(source, PIECE):
        for found in records(source, piece, max_bytes, keys([source])):
            document = found if isinstance(found, Damage) else take(found)
            if isinstance(document, Damage):
                raise InputError(document.reason)
            if document and document.text and not document.text.isspace():
                yield document


def taker(source: Source) -> Callable[[Record], Document | Damage | None]:
    """A function that turns a record into a document of `source`; into None if it fails the source's conditions."""

    def take(record: Record) -> Document | Damage | None:
        if source.where and not meets(record.fields, source.where):
            return None
        found = text_of(record, source.field)
        return found if isinstance(found, Damage) else Document(found, record.work)

    return take


def pieces(source: Source, size: int) -> list[Piece]:
    """Parts of the source that can be read alone, in order, each of about `size` bytes if it can be divided."""
    return _reader(source).pieces(size)


def records(source: Source, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
    """Records of a piece; fields other than `keys` may be left out."""
    return _reader(source).records(piece, max_bytes, keys)


def fingerprint(source: Source) -> str:
    """Hash of the bytes that `documents(source)` reads and of how it uses them, independent of file names.

    Raises:
        InputError: nothing has that name or pattern.
    """
    limits = source.where, source.cap
    files = _reader(source).fingerprint()
    return files if limits == ((), Cap()) else content_hash(files, *limits)


def keys(sources: Collection[Source]) -> set[str]:
    """The fields of records that these sources use."""
    return {source.field for source in sources} | {where.field for source in sources for where in source.where}


def _reader(source: Source) -> Reader:
    return READERS[type(source).__name__](source)
