"""Runs with a damaged checkpoint and runs that a signal stops: both get the rows of an uninterrupted run."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.config import Experiment
from mixscale.data import TokenStore
from mixscale.errors import Interrupted
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Progress, Run, Trainer, train_run

MIXTURE = Mixture({"code": 0.5, "fiction": 0.3, "romance": 0.2})


class Cut(Exception):
    """A preemption: nothing after it runs."""


class Stopped:
    """Ignores reports, and calls a function after some dispatches."""

    def __init__(self, after: int, happens):
        self._left, self._happens = after, happens

    def __call__(self, progress: Progress) -> None:
        self._left -= 1
        if self._left == 0:
            self._happens()


def cut() -> None:
    raise Cut


def numbers(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def run(small: Experiment, store: TokenStore) -> Run:
    train = replace(small.train, measure_at=(32 * 8 * 20,))
    return Run(Constant(MIXTURE), "tiny", small.models["tiny"], small.optimizer, train, seed=1, store=store.id)


@pytest.fixture(scope="module")
def trainer(run: Run, small: Experiment, store: TokenStore) -> Trainer:
    return Trainer(run, store, small.corpus.seed, small.machine)


@pytest.fixture(scope="module")
def uncut(trainer: Trainer, run: Run, tmp_path_factory) -> list[dict]:
    return train_run(trainer, run, tmp_path_factory.mktemp("uncut"), lambda progress: None)


@pytest.fixture(scope="module")
def half(trainer: Trainer, run: Run, tmp_path_factory) -> Path:
    """The folder of a run interrupted in its branch; the newest checkpoint has branch and trunk."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.raises(Cut):
        train_run(trainer, run, folder, Stopped(6, cut))
    return folder


def checkpoints(folder: Path) -> list[Path]:
    return sorted((p for p in (folder / "checkpoints").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def damage(checkpoint: Path, rng: random.Random) -> str:
    """Damages one file of a checkpoint as disks and copies do."""
    file = rng.choice(sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.stat().st_size))
    held = bytearray(file.read_bytes())
    at, way = rng.randrange(len(held)), rng.choice(["flipped", "shortened", "zeroed", "removed"])
    if way == "flipped":
        held[at] ^= 1 << rng.randrange(8)
    elif way == "shortened":
        del held[at:]
    elif way == "zeroed":
        held[at:] = bytes(len(held) - at - 1) + bytes([held[-1] ^ 1])
    file.write_bytes(held)
    if way == "removed":
        file.unlink()
    return f"{file.relative_to(checkpoint)} {way} at {at}"


def spoil_and_go_on(trainer, run, half: Path, folder: Path, seed: int, caplog) -> tuple[str, list[dict]]:
    shutil.copytree(half, folder)
    before, newest = checkpoints(folder)[-2:]
    what = damage(newest, random.Random(seed))
    with caplog.at_level(logging.WARNING, "mixscale"):
        caplog.clear()
        rows = train_run(trainer, run, folder, lambda progress: None)
    warnings = [r.getMessage() for r in caplog.records if r.name.startswith("mixscale")]
    assert len(warnings) == 1, (what, warnings)
    assert str(newest) in warnings[0], what
    assert warnings[0].endswith(f"Resuming from checkpoint {before.name}"), (what, warnings)
    return what, rows


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_checkpoint_is_a_warning_and_the_previous_one_gives_the_same_rows(
    seed, trainer, run, uncut, half, tmp_path, caplog
):
    what, rows = spoil_and_go_on(trainer, run, half, tmp_path / "run", seed, caplog)
    assert numbers(rows) == numbers(uncut), what


@pytest.mark.slow
def test_fifty_kinds_of_damage_are_found(trainer, run, uncut, half, tmp_path, caplog):
    for seed in range(100, 150):
        what, rows = spoil_and_go_on(trainer, run, half, tmp_path / str(seed), seed, caplog)
        assert numbers(rows) == numbers(uncut), what


def test_a_run_without_an_intact_checkpoint_warns_and_restarts(trainer, run, uncut, half, tmp_path, caplog):
    shutil.copytree(half, tmp_path / "run")
    for checkpoint in checkpoints(tmp_path / "run"):
        damage(checkpoint, random.Random(0))
    with caplog.at_level(logging.WARNING, "mixscale"):
        rows = train_run(trainer, run, tmp_path / "run", lambda progress: None)
    assert "No intact checkpoint remains; restarting from step 0" in caplog.text
    assert numbers(rows) == numbers(uncut)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_run_and_it_resumes_from_there(number, trainer, run, uncut, tmp_path):
    """The eighth dispatch ends between two regular checkpoints."""
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        train_run(trainer, run, tmp_path, Stopped(8, lambda: os.kill(os.getpid(), number)))
    assert caught.value.status == 128 + number
    assert signal.getsignal(number) == before
    stood = int(checkpoints(tmp_path)[-1].name)
    done = []
    rows = train_run(trainer, run, tmp_path, lambda progress: done.append(progress.done))
    assert stood % 8 != 0
    assert stood < done[0] <= stood + 4
    assert numbers(rows) == numbers(uncut)
