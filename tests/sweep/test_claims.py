"""Claims on a run's folder: real processes that race for it, are killed, or were taken for dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixscale.sweep import claims, failures

RACER = """
import errno, fcntl, sys, time
from pathlib import Path
from mixscale.sweep import claims

def no_locks(*_):
    raise OSError(errno.ENOLCK, "no locks here")

if sys.argv[1] != "same machine":
    fcntl.flock = no_locks
    claims.this_machine = lambda: sys.argv[2]
for line in sys.stdin:
    moment, folder = line.rstrip().split(" ", 1)
    while time.time() < float(moment):
        pass
    with claims.claimed(Path(folder)) as free:
        print(int(free), flush=True)
        sys.stdin.readline()
"""
HOLDER = """
import sys, time
from pathlib import Path
from mixscale.sweep import claims

claims.BEAT = 0.05
with claims.claimed(Path(sys.argv[1])) as free:
    print(int(free), flush=True)
    time.sleep(60)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], text=True, **pipes)


def tell(process: subprocess.Popen[str], line: str) -> None:
    process.stdin.write(line + "\n")
    process.stdin.flush()


def leave_behind(folder: Path) -> None:
    """What a machine that lost its power some minutes ago leaves."""
    folder.mkdir()
    lease = folder / "claim.1"
    lease.write_text(json.dumps({"machine": "third", "host": "third", "pid": 1, "since": 0.0}))
    os.utime(lease, (0, time.time() - claims.LEASE - 1))


@pytest.mark.parametrize("case", ["same machine", "other machine", "left behind"])
def test_of_two_processes_that_race_for_a_run_exactly_one_wins_each_time(case, tmp_path):
    racers = [start(RACER, case, name) for name in ("one", "two")]
    for process in racers:
        tell(process, f"0 {tmp_path / 'warm-up'}")
        process.stdout.readline()
        tell(process, "")
    wins = []
    for index in range(1000):
        folder = tmp_path / str(index)
        if case == "left behind":
            leave_behind(folder)
        moment = time.time() + 0.0005
        for process in racers:
            tell(process, f"{moment} {folder}")
        won = [int(process.stdout.readline()) for process in racers]
        assert sum(won) == 1, (index, won)
        wins += won
        for process in racers:
            tell(process, "")
    for process in racers:
        process.stdin.close()
        assert process.wait() == 0
    assert 0 < sum(wins[::2]) < 1000, "one of them never won, so they did not race"


def test_a_killed_process_gives_its_claim_back_at_once_and_is_remembered(tmp_path):
    process = start(HOLDER, str(tmp_path))
    assert process.stdout.readline() == "1\n"
    assert claims.holder(tmp_path).pid == process.pid
    with claims.claimed(tmp_path) as free:
        assert not free
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert claims.holder(tmp_path) is None
    with claims.claimed(tmp_path) as free:
        assert free
        failure = failures.read(tmp_path)
        assert (failure.kind, failure.times) == ("unfinished", 1)
        assert str(process.pid) in failure.why
    assert failures.read(tmp_path) is None, "it went well this time"


def test_a_claim_of_another_machine_holds_until_it_was_silent_for_long(tmp_path):
    leave_behind(tmp_path / "run")
    lease = tmp_path / "run" / "claim.1"
    os.utime(lease, (0, time.time() - claims.LEASE / 2))
    assert claims.holder(tmp_path / "run").host == "third"
    with claims.claimed(tmp_path / "run") as free:
        assert not free
    os.utime(lease, (0, time.time() - claims.LEASE - 1))
    assert claims.holder(tmp_path / "run") is None
    with claims.claimed(tmp_path / "run") as free:
        assert free


def test_a_process_that_was_taken_for_dead_ends_before_it_writes(tmp_path):
    process = start(HOLDER, str(tmp_path))
    process.stdout.readline()
    (tmp_path / "claim.1").rename(tmp_path / "claim.2")
    assert process.wait(timeout=30) == 1
    assert "was taken over" in process.stderr.read()


def test_what_fails_inside_a_claim_is_recorded_and_an_interrupt_is_not(tmp_path):
    def fail(error: Exception) -> None:
        with pytest.raises(type(error)), claims.claimed(tmp_path):
            raise error

    fail(ValueError("no such number"))
    fail(ValueError("no such number"))
    assert failures.read(tmp_path).times == 2
    assert "no such number" in failures.read(tmp_path).why
    assert not failures.read(tmp_path).final
    fail(failures.Unfinished("told to stop"))
    assert failures.read(tmp_path).times == 2
    fail(failures.InputError("no such domain"))
    assert failures.read(tmp_path).final
