"""Commands on a sweep's folder, while it is being trained or after; they load neither JAX nor the config."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from mixscale.errors import InputError

Folder = Annotated[Positional[Path], arg(metavar="DIR")]


def status(directory: Folder, /, watch: bool = False, every: float = 5.0) -> None:
    """Shows how far a sweep is: ended, running, waiting and failed runs, FLOPs spent, time left.

    For example:
      mixscale status runs/quickstart --watch

    Args:
        directory: the experiment's folder.
        watch: go on showing it until nothing is left to train.
        every: seconds between two looks.
    """
    from rich.console import Console
    from rich.live import Live

    from mixscale.sweeps.status import Status, shown

    if not every > 0:
        raise InputError(f"--every is {every:g}; give a number of seconds above zero")
    console = Console()
    now = Status.read(directory)
    if not watch:
        console.print(shown(now))
        return
    with Live(shown(now), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while not now.over:
            time.sleep(every)
            now = Status.read(directory)
            live.update(shown(now), refresh=True)


def collect(directory: Folder, /) -> None:
    """Gathers the rows of every run that has ended into runs.csv and runs.parquet.

    For example:
      mixscale collect runs/quickstart

    Args:
        directory: the experiment's folder.
    """
    from mixscale.sweeps.collect import collect as gather
    from mixscale.sweeps.labels import read_plans

    table = gather(directory)
    print(f"{len(table.final())} of {len(read_plans(directory))} planned runs are in {directory / 'runs.csv'}")
