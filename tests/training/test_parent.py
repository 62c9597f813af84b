"""Runs that start from a parent: one that diverged, and one that is gone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.config import Experiment
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Progress, Run, Trainer, train_run


class Cut(Exception):
    """A preemption: nothing after it runs."""


def quiet(progress: Progress) -> None:
    """Ignores reports."""


@pytest.fixture(scope="module")
def run(small: Experiment, store: TokenStore) -> Run:
    mixture = Mixture({"code": 0.5, "fiction": 0.3, "romance": 0.2})
    return Run(Constant(mixture), "tiny", small.models["tiny"], small.optimizer, small.train, 1, store.id)


@pytest.fixture(scope="module")
def trainer(run: Run, small: Experiment, store: TokenStore) -> Trainer:
    return Trainer(run, store, small.corpus.seed, small.machine)


def child_of(parent: Path, run: Run) -> Run:
    return replace(run, seed=2, train=replace(run.train, parent=str(parent)))


def test_an_interrupted_child_does_not_need_its_parent(run, trainer, tmp_path):
    train_run(trainer, run, tmp_path / "parent", quiet)
    child = child_of(tmp_path / "parent", run)
    uncut = train_run(trainer, child, tmp_path / "uncut", quiet)

    def cut(progress: Progress) -> None:
        if progress.done == 20:
            raise Cut

    with pytest.raises(Cut):
        train_run(trainer, child, tmp_path / "cut", cut)
    shutil.rmtree(tmp_path / "parent")
    rows = train_run(trainer, child, tmp_path / "cut", quiet)
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in uncut]


def test_a_diverged_run_cannot_be_a_parent(run, trainer, tmp_path):
    wild = replace(run, optimizer=replace(run.optimizer, learning_rate=1e4))
    step = train_run(trainer, wild, tmp_path / "wild", quiet)[-1]["step"]
    with pytest.raises(InputError, match=rf"train.parent '.*wild' diverged at step {step}; give"):
        train_run(trainer, child_of(tmp_path / "wild", run), tmp_path / "child", quiet)
