"""Documents of a domain, one string each, whatever kind of source the config names.

One function a kind and one door, `documents`. Nothing here knows of tokens; what cannot be read is an `InputError`
that names the file, the line and the remedy.
"""

from __future__ import annotations

import difflib
import glob
import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from mixscale.errors import InputError
from mixscale.experiment import Embedded, Jsonl, Source, TextFiles, Tfds

SUFFIX = ".jsonl.xz"


def documents(source: Source) -> Iterator[str]:
    """The documents of `source` in an order that is always the same; those of white space only are left out.

    Raises:
        InputError: there is nothing of that name or pattern, or a file does not hold what the source says.
    """
    match source:
        case Embedded():
            texts = _embedded(source)
        case TextFiles():
            texts = _text_files(source)
        case Jsonl():
            texts = _jsonl(source)
        case Tfds():
            texts = _tfds(source)
        case _:
            raise InputError(f"{source!r} is no source; use Embedded, TextFiles, Jsonl or Tfds of mixscale.experiment")
    return (text for text in texts if text and not text.isspace())


def embedded_names() -> tuple[str, ...]:
    """Names that `Embedded` accepts."""
    files = (resources.files(__package__) / "data").iterdir()
    return tuple(sorted(f.name.removesuffix(SUFFIX) for f in files if f.name.endswith(SUFFIX)))


def _embedded(source: Embedded) -> Iterator[str]:
    names = embedded_names()
    if source.name not in names:
        near = difflib.get_close_matches(source.name, names, n=1, cutoff=0.5)
        guess = f"; did you mean '{near[0]}'?" if near else "."
        raise InputError(f"no embedded domain is called '{source.name}'{guess} There are: {', '.join(names)}")
    packed = resources.files(__package__) / "data" / (source.name + SUFFIX)
    with packed.open("rb") as file, lzma.open(file) as lines:
        yield from (json.loads(line)["text"] for line in lines)


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
