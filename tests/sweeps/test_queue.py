"""Claims on a run's folder: real processes race for it, are killed, or lose their lease."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixscale.errors import InputError, Interrupted, Unfinished
from mixscale.sweeps import queue
from mixscale.sweeps.run_state import Failure, RunProgress, claimed

RACER = """
import errno, fcntl, sys, time
from pathlib import Path
from mixscale.sweeps import queue

def no_locks(*_):
    raise OSError(errno.ENOLCK, "no locks here")

if "same machine" not in sys.argv[1]:
    fcntl.flock = no_locks
    queue.this_machine = lambda: sys.argv[2]
for line in sys.stdin:
    moment, folder = line.rstrip().split(" ", 1)
    while time.time() < float(moment):
        pass
    with queue.claim(Path(folder)) as claim:
        print(int(claim is not None), flush=True)
        sys.stdin.readline()
"""
HOLDER = """
import sys, time
from pathlib import Path
from mixscale.sweeps import queue

queue.HEARTBEAT = 0.05
with queue.claim(Path(sys.argv[1])) as claim:
    print(int(claim is not None), flush=True)
    time.sleep(60)
"""


HICCUP = """
import errno, os, sys, threading, time
from pathlib import Path
from mixscale.sweeps import queue

def away(self):
    global left
    left -= self.name.startswith("claim.")
    if 0 <= left < 3:
        raise OSError(errno.ESTALE, "stale file handle", str(self))
    return os.path.exists(self)

queue.HEARTBEAT, left, Path.exists = 0.05, 3, away
with queue.claim(Path(sys.argv[1])):
    print("claimed", flush=True)
    sys.stdin.readline()
"""
LOCKER = """
import fcntl, sys
with open(sys.argv[1], "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.readline()
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], text=True, **pipes)


def send(process: subprocess.Popen[str], line: str) -> None:
    process.stdin.write(line + "\n")
    process.stdin.flush()


def leave_behind(folder: Path) -> None:
    """What a machine that lost its power some minutes ago leaves."""
    folder.mkdir()
    lease = folder / "claim.1"
    lease.write_text(json.dumps({"machine": "third", "host": "third", "pid": 1, "since": 0.0}))
    os.utime(lease, (0, time.time() - queue.LEASE - 1))


@pytest.mark.parametrize("case", ["same machine", "other machine", "left behind", "left behind to the same machine"])
def test_exactly_one_of_two_racing_processes_claims_a_run(case, tmp_path):
    racers = [start(RACER, case, name) for name in ("one", "two")]
    for process in racers:
        send(process, f"0 {tmp_path / 'warm-up'}")
        process.stdout.readline()
        send(process, "")
    wins = []
    for index in range(1000):
        folder = tmp_path / str(index)
        if "left behind" in case:
            leave_behind(folder)
        moment = time.time() + 0.0005
        for process in racers:
            send(process, f"{moment} {folder}")
        won = [int(process.stdout.readline()) for process in racers]
        assert sum(won) == 1, (index, won)
        wins += won
        for process in racers:
            send(process, "")
    for process in racers:
        process.stdin.close()
        assert process.wait() == 0
    assert 0 < sum(wins[::2]) < 1000, "one of them never won, so there was no race"


def test_a_killed_process_releases_its_claim_at_once_and_the_failure_is_recorded(tmp_path):
    process = start(HOLDER, str(tmp_path))
    assert process.stdout.readline() == "1\n"
    assert queue.holder(tmp_path).pid == process.pid
    with claimed(tmp_path) as free:
        assert not free
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert queue.holder(tmp_path) is None
    with claimed(tmp_path) as free:
        assert free
        failure = Failure.read(tmp_path)
        assert (failure.kind, failure.times) == ("unfinished", 1)
        assert str(process.pid) in failure.why
    assert Failure.read(tmp_path).times == 1, "nothing failed since"


def test_a_claim_of_another_machine_holds_until_its_lease_expires(tmp_path):
    leave_behind(tmp_path / "run")
    lease = tmp_path / "run" / "claim.1"
    os.utime(lease, (0, time.time() - queue.LEASE / 2))
    assert queue.holder(tmp_path / "run").host == "third"
    with claimed(tmp_path / "run") as free:
        assert not free
    os.utime(lease, (0, time.time() - queue.LEASE - 1))
    assert queue.holder(tmp_path / "run") is None
    with claimed(tmp_path / "run") as free:
        assert free


