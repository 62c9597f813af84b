"""The interface of readers and their registry, and records: their fields, conditions on them, and what lacks a field.

A reader finds and opens files through `files`.
"""

from __future__ import annotations

import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mixscale.config import Where
from mixscale.data.sources.files import File, find
from mixscale.errors import did_you_mean, listed
from mixscale.registry import Registry

MAX_DEPTH = 4  # to which the fields inside of fields are listed


class Piece(NamedTuple):
    """A part of a source that can be read alone."""

    files: tuple[str, ...]
    start: int  # byte, row group or example at which it begins, depending on the reader
    stop: int
    size: int  # approximate bytes to read


class Record(NamedTuple):
    fields: Mapping[str, Any]
    location: str  # file and line or row, for messages
    work: str = ""  # as in `Document`


class Damage(NamedTuple):
    """A record that cannot be used."""

    reason: str  # a sentence with its location and what is wrong


class Document(NamedTuple):
    text: str
    work: str = ""  # file, speech or section of a book that the text is a part of; empty if it is a whole work


Found = Record | Damage


class Reader(ABC):
    """Reads one source. A reader is registered under the name of its subclass of `mixscale.config.Source`."""

    def __init__(self, source: Any):
        self.source = source

    def files(self) -> list[File]:
        """The files of the source, in order."""
        return find(self.source.glob)

    def details(self) -> list[Any]:
        """What decides the records that are taken from the files, besides field, conditions and cap."""
        return []

    def pieces(self, size: int) -> list[Piece]:
        """Parts of the source, in order, of about `size` bytes each if it can be divided: here, its files."""
        return [Piece((file.path,), 0, 1, file.size) for file in self.files()]

    def take(self, record: Record) -> Document | Damage | None:
        """The document in a record; None if it does not meet the source's conditions."""
        if not meets(record.fields, self.source.where):
            return None
        found = text_of(record, self.source.field)
        return found if isinstance(found, Damage) else Document(found, record.work)

    @abstractmethod
    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        """Records of a piece; one larger than `max_bytes` is damage. Fields other than `keys` may be left out."""


READERS: Registry[type[Reader]] = Registry("source")

# Records

_MISSING = object()
_COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda found, wanted: found in wanted,
    "not in": lambda found, wanted: found not in wanted,
    "contains": operator.contains,
}  # fmt: skip


def meets(fields: Mapping[str, Any], where: tuple[Where, ...]) -> bool:
    """Whether a record meets all conditions; a value that cannot be compared meets none."""

    def met(condition: Where) -> bool:
        found = _field(fields, condition.field)
        found = found.decode() if isinstance(found, bytes) else found
        return found is not _MISSING and bool(_COMPARE[condition.op](found, condition.value))

    try:
        return all(map(met, where))
    except (TypeError, UnicodeDecodeError):
        return False


def text_of(record: Record, key: str) -> str | Damage:
    text = _field(record.fields, key)
    if text is _MISSING:
        return Damage(f"{record.location}: no key '{key}'{_nearest_field(record.fields, key)}")
    if isinstance(text, bytes):
        text = decoded(text, record.location)
        if isinstance(text, Damage):
            return text
    if not isinstance(text, str):
        inside = listed([f"{key}.{name}" for name, _ in _inner(text)])
        hint = f" (it contains {inside})" if inside else ""
        return Damage(f"{record.location}: '{key}' is {described([text])}; it must be text{hint}")
    try:
        text.encode()
    except UnicodeEncodeError:
        reason = "contains half of a surrogate pair, which is not a character; write the file again as UTF-8"
        return Damage(f"{record.location}: '{key}' {reason}")
    return text


def decoded(raw: bytes, location: str) -> str | Damage:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        return Damage(f"{location} is not UTF-8: {byte}; convert it, for example with iconv -f WINDOWS-1252 -t UTF-8")


def too_long(location: str, max_bytes: int) -> Damage:
    return Damage(f"{location}: longer than {max_bytes} bytes; raise corpus.max_record_bytes to read it")


