"""How long `mixscale plan` and `mixscale status` take on a sweep of many runs, imports included.

    python analysis/sweep_benchmark.py --runs 10000 --docs docs/launchers.md

The runs have the quickstart's shape, and none is trained: half of them get the row of a run that has ended, this
process holds some and writes their progress, some have failed, and the others wait. Each command is started several
times in a process of its own.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import tyro
from benchmark import document

from mixscale.config import Design, load
from mixscale.data import build_store
from mixscale.errors import Unfinished
from mixscale.run_table import Status
from mixscale.sweeps.directory import open_directory, run_directory, write_rows
from mixscale.sweeps.plan import Planned, plan, save_plan
from mixscale.sweeps.run_state import ATTEMPTS, RunProgress, Stage, claimed, record_failure

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.py"
HELD_OUT = 8
HELD, FAILED = 128, 20
"""Runs that are held, and runs that have failed; fewer where there are fewer runs."""


class Took(NamedTuple):
    """Seconds of one command."""

    wall: float
    cpu: float


def main(
    runs: int = 10_000, folder: Path = Path("runs/sweep-benchmark"), times: int = 5, docs: Path | None = None
) -> None:
    """Creates the folder of a sweep, and times the commands on it.

    Args:
        runs: planned.
        folder: for the sweep; its content is removed.
        times: how often each command is started; the median is reported.
        docs: file whose table of this benchmark is filled in.
    """
    design = Design(
        dirichlet=runs - HELD_OUT, vertices=False, centre=False, natural=False, held_out=HELD_OUT, replicates=0
    )
    experiment = replace(load(CONFIG), output=str(folder), design=design)
    shutil.rmtree(experiment.directory, ignore_errors=True)
    store = build_store(experiment.corpus)
    planned = plan(experiment, store)
    directory = open_directory(experiment, store)
    save_plan(directory, "design", planned, store)
    config = folder / "config.py"
    config.write_text(f"from mixscale.config import *\nexperiment = {experiment!r}\n")
    with ExitStack() as claims:
        states = set_up(directory, planned, claims)
        took = {
            "plan": [timed("plan", str(config)) for _ in range(times)],
            "status": [timed("status", str(directory)) for _ in range(times)],
        }
    lines = [
        f"{len(planned)} runs planned: {', '.join(f'{count} {state}' for state, count in states.items())}.",
        "",
        "| command | seconds | from | to | processor seconds |",
        "|---|---|---|---|---|",
        *(row(name, each) for name, each in took.items()),
    ]
    print("\n".join(lines), flush=True)
    if docs:
        document.fill(docs, {"sweep": "\n".join(lines)})


def set_up(directory: Path, planned: list[Planned], claims: ExitStack) -> dict[str, int]:
    """Brings runs into the states of a sweep that is half done; returns how many are in each."""
    half = len(planned) // 2
    held, failed = min(HELD, half // 4), min(FAILED, half // 4)
    paths = [run_directory(directory, item.run.id) for item in planned]
    for path, item in zip(paths[:half], planned, strict=False):
        row = {"run": item.run.id, "seed": item.run.seed, "status": Status.COMPLETE, "seconds": 60.0, "flops": 1e12}
        write_rows(directory, path.name, [row])
    for path in paths[half : half + held]:
        claims.enter_context(claimed(path))
        RunProgress(60, 100, 1000, 10, time.time() - 60, time.time()).write(path)
    for path in paths[half + held : half + held + failed]:
        path.mkdir(parents=True)
        for _ in range(ATTEMPTS):
            record_failure(path, Unfinished("a device failed"))
    waiting = len(planned) - half - held - failed
    return {Stage.ENDED: half, Stage.RUNNING: held, Stage.FAILED: failed, Stage.WAITING: waiting}


def timed(*arguments: str) -> Took:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "mixscale", *arguments], stdout=subprocess.DEVNULL, check=True)
    wall, now = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall, now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime)


def row(name: str, each: list[Took]) -> str:
    wall, cpu = [took.wall for took in each], [took.cpu for took in each]
    seconds = (statistics.median(wall), min(wall), max(wall), statistics.median(cpu))
    return f"| `mixscale {name}` | " + " | ".join(f"{s:.2f}" for s in seconds) + " |"


if __name__ == "__main__":
    tyro.cli(main)
