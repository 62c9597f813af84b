"""Examples of TensorFlow Datasets, read without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from mixscale.corpus.files import hashes
from mixscale.corpus.records import Damage, Found, Piece, Record
from mixscale.errors import InputError
from mixscale.experiment import Tfds, content_hash

NAMING = ("pythonClassName", "type", "proto_cls")
"""fields of a description of features that name a class, which TFDS imports"""


def pieces(source: Tfds, size: int) -> list[Piece]:
    examples = _data_source(source)
    count, held = len(examples), max(1, examples.dataset_info.splits[source.split].num_bytes)
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


def _data_source(source: Tfds) -> Any:
    """Random access to the examples of one split; needs the array_record format, and no TensorFlow."""
    import tensorflow_datasets as tfds

    if ":" in source.name:
        raise InputError(f"TFDS '{source.name}': names with a ':' load code from elsewhere; prepare it first")
    _refuse_foreign_classes(source)
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


def _refuse_foreign_classes(source: Tfds) -> None:
    """TFDS imports whatever module a dataset's description names for its features; only its own may be."""
    import tensorflow_datasets as tfds
    from etils import epath

    folder = epath.Path(source.data_dir or tfds.core.constants.DATA_DIR).expanduser()
    folder /= source.name.partition("/")[0]
    # A version, or a config and its version.
    for path in (*folder.glob("*/features.json"), *folder.glob("*/*/features.json")):
        for name in _classes(path):
            if "." in name and not name.startswith("tensorflow_datasets."):
                raise InputError(
                    f"TFDS '{source.name}' has a feature of class '{name}' ({path}), which would load code that comes "
                    f"with data; prepare it with TFDS's own features"
                )


def _classes(path: Any) -> list[str]:
    """Classes that a description of features names."""
    try:
        waiting, found = [json.loads(path.read_text())], []
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON") from error
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found += [str(v) for k, v in part.items() if k in NAMING and isinstance(v, str)]
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    return found
