"""Checkpoints of a population: weights, optimizer state, the position of every run and the rows measured so far.

Orbax writes the arrays in a thread while training continues; then a manifest completes the checkpoint (`manifest.py`).
All processes write their arrays to one shared folder; process 0 does everything else. A checkpoint is removed only
when its replacement is complete, even one with as many steps, which a run saves if it was stopped at a segment's end.
"""

from __future__ import annotations

import copy
import errno
import logging
import os
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from mixscale.config import to_json
from mixscale.errors import InputError, listed
from mixscale.training import manifest
from mixscale.training.hosts import alike, first
from mixscale.training.step import State

KEEP = 2  # newest checkpoints kept while a run trains: one to resume from, and one in case it is damaged
SLACK = 1_000_000  # bytes that a checkpoint may take beyond its arrays

log = logging.getLogger(__name__)


class Number(NamedTuple):
    """Names a checkpoint's folder: `done`, or `done.edition` until it has replaced those with as many steps."""

    done: int  # optimizer steps done in all segments together
    edition: int = 0

    @property
    def name(self) -> str:
        return f"{self.done}.{self.edition}" if self.edition else str(self.done)


@dataclass(frozen=True)
class Restored:
    done: int  # optimizer steps done in all segments together
    live: State
    trunk: State | None  # the state to which a branch returns; None outside of branches
    position: dict[str, Any]


