"""Documents of a domain, whatever kind of source the config names.

The one door to the readers: pieces, records, and a fingerprint that tells without reading them whether they have
changed. Nothing here knows of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from types import ModuleType

from mixscale.config import (
    Cap,
    Corpus,
    Embedded,
    HuggingFace,
    Jsonl,
    Parquet,
    Source,
    TextFiles,
    Tfds,
    Where,
    content_hash,
)
from mixscale.data.readers import columns, embedded, lines, text, tfds
from mixscale.data.records import Damage, Document, Found, Piece, Record, meets, text_of
from mixscale.errors import InputError

READERS: dict[type, ModuleType] = {
    Embedded: embedded,
    TextFiles: text,
    Jsonl: lines,
    Parquet: columns,
    HuggingFace: columns,
    Tfds: tfds,
}
PIECE = 2**24
"""bytes that a process reads before it says how far it is"""


def documents(source: Source, largest: int = Corpus.record_bytes) -> Iterator[Document]:
    """The documents of `source` in an order that is always the same; those of white space only are left out.

    Raises:
        InputError: there is nothing of that name or pattern, or a record does not hold what the source says.
    """
    take = taker(source)
    for piece in pieces(source, PIECE):
        for found in records(source, piece, largest, wanted([source])):
            document = found if isinstance(found, Damage) else take(found)
            if isinstance(document, Damage):
                raise InputError(document.reason)
            if document and document.text and not document.text.isspace():
                yield document


def taker(source: Source) -> Callable[[Record], Document | Damage | None]:
    """What a domain of `source` takes of a record: nothing where it does not meet the source's conditions."""
    where, name = conditions(source), key(source)

    def take(record: Record) -> Document | Damage | None:
        if where and not meets(record.fields, where):
            return None
        text = text_of(record, name)
        if isinstance(text, Damage):
            return text
        return Document(text, record.fields.get("work", "")) if isinstance(source, Embedded) else Document(text)

    return take


def pieces(source: Source, size: int) -> list[Piece]:
    """Parts of the source that can be read alone, in order, each of about `size` bytes where it can be divided."""
    return _reader(source).pieces(source, size)


def records(source: Source, piece: Piece, largest: int, keys: Collection[str]) -> Iterator[Found]:
    """What stands in a piece; of `keys`, a reader may leave other fields unread."""
    return _reader(source).records(source, piece, largest, keys)


def fingerprint(source: Source) -> str:
    """Hash of the bytes that `documents(source)` reads and of how it takes them apart, whatever the files' names.

    Raises:
        InputError: there is nothing of that name or pattern.
    """
    files = _reader(source).fingerprint(source)
    chosen = conditions(source), cap(source)
    return files if chosen == ((), Cap()) else content_hash(files, *chosen)


def whole(source: Source) -> Source:
    """The source without conditions and cap; domains of one whole are read together."""
    if isinstance(source, Embedded):
        return source
    return replace(source, cap=Cap()) if isinstance(source, TextFiles) else replace(source, cap=Cap(), where=())


def conditions(source: Source) -> tuple[Where, ...]:
    return () if isinstance(source, Embedded | TextFiles) else source.where


def cap(source: Source) -> Cap:
    return Cap() if isinstance(source, Embedded) else source.cap


def key(source: Source) -> str:
    """Name of the field that holds the text."""
    return "text" if isinstance(source, Embedded | TextFiles) else source.field


def wanted(sources: Collection[Source]) -> set[str]:
    """Keys of the fields that these sources look at."""
    return {key(s) for s in sources} | {where.field for s in sources for where in conditions(s)}


def embedded_names() -> tuple[str, ...]:
    """Names that `Embedded` accepts."""
    return embedded.names()


def _reader(source: Source) -> ModuleType:
    if type(source) not in READERS:
        names = ", ".join(kind.__name__ for kind in READERS)
        raise InputError(f"{source!r} is no source; use one of mixscale.config: {names}")
    return READERS[type(source)]
