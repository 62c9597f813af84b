"""Keeps TFDS to its own features while it opens a dataset.

The description that lies beside the data names a class for every feature, in one of several spellings, and TFDS
imports its module. All of them come to one method, which is replaced here for as long as a dataset opens.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mixscale.errors import InputError

OWN = "tensorflow_datasets."
_one_at_a_time = threading.RLock()


@contextmanager
def only_tfds_features(dataset: str) -> Iterator[None]:
    """Inside of it, TFDS loads no feature but its own.

    Args:
        dataset: what is opened, for the sentence.

    Raises:
        InputError: the dataset names another class.
    """
    import tensorflow_datasets as tfds

    connector = tfds.features.FeatureConnector
    with _one_at_a_time:
        theirs = connector.__dict__["cls_from_name"]

        def own(cls: type, name: str) -> Any:
            if not name.startswith(OWN):
                raise InputError(
                    f"{dataset} has a feature of class '{name}', which would load code that comes with data; prepare "
                    f"it with TFDS's own features"
                )
            return theirs.__func__(cls, name)

        connector.cls_from_name = classmethod(own)
        try:
            yield
        finally:
            connector.cls_from_name = theirs
