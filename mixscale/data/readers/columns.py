"""Parquet files, and what Hugging Face `datasets` saves (Arrow streams): read by pyarrow, a row at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mixscale.config import HuggingFace, Parquet, content_hash
from mixscale.data.files import EXPANSION, STEP, UNPACKED, find, hashes, opened
from mixscale.data.records import Damage, Found, Piece, Record, root
from mixscale.errors import InputError, listed


def pieces(source: Parquet | HuggingFace, size: int) -> list[Piece]:
    if isinstance(source, HuggingFace):
        return [Piece((str(p),), 0, 1, p.stat().st_size) for p in _arrow_files(source)]
    found = []
    for file in find(source.glob):
        with _parquet(file.path) as parquet:
            groups = parquet.metadata.num_row_groups
            each = [_group_size(parquet, g, file.path) for g in range(groups)]
        start = held = 0
        for g in range(groups):
            held += each[g]
            if held >= size or g == groups - 1:
                found.append(Piece((file.path,), start, g + 1, file.size * (g + 1 - start) // groups))
                start, held = g + 1, 0
    return found


def fingerprint(source: Parquet | HuggingFace) -> str:
    if isinstance(source, HuggingFace):
        return content_hash(hashes(map(str, _arrow_files(source))), "arrow", source.field)
    return content_hash(hashes(file.path for file in find(source.glob)), "parquet", source.field)


def records(source: Parquet | HuggingFace, piece: Piece, largest: int, wanted: Collection[str]) -> Iterator[Found]:
    """Rows of a piece, with the columns that the keys `wanted` lead into."""
    (path,) = piece.files
    read = _arrow_rows if isinstance(source, HuggingFace) else _parquet_rows
    unpacked = 0
    for number, packed in read(path, piece, wanted):
        where = f"{path}, row {number}"
        found: Found
        try:
            (row,) = packed.to_pylist()
            found, size = Record(row, where), _size(row)
        # What is no UTF-8, or a time that Python has no name for.
        except (ValueError, OverflowError) as error:
            found, size = Damage(f"{where} cannot be read: {error}"), packed.nbytes
        unpacked += size
        if unpacked > UNPACKED and unpacked > EXPANSION * piece.size:
            raise InputError(f"{path} unpacks to more than {EXPANSION} times its size, which no text does")
        if size > largest:
            found = Damage(f"{where}: longer than {largest} bytes; raise corpus.record_bytes to read it")
        yield found


def _size(value: Any) -> int:
    """Bytes and characters in a value and in all that it holds."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def _parquet_rows(path: str, piece: Piece, wanted: Collection[str]) -> Iterator[tuple[int, Any]]:
    """Number and record batch of each row alone, since a few bytes may say that many rows hold the same megabytes."""
    with _parquet(path) as parquet, _named(path):
        columns = _columns(path, parquet.schema_arrow.names, wanted)
        number = sum(parquet.metadata.row_group(g).num_rows for g in range(piece.start))
        for group in range(piece.start, piece.stop):
            for batch in parquet.iter_batches(1, [group], columns, use_threads=False):
                number += 1
                yield number, batch


def _arrow_rows(path: str, piece: Piece, wanted: Collection[str]) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa

    with _named(path), pa.memory_map(path) as mapped, pa.ipc.open_stream(mapped) as stream:
        columns = _columns(path, stream.schema.names, wanted)
        number = 0
        for batch in stream:
            taken = batch.select(columns)
            # What a file says of where its texts begin and end may point outside of it.
            taken.validate(full=True)
            for place in range(len(taken)):
                number += 1
                yield number, taken.slice(place, 1)


def _columns(path: str, names: list[str], wanted: Collection[str]) -> list[str]:
    columns = sorted({root(key, names) for key in wanted})
    for column in columns:
        if names.count(column) != 1:
            what = "more than one" if column in names else "no"
            raise InputError(f"{path}: {what} column '{column}'; the columns are {listed(names)}")
    return columns


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    from pyarrow import parquet

    with opened(path) as file, _named(path):
        # Buffered, so that a row group is not held whole.
        yield parquet.ParquetFile(file, buffer_size=STEP, pre_buffer=False)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Says which file it is that Arrow cannot read."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _group_size(parquet: Any, group: int, path: str) -> int:
    """Bytes that a row group unpacks to, refused where no text would."""
    about = parquet.metadata.row_group(group)
    columns = [about.column(c) for c in range(about.num_columns)]
    packed = sum(c.total_compressed_size for c in columns)
    unpacked = sum(c.total_uncompressed_size for c in columns)
    if unpacked > UNPACKED and unpacked > EXPANSION * packed:
        raise InputError(f"{path}: row group {group} unpacks to {unpacked / packed:.0f} times its size; no text does")
    return unpacked


def _arrow_files(source: HuggingFace) -> list[Path]:
    folder = Path(source.path)
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        known = [name for name in _list(splits, "splits") if isinstance(name, str)]
        if source.split not in known:
            raise InputError(f"dataset '{folder}' has no split '{source.split}'; it has {listed(sorted(known))}")
        folder /= source.split
    elif source.split:
        raise InputError(f"dataset '{folder}' has no splits; leave split='{source.split}' away")
    state = folder / "state.json"
    if not state.is_file():
        raise InputError(f"'{folder}' is no dataset saved by Hugging Face's save_to_disk: it has no state.json")
    told = [about.get("filename") if isinstance(about, dict) else None for about in _list(state, "_data_files")]
    files = [folder / Path(str(name)).name for name in told]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(f"dataset '{folder}' lacks its files {listed(missing)}; save it again")
    return files


def _list(path: Path, key: str) -> list[Any]:
    """The list under a key of a JSON object."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON; save the dataset again") from error
    if not isinstance(found, dict) or not isinstance(found.get(key), list):
        raise InputError(f"{path} is no JSON object with a list '{key}'; save the dataset again")
    return found[key]
