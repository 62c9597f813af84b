"""Parquet files, and what Hugging Face `datasets` saves (Arrow streams): read by pyarrow, some rows at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mixscale.corpus.files import EXPANSION, STEP, UNPACKED, find, hashes, opened
from mixscale.corpus.records import Damage, Found, Piece, Record, root
from mixscale.errors import InputError, listed
from mixscale.experiment import HuggingFace, Parquet, content_hash

ROWS = 64
"""rows that are unpacked at a time; few, because a packed row may be large"""


def pieces(source: Parquet | HuggingFace, size: int) -> list[Piece]:
    if isinstance(source, HuggingFace):
        return [Piece((str(p),), 0, 1, p.stat().st_size) for p in _arrow_files(source)]
    found = []
    for file in find(source.glob):
        with _parquet(file.path) as parquet:
            groups = parquet.metadata.num_row_groups
            each = [_group_size(parquet, g, file.path) for g in range(groups)]
        start = 0
        for g in range(groups):
            if sum(each[start : g + 1]) >= size or g == groups - 1:
                found.append(Piece((file.path,), start, g + 1, file.size * (g + 1 - start) // groups))
                start = g + 1
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
    for number, row in read(path, piece, wanted):
        size = sum(len(value) for value in row.values() if isinstance(value, str | bytes))
        unpacked += size
        if unpacked > UNPACKED and unpacked > EXPANSION * piece.size:
            raise InputError(f"{path} unpacks to more than {EXPANSION} times its size, which no text does")
        where = f"{path}, row {number}"
        if size > largest:
            yield Damage(f"{where}: longer than {largest} bytes; raise corpus.record_bytes to read it")
        else:
            yield Record(row, where)


def _parquet_rows(path: str, piece: Piece, wanted: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    with _parquet(path) as parquet, _named(path):
        columns = _columns(path, parquet.schema_arrow.names, wanted)
        number = sum(parquet.metadata.row_group(g).num_rows for g in range(piece.start))
        for group in range(piece.start, piece.stop):
            for batch in parquet.iter_batches(ROWS, [group], columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row


def _arrow_rows(path: str, piece: Piece, wanted: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa

    with _named(path), pa.memory_map(path) as mapped, pa.ipc.open_stream(mapped) as stream:
        columns = _columns(path, stream.schema.names, wanted)
        number = 0
        for batch in stream:
            taken = batch.select(columns)
            for first in range(0, len(taken), ROWS):
                for row in taken.slice(first, ROWS).to_pylist():
                    number += 1
                    yield number, row


def _columns(path: str, names: list[str], wanted: Collection[str]) -> list[str]:
    columns = sorted({root(key, names) for key in wanted})
    for column in columns:
        if column not in names:
            raise InputError(f"{path}: no column '{column}'; the columns are {listed(names)}")
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
        known = _json(splits).get("splits", [])
        if source.split not in known:
            raise InputError(f"dataset '{folder}' has no split '{source.split}'; it has {listed(sorted(known))}")
        folder /= source.split
    elif source.split:
        raise InputError(f"dataset '{folder}' has no splits; leave split='{source.split}' away")
    state = folder / "state.json"
    if not state.is_file():
        raise InputError(f"'{folder}' is no dataset saved by Hugging Face's save_to_disk: it has no state.json")
    files = [folder / Path(about["filename"]).name for about in _json(state).get("_data_files", [])]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(f"dataset '{folder}' lacks its files {listed(missing)}; save it again")
    return files


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON; save the dataset again") from error
