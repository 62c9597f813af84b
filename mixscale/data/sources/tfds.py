"""Examples of TensorFlow Datasets, read without TensorFlow and without any code that comes with the data.

The description of a dataset names a class for every feature, and TFDS imports its module through one method, which
`only_tfds_features` replaces while a dataset is opened.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mixscale.config import Tfds
from mixscale.data.sources.base import READERS, Found, Piece, Reader, Record, kind_of, nearest, too_long
from mixscale.data.sources.files import File, check_pointer
from mixscale.errors import InputError

NAMESPACE = re.compile(r"[\w-]+:[^\d*]")  # the colon before a version is followed by a digit or a star
TRUSTED = "tensorflow_datasets."
_guard = threading.RLock()


@READERS.register("Tfds")
class TfdsReader(Reader):
    source: Tfds

    def files(self) -> list[File]:
        return [File(shard.filename, os.path.getsize(shard.filename)) for shard in self._shards()]

    def details(self) -> list[list[int]]:
        return [[shard.skip, shard.take] for shard in self._shards()]

    def pieces(self, size: int) -> list[Piece]:
        examples = self._examples()
        for file in self.files():
            check_pointer(file.path)
        count, total = len(examples), max(1, _split_bytes(examples, self.source.split))
        step = max(1, count * size // total)
        return [
            Piece((), start, min(start + step, count), total * min(step, count - start) // count)
            for start in range(0, count, step)
        ]

    def records(self, piece: Piece, max_bytes: int, keys: Collection[str]) -> Iterator[Found]:
        examples, field, title = self._examples(), self.source.field, f"TFDS '{self.source.name}'"
        for number in range(piece.start, piece.stop):
            example = examples[number]
            location = f"{title}, example {number}"
            if not isinstance(example, dict) or field not in example:
                kinds = {name: kind_of(value) for name, value in example.items()} if isinstance(example, dict) else {}
                raise InputError(f"{title} has no feature '{field}'{nearest(field, kinds)}")
            text = example[field]
            if not isinstance(text, bytes | str):
                raise InputError(f"feature '{field}' of {title} is {kind_of(text)}; it must be text")
            yield too_long(location, max_bytes) if len(text) > max_bytes else Record(example, location)

    def _shards(self) -> list[Any]:
        return self._examples().dataset_info.splits[self.source.split].file_instructions

    def _examples(self) -> Any:
        from tensorflow_datasets.core.read_only_builder import builder_from_files

        source, title = self.source, f"TFDS '{self.source.name}'"
        if NAMESPACE.match(source.name):
            reason = "is in a namespace, which would load code of others"
            raise InputError(f"{title} {reason}; prepare the dataset first and name it without one")
        try:
            # From files alone: `tfds.data_source` would download a dataset that is not there.
            with only_tfds_features(title):
                return builder_from_files(source.name, data_dir=source.data_dir).as_data_source(source.split)
        except InputError:
            raise
        # TFDS has no specific exception for a wrong name, split or format, or for a damaged description.
        except Exception as error:
            folder = source.data_dir or "~/tensorflow_datasets"
            for path in Path(folder, source.name.partition(":")[0]).expanduser().rglob("*.json"):
                check_pointer(path)
            (reason, *_) = str(error).strip().splitlines() or [type(error).__name__]
            problem = f"{title}, split '{source.split}', cannot be read from {folder}: {reason.rstrip('.')}"
            remedy = "Prepare it there in the array_record format (`tfds build --file_format=array_record`)"
            raise InputError(f"{problem}. {remedy}") from error


@contextmanager
def only_tfds_features(dataset: str) -> Iterator[None]:
    """Inside it, TFDS loads only its own features; raises InputError if `dataset` names another class."""
    import tensorflow_datasets as tfds

    connector = tfds.features.FeatureConnector
    with _guard:
        original = connector.__dict__["cls_from_name"]

        def trusted(cls: type, name: str) -> Any:
            if not name.startswith(TRUSTED):
                problem = f"has a feature of class '{name}', which would run code that comes with the data"
                raise InputError(f"{dataset} {problem}; prepare it with TFDS's own features")
            return original.__func__(cls, name)

        connector.cls_from_name = classmethod(trusted)
        try:
            yield
        finally:
            connector.cls_from_name = original


def _split_bytes(examples: Any, split: str) -> int:
    """Size of a split; for a part of one, which TFDS does not know, an estimate from the whole dataset."""
    splits = examples.dataset_info.splits
    total = sum(each.num_bytes for each in splits.values())
    return splits[split].num_bytes or len(examples) * total // max(1, splits.total_num_examples)
