"""Token streams cut into rows, and rows kept as a TFDS `array_record` dataset, without TensorFlow.

A dataset has the splits `train` and `validation`, and any TFDS reader can open it. One example is a block of rows,
not one row, because decoding costs the same for either: a million tokens are read in milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

NAME = "mixscale_rows"
BLOCK_ROWS = 256
SPLITS = ("train", "validation")


def pack(tokens_T: np.ndarray, context: int) -> np.ndarray:
    """Rows of `context + 1` tokens, shape (R, context + 1); each begins with the last token of the one before.

    So every token but the first of the stream is predicted exactly once. The tail that fills no row is dropped.
    """
    rows = max(0, (len(tokens_T) - 1) // context)
    if rows == 0:
        return np.zeros((0, context + 1), tokens_T.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(tokens_T, context + 1)
    return np.ascontiguousarray(windows[: rows * context : context])


def write_rows(folder: Path, domain: str, rows: dict[str, np.ndarray]) -> None:
    """Writes the rows of each split, shapes (R, context + 1), as TFDS `mixscale_rows/<domain>` under `folder`.

    Raises:
        OSError: the disk is full.
    """
    try:
        with _quiet():
            _builder(folder, domain, rows).download_and_prepare()
    except RuntimeError as error:
        # array_record's writer has no errno, only words.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
    shutil.rmtree(folder / "downloads")


def read_rows(folder: Path, domain: str, split: str) -> np.ndarray:
    """Rows of one split in the order they were written, uint16, shape (R, context + 1)."""
    import tensorflow_datasets as tfds

    (dataset,) = (folder / NAME / domain).iterdir()
    blocks = tfds.builder_from_directory(str(dataset)).as_data_source(split)
    return np.concatenate([block["rows"] for block in blocks])


def _builder(folder: Path, domain: str, rows: dict[str, np.ndarray]) -> Any:
    import tensorflow_datasets as tfds

    width = rows["train"].shape[1]

    class MixscaleRows(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Rows of token ids; each overlaps the next by one token."""

        name = NAME
        VERSION = tfds.core.Version("1.0.0")
        # TFDS looks beside a builder's code for checksums of what it downloads; this one downloads nothing.
        code_path = None

        def _info(self) -> Any:
            row = tfds.features.Tensor(shape=(None, width), dtype=np.uint16, encoding=tfds.features.Encoding.BYTES)
            # Without shuffling, rows come back in the order in which they went in.
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict({"rows": row}), disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, np.ndarray]]]]:
            del dl_manager
            return {split: self._generate_examples(rows[split]) for split in SPLITS}

        def _generate_examples(self, rows_RxT: np.ndarray) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
            for start in range(0, len(rows_RxT), BLOCK_ROWS):
                yield start // BLOCK_ROWS, {"rows": rows_RxT[start : start + BLOCK_ROWS]}

    config = tfds.core.BuilderConfig(name=domain, version="1.0.0")
    return MixscaleRows(data_dir=str(folder), config=config, file_format="array_record")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from telling of the download and the shuffle that do not happen."""
    import tensorflow_datasets as tfds

    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    tfds.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(True)
        absl.setLevel(level)