class Checkpoints:
    """The checkpoints under `directory`, numbered by optimizer steps done in all segments together.

    Args:
        made_with: nested JSON that a checkpoint must have been made with: model, tokenizer, optimizer. Outermost
            fields that only the checkpoint has are not compared.
    """

    def __init__(self, directory: Path, made_with: dict[str, Any] | None = None):
        # Orbax logs what it also raises; the caller decides what is reported.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._directory, self._made_with = directory.absolute(), to_json(made_with or {})
        # Make folders before a save returns: it takes no time on a disk, and a full one then fails at once.
        at_once = ocp.AsyncOptions(create_directories_asynchronously=False)
        self._orbax = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(), async_options=at_once)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._newest_intact: Number | None = None  # restored or saved last; the same in every process

    def save(
        self,
        done: int,
        live: State,
        trunk: State | None,
        position: dict[str, Any],
        best: float | None = None,
        stable: bool = False,
    ) -> None:
        """Copies the states and returns; a thread writes and completes the checkpoint.

        Args:
            done: number of the checkpoint. It replaces those from here on: at once if this run did not resume from
                them, otherwise when it is complete.
            live, trunk: the state that trains, and the state to which a branch returns; they may then be donated.
            position: JSON that `restore` returns with the states.
            best: the best checkpoint, that with the lowest number, is kept.
            stable: `live` was never decayed, so other runs can start from it; the last such checkpoint is kept.

        Raises:
            OSError: the disk is full, now or in the save before.
        """
        self.wait()
        states = {"live": live._asdict()} | ({} if trunk is None else {"trunk": trunk._asdict()})
        self._check_space(sum(x.nbytes for x in jax.tree.leaves(states)))
        before = self._newest_intact
        number = Number(done, before.edition + 1 if before and before.done == done else 0)
        if first():
            self._directory.mkdir(parents=True, exist_ok=True)
            for later in self._existing():
                if later >= number:
                    self._remove(later)
        facts = {"made_with": self._made_with, "best": best, "stable": stable, "trunk": trunk is not None}
        # A copy for the thread, because the caller changes the position while training continues.
        facts |= {"position": copy.deepcopy(position), "arrays": _shapes(live)}
        try:
            self._orbax.save(self._folder(number), args=ocp.args.PyTreeSave(states), force=True)
        except Exception as error:
            raise self._as_os_error(error) from error
        self._thread = threading.Thread(target=self._finish, args=(number, facts), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Returns when the last checkpoint is complete; raises OSError if the disk was full."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise self._as_os_error(error) from error

    def restore(self, like: State, stable: bool = False, only: int | None = None) -> Restored | None:
        """The newest intact checkpoint, or None; logs a warning for each newer one that is damaged or unfinished.

        Args:
            like: arrays, or shapes with shardings, to restore to; if its `opt` is None, only the weights are read.
            stable, only: consider only checkpoints saved as stable; only that with this number.

        Raises:
            InputError: it has another format or is of another model, tokenizer or optimizer (each field is named).
            OSError: a file of one that may be intact cannot be read at the moment.
        """
        self.wait()
        found = self._newest(stable, only) if first() else None
        number = Number(*(int(n) for n in alike(np.array(found or (-1, 0), np.int32))))
        if number.done < 0:
            return None
        facts = manifest.read(self._folder(number))
        self._check_same(number, facts, like)
        names = ("live", "trunk") if facts["trunk"] else ("live",)
        item = dict.fromkeys(names, {"params": like.params} | ({} if like.opt is None else {"opt": like.opt}))
        restore_args = ocp.checkpoint_utils.construct_restore_args(item)
        args = ocp.args.PyTreeRestore(item, restore_args=restore_args, partial_restore=like.opt is None)
        restored = self._orbax.restore(self._folder(number), args=args)
        states = [like._replace(**restored[name]) if name in names else None for name in ("live", "trunk")]
        self._newest_intact = number
        return Restored(number.done, *states, facts["position"])

    def numbers(self) -> list[int]:
        """Existing checkpoints, oldest first, intact or not."""
        return sorted({number.done for number in self._existing()})

    def keep_newest(self) -> None:
        """Removes all but the newest, the best and the last stable, when a run has ended."""
        self.wait()
        if first():
            self._prune(1)

    def close(self) -> None:
        """Waits for the last checkpoint; raises OSError if the disk was full."""
        try:
            self.wait()
        finally:
            self._orbax.close()

    def _existing(self) -> list[Number]:
        try:
            names = [re.fullmatch(r"(\d+)(?:\.(\d+))?", path.name) for path in self._directory.iterdir()]
        except manifest.MISSING:
            return []
        return sorted(Number(int(name[1]), int(name[2] or 0)) for name in names if name)

    def _finish(self, number: Number, facts: dict[str, Any]) -> None:
        """In the thread: once the arrays are on the disk, completes the checkpoint and removes what it replaces."""
        try:
            self._orbax.wait_until_finished()
            if first():
                manifest.write(self._folder(number), facts)
                self._prune(KEEP)
            self._newest_intact = Number(number.done)
        except Exception as error:
            self._error = error

    def _newest(self, stable: bool, only: int | None) -> Number | None:
        damaged, found = [], None
        for number in reversed([n for n in self._existing() if only in (None, n.done)]):
            try:
                if not stable or manifest.read(self._folder(number))["stable"]:
                    manifest.verify(self._folder(number))
                    found = number
                    break
            except manifest.Damaged as why:
                damaged.append(f"Checkpoint {self._folder(number)} {why}")
        then = "No intact checkpoint remains; restarting from step 0"
        then = f"Resuming from checkpoint {found.name}" if found else then
        for sentence in damaged:
            log.warning(f"{sentence}. {then}")
        return found

    def _check_same(self, number: Number, facts: dict[str, Any], like: State) -> None:
        """Raises InputError if this run has another model, tokenizer or optimizer than the checkpoint."""
        wrong = list(manifest.differences(self._made_with, facts["made_with"]))
        wrong = wrong or list(manifest.differences(_shapes(like), facts["arrays"]))
        if wrong:
            remedy = "restore its settings, or use another folder"
            raise InputError(f"checkpoint {self._folder(number)} belongs to another run: {listed(wrong)}; {remedy}")

    def _prune(self, newest: int) -> None:
        """Removes complete checkpoints that need not be kept, and unfinished ones that killed runs left."""
        found: dict[int, dict[str, Any]] = {}
        for number in reversed(self._existing()):
            if number.done in found:
                self._remove(number)
                continue
            try:
                found[number.done] = manifest.read(self._folder(number)) | {"number": number}
            except manifest.Damaged:
                self._remove(number)
            except OSError:
                continue  # it may be intact; the next save looks at it again
        facts = dict(sorted(found.items()))
        for done, f in facts.items():
            if f["number"].edition:
                self._folder(f["number"]).rename(self._folder(Number(done)))
        scored = [(f["best"], -done) for done, f in facts.items() if f["best"] is not None]
        kept = {*list(facts)[-newest:], *[done for done, f in facts.items() if f["stable"]][-1:]}
        kept |= {-negative for _, negative in sorted(scored)[:1]}
        for done in facts.keys() - kept:
            self._remove(Number(done))
        for path in self._directory.glob("*tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove(self, number: Number) -> None:
        # The manifest first: half of a removal must not look like damage.
        (self._folder(number) / manifest.FILE).unlink(missing_ok=True)
        shutil.rmtree(self._folder(number))

    def _folder(self, number: Number) -> Path:
        return self._directory / number.name

    def _check_space(self, needed: int) -> None:
        """Raises OSError on a full disk, which Orbax's storage would report from its threads and in other words."""
        parent = next(folder for folder in (self._directory, *self._directory.parents) if folder.exists())
        if shutil.disk_usage(parent).free < needed + SLACK:
            raise self._os_error(errno.ENOSPC)

    def _as_os_error(self, error: Exception) -> Exception:
        """The OSError behind an error of a save, which the storage may have wrapped."""
        numbers = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        return next((self._os_error(n) for n in numbers if os.strerror(n) in str(error)), error)

    def _os_error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), str(self._directory))


def _shapes(state: State) -> dict[str, str]:
    """Shape and dtype of every weight, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}" for path, x in leaves}
