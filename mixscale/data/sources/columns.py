"""Parquet and Arrow files, and datasets saved by Hugging Face `datasets`, read by pyarrow one row at a time."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mixscale.config import HuggingFace, Parquet
from mixscale.data.sources.base import READERS, Damage, Found, Piece, Reader, Record, nearest, too_long
from mixscale.data.sources.files import (
    BUFFER,
    COLUMNS,
    PACKED,
    File,
    check_expansion,
    format_of,
    local_path,
    opened_raw,
)
from mixscale.errors import InputError, listed

# Number and record batch of each row alone: a small file may say that many rows contain the same megabytes.
Rows = Iterator[tuple[int, Any]]


class ColumnReader(Reader):
    @abstractmethod
    def rows(self, piece: Piece, keys: Collection[str]) -> Rows:
        """The columns of `keys` of each row of a piece."""

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        path, unpacked = piece.files[0], 0
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
            if _is_arrow(file.path):
                found.append(Piece((file.path,), 0, 1, file.size))
                continue
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
        if _is_arrow(path):
            yield from _arrow_rows(path, keys)
            return
        with _parquet(path) as parquet, _readable(path):
            columns = _columns(path, parquet.schema_arrow, keys)
            number = sum(parquet.metadata.row_group(g).num_rows for g in range(piece.start))
            batches = (
                batch
                for group in range(piece.start, piece.stop)
                for batch in parquet.iter_batches(1, [group], columns, use_threads=False)
            )
            yield from enumerate(batches, number + 1)


@READERS.register("HuggingFace")
class HuggingFaceReader(ColumnReader):
    """The rows of a saved dataset in the order of its selection, if it has one, or else of its files."""

    source: HuggingFace

    def files(self) -> list[File]:
        return [File(str(path), path.stat().st_size) for path in (*self._saved[0], *self._saved[1])]

    def details(self) -> list[int]:
        return [len(files) for files in self._saved if self._saved[1]]

    def pieces(self, size: int) -> list[Piece]:
        if not self._saved[1]:
            return super().pieces(size)
        count, files = len(self._selected), self.files()
        total = sum(file.size for file in files)
        step = max(1, count * size // max(1, total))
        return [
            Piece(tuple(file.path for file in files), start, min(start + step, count), total * step // max(1, count))
            for start in range(0, count, step)
        ]

    def rows(self, piece: Piece, keys: Collection[str]) -> Rows:
        if not self._saved[1]:
            yield from _arrow_rows(piece.files[0], keys)
            return
        batches: list[tuple[str, Any]] = []
        for path in map(str, self._saved[0]):
            with _arrow(path, keys) as found:
                # Closing the file leaves what is mapped of it in place.
                batches += [(path, batch) for batch in found]
        ends = np.cumsum([len(batch) for _, batch in batches])
        checked = set()
        for row in self._selected[piece.start : piece.stop].tolist():
            at = int(np.searchsorted(ends, row, "right"))
            if row < 0 or at == len(batches):
                raise InputError(f"dataset '{self.source.path}' selects row {row}, but has {ends[-1:].sum()} rows")
            path, batch = batches[at]
            if at not in checked:
                with _readable(path):
                    batch.validate(full=True)
                checked.add(at)
            yield row + 1, batch.slice(row - int(ends[at]) + len(batch), 1)

    @cached_property
    def _saved(self) -> tuple[list[Path], list[Path]]:
        return _arrow_files(self.source)

    @cached_property
    def _selected(self) -> np.ndarray:
        """Numbers of the selected rows, counted over all files."""
        parts = []
        for path in self._saved[1]:
            with _arrow(str(path), ["indices"]) as batches:
                parts += [batch.column(0).to_numpy(zero_copy_only=False) for batch in batches]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _is_arrow(path: str) -> bool:
    """Whether a file is Arrow rather than Parquet; InputError if it begins like neither."""
    with opened_raw(path) as file:
        kind, head = format_of(file), file.peek(1)[:1]
    if kind in COLUMNS:
        return kind != "Parquet"
    if not head:
        reason = "it is empty; leave it out"
    elif kind in PACKED:
        reason = f"it is {kind} data; unpack it first"
    elif head in (b"{", b"["):
        reason = f"it looks like JSON; read it with Jsonl('{path}')"
    else:
        reason = f"it is {kind or 'neither Parquet nor Arrow'}; write it again as Parquet"
    raise InputError(f"{path} cannot be read: {reason}")


@contextmanager
def _arrow(path: str, keys: Collection[str]) -> Iterator[Iterator[Any]]:
    """The columns of `keys` of the record batches of an Arrow file or stream."""
    import pyarrow as pa

    _is_arrow(path)
    local = local_path(path)
    with ExitStack() as stack, _readable(path):
        file = stack.enter_context(opened_raw(path))
        source = stack.enter_context(pa.memory_map(local)) if local else file
        if format_of(file) == "Arrow":
            reader = stack.enter_context(pa.ipc.open_file(source))
            batches = map(reader.get_batch, range(reader.num_record_batches))
        else:
            batches = reader = stack.enter_context(pa.ipc.open_stream(source))
        columns = _columns(path, reader.schema, keys)
        yield (batch.select(columns) for batch in batches)


def _arrow_rows(path: str, keys: Collection[str]) -> Rows:
    number = 0
    with _arrow(path, keys) as batches:
        for batch in batches:
            # The offsets in a file may point outside it.
            batch.validate(full=True)
            for place in range(len(batch)):
                number += 1
                yield number, batch.slice(place, 1)


def _size(value: Any) -> int:
    """Bytes and characters in a value, nested ones included."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def _columns(path: str, schema: Any, keys: Collection[str]) -> list[str]:
    names = schema.names
    columns = sorted({key if key in names else key.split(".", 1)[0] for key in keys})
    for column in columns:
        if names.count(column) != 1:
            if column in names:
                raise InputError(f"{path}: more than one column '{column}'; the columns are {listed(names)}")
            raise InputError(
                f"{path}: no column '{column}'{nearest(column, dict(zip(names, map(str, schema.types), strict=True)))}"
            )
    return columns


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    from pyarrow import parquet

    with opened_raw(path) as file, _readable(path):
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
        raise InputError(f"{path} cannot be read; it may be truncated: {str(error).splitlines()[0]}") from error


