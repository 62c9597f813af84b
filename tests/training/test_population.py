"""Trained populations: against single runs, permuted, on meshes, interrupted and diverged."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from mixscale.config import Experiment, Mesh
from mixscale.data import TokenStore
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Progress, Run, Trainer, manifest, shape_of, train_population, train_run
from mixscale.training.hugging_face import weights

STEP = 32 * 8
"""tokens"""


class Cut(Exception):
    """A preemption: nothing after it runs."""


def quiet(progress: Progress) -> None:
    """Ignores reports."""


def numbers(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def losses(rows: list[dict]) -> np.ndarray:
    return np.array([[v for k, v in row.items() if k.startswith("loss/")] for row in rows], float)


@pytest.fixture(scope="module")
def runs(small: Experiment, store: TokenStore) -> list[Run]:
    """Eight runs of one shape that differ in everything that may: mixture, seed, rate, decay, D and points."""
    mixtures = [
        Mixture({"code": 0.5, "fiction": 0.3, "romance": 0.2}),
        Mixture({"code": 1.0, "fiction": 0.0, "romance": 0.0}),
        Mixture({"code": 0.1, "fiction": 0.1, "romance": 0.8}),
        Mixture({"code": 0.2, "fiction": 0.8, "romance": 0.0}),
    ]
    # At twice the rate the seventh nearly diverges, and rounding grows ten thousand times in twenty steps.
    rate, decay = [0.01, 0.003, 0.02, 0.01, 0.01, 0.003, 0.01, 0.01], [0.1, 0.0, 0.3, 0.1]
    tokens, points = [40, 40, 28, 40], [(20,), (), (), (12, 24)]
    return [
        Run(
            Constant(mixtures[i % 4]),
            "tiny",
            small.models["tiny"],
            replace(small.optimizer, learning_rate=rate[i], weight_decay=decay[i % 4]),
            replace(small.train, tokens=tokens[i % 4] * STEP, measure_at=tuple(p * STEP for p in points[i % 4])),
            seed=i + 1,
            store=store.id,
        )
        for i in range(8)
    ]


def population(runs: list[Run], small: Experiment, store: TokenStore, folder: Path, report=quiet, **machine):
    trainer = Trainer(runs[0], store, small.corpus.seed, replace(small.machine, **machine), len(runs))
    return train_population(trainer, runs, [folder / run.id for run in runs], folder / "pack", report)


@pytest.fixture(scope="module")
def alone(runs, small, store, tmp_path_factory) -> list[list[dict]]:
    trainer = Trainer(runs[0], store, small.corpus.seed, small.machine)
    return [train_run(trainer, run, tmp_path_factory.mktemp("alone"), quiet) for run in runs]


@pytest.fixture(scope="module")
def together(runs, small, store, tmp_path_factory) -> tuple[Path, list[list[dict]]]:
    folder = tmp_path_factory.mktemp("together")
    return folder, population(runs, small, store, folder)


def test_runs_that_one_program_can_train_have_one_shape(runs):
    assert len({shape_of(run) for run in runs}) == 1
    assert len({run.id for run in runs}) == 8


def test_a_population_gets_the_rows_that_its_runs_get_alone(together, alone):
    for rows, single in zip(together[1], alone, strict=True):
        assert losses(rows) == pytest.approx(losses(single), rel=1e-5)
        exact = [k for k in rows[0] if not k.startswith(("loss/", "bits_per_byte/")) and k != "seconds"]
        assert [[row[k] for k in exact] for row in rows] == [[row[k] for k in exact] for row in single]


def test_permuting_the_runs_only_permutes_the_results(runs, together, small, store, tmp_path):
    order = [2, 5, 0, 3, 7, 1, 6, 4]
    permuted = population([runs[i] for i in order], small, store, tmp_path)
    assert [numbers(rows) for rows in permuted] == [numbers(together[1][i]) for i in order]


@pytest.mark.mesh
def test_a_population_spread_over_devices_gets_the_same_rows(runs, together, small, store, tmp_path):
    spread = population(runs, small, store, tmp_path, mesh=Mesh(run=2, data=2, fsdp=2, tensor=1))
    for rows, whole in zip(spread, together[1], strict=True):
        assert losses(rows) == pytest.approx(losses(whole), rel=1e-5)


def test_a_population_interrupted_many_times_gets_the_same_rows(runs, together, small, store, tmp_path):
    left = 0

    def cut_after(progress: Progress) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cut

    for cuts in range(100):
        left = 17 + cuts % 5
        try:
            rows = population(runs, small, store, tmp_path, cut_after)
            break
        except Cut:
            continue
    assert cuts >= 2
    assert [numbers(r) for r in rows] == [numbers(r) for r in together[1]]


def test_a_diverged_run_is_marked_and_does_not_change_other_runs(runs, together, small, store, tmp_path):
    wild = replace(runs[1], optimizer=replace(runs[0].optimizer, learning_rate=1e4))
    mixed = population([runs[0], wild, *runs[2:]], small, store, tmp_path)
    assert mixed[1][-1]["status"] == "diverged"
    assert mixed[1][-1]["loss/code"] is None
    for i in (0, *range(2, 8)):
        assert numbers(mixed[i]) == numbers(together[1][i])


def test_a_run_of_a_population_resumes_from_its_own_checkpoint(runs, together, small, store, tmp_path):
    """A child of it equals a child of the same run trained alone."""
    child = replace(runs[0], seed=9, schedule=runs[2].schedule)
    trainer = Trainer(runs[0], store, small.corpus.seed, small.machine)
    train_run(trainer, runs[0], tmp_path / runs[0].id, quiet)
    folders = tmp_path / runs[0].id, together[0] / runs[0].id
    kept = [weights(folder, runs[0].model, runs[0].optimizer, store, None) for folder in folders]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), *kept)
    found = []
    for folder in (tmp_path, together[0]):
        run = replace(child, train=replace(child.train, parent=str(folder / runs[0].id)))
        found.append(train_run(trainer, run, tmp_path / folder.name / "child", quiet))
    assert losses(found[0]) == pytest.approx(losses(found[1]), rel=1e-5)
    fresh = train_run(trainer, child, tmp_path / "fresh", quiet)
    assert losses(found[0])[0].mean() < losses(fresh)[0].mean()


def test_a_run_of_a_population_keeps_the_same_best_checkpoint_as_alone(runs, small, store, tmp_path):
    """On a few rows at a high rate, so that the held-out loss soon rises again."""
    train = replace(small.train, tokens=40 * STEP, like_tokens=10**5 * STEP, measure_at=(10 * STEP, 20 * STEP))
    linear = replace(small.optimizer, schedule="linear", learning_rate=0.05)
    pair = [replace(run, optimizer=linear, train=train) for run in (runs[0], runs[2])]
    population(pair, small, store, tmp_path / "together")
    trainer = Trainer(pair[0], store, small.corpus.seed, small.machine)
    for run in pair:
        train_run(trainer, run, tmp_path / "alone" / run.id, quiet)
        kept = [bests(tmp_path / name / run.id / "checkpoints") for name in ("together", "alone")]
        # At so high a rate, rounding changes losses but not their order.
        assert kept[0] == pytest.approx(kept[1], rel=0.05)
        assert min(kept[1], key=kept[1].get) < 40


def bests(folder: Path) -> dict[int, float]:
    """The number by which the best checkpoint is kept, for each."""
    return {int(path.name): manifest.read(path)["best"] for path in folder.iterdir()}
