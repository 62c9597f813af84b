"""Parquet files and datasets saved by Hugging Face `datasets` (Arrow streams), read by pyarrow one row at a time."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mixscale.config import HuggingFace, Parquet
from mixscale.data.sources.base import (
    BUFFER,
    READERS,
    Damage,
    File,
    Found,
    Piece,
    Reader,
    Record,
    check_expansion,
    opened,
    too_long,
)
from mixscale.errors import InputError, listed

# Number and record batch of each row alone: a small file may say that many rows contain the same megabytes.
Rows = Iterator[tuple[int, Any]]


class ColumnReader(Reader):
    @abstractmethod
    def rows(self, piece: Piece, keys: Collection[str]) -> Rows:
        """The columns of `keys` of each row of a piece."""

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        (path,) = piece.files
        unpacked = 0
        for number, batch in self.rows(piece, keys):
            location = f"{path}, row {number}"
            found: Found
            try:
                (row,) = batch.to_pylist()
                found, size = Record(row, location), _size(row)
            # Text that is not UTF-8, or a time that Python cannot represent.
            except (ValueError, OverflowError) as error:
                found, size = Damage(f"{location} cannot be read: {error}"), batch.nbytes
            unpacked += size
            check_expansion(path, unpacked, piece.size)
            yield too_long(location, max_bytes) if size > max_bytes else found


@READERS.register("Parquet")
class ParquetReader(ColumnReader):
    source: Parquet

    def pieces(self, size: int) -> list[Piece]:
        found = []
        for file in self.files():
            with _parquet(file.path) as parquet:
                groups = parquet.metadata.num_row_groups
                sizes = [_group_size(parquet, group, file.path) for group in range(groups)]
            start = total = 0
            for group, group_size in enumerate(sizes):
                total += group_size
                if total >= size or group == groups - 1:
                    found.append(Piece((file.path,), start, group + 1, file.size * (group + 1 - start) // groups))
                    start, total = group + 1, 0
        return found

    def rows(self, piece: Piece, keys: Collection[str]) -> Rows:
        (path,) = piece.files
        with _parquet(path) as parquet, _readable(path):
            columns = _columns(path, parquet.schema_arrow.names, keys)
            number = sum(parquet.metadata.row_group(g).num_rows for g in range(piece.start))
            batches = (
                batch
                for group in range(piece.start, piece.stop)
                for batch in parquet.iter_batches(1, [group], columns, use_threads=False)
            )
            yield from enumerate(batches, number + 1)


@READERS.register("HuggingFace")
class HuggingFaceReader(ColumnReader):
    source: HuggingFace

    def files(self) -> list[File]:
        return [File(str(path), path.stat().st_size) for path in _arrow_files(self.source)]

    def rows(self, piece: Piece, keys: Collection[str]) -> Rows:
        import pyarrow as pa

        (path,) = piece.files
        with _readable(path), pa.memory_map(path) as mapped, pa.ipc.open_stream(mapped) as stream:
            columns = _columns(path, stream.schema.names, keys)
            number = 0
            for batch in stream:
                selected = batch.select(columns)
                # The offsets in a file may point outside it.
                selected.validate(full=True)
                for place in range(len(selected)):
                    number += 1
                    yield number, selected.slice(place, 1)


def _size(value: Any) -> int:
    """Bytes and characters in a value, nested ones included."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def _columns(path: str, names: list[str], keys: Collection[str]) -> list[str]:
    columns = sorted({key if key in names else key.split(".", 1)[0] for key in keys})
    for column in columns:
        if names.count(column) != 1:
            what = "more than one" if column in names else "no"
            raise InputError(f"{path}: {what} column '{column}'; the columns are {listed(names)}")
    return columns


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    from pyarrow import parquet

    with opened(path) as file, _readable(path):
        # Buffered, so that a row group is never in memory as a whole.
        yield parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turns Arrow's errors into one that names the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _group_size(parquet: Any, group: int, path: str) -> int:
    about = parquet.metadata.row_group(group)
    columns = [about.column(c) for c in range(about.num_columns)]
    unpacked = sum(column.total_uncompressed_size for column in columns)
    packed = sum(column.total_compressed_size for column in columns)
    check_expansion(f"row group {group} of {path}", unpacked, packed)
    return unpacked


def _arrow_files(source: HuggingFace) -> list[Path]:
    folder = Path(source.path)
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        known = [name for name in _list(splits, "splits") if isinstance(name, str)]
        if source.split not in known:
            raise InputError(f"dataset '{folder}' has no split '{source.split}'; choose from {listed(sorted(known))}")
        folder /= source.split
    elif source.split:
        raise InputError(f"dataset '{folder}' has no splits; remove split='{source.split}'")
    state = folder / "state.json"
    if not state.is_file():
        raise InputError(f"'{folder}' is not a dataset saved by Hugging Face's save_to_disk: it has no state.json")
    names = [about.get("filename") if isinstance(about, dict) else None for about in _list(state, "_data_files")]
    # The name alone, so that a dataset cannot refer to files outside its folder.
    files = [folder / Path(str(name)).name for name in names]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(f"dataset '{folder}' lacks its files {listed(missing)}; save it again")
    return files


def _list(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON; save the dataset again") from error
    if not isinstance(found, dict) or not isinstance(found.get(key), list):
        raise InputError(f"{path} is not a JSON object with a list '{key}'; save the dataset again")
    return found[key]
