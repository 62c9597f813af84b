"""Checkpoints of a run or a population: weights, optimizer state, and where in its segments it stands.

Orbax writes the arrays in a thread of its own while training goes on; a manifest with the checksum of every file is
added last (`manifest.py`), and only then the checkpoint counts. A checkpoint also holds the rows measured so far, so
that going on needs nothing but the newest one that is whole. With several processes all write their arrays to one
shared folder, and process 0 does the rest.

Nothing that may be gone on from is removed before what replaces it is whole. So a checkpoint of as many steps as one
that is there, which a run that was stopped at the end of a segment makes when it goes on, is first written beside it.
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
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from mixscale.config import to_json
from mixscale.errors import InputError, listed
from mixscale.training import manifest
from mixscale.training.hosts import alike

if TYPE_CHECKING:
    from mixscale.training.step import State

KEEP = 2
"""Newest checkpoints that are kept while a run trains: one to go on from, and one for when it is damaged."""
SLACK = 1_000_000
"""Bytes that a checkpoint may take beyond its arrays."""

log = logging.getLogger(__name__)


class Number(NamedTuple):
    """What a checkpoint's folder is called: `done`, or `done.edition` until it has replaced those of as many steps."""

    done: int
    """optimizer steps done in all segments together"""
    edition: int = 0

    @property
    def name(self) -> str:
        return f"{self.done}.{self.edition}" if self.edition else str(self.done)


@dataclass(frozen=True)
class Restored:
    """A checkpoint on the devices."""

    done: int
    """optimizer steps done in all segments together"""
    live: State
    trunk: State | None
    """the state a branch will return to, None outside of branches"""
    position: dict[str, Any]
    told: tuple[str, ...]
    """a sentence for each newer checkpoint that could not be used; they are logged as well"""