def test_a_process_that_lost_its_lease_exits(tmp_path):
    process = start(HOLDER, str(tmp_path))
    process.stdout.readline()
    (tmp_path / "claim.1").rename(tmp_path / "claim.2")
    assert process.wait(timeout=30) == 1
    assert str(tmp_path) in process.stderr.read()


def test_errors_inside_a_claim_are_recorded_but_interrupts_are_not(tmp_path):
    def fail(error: Exception) -> None:
        with pytest.raises(type(error)), claimed(tmp_path):
            raise error

    fail(ValueError("no such number"))
    fail(ValueError("no such number"))
    assert Failure.read(tmp_path).times == 2
    assert "no such number" in Failure.read(tmp_path).why
    assert not Failure.read(tmp_path).final
    fail(Interrupted(signal.SIGTERM))
    assert Failure.read(tmp_path).times == 2
    fail(Unfinished("the devices failed"))
    assert Failure.read(tmp_path).why == "the devices failed"
    assert Failure.read(tmp_path).final
    fail(InputError("no such domain"))
    assert Failure.read(tmp_path).final


def test_a_short_outage_of_the_file_server_does_not_end_the_heartbeat(tmp_path):
    process = start(HICCUP, str(tmp_path))
    assert process.stdout.readline() == "claimed\n"
    lease = tmp_path / "claim.1"
    os.utime(lease, (0, 1))
    until = time.monotonic() + 20
    while lease.stat().st_mtime == 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert lease.stat().st_mtime > 1
    send(process, "")
    assert process.wait() == 0


def test_deaths_count_only_without_progress_in_between(tmp_path):
    def die_at(step: int) -> Failure:
        RunProgress(step, 1000, 0, 0, 0.0, 0.0).write(tmp_path)
        # As of this machine: its lock is free, so it is dead.
        newest = max(tmp_path.glob("claim.*"), key=lambda lease: int(lease.suffix[1:]))
        os.utime(newest)
        with claimed(tmp_path) as free:
            assert free
        return Failure.read(tmp_path)

    with claimed(tmp_path):
        pass
    assert [die_at(step).times for step in (100, 200, 300, 400)] == [1, 1, 1, 1]
    assert [(die_at(step).times, Failure.read(tmp_path).final) for step in (400, 350)] == [(2, False), (3, True)]
    # Further than 350, but not further than ever.
    assert die_at(390).times == 4


def test_claiming_a_held_run_does_not_wait(tmp_path, monkeypatch):
    def wait(seconds: float) -> None:
        raise AssertionError(f"waited {seconds} s")

    with claimed(tmp_path):
        monkeypatch.setattr(queue.time, "sleep", wait)
        assert queue.holder(tmp_path).pid == os.getpid()
        with claimed(tmp_path) as theirs:
            assert not theirs
        monkeypatch.undo()


def test_a_run_can_be_claimed_while_its_state_is_read(tmp_path, monkeypatch):
    with claimed(tmp_path):
        pass
    with open(tmp_path / "lock") as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        monkeypatch.setattr(queue.time, "sleep", lambda seconds: fcntl.flock(looked_at, fcntl.LOCK_UN))
        with claimed(tmp_path) as free:
            monkeypatch.undo()
            assert free


def test_a_lock_kept_for_a_dead_node_does_not_block_its_run(tmp_path):
    folder = tmp_path / "run"
    leave_behind(folder)
    server = start(LOCKER, str(folder / "lock"))
    assert server.stdout.readline() == "locked\n"
    with claimed(folder) as free:
        assert free
        # Without the lock, the lease alone says that this process lives, also to its own machine.
        with claimed(folder) as theirs:
            assert not theirs
        send(server, "")
        server.wait()
        assert queue.holder(folder).pid == os.getpid()
        with claimed(folder) as theirs:
            assert not theirs
    assert queue.holder(folder) is None
    with claimed(folder) as free:
        assert free


def test_a_local_process_with_the_lock_is_alive_despite_an_old_heartbeat(tmp_path):
    with claimed(tmp_path):
        os.utime(tmp_path / "claim.1", (0, time.time() - 2 * queue.LEASE))
        with claimed(tmp_path) as theirs:
            assert not theirs
