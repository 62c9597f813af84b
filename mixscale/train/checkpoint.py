"""Orbax checkpoints of one run: weights, optimiser state, and where in its segments the run stands.

A checkpoint also holds the rows measured so far, so that a resumed run needs nothing but its newest checkpoint.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from mixscale.train.step import State

KEEP = 2
SLACK = 1_000_000
"""Bytes that a checkpoint may take beyond its arrays."""


class Checkpoints:
    """The checkpoints under `directory`, numbered by optimiser steps done in all segments together."""

    def __init__(self, directory: Path):
        # Orbax logs what it also raises; who calls decides what is said.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, done: int, live: State, trunk: State | None, position: dict[str, Any]) -> None:
        """Writes atomically; `trunk` is the state a branch will return to, None outside of branches.

        Raises:
            OSError: the disk is full.
        """
        items = {"live": ocp.args.StandardSave(live), "position": ocp.args.JsonSave(position)}
        if trunk is not None:
            items["trunk"] = ocp.args.StandardSave(trunk)
        self._check_room(sum(x.nbytes for x in jax.tree.leaves((live, trunk))))
        self._manager.save(done, args=ocp.args.Composite(**items))

    def _check_room(self, needed: int) -> None:
        """Raises OSError on a full disk, which Orbax's storage would report from its threads and in its own words."""
        directory = self._manager.directory
        if shutil.disk_usage(directory).free < needed + SLACK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))

    def keep_newest(self) -> None:
        """Removes all but the newest, when a run has ended and only its weights may still be wanted."""
        newest = self._manager.latest_step()
        for done in self._manager.all_steps():
            if done != newest:
                self._manager.delete(done)

    def restore(self, like: State) -> tuple[State, State | None, dict[str, Any]] | None:
        """Newest (live, trunk, position) with the shapes and shardings of `like`; None where there is none."""
        newest = self._manager.latest_step()
        if newest is None:
            return None
        items = {"live": ocp.args.StandardRestore(like), "position": ocp.args.JsonRestore()}
        if "trunk" in self._manager.item_metadata(newest):
            items["trunk"] = ocp.args.StandardRestore(like)
        found = self._manager.restore(newest, args=ocp.args.Composite(**items))
        return found.live, found.get("trunk"), found.position

    def close(self) -> None:
        self._manager.close()
