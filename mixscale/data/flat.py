"""A domain's training rows as one flat file that is mapped into memory, for stores too large to be held.

A store's own files are compressed blocks: right for copying and for reading in order, far too slow for rows in a
shuffled order. The flat file is made of them once, beside the store, and is only a cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from mixscale.data import pack
from mixscale.io import atomic_write

if TYPE_CHECKING:
    from mixscale.data.store import TokenStore


def flat_rows(store: TokenStore, domain: str) -> np.ndarray:
    """Training rows (R, context + 1) of a domain, mapped read-only.

    Raises:
        OSError: the disk is full.
    """
    folder = store.path / "flat"
    path = folder / f"{domain}.npy"
    if not path.is_file():
        folder.mkdir(exist_ok=True)
        with FileLock(folder / f"{domain}.lock"):
            if not path.is_file():
                _write(store, domain, path)
    return np.load(path, mmap_mode="r")


def _write(store: TokenStore, domain: str, path: Path) -> None:
    # Written as a file: through a map, a full disk would end the process with a signal.
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for block_bxT1 in pack.read_blocks(store.path, domain, "train"):
            if not file.tell():
                shape = (store.facts[domain]["train_rows"], block_bxT1.shape[1])
                about = {"descr": block_bxT1.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, about)
            file.write(np.ascontiguousarray(block_bxT1))
