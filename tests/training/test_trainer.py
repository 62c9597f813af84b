"""Trained runs: repeated, interrupted, sharded, diverged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixscale.config import Experiment, Mesh
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Progress, Run, Trainer, train_run
from mixscale.training.run import segments

MIXTURE = Mixture({"code": 0.5, "fiction": 0.3, "romance": 0.2})


class Cut(Exception):
    """A preemption: nothing after it runs."""


def run_of(small: Experiment, store: TokenStore, **changes) -> Run:
    train = replace(small.train, measure_at=(32 * 8 * 20,), **changes)
    return Run(Constant(MIXTURE), "tiny", small.models["tiny"], small.optimizer, train, seed=1, store=store.id)


def quiet(progress: Progress) -> None:
    """Ignores reports."""


def numbers(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def trainer(small: Experiment, store: TokenStore) -> Trainer:
    return Trainer(run_of(small, store), store, small.corpus.seed, small.machine)


@pytest.fixture(scope="module")
def uncut(trainer: Trainer, small: Experiment, store: TokenStore, tmp_path_factory) -> list[dict]:
    return train_run(trainer, run_of(small, store), tmp_path_factory.mktemp("uncut"), quiet)


def test_rows_describe_the_run(uncut, store):
    assert [row["n_tokens"] for row in uncut] == [32 * 8 * 20, 32 * 8 * 40]
    for row in uncut:
        assert row["status"] == "complete"
        for domain, weight in MIXTURE.items():
            assert abs(row[f"tokens/{domain}"] - weight * row["n_tokens"]) < store.context
            assert row[f"epochs/{domain}"] == row[f"tokens/{domain}"] / store.unique_tokens[domain]
    assert all(uncut[1][f"loss/{d}"] < uncut[0][f"loss/{d}"] < np.log(store.vocab_size) for d in store.domains)


def test_losses_do_not_drift(uncut):
    """Golden: a change beyond rounding changes the results of every run; update it only on purpose."""
    found = {domain: uncut[-1][f"loss/{domain}"] for domain in ("code", "fiction", "romance")}
    assert found == pytest.approx({"code": 3.27915, "fiction": 3.23993, "romance": 3.36172}, rel=2e-4)


def test_the_same_seed_gives_the_same_losses_twice(trainer, uncut, small, store, tmp_path):
    again = train_run(trainer, run_of(small, store), tmp_path, quiet)
    assert numbers(again) == numbers(uncut)


def test_another_seed_gives_other_losses(trainer, uncut, small, store, tmp_path):
    other = train_run(trainer, replace(run_of(small, store), seed=2), tmp_path, quiet)
    assert other[-1]["loss/code"] != uncut[-1]["loss/code"]


def test_a_run_interrupted_many_times_gets_the_same_rows(trainer, uncut, small, store, tmp_path):
    rng = np.random.default_rng(0)
    cuts = 0
    while True:
        left = int(rng.integers(3, 7))

        def cut_after(progress: Progress) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut

        try:
            rows = train_run(trainer, run_of(small, store), tmp_path, cut_after)
            break
        except Cut:
            cuts += 1
    assert cuts >= 2
    assert numbers(rows) == numbers(uncut)


def test_the_last_measurement_does_not_depend_on_the_ones_before(uncut, small, store, tmp_path):
    """The branch that decays for an early measurement does not change the trunk."""
    alone = replace(run_of(small, store), train=small.train)
    rows = train_run(Trainer(alone, store, small.corpus.seed, small.machine), alone, tmp_path, quiet)
    losses = [row for row in rows[-1] if row.startswith("loss/")]
    assert [rows[-1][k] for k in losses] == pytest.approx([uncut[-1][k] for k in losses], rel=1e-6)


@pytest.mark.mesh
def test_eight_devices_give_the_losses_of_one(uncut, small, store, tmp_path):
    run, eight = run_of(small, store), replace(small.machine, mesh=Mesh(data=8))
    rows = train_run(Trainer(run, store, small.corpus.seed, eight), run, tmp_path, quiet)
    for row, single in zip(rows, uncut, strict=True):
        for domain in store.domains:
            assert row[f"loss/{domain}"] == pytest.approx(single[f"loss/{domain}"], rel=1e-5)


def test_a_diverged_run_is_stopped_marked_and_kept(small, store, tmp_path):
    wild = replace(run_of(small, store), optimizer=replace(small.optimizer, learning_rate=1e4))
    rows = train_run(Trainer(wild, store, small.corpus.seed, small.machine), wild, tmp_path, quiet)
    assert rows[-1]["status"] == "diverged"
    assert rows[-1]["step"] < 40
    assert rows[-1]["loss/code"] is None


def test_a_proxy_can_repeat_its_rows_as_often_as_its_target(small, store, tmp_path):
    repeated = run_of(small, store, like_tokens=10 * small.train.tokens)
    row = train_run(Trainer(repeated, store, small.corpus.seed, small.machine), repeated, tmp_path, quiet)[-1]
    target_epochs = 0.5 * 10 * small.train.tokens / store.unique_tokens["code"]
    assert row["epochs/code"] == pytest.approx(target_epochs, rel=0.05)


def test_training_is_recorded_for_tensorboard(trainer, small, store, tmp_path: Path):
    train_run(trainer, run_of(small, store), tmp_path, quiet)
    (events,) = (tmp_path / "tensorboard").glob("events.*")
    written = events.read_bytes()
    assert all(tag in written for tag in (b"train/loss", b"train/learning_rate", b"held_out/code"))


def test_an_ended_run_keeps_its_newest_checkpoint_and_the_one_before_its_decay(trainer, uncut, small, store, tmp_path):
    rows = train_run(trainer, run_of(small, store), tmp_path, quiet)
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    steps = [s.last - s.first for s in segments(small.optimizer, run_of(small, store).train, store.context)]
    assert kept == {sum(steps), sum(steps[:-1])}
    assert numbers(train_run(trainer, run_of(small, store), tmp_path, quiet)) == numbers(rows) == numbers(uncut)


def test_a_store_other_than_the_planned_one_is_refused(small, store):
    with pytest.raises(InputError, match=store.id):
        Trainer(replace(run_of(small, store), store="0123456789"), store, small.corpus.seed, small.machine)
