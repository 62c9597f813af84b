"""The rows that a run draws: the guarantee for every prefix, the order of rows, and golden draws."""

import gc
import hashlib
import weakref

import numpy as np
import pytest

from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.training.sampler import Sampler, apportion, epoch_order

ROWS = {domain: np.arange(rows) for domain, rows in {"a": 30, "b": 50, "c": 7, "unused": 9}.items()}
MIXED = Mixture({"a": 0.5, "b": 0.3, "c": 0.2})


def drawn(sampler: Sampler, first: int, last: int) -> list[tuple[str, int]]:
    domain_n, row_n = sampler.draws(first, last)
    return [(sampler.domains[d], int(r)) for d, r in zip(domain_n, row_n, strict=True)]


def excess(stages: list[tuple[int, np.ndarray]]) -> float:
    """Largest distance of a count from its cumulative share in any prefix, beyond the bound of 1 - 1/(2K-2)."""
    K = len(stages[0][1])
    exact_NxK = np.cumsum(np.concatenate([np.tile(weights_K, (n, 1)) for n, weights_K in stages]), axis=0)
    count_NxK = np.cumsum(np.eye(K)[apportion(stages)], axis=0)
    return float(np.abs(count_NxK - exact_NxK).max() - (1 - 1 / (2 * K - 2)))


@pytest.mark.parametrize("concentration", [0.05, 0.3, 1.0, 10.0])
@pytest.mark.parametrize("domains", [2, 3, 7, 17])
def test_every_prefix_is_within_one_sequence_of_every_share(domains, concentration):
    rng = np.random.default_rng([domains, int(100 * concentration)])
    assert excess([(4000, rng.dirichlet(np.full(domains, concentration)))]) < 1e-5


def staged_at_random(seed: int) -> list[tuple[int, np.ndarray]]:
    """One to six stages of up to 60 sequences, some of only a few, some without some of the domains."""
    rng = np.random.default_rng(seed)
    K, stages = int(rng.integers(2, 13)), []
    for _ in range(rng.integers(1, 7)):
        weights_K = rng.dirichlet(np.full(K, rng.choice([0.03, 0.3, 1.0, 10.0])))
        if rng.random() < 0.4:
            weights_K = weights_K * (rng.random(K) < 0.5) + 1e-300
        stages.append((int(rng.integers(1, 60 if rng.random() < 0.7 else 4)), weights_K / weights_K.sum()))
    return stages


@pytest.mark.parametrize("schedules", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_prefix_of_a_staged_schedule_is_within_one_sequence_of_every_cumulative_share(schedules):
    assert max(excess(staged_at_random(seed)) for seed in range(schedules)) < 1e-5


def test_stages_with_equal_mixtures_draw_like_one_stage():
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights_K = rng.dirichlet(np.ones(5))
        np.testing.assert_array_equal(apportion([(130, weights_K), (270, weights_K)]), apportion([(400, weights_K)]))


def test_any_range_of_a_run_can_be_drawn_alone():
    stages = [(300, MIXED), (200, Mixture({"a": 0.1, "b": 0.9}))]
    whole, again = Sampler(stages, ROWS, seed=3), Sampler(stages, ROWS, seed=3)
    assert drawn(whole, 137, 402) == drawn(whole, 0, 500)[137:402]
    assert drawn(again, 0, 500) == drawn(whole, 0, 500)
    assert sum(whole.counts(500).values()) == 500


def test_concurrent_runs_share_the_order_of_an_epoch():
    samplers = [Sampler([(20, Mixture({"a": 0.5, "b": 0.5}))], ROWS, seed) for seed in range(100)]
    orders = []
    for seed, sampler in enumerate(samplers):
        sampler.draws(0, 20)
        orders.append(weakref.ref(epoch_order(seed, "a", 0, len(ROWS["a"]))))
    gc.collect()
    assert all(order() is not None for order in orders)
    del sampler, samplers
    gc.collect()
    assert not any(order() is not None for order in orders)


def test_a_longer_run_starts_like_a_shorter_one():
    short, long = Sampler([(100, MIXED)], ROWS, 3), Sampler([(500, MIXED)], ROWS, 3)
    assert drawn(long, 0, 100) == drawn(short, 0, 100)


def test_two_mixtures_with_one_seed_draw_the_rows_of_a_domain_in_one_order():
    few, many = (
        [r for d, r in drawn(Sampler(stages, ROWS, 5), 0, 400) if d == "a"]
        for stages in ([(400, Mixture({"a": 0.1, "b": 0.9}))], [(100, MIXED), (300, Mixture({"a": 0.8, "c": 0.2}))])
    )
    assert len(few) < len(many)
    assert many[: len(few)] == few


def test_a_domain_without_weight_changes_nothing():
    with_zero = Sampler([(300, Mixture({"b": 0.6, "unused": 0.0, "a": 0.4}))], ROWS, 1)
    without = Sampler([(300, Mixture({"a": 0.4, "b": 0.6}))], ROWS, 1)
    assert drawn(with_zero, 0, 300) == drawn(without, 0, 300)


def test_every_epoch_is_a_new_permutation_of_all_rows():
    rows = [r for _, r in drawn(Sampler([(21, Mixture({"c": 1.0}))], ROWS, 1), 0, 21)]
    epochs = [rows[0:7], rows[7:14], rows[14:21]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_seeds_differ_and_the_draws_never_change():
    """Golden: a change here changes what every recorded run was trained on, so it is a bug."""
    one, two = (drawn(Sampler([(30, Mixture({"a": 1.0}))], ROWS, seed), 0, 30) for seed in (1, 2))
    assert one != two
    assert [r for _, r in one[:8]] == [29, 19, 24, 25, 28, 3, 17, 23]
    domains = apportion([(2000, np.array([0.41, 0.013, 0.2, 0.3, 0.077]))])
    assert hashlib.sha256(domains.tobytes()).hexdigest()[:16] == "ed5964ee27a1fcb4"


def test_a_domain_without_rows_is_an_error():
    with pytest.raises(InputError, match="'new'"):
        Sampler([(10, Mixture({"a": 0.5, "new": 0.5}))], ROWS, 0)
