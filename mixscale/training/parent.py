"""The run that another one goes on from: its state before it decayed, and how far into each domain it had come.

So several token counts, or other mixtures, branch from one stable phase, and continued pre-training begins where
pre-training ended.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixscale.errors import InputError
from mixscale.run_table import Status
from mixscale.training.checkpoint import Checkpoints
from mixscale.training.step import State


@dataclass(frozen=True)
class Parent:
    """What a run begins with instead of fresh weights."""

    state: State
    """of one run"""
    drawn: dict[str, int]
    """rows of each domain that it, and its own parents, have drawn"""


def open_parent(folder: str, like: State, kind: dict[str, Any]) -> Parent | None:
    """The parent in a run's `folder`, onto the shapes and devices of `like`; None for an empty name.

    Its last state at full rate where it has one (stable-then-decay), else its last one.

    Raises:
        InputError: there is no checkpoint, it is of another model, tokenizer or optimizer, or the run diverged.
    """
    if not folder:
        return None
    with closing(Checkpoints(Path(folder) / "checkpoints", kind)) as checkpoints:
        newest = checkpoints.restore(like)
        if newest is None or not newest.position["members"][0]["ended"]:
            raise InputError(
                f"train.parent '{folder}' holds no run that has ended; give the folder of one that has, DIR/runs/ID"
            )
        (member,) = newest.position["members"]
        last = member["rows"][-1]
        if last["status"] == Status.DIVERGED:
            raise InputError(
                f"train.parent '{folder}' diverged at step {last['step']}; give the folder of a run that did not"
            )
        if not member["stable"]:
            return Parent(newest.live, member["drawn"])
        stable = checkpoints.restore(like, stable=True)
    if stable is None:
        raise InputError(f"train.parent '{folder}' has lost the checkpoint from before its decay; train it again")
    return Parent(stable.live, stable.position["members"][0]["drawn"])
