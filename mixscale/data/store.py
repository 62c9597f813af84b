"""`TokenStore`: the rows of every domain, ready to train on, and their statistics.

A store is a folder that never changes: `store.json`, `tokenizer.json` and one TFDS dataset (`array_record`, splits
`train` and `validation`) per domain, which any TFDS reader opens without TensorFlow. One example is a block of rows,
because decoding a block costs as much as decoding a row. `build.py` fills a store.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from mixscale.data import tokenizer
from mixscale.data.sources.tfds import only_tfds_features
from mixscale.errors import InputError
from mixscale.io import atomic_write, check_format
from mixscale.mixture import Mixture

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 3  # part of a store's id; raise it if the same config and text give another store
DESCRIPTION = "store.json"
DATASET = "mixscale_rows"
VERSION = "1.0.0"
SPLITS = ("train", "validation")
BLOCK_ROWS = 256
SHARD_BYTES = 2**26  # least size of the files of a split


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Packed tokens of a corpus; open one with `TokenStore.open` or `build_store`."""

    path: Path
    id: str  # hash of the text and of the settings that decide how it is packed
    domains: tuple[str, ...]  # in the order of the config
    context: int  # tokens that a row predicts; it has one more
    vocab_size: int
    tokenizer_hash: str
    # Counts by domain: documents and held_out_documents; train_ and validation_ bytes (UTF-8), tokens (with the end
    # of each document) and rows.
    facts: dict[str, dict[str, int]]
    # By domain: `records` of its source and how many are `damaged` (equal for domains of one source), `documents`
    # found, `removed` by reason, `duplication` and `shared` (see `splits.Decision`).
    statistics: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, path: str | Path) -> TokenStore:
        """The store in folder `path`.

        Raises InputError if there is none, it has another format, or its tokenizer is not the one it was built with.
        """
        folder = Path(path)
        if not (folder / DESCRIPTION).is_file():
            raise InputError(f"'{folder}' is not a token store; build one with `mixscale corpus`")
        if not (folder / tokenizer.FILE).is_file():
            raise InputError(f"token store '{folder}' has no {tokenizer.FILE}; delete the folder and build it again")
        saved: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        check_format(saved.get("format"), FORMAT, f"token store '{folder}'", "build it again with `mixscale corpus`")
        expected, found = saved["tokenizer"]["hash"], tokenizer.file_hash(folder)
        if expected != found:
            problem = f"was built with tokenizer {expected}, but the tokenizer in it is {found}"
            raise InputError(f"token store '{folder}' {problem}; delete the folder and build the store again")
        vocab_size, facts = saved["tokenizer"]["vocab_size"], saved["domains"]
        domains, statistics = tuple(facts), saved["statistics"]
        return cls(folder, saved["id"], domains, saved["context"], vocab_size, expected, facts, statistics)

    @property
    def tokenizer(self) -> tokenizer.Tokenizer:
        return tokenizer.load(self.path)

    def rows(self, domain: str, split: str) -> np.ndarray:
        """Token ids of `train` or `validation`, (rows, context + 1), uint16 or uint32; every call reads them again."""
        if domain not in self.domains:
            raise InputError(f"token store {self.id} has no domain '{domain}'; its domains: {', '.join(self.domains)}")
        if split not in SPLITS:
            raise InputError(f"there is no split '{split}'; use {' or '.join(SPLITS)}")
        return np.concatenate(list(read_blocks(self.path, domain, split)))

    @property
    def unique_tokens(self) -> dict[str, int]:
        """Tokens that training can predict before it repeats, by domain."""
        return {d: f["train_rows"] * self.context for d, f in self.facts.items()}

    @property
    def bytes_per_token(self) -> dict[str, float]:
        """UTF-8 bytes of held-out text per token, ends included: converts nats per token to bits per byte."""
        return {d: f["validation_bytes"] / f["validation_tokens"] for d, f in self.facts.items()}

    def natural(self) -> Mixture:
        """Each domain weighted by its unique training tokens."""
        return Mixture.normalized(self.unique_tokens)

    def table(self) -> pd.DataFrame:
        """Sizes of every domain, one row each; with the share of lost text, if the tokenizer loses any."""
        import pandas as pd

        table = pd.DataFrame(
            [
                {
                    "domain": d,
                    "documents": f["documents"],
                    "held-out documents": f["held_out_documents"],
                    "bytes": f["train_bytes"] + f["validation_bytes"],
                    "tokens": f["train_tokens"] + f["validation_tokens"],
                    "unique tokens": self.unique_tokens[d],
                    "validation rows": f["validation_rows"],
                    "bytes/token": round(self.bytes_per_token[d], 3),
                    "duplication": round(self.statistics[d]["duplication"], 4),
                    "removed": sum(self.statistics[d]["removed"].values()),
                    "lost text": round(self.statistics[d].get("lost", 0.0), 6),
                }
                for d, f in self.facts.items()
            ]
        )
        return table if table["lost text"].any() else table.drop(columns="lost text")

    def removed(self) -> pd.DataFrame:
        """Damaged records and documents removed from each domain, one column per reason; no columns if none."""
        import pandas as pd

        counts = {d: {"damaged": s["damaged"], **s["removed"]} for d, s in self.statistics.items()}
        table = pd.DataFrame.from_dict(counts, "index").fillna(0).astype(int)
        return _with_domain(table.loc[:, table.any()])

    def shared(self) -> pd.DataFrame:
        """Share of the documents of each row's domain that the column's domain also contains; no columns if none."""
        import pandas as pd

        table = pd.DataFrame.from_dict({d: s["shared"] for d, s in self.statistics.items()}, "index")
        table = table.reindex(index=list(self.statistics), columns=list(self.statistics)).fillna(0.0).round(4)
        return _with_domain(table if table.to_numpy().any() else table[[]])


