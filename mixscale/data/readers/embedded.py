"""The domains that ship with mixscale, each one packed file of JSON lines."""

from __future__ import annotations

import json
import lzma
from collections.abc import Collection, Iterator
from pathlib import Path

from mixscale.config import Embedded, content_hash
from mixscale.data.files import hashes
from mixscale.data.records import Found, Piece, Record
from mixscale.errors import InputError, did_you_mean

DATA = Path(__file__).parent.parent / "embedded"
SUFFIX = ".jsonl.xz"
KEY = "text"


def names() -> tuple[str, ...]:
    """Names that `Embedded` accepts."""
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in DATA.glob(f"*{SUFFIX}")))


def pieces(source: Embedded, size: int) -> list[Piece]:
    path = _packed(source)
    return [Piece((str(path),), 0, 1, path.stat().st_size)]


def fingerprint(source: Embedded) -> str:
    return content_hash(hashes([str(_packed(source))]), "embedded")


def records(source: Embedded, piece: Piece, largest: int, wanted: Collection[str]) -> Iterator[Found]:
    with lzma.open(_packed(source)) as lines:
        for number, line in enumerate(lines, 1):
            yield Record(json.loads(line), f"{source.name}, document {number}")


def _packed(source: Embedded) -> Path:
    if source.name not in names():
        raise InputError(f"no embedded domain is called '{source.name}'{did_you_mean(source.name, names())}")
    return DATA / (source.name + SUFFIX)
