"""Token streams cut into rows, and rows kept as a TFDS `array_record` dataset, without TensorFlow.

A dataset has the splits `train` and `validation`, and any TFDS reader can open it. One example is a block of rows,
not one row, because decoding costs the same for either: a million tokens are read in milliseconds.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mixscale.data.features import only_tfds_features

NAME = "mixscale_rows"
VERSION = "1.0.0"
BLOCK_ROWS = 256
SPLITS = ("train", "validation")


SHARD_BYTES = 2**26
"""least size of the files that a split is divided into"""


class Split(NamedTuple):
    rows: int
    blocks: Iterable[np.ndarray]
    """the rows in order, shapes (BLOCK_ROWS, context + 1); the last may have fewer"""


def row_count(tokens: int, context: int) -> int:
    """Rows that a stream of so many tokens fills."""
    return max(0, (tokens - 1) // context)


def pack(parts: Iterable[np.ndarray], rows: int, context: int) -> Iterator[np.ndarray]:
    """The first `rows` rows of a stream of tokens that comes in parts, in blocks (BLOCK_ROWS, context + 1).

    Each row begins with the last token of the one before, so that every token but the first of the stream is
    predicted exactly once. The tail that fills no row is dropped.
    """
    stream = iter(parts)
    held_T = np.zeros(0, np.uint16)
    while rows:
        block = min(rows, BLOCK_ROWS)
        needed = block * context + 1
        waiting = [held_T]
        while sum(map(len, waiting)) < needed:
            waiting.append(next(stream))
        held_T = waiting[0] if len(waiting) == 1 else np.concatenate([part for part in waiting if len(part)])
        windows = np.lib.stride_tricks.sliding_window_view(held_T[:needed], context + 1)
        yield np.ascontiguousarray(windows[::context])
        held_T = held_T[needed - 1 :]
        rows -= block


def write_rows(folder: Path, domain: str, splits: dict[str, Split], context: int, dtype: np.dtype) -> None:
    """Writes the rows of each split as TFDS `mixscale_rows/<domain>` under `folder`, a block at a time.

    Raises:
        OSError: the disk is full.
    """
    import tensorflow_datasets as tfds

    final = folder / NAME / domain / VERSION
    unfinished = final.with_name("unfinished")
    info = _info(unfinished, domain, context + 1, dtype)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        written = [_write_split(unfinished, name, split, info.features) for name, split in splits.items()]
        info.set_splits(tfds.core.splits.SplitDict(written))
        info.write_to_directory(unfinished)
    except RuntimeError as error:
        # array_record's writer has no errno, only words.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
    shutil.rmtree(final, ignore_errors=True)
    os.rename(unfinished, final)


def read_rows(folder: Path, domain: str, split: str) -> np.ndarray:
    """Rows of one split in the order they were written, shape (R, context + 1)."""
    return np.concatenate(list(read_blocks(folder, domain, split)))


def read_blocks(folder: Path, domain: str, split: str) -> Iterator[np.ndarray]:
    """The same, some rows at a time."""
    import tensorflow_datasets as tfds

    (dataset,) = (folder / NAME / domain).iterdir()
    with only_tfds_features(f"token store '{folder}'"):
        blocks = tfds.builder_from_directory(str(dataset)).as_data_source(split)
    for block in blocks:
        yield block["rows"]


def _write_split(folder: Path, name: str, split: Split, features: Any) -> Any:
    """Writes a split's files and returns TFDS's description of it."""
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module

    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, split=name, filetype_suffix="array_record"
    )
    blocks = iter(split.blocks)
    lengths, size = _shards(split, features), 0
    for shard, length in enumerate(lengths):
        path = template.sharded_filepath(shard_index=shard, num_shards=len(lengths))
        writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1")
        for _ in range(length):
            example = features.serialize_example({"rows": next(blocks)})
            size += len(example)
            writer.write(example)
        writer.close()
    return tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=size, filename_template=template)


def _shards(split: Split, features: Any) -> list[int]:
    """Blocks of each file: so many files, a power of two, that none is smaller than `SHARD_BYTES`."""
    blocks = -(-split.rows // BLOCK_ROWS)
    rows = features["rows"]
    size = split.rows * rows.shape[-1] * np.dtype(rows.np_dtype).itemsize
    files = 1 << max(0, (size // SHARD_BYTES).bit_length() - 1)
    ends = [round(blocks * file / files) for file in range(files + 1)]
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]


def _info(folder: Path, domain: str, width: int, dtype: np.dtype) -> Any:
    """TFDS's description of the dataset, without its splits."""
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name=NAME,
        version=tfds.core.Version(VERSION),
        data_dir=os.fspath(folder),
        module_name=__name__,
        config_name=domain,
    )
    row = tfds.features.Tensor(shape=(None, width), dtype=dtype, encoding=tfds.features.Encoding.BYTES)
    # Without shuffling, rows come back in the order in which they went in.
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict({"rows": row}), disable_shuffling=True
    )
    info.set_file_format("array_record")
    return info
