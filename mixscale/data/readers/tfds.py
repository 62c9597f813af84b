"""Examples of TensorFlow Datasets, read without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from mixscale.config import Tfds, content_hash
from mixscale.data.features import only_tfds_features
from mixscale.data.files import hashes
from mixscale.data.records import Damage, Found, Piece, Record
from mixscale.errors import InputError

ELSEWHERE = re.compile(r"[\w-]+:[^\d*]")
"""a name in a namespace; what follows the colon of a version is a digit or a star"""


def pieces(source: Tfds, size: int) -> list[Piece]:
    examples = _data_source(source)
    count, held = len(examples), max(1, _bytes(examples, source.split))
    step = max(1, count * size // held)
    return [
        Piece((), start, min(start + step, count), held * min(step, count - start) // count)
        for start in range(0, count, step)
    ]


def fingerprint(source: Tfds) -> str:
    shards = _data_source(source).dataset_info.splits[source.split].file_instructions
    taken = [[shard.skip, shard.take] for shard in shards]
    return content_hash(hashes(shard.filename for shard in shards), "tfds", source.field, taken)


def records(source: Tfds, piece: Piece, largest: int, wanted: Collection[str]) -> Iterator[Found]:
    examples = _data_source(source)
    for number in range(piece.start, piece.stop):
        example = examples[number]
        where = f"TFDS '{source.name}', example {number}"
        if not isinstance(example, dict) or source.field not in example:
            keys = ", ".join(map(repr, example)) if isinstance(example, dict) else "none"
            raise InputError(f"TFDS '{source.name}' has no feature '{source.field}'; its features are {keys}")
        text = example[source.field]
        if not isinstance(text, bytes | str):
            raise InputError(
                f"feature '{source.field}' of TFDS '{source.name}' is {type(text).__name__}; text is expected"
            )
        if len(text) > largest:
            yield Damage(f"{where}: longer than {largest} bytes; raise corpus.record_bytes to read it")
        else:
            yield Record(example, where)


def _bytes(examples: Any, split: str) -> int:
    """Size of a split; TFDS does not tell that of a part of one, which is taken to be like the whole dataset."""
    splits = examples.dataset_info.splits
    whole = sum(each.num_bytes for each in splits.values())
    return splits[split].num_bytes or len(examples) * whole // max(1, splits.total_num_examples)


def _data_source(source: Tfds) -> Any:
    """Random access to the examples of one split; needs the array_record format, and no TensorFlow."""
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    if ELSEWHERE.match(source.name):
        raise InputError(f"TFDS '{source.name}': names in a namespace load code from elsewhere; prepare it first")
    try:
        # From files alone: `tfds.data_source` would download what is not there.
        with only_tfds_features(f"TFDS '{source.name}'"):
            return builder_from_files(source.name, data_dir=source.data_dir).as_data_source(source.split)
    except InputError:
        raise
    # TFDS has no class of its own for a wrong name, split or format, nor for a description that is damaged.
    except Exception as error:
        (reason, *_) = str(error).strip().splitlines() or [type(error).__name__]
        where = source.data_dir or "TFDS's own folder (~/tensorflow_datasets)"
        raise InputError(
            f"TFDS '{source.name}', split '{source.split}', cannot be read from {where}: {reason.rstrip('.')}. "
            f"It must be prepared there in the array_record format (`tfds build --file_format=array_record`)"
        ) from error