class Checkpoints:
    """The checkpoints under `directory`, numbered by optimizer steps done in all segments together.

    Args:
        directory: folder of the checkpoints; made when the first is saved.
        about: nested JSON of what a checkpoint must have been made with to be gone on from here: the model's fields,
            tokenizer, optimizer. Outermost fields that only the checkpoint has are not compared.
    """

    def __init__(self, directory: Path, about: dict[str, Any] | None = None):
        # Orbax logs what it also raises; who calls decides what is said.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._directory, self._about = directory.absolute(), to_json(about or {})
        # Folders are made before a save returns: it takes no time on a disk, and a full one then says so at once.
        at_once = ocp.AsyncOptions(create_directories_asynchronously=False)
        self._orbax = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(), async_options=at_once)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._newest_whole: Number | None = None
        """the one that was restored or saved last; every process knows the same"""

    def save(
        self,
        done: int,
        live: State,
        trunk: State | None,
        position: dict[str, Any],
        best: float | None = None,
        stable: bool = False,
    ) -> None:
        """Copies the states and returns; the files are written, checked and counted in the background.

        Args:
            done: number of the checkpoint; those from here on are replaced: at once where they were not gone on from,
                else when this one is whole.
            live: the state that trains; it may be donated as soon as this returns.
            trunk: the state a branch will return to, None outside of branches.
            position: JSON that comes back with the states.
            best: the number by which the best checkpoint is kept; lower is better.
            stable: `live` was never decayed, and others may go on from it; the last such is kept.

        Raises:
            OSError: the disk is full, now or in the save before.
        """
        self.wait()
        states = {"live": live._asdict()} | ({} if trunk is None else {"trunk": trunk._asdict()})
        self._check_room(sum(x.nbytes for x in jax.tree.leaves(states)))
        before = self._newest_whole
        number = Number(done, before.edition + 1 if before and before.done == done else 0)
        if jax.process_index() == 0:
            self._directory.mkdir(parents=True, exist_ok=True)
            for later in self._there():
                if later >= number:
                    self._remove(later)
        facts = {
            "about": self._about,
            # The thread writes it, and who gave it goes on changing it.
            "position": copy.deepcopy(position),
            "best": best,
            "stable": stable,
            "trunk": trunk is not None,
            "arrays": _described(live),
        }
        try:
            self._orbax.save(self._folder(number), args=ocp.args.PyTreeSave(states), force=True)
        except Exception as error:
            raise self._told(error) from error
        self._thread = threading.Thread(target=self._finish, args=(number, facts), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Returns when what was saved is on the disk and counts.

        Raises:
            OSError: the disk was full.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise self._told(error) from error

    def restore(self, like: State, stable: bool = False, only: int | None = None) -> Restored | None:
        """The newest checkpoint that is whole, on the devices and meshes that `like` is on; None where there is none.

        Args:
            like: arrays, or shapes with shardings; where its `opt` is None only the weights are read.
            stable: look only at those saved as stable.
            only: look only at this one.

        Raises:
            InputError: it is of another model, tokenizer or optimizer, each named field by field.
            OSError: a file of one that may be whole cannot be read just now.
        """
        self.wait()
        number, told = self._newest(stable, only) if jax.process_index() == 0 else (None, [])
        number = Number(*(int(n) for n in alike(np.array(number or (-1, 0), np.int32))))
        for sentence in told:
            log.warning(sentence)
        if number.done < 0:
            return None
        facts = manifest.read(self._folder(number))
        self._check_same(number, facts, like)
        names = ("live", "trunk") if facts["trunk"] else ("live",)
        wanted = {"params": like.params} | ({} if like.opt is None else {"opt": like.opt})
        item = dict.fromkeys(names, wanted)
        found = self._orbax.restore(
            self._folder(number),
            args=ocp.args.PyTreeRestore(
                item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=like.opt is None
            ),
        )
        states = [like._replace(**found[name]) if name in names else None for name in ("live", "trunk")]
        self._newest_whole = number
        return Restored(number.done, *states, facts["position"], tuple(told))

    def numbers(self) -> list[int]:
        """Checkpoints that are there, oldest first, whole or not."""
        return sorted({number.done for number in self._there()})

    def keep_newest(self) -> None:
        """Removes all but the newest, the best and the last stable, when a run has ended."""
        self.wait()
        if jax.process_index() == 0:
            self._prune(1)

    def close(self) -> None:
        """Waits for what is being saved.

        Raises:
            OSError: the disk was full.
        """
        try:
            self.wait()
        finally:
            self._orbax.close()

    def _there(self) -> list[Number]:
        """As `numbers`, those of as many steps apart."""
        try:
            names = [re.fullmatch(r"(\d+)(?:\.(\d+))?", path.name) for path in self._directory.iterdir()]
        except manifest.MISSING:
            return []
        return sorted(Number(int(name[1]), int(name[2] or 0)) for name in names if name)

    def _finish(self, number: Number, facts: dict[str, Any]) -> None:
        """In the thread: once the arrays are on the disk, makes the checkpoint count and removes what it replaces."""
        try:
            self._orbax.wait_until_finished()
            if jax.process_index() == 0:
                manifest.write(self._folder(number), facts)
                self._prune(KEEP)
            self._newest_whole = Number(number.done)
        except Exception as error:
            self._error = error

    def _newest(self, stable: bool, only: int | None) -> tuple[Number | None, list[str]]:
        """The newest checkpoint that is whole, None where there is none, and what is wrong with newer ones."""
        spoilt = []
        for number in reversed(self._there()):
            if only not in (None, number.done):
                continue
            try:
                if stable and not manifest.read(self._folder(number))["stable"]:
                    continue
                manifest.verify(self._folder(number))
            except manifest.Damaged as why:
                spoilt.append(f"checkpoint {self._folder(number)} {why}")
                continue
            return number, [f"{sentence}; going on from checkpoint {number.name}" for sentence in spoilt]
        return None, [
            f"{sentence}; none is left that is whole, so a run STARTS AGAIN FROM ITS FIRST STEP" for sentence in spoilt
        ]

    def _check_same(self, number: Number, facts: dict[str, Any], like: State) -> None:
        """Raises InputError where a checkpoint was made with something else than this run."""
        wrong = list(manifest.differences(self._about, facts["about"]))
        wrong = wrong or list(manifest.differences(_described(like), facts["arrays"]))
        if wrong:
            raise InputError(
                f"checkpoint {self._folder(number)} is of another run: {listed(wrong)}; "
                "give the settings it was made with, or another folder"
            )

    def _prune(self, newest: int) -> None:
        """Removes finished checkpoints that need not be kept, and what kills have left of unfinished ones."""
        found: dict[int, dict[str, Any]] = {}
        for number in reversed(self._there()):
            if number.done in found:
                self._remove(number)
                continue
            try:
                found[number.done] = manifest.read(self._folder(number)) | {"number": number}
            except manifest.Damaged:
                self._remove(number)
            except OSError:
                # It may be whole, and is looked at again once another was saved.
                continue
        facts = dict(sorted(found.items()))
        for done, f in facts.items():
            if f["number"].edition:
                self._folder(f["number"]).rename(self._folder(Number(done)))
        kept = set(list(facts)[-newest:])
        kept |= set([done for done, f in facts.items() if f["stable"]][-1:])
        scored = [(f["best"], -done) for done, f in facts.items() if f["best"] is not None]
        kept |= {-negative for _, negative in sorted(scored)[:1]}
        for done in facts:
            if done not in kept:
                self._remove(Number(done))
        for path in self._directory.glob("*tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove(self, number: Number) -> None:
        # Without its manifest first: half of a removal must not look like damage.
        (self._folder(number) / manifest.FILE).unlink(missing_ok=True)
        shutil.rmtree(self._folder(number))

    def _folder(self, number: Number) -> Path:
        return self._directory / number.name

    def _check_room(self, needed: int) -> None:
        """Raises OSError on a full disk, which Orbax's storage would report from its threads and in its own words."""
        parent = next(folder for folder in (self._directory, *self._directory.parents) if folder.exists())
        if shutil.disk_usage(parent).free < needed + SLACK:
            raise self._failed(errno.ENOSPC)

    def _told(self, error: Exception) -> Exception:
        """The error of a save; what the storage words in its own way, as the OSError that it was."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            if os.strerror(number) in str(error):
                return self._failed(number)
        return error

    def _failed(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), str(self._directory))


def _described(state: State) -> dict[str, str]:
    """Shape and dtype of every weight, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}" for path, x in leaves}
