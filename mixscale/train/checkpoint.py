"""Orbax checkpoints of one run: weights, optimiser state, and where in its segments the run stands.

A checkpoint also holds the rows measured so far, so that a resumed run needs nothing but its newest checkpoint.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from mixscale.train.step import State

KEEP = 2


class Checkpoints:
    """The checkpoints under `directory`, numbered by optimiser steps done in all segments together."""

    def __init__(self, directory: Path):
        logging.getLogger("absl").setLevel(logging.ERROR)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, done: int, live: State, trunk: State | None, position: dict[str, Any]) -> None:
        """Writes atomically; `trunk` is the state a branch will return to, None outside of branches."""
        items = {"live": ocp.args.StandardSave(live), "position": ocp.args.JsonSave(position)}
        if trunk is not None:
            items["trunk"] = ocp.args.StandardSave(trunk)
        self._manager.save(done, args=ocp.args.Composite(**items))

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