def _field(fields: Mapping[str, Any], key: str) -> Any:
    """Value under a key, or under the nested keys that dots separate, also inside of JSON text."""
    if key in fields:
        return fields[key]
    first, _, rest = key.partition(".")
    inner = _object(fields.get(first)) if rest else None
    return _MISSING if inner is None else _field(inner, rest)


def _object(value: Any) -> Mapping[str, Any] | None:
    """The value if it is an object, or the object if it is the JSON text of one."""
    if isinstance(value, str | bytes):
        return _parsed(value) if value[:1] in ("{", b"{") else None
    return value if isinstance(value, Mapping) else None


# The conditions of several domains read the same record one after the other.
@lru_cache(maxsize=8)
def _parsed(text: str | bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# What lacks a field


def nearest(name: str, kinds: Mapping[str, str]) -> str:
    """The end of a sentence: the name in `kinds` that is nearest to `name` and what it is, or else all names."""
    hint = _did_you_mean(name, tuple(kinds))
    return hint + next((f" It is {kind}" for known, kind in kinds.items() if f"'{known}'" in hint), "")


# Comparing names again for each of a million damaged records would be slow.
_did_you_mean = lru_cache(maxsize=64)(did_you_mean)


def kind_of(value: Any) -> str:
    """The type of a value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool | np.bool):
        return "a truth value"
    names = {"text": str | bytes, "a number": int | float | np.number, "an object": Mapping, "a list": list | tuple}
    return next((name for name, types in names.items() if isinstance(value, types)), type(value).__name__)


def described(values: Iterable[Any]) -> str:
    """The types of values and a few examples of each."""
    examples: dict[str, dict[str, None]] = {}
    for value in values:
        shown = repr(value) if isinstance(value, str | int | float) else ""
        examples.setdefault(kind_of(value), {})[shown if len(shown) < 40 else f"{shown[:36]} ..."] = None
    return " or ".join(
        f"{kind} ({listed(list(shown)[:4])})" if any(shown) else kind for kind, shown in examples.items()
    )


def unmet(records: Sequence[Record], where: tuple[Where, ...]) -> str:
    """Why none of these records meets the conditions or has text, as a clause."""
    if any(meets(record.fields, where) for record in records):
        return f"all of its records{' that meet the conditions' if where else ''} are blank"
    for condition in where:
        name, none = condition.field, f"none of the first {len(records)} records has"
        found = [value for record in records if (value := _field(record.fields, name)) is not _MISSING]
        if not found:
            return f"{none} the field '{name}'{_nearest_field(records[0].fields, name)}"
        if not any(meets(record.fields, (condition,)) for record in records):
            texts = {value for value in found if isinstance(value, str) and len(value) < 100}
            near = did_you_mean(condition.value, texts) if texts and isinstance(condition.value, str) else ""
            return f"{none} {name} {condition.op} {condition.value!r}; '{name}' is {described(found)}{near}"
    return f"no record meets {' and '.join(f'{c.field} {c.op} {c.value!r}' for c in where)} at once"


def _inner(value: Any, depth: int = MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """Name and value of the fields in an object, with those inside of fields."""
    for name, field in (_object(value) or {}).items() if depth else ():
        yield name, field
        yield from ((f"{name}.{below}", inside) for below, inside in _inner(field, depth - 1))


def _nearest_field(fields: Mapping[str, Any], key: str) -> str:
    """The end of a sentence: the field whose name is nearest to `key`, or which part of it has no fields."""
    above, dot, _ = key.rpartition(".")
    if dot and (value := _field(fields, above)) is not _MISSING and _object(value) is None:
        return f"; '{above}' is {described([value])}, not an object or the JSON text of one"
    for name, value in fields.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping) and key in value[0]:
            return f"; '{name}' is a list of records: write each of them on a line, as with jq -c '.{name}[]'"
    return nearest(key, {name: described([value]) for name, value in _inner(fields)})
