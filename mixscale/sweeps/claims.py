"""The claim on a run's folder: who trains it, on which machine, and whether that process still lives.

A claim has two parts. A lock of the operating system's on `lock` serves processes of one machine: it is given back
however its holder dies. A lease serves machines that share a file system, where such locks may not be known to the
others: `claim.N` names the holder and is touched while it lives. The next holder makes `claim.N+1`, once `claim.N` was
given back or not touched for `LEASE` seconds. Of several that want the same N+1 the file server lets one have it, and
a number is never used twice, so nobody can take over a claim that another has taken over before.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import IO

from mixscale.sweeps import failures

LEASE = 120.0
"""Seconds without a touch after which a lease counts as left behind. A network file system may show times that are up
to a minute old, and a busy process may be late."""
BEAT = 15.0
"""Seconds between touches."""
GIVEN_BACK = 0.0
"""Time of modification of a lease that its holder gave back."""


@dataclass(frozen=True)
class Holder:
    """Who holds, or held, a claim."""

    machine: str
    host: str
    pid: int
    since: float
    """seconds since 1970, by the holder's clock"""
    touched: float
    """when it last said that it lives, by the file server's clock"""
    locked: bool = True
    """whether it has the lock beside the lease"""
    together: int = 1
    """runs that it trains together"""


@contextmanager
def claimed(path: Path, together: int = 1) -> Iterator[bool]:
    """Holds the claim on a run's folder, made where it is missing; yields whether it was free.

    What fails inside is recorded in the folder (`failures.py`), and so is that the holder before this one died.

    Args:
        path: the folder.
        together: runs that are to be trained with this one, itself included.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "lock", "w") as lock:
        lease = _take(path, _locked(lock, fcntl.LOCK_EX), together)
        if lease is None:
            yield False
            return
        _BEATING.start(lease)
        try:
            yield True
        except Exception as error:
            failures.record(path, error, together)
            raise
        finally:
            _BEATING.stop(lease)
            # Somebody removed the folder meanwhile, or the file server is away, and the lease runs out by itself.
            with suppress(OSError):
                os.utime(lease, (GIVEN_BACK, GIVEN_BACK))


def holder(path: Path) -> Holder | None:
    """Who holds the claim on a run's folder now; None where it is free."""
    lease = _newest(path)
    found = lease and _read(lease)
    if not found or found.touched == GIVEN_BACK:
        return None
    if found.machine == this_machine() and found.locked:
        with open(path / "lock") as lock:
            held = _locked(lock, fcntl.LOCK_SH)
        if held is not Lock.UNKNOWN:
            return found if held is Lock.TAKEN else None
    return found if time.time() - found.touched < LEASE else None


@cache
def this_machine() -> str:
    """The running system's own name: host names repeat (localhost, containers), boot ids do not."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else platform.node()


class Lock(Enum):
    OURS = 1
    TAKEN = 2
    UNKNOWN = 3
    """the file system has no such locks"""


def _locked(lock: IO[str], kind: int) -> Lock:
    for attempt in (1, 2):
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return Lock.OURS
        except BlockingIOError:
            # Who only looks is refused by a holder alone, and holds the lock for microseconds: no reason to give up.
            if attempt == 2 or kind == fcntl.LOCK_SH or _locked(lock, fcntl.LOCK_SH) is Lock.TAKEN:
                return Lock.TAKEN
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.05)
        except OSError:
            return Lock.UNKNOWN
    return Lock.TAKEN


def _take(path: Path, lock: Lock, together: int) -> Path | None:
    """The lease, made for this process; None where another holds it."""
    before, last, number = _newest(path), None, 1
    if before is not None:
        last = _read(before)
        number = int(before.suffix[1:]) + 1
    if lock is Lock.TAKEN and not (last and _outlived(last)):
        return None
    mine = path / f".claim-{secrets.token_hex(8)}"
    about = {"machine": this_machine(), "host": platform.node(), "pid": os.getpid(), "since": time.time()}
    mine.write_text(json.dumps(about | {"locked": lock is Lock.OURS, "together": together}))
    try:
        if last is not None:
            # No process of this machine can hold a lease with a lock that is now ours.
            dead = lock is Lock.OURS and last.locked and last.machine == this_machine()
            # Both times are the file server's, so that clocks need not agree.
            if not dead and mine.stat().st_mtime - last.touched < LEASE:
                return None
        lease = path / f"claim.{number}"
        with suppress(FileExistsError):
            os.link(mine, lease)
        # A network file system may report a link that it made as one that was there; the count of links is the truth.
        if mine.stat().st_nlink != 2:
            return None
    finally:
        mine.unlink()
    if last is not None and last.touched != GIVEN_BACK:
        died = failures.Died(f"the process that trained it ({last.pid} on {last.host}) died without a word")
        failures.record(path, died, last.together)
    return lease


def _outlived(last: Holder) -> bool:
    """Whether a lock may be that of a dead node, for which a file server may keep it until that node starts again.

    The lease then decides alone, and those who take it so have no lock. A process of this machine that has the lock
    lives, however long it was silent.
    """
    return not last.locked or (last.machine != this_machine() and last.touched != GIVEN_BACK)


def _newest(path: Path) -> Path | None:
    numbers = [int(entry.name[6:]) for entry in os.scandir(path) if entry.name.startswith("claim.")]
    return path / f"claim.{max(numbers)}" if numbers else None


def _read(lease: Path) -> Holder:
    # Opening a file makes a network file system ask for its time anew.
    with open(lease) as file:
        return Holder(**json.load(file), touched=os.fstat(file.fileno()).st_mtime)


class _Beating:
    """Touches the leases of this process, in a thread of its own."""

    def __init__(self) -> None:
        self._leases: set[Path] = set()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, lease: Path) -> None:
        with self._guard:
            self._leases.add(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()

    def stop(self, lease: Path) -> None:
        with self._guard:
            self._leases.discard(lease)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._guard:
                for lease in self._leases:
                    # A file server may be away for a while; what counts is that some touch gets through in time.
                    with suppress(OSError):
                        _end_if_taken_over(lease)
                        os.utime(lease)


def _end_if_taken_over(lease: Path) -> None:
    """Ends a process that slept so long that another trains its run: two must not write one folder."""
    if lease.with_suffix(f".{int(lease.suffix[1:]) + 1}").exists():
        print(f"error: {lease.parent} was taken over, as this process was not heard of for {LEASE:.0f} s; it ends",
              file=sys.stderr, flush=True)  # fmt: skip
        os._exit(1)


_BEATING = _Beating()