def _with_domain(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename_axis("domain").reset_index() if len(table.columns) else table


# Rows on disk


# Number of rows, and the rows in blocks (BLOCK_ROWS, context + 1), of which the last may have fewer.
Split = tuple[int, Iterable[np.ndarray]]


def write_rows(folder: Path, domain: str, splits: dict[str, Split], context: int, dtype: np.dtype) -> None:
    """Writes the TFDS dataset `mixscale_rows/<domain>` in `folder` block by block; OSError if the disk is full."""
    import tensorflow_datasets as tfds

    final = folder / DATASET / domain / VERSION
    unfinished = final.with_name("unfinished")
    version, data_dir = tfds.core.Version(VERSION), os.fspath(unfinished)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=DATASET, version=version, data_dir=data_dir, module_name=__name__, config_name=domain
    )
    row = tfds.features.Tensor(shape=(None, context + 1), dtype=dtype, encoding=tfds.features.Encoding.BYTES)
    features = tfds.features.FeaturesDict({"rows": row})
    # Without shuffling, rows are read in the order in which they were written.
    info = tfds.core.DatasetInfo(builder=identity, features=features, disable_shuffling=True)
    info.set_file_format("array_record")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        written = [_write_split(unfinished, name, split, info.features) for name, split in splits.items()]
        info.set_splits(tfds.core.splits.SplitDict(written))
        info.write_to_directory(unfinished)
    except RuntimeError as error:
        # array_record reports a full disk only in the text of its error.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
    shutil.rmtree(final, ignore_errors=True)
    os.rename(unfinished, final)


def read_blocks(folder: Path, domain: str, split: str) -> Iterator[np.ndarray]:
    """The blocks of a split in order, (rows, context + 1) each."""
    import tensorflow_datasets as tfds

    (dataset,) = (folder / DATASET / domain).iterdir()
    with only_tfds_features(f"token store '{folder}'"):
        blocks = tfds.builder_from_directory(str(dataset)).as_data_source(split)
    for block in blocks:
        yield block["rows"]


def flat_rows(store: TokenStore, domain: str) -> np.ndarray:
    """Training rows (R, context + 1) of a domain, mapped from an uncompressed file; OSError if the disk is full.

    The first call makes this cache, because compressed blocks are slow to read in a shuffled order.
    """
    path = store.path / "flat" / f"{domain}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r")
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            # Not through a map: a full disk would then end the process with a signal.
            with atomic_write(path) as temporary, open(temporary, "wb") as file:
                for block_bxT1 in read_blocks(store.path, domain, "train"):
                    if not file.tell():
                        shape = (store.facts[domain]["train_rows"], block_bxT1.shape[1])
                        header = {"descr": block_bxT1.dtype.str, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(np.ascontiguousarray(block_bxT1))
    return np.load(path, mmap_mode="r")


def _write_split(folder: Path, name: str, split: Split, features: Any) -> Any:
    """Writes the files of a split; returns its description for TFDS."""
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module

    file = {"data_dir": folder, "dataset_name": DATASET, "split": name, "filetype_suffix": "array_record"}
    template = tfds.core.ShardedFileTemplate(**file)
    rows, blocks = split[0], iter(split[1])
    lengths, size = _shards(rows, features["rows"]), 0
    for shard, length in enumerate(lengths):
        path = template.sharded_filepath(shard_index=shard, num_shards=len(lengths))
        writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1")
        for _ in range(length):
            example = features.serialize_example({"rows": next(blocks)})
            size += len(example)
            writer.write(example)
        writer.close()
    return tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=size, filename_template=template)


def _shards(rows: int, feature: Any) -> list[int]:
    """Blocks of each file; the number of files is the largest power of two that keeps each above `SHARD_BYTES`."""
    blocks, size = -(-rows // BLOCK_ROWS), rows * feature.shape[-1] * np.dtype(feature.np_dtype).itemsize
    files = 1 << max(0, (size // SHARD_BYTES).bit_length() - 1)
    return np.diff([round(blocks * file / files) for file in range(files + 1)]).tolist()
