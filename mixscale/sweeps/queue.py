"""The queue of runs: a process claims a run's folder before it trains the run. Knows nothing of training.

A claim has two parts. The operating system's lock on `lock` serves processes of one machine; it is released when its
holder exits, even after SIGKILL. A lease serves machines that share a file system, to which such locks may not extend:
the file `claim.N` names the holder, which touches it as a heartbeat. The next holder creates `claim.N+1` once
`claim.N` was released, or not touched for `LEASE` seconds: by a hard link, so of several processes one succeeds. No
number is used twice, so no process takes over a claim that another has already taken over.
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

# Seconds without a touch until a lease expires. A network file system may report times that are a minute old, and a
# busy process may be late.
LEASE = 120.0
HEARTBEAT = 15.0  # seconds between touches
RELEASED = 0.0  # time of modification of a lease that its holder released


@dataclass(frozen=True)
class Holder:
    """The process that holds, or held, a claim."""

    machine: str
    host: str
    pid: int
    since: float  # seconds since 1970, by the holder's clock
    touched: float  # time of its last touch, by the file server's clock
    locked: bool = True  # whether it also has the lock
    together: int = 1  # runs that it trains together


@dataclass(frozen=True)
class Claim:
    lease: Path
    dead: Holder | None  # the holder before, if it died without releasing its claim


@contextmanager
def claim(path: Path, together: int = 1) -> Iterator[Claim | None]:
    """Holds the claim on a run's folder while the block runs; yields None if another process holds it.

    Args:
        path: the folder; created if it is missing.
        together: runs that are trained together, this one included.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "lock", "w") as lock:
        result = _acquire(lock, fcntl.LOCK_EX)
        if result is Lock.TAKEN and _acquire(lock, fcntl.LOCK_SH) is not Lock.TAKEN:
            # `holder` takes a shared lock for microseconds.
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.05)
            result = _acquire(lock, fcntl.LOCK_EX)
        taken = _take(path, result, together)
        if taken is None:
            yield None
            return
        stop = threading.Event()
        heartbeat = threading.Thread(target=_touch, args=(taken.lease, stop), daemon=True)
        heartbeat.start()
        try:
            yield taken
        finally:
            stop.set()
            heartbeat.join()
            with suppress(OSError):  # the lease expires by itself
                os.utime(taken.lease, (RELEASED, RELEASED))


def holder(path: Path) -> Holder | None:
    """The process that holds the claim on a run's folder; None if it is free."""
    lease = _newest(path)
    found = lease and _read(lease)
    if not found or found.touched == RELEASED:
        return None
    if found.machine == this_machine() and found.locked:
        with open(path / "lock") as lock:
            result = _acquire(lock, fcntl.LOCK_SH)
        if result is not Lock.UNSUPPORTED:
            return found if result is Lock.TAKEN else None
    return found if time.time() - found.touched < LEASE else None


@cache
def this_machine() -> str:
    """The boot id of the system, because host names repeat (localhost, containers)."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else platform.node()


class Lock(Enum):
    OURS = 1
    TAKEN = 2
    UNSUPPORTED = 3  # the file system has no such locks


def _acquire(lock: IO[str], kind: int) -> Lock:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.TAKEN
    except OSError:
        return Lock.UNSUPPORTED
    return Lock.OURS


def _take(path: Path, lock: Lock, together: int) -> Claim | None:
    """Creates the lease for this process; None if another process holds the claim."""
    before = _newest(path)
    last = before and _read(before)
    number = _number(before) + 1 if before else 1
    if lock is Lock.TAKEN and not (last and _may_outlive(last)):
        return None
    mine = path / f".claim-{secrets.token_hex(8)}"
    about = {"machine": this_machine(), "host": platform.node(), "pid": os.getpid(), "since": time.time()}
    mine.write_text(json.dumps(about | {"locked": lock is Lock.OURS, "together": together}))
    try:
        if last is not None:
            # No process of this machine can hold a lease with a lock that is now ours.
            dead = lock is Lock.OURS and last.locked and last.machine == this_machine()
            # Both times are the file server's, so the clocks of the machines may differ.
            if not dead and mine.stat().st_mtime - last.touched < LEASE:
                return None
        lease = path / f"claim.{number}"
        with suppress(FileExistsError):
            os.link(mine, lease)
        # A network file system may report a link that it has just made as existing; the count of links is right.
        if mine.stat().st_nlink != 2:
            return None
    finally:
        mine.unlink()
    return Claim(lease, last if last is not None and last.touched != RELEASED else None)


def _may_outlive(last: Holder) -> bool:
    """Whether the lock may outlive its holder, so that only the lease counts.

    A file server may keep a dead node's lock until the node restarts. A process of this machine that has the lock is
    alive, however long ago its last touch was.
    """
    return not last.locked or (last.machine != this_machine() and last.touched != RELEASED)


def _newest(path: Path) -> Path | None:
    leases = (Path(entry) for entry in os.scandir(path) if entry.name.startswith("claim."))
    return max(leases, key=_number, default=None)


def _number(lease: Path) -> int:
    return int(lease.suffix[1:])


def _read(lease: Path) -> Holder:
    with open(lease) as file:  # opening it makes a network file system fetch its time again
        return Holder(**json.load(file), touched=os.fstat(file.fileno()).st_mtime)


def _touch(lease: Path, stop: threading.Event) -> None:
    """Touches a lease until `stop` is set. One touch in `LEASE` seconds is enough, so a short outage does no harm."""
    while not stop.wait(HEARTBEAT):
        with suppress(OSError):
            if (lease.parent / f"claim.{_number(lease) + 1}").exists():
                # This process slept until another took over its run, and two must not write to one folder.
                reason = f"this process sent no heartbeat for {LEASE:.0f} s, so another one took over {lease.parent}"
                print(f"error: {reason}; exiting", file=sys.stderr, flush=True)
                os._exit(1)
            os.utime(lease)
