"""What a reader hands on: records with named fields, or what is wrong with one; and what a domain takes of them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from mixscale.config import Where


class Piece(NamedTuple):
    """A part of a source that can be read alone; the pieces of a source in order are all of it."""

    files: tuple[str, ...]
    start: int
    """byte, row group or example where it begins; a reader knows which"""
    stop: int
    size: int
    """bytes, about, that reading it costs"""


class Record(NamedTuple):
    fields: Mapping[str, Any]
    at: str
    """where it stands, for a person"""


class Damage(NamedTuple):
    """A record that cannot be used."""

    reason: str
    """where it stands and what is wrong, as a sentence"""


class Document(NamedTuple):
    text: str
    work: str = ""
    """the file, address or section of a book that the text is a part of; empty where it stands alone"""


Found = Record | Damage
_MISSING = object()
_COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda found, wanted: found in wanted,
    "not in": lambda found, wanted: found not in wanted,
    "contains": operator.contains,
}  # fmt: skip


def meets(fields: Mapping[str, Any], where: tuple[Where, ...]) -> bool:
    """Whether a record meets all conditions; what cannot be compared meets none."""
    for condition in where:
        found = _field(fields, condition.field)
        if found is _MISSING:
            return False
        try:
            if not _COMPARE[condition.op](found.decode() if isinstance(found, bytes) else found, condition.value):
                return False
        except (TypeError, UnicodeDecodeError):
            return False
    return True


def text_of(record: Record, key: str) -> str | Damage:
    """Text under `key`, or what there is in its place."""
    text = _field(record.fields, key)
    if text is _MISSING:
        keys = ", ".join(map(repr, record.fields))
        return Damage(f"{record.at}: no key '{key}'; the keys are {keys[:300] or 'none'}")
    if isinstance(text, bytes):
        text = decoded(text, record.at)
        if isinstance(text, Damage):
            return text
    if not isinstance(text, str):
        return Damage(f"{record.at}: '{key}' is a {type(text).__name__}; text is expected")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Damage(
            f"{record.at}: '{key}' holds half of a surrogate pair, which is no character; write it again as UTF-8"
        )
    return text


def decoded(raw: bytes, where: str) -> str | Damage:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Damage(
            f"{where} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}; "
            f"convert it, for example with iconv"
        )


def root(key: str, known: Mapping[str, Any] | list[str]) -> str:
    """The outermost of the fields that `key` leads through."""
    return key if key in known else key.split(".", 1)[0]


def _field(fields: Mapping[str, Any], key: str) -> Any:
    """Value under a key, or under the keys that dots divide."""
    if key in fields:
        return fields[key]
    first, _, rest = key.partition(".")
    inner = fields.get(first, _MISSING) if rest else _MISSING
    return _field(inner, rest) if isinstance(inner, Mapping) else _MISSING
