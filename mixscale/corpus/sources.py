"""Documents of a domain, whatever kind of source the config names.

One function a kind and one door, `documents`; `fingerprint` tells without reading them whether they have changed.
Nothing here knows of tokens; what cannot be read is an `InputError` that names the file, the line and the remedy.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mixscale.errors import InputError, nearest
from mixscale.experiment import Embedded, Jsonl, Source, TextFiles, Tfds, content_hash

DATA = Path(__file__).parent / "data"
SUFFIX = ".jsonl.xz"


class Document(NamedTuple):
    text: str
    work: str = ""
    """the file, address or section of a book that the text is a part of; empty where it stands alone"""


def documents(source: Source) -> Iterator[Document]:
    """The documents of `source` in an order that is always the same; those of white space only are left out.

    Raises:
        InputError: there is nothing of that name or pattern, or a file does not hold what the source says.
    """
    match source:
        case Embedded():
            found = _embedded(source)
        case TextFiles():
            found = map(Document, _text_files(source))
        case Jsonl():
            found = map(Document, _jsonl(source))
        case Tfds():
            found = map(Document, _tfds(source))
        case _:
            raise InputError(_no_source(source))
    return (document for document in found if document.text and not document.text.isspace())


def fingerprint(source: Source) -> str:
    """Hash of the bytes that `documents(source)` reads and of how it takes them apart, whatever the files' names.

    Raises:
        InputError: there is nothing of that name or pattern.
    """
    match source:
        case Embedded():
            return _hash_of([_packed(source)], "embedded")
        case TextFiles():
            return _hash_of(_files(source.glob), "text", source.separator)
        case Jsonl():
            return _hash_of(_files(source.glob), "jsonl", source.field)
        case Tfds():
            from etils import epath

            shards = _data_source(source).dataset_info.splits[source.split].file_instructions
            taken = [[shard.skip, shard.take] for shard in shards]
            return _hash_of([epath.Path(shard.filename) for shard in shards], "tfds", source.field, taken)
    raise InputError(_no_source(source))


def embedded_names() -> tuple[str, ...]:
    """Names that `Embedded` accepts."""
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in DATA.glob(f"*{SUFFIX}")))


def _embedded(source: Embedded) -> Iterator[Document]:
    with lzma.open(_packed(source)) as lines:
        for found in map(json.loads, lines):
            yield Document(found["text"], found.get("work", ""))


def _packed(source: Embedded) -> Path:
    names = embedded_names()
    if source.name not in names:
        raise InputError(f"no embedded domain is called '{source.name}'{nearest(source.name, names)}")
    return DATA / (source.name + SUFFIX)


def _text_files(source: TextFiles) -> Iterator[str]:
    for path in _files(source.glob):
        text = _decoded(path.read_bytes(), str(path)).replace("\r\n", "\n")
        if not source.separator:
            yield text
            continue
        held: list[str] = []
        for line in text.splitlines(keepends=True):
            if line.rstrip("\n") == source.separator:
                yield "".join(held)
                held = []
            else:
                held.append(line)
        yield "".join(held)


def _jsonl(source: Jsonl) -> Iterator[str]:
    for path in _files(source.glob):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as lines:
            try:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield _field(line, source.field, f"{path}, line {number}")
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise InputError(f"{path} is not a whole gzip file ({error})") from error


def _field(line: bytes, key: str, where: str) -> str:
    """Text under `key` of the JSON object in `line`."""
    try:
        found = json.loads(_decoded(line, where))
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}); each line must be one JSON object") from error
    if not isinstance(found, dict):
        raise InputError(f"{where}: a {type(found).__name__} where a JSON object is expected")
    if key not in found:
        raise InputError(f"{where}: no key '{key}'; the keys are {', '.join(map(repr, found)) or 'none'}")
    if not isinstance(found[key], str):
        raise InputError(f"{where}: '{key}' is a {type(found[key]).__name__}; text is expected")
    if any("\ud800" <= c <= "\udfff" for c in found[key]):
        raise InputError(
            f"{where}: '{key}' holds half of a surrogate pair, which is no character; write it again as UTF-8"
        )
    return found[key]


def _tfds(source: Tfds) -> Iterator[str]:
    for number, example in enumerate(_data_source(source)):
        if not isinstance(example, dict) or source.field not in example:
            keys = ", ".join(map(repr, example)) if isinstance(example, dict) else "none"
            raise InputError(f"TFDS '{source.name}' has no feature '{source.field}'; its features are {keys}")
        text = example[source.field]
        if not isinstance(text, bytes | str):
            raise InputError(
                f"feature '{source.field}' of TFDS '{source.name}' is {type(text).__name__}; text is expected"
            )
        yield text if isinstance(text, str) else _decoded(text, f"TFDS '{source.name}', example {number}")


def _data_source(source: Tfds) -> Any:
    """Random access to the examples of one split; needs the array_record format, and no TensorFlow."""
    import tensorflow_datasets as tfds

    try:
        return tfds.data_source(source.name, split=source.split, data_dir=source.data_dir)
    # TFDS reports an unknown name, split or format, and what its own builders lack, by these four.
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        where = source.data_dir or "TFDS's own folder (~/tensorflow_datasets)"
        raise InputError(
            f"TFDS '{source.name}', split '{source.split}', cannot be read from {where}: {reason.rstrip('.')}. "
            f"It must be prepared there in the array_record format (`tfds build --file_format=array_record`)"
        ) from error


def _hash_of(files: Iterable[Path], *how: Any) -> str:
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return content_hash(digests, *how)


def _no_source(source: object) -> str:
    return f"{source!r} is no source; use Embedded, TextFiles, Jsonl or Tfds of mixscale.experiment"


def _files(pattern: str) -> list[Path]:
    """Files that match `pattern`, sorted by path."""
    found = sorted(p for p in map(Path, glob.glob(str(Path(pattern).expanduser()), recursive=True)) if p.is_file())
    if not found:
        raise InputError(f"no file matches '{pattern}' (seen from {Path.cwd()})")
    return found


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where} is not UTF-8: byte {error.start} is {raw[error.start]:#04x}; convert it, for example with iconv"
        ) from error