def _group_size(parquet: Any, group: int, path: str) -> int:
    about = parquet.metadata.row_group(group)
    columns = [about.column(c) for c in range(about.num_columns)]
    unpacked = sum(column.total_uncompressed_size for column in columns)
    packed = sum(column.total_compressed_size for column in columns)
    check_expansion(f"row group {group} of {path}", unpacked, packed)
    return unpacked


def _arrow_files(source: HuggingFace) -> tuple[list[Path], list[Path]]:
    """Files of the rows of a saved dataset, and of the numbers of the selected rows."""
    folder = Path(source.path).expanduser()
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        known = [name for name in _list(splits, "splits") if isinstance(name, str)]
        if source.split not in known:
            lacks = f"has no split '{source.split}'" if source.split else "is divided into splits"
            raise InputError(f"dataset '{folder}' {lacks}; set split to one of {listed(sorted(known))}")
        folder /= source.split
    elif source.split:
        raise InputError(f"dataset '{folder}' has no splits; remove split='{source.split}'")
    state = folder / "state.json"
    if not state.is_file():
        raise InputError(f"'{folder}' is not a dataset saved by Hugging Face's save_to_disk: {_instead(folder)}")
    found = []
    for names in (_list(state, "_data_files"), _list(state, "_indices_data_files", optional=True)):
        entries = [entry if isinstance(entry, dict) else {"filename": entry} for entry in names]
        if any("skip" in entry or "take" in entry for entry in entries):
            reason = f"{state} takes parts of its files, which only an old version of `datasets` reads"
            raise InputError(f"{reason}; load it with that version and save it again with `flatten_indices()`")
        # The name alone, so that a dataset cannot refer to files outside its folder.
        found.append([folder / Path(str(entry.get("filename"))).name for entry in entries])
    missing = [str(file) for files in found for file in files if not file.is_file()]
    if missing or not found[0]:
        raise InputError(f"dataset '{folder}' lacks its files {listed(missing)}; save it again")
    return found[0], found[1]


def _instead(folder: Path) -> str:
    """What a folder without state.json is, for a message."""
    if not folder.is_dir():
        return f"it is {'a file' if folder.exists() else 'not there'}"
    if saved := sorted({p.parent.name for name in ("state", "dataset_dict") for p in folder.glob(f"*/{name}.json")}):
        return f"it has no state.json; datasets are in its folders {listed(saved)}; add one of them to path"
    for source, suffix in (("Parquet", "parquet"), ("Parquet", "arrow"), ("Jsonl", "jsonl"), ("Jsonl", "json")):
        # Not at any depth: the folder may be somebody's home.
        if found := next((p for depth in ("", "*/") for p in folder.glob(f"{depth}*.{suffix}")), None):
            return f"it has no state.json, but {found.name}; read it with {source}('{folder}/**/*.{suffix}')"
    return "it has no state.json"


def _list(path: Path, key: str, optional: bool = False) -> list[Any]:
    try:
        with opened_raw(str(path)) as file:
            found = json.load(file)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSON; save the dataset again") from error
    if optional and isinstance(found, dict) and found.get(key) is None:
        return []
    if not isinstance(found, dict) or not isinstance(found.get(key), list):
        raise InputError(f"{path} is not a JSON object with a list '{key}'; save the dataset again")
    return found[key]
