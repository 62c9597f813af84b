import numpy as np
import pytest

from mixscale.config import Optimizer, Train
from mixscale.errors import InputError
from mixscale.training.run import learning_rates, segments

CONTEXT = 10
TRAIN = Train(tokens=10_000, batch=1, measure_at=(4_000,))


def test_each_measured_count_decays_from_the_trunk_to_nothing():
    optimizer = Optimizer(learning_rate=0.1, warmup=0.1, decay=0.2, schedule="wsd")
    plan = segments(optimizer, TRAIN, CONTEXT)
    assert [(s.first, s.last, s.branch, s.measure) for s in plan] == [
        (0, 320, False, False),
        (320, 400, True, True),
        (320, 800, False, False),
        (800, 1000, False, True),
    ]
    rates = [learning_rates(optimizer, 1000, s) for s in plan]
    assert rates[0][99] == pytest.approx(0.1)
    assert (np.diff(rates[0][:100]) > 0).all()
    assert rates[0][100:] == pytest.approx(0.1)
    assert rates[2] == pytest.approx(0.1)
    for decayed in (rates[1], rates[3]):
        assert (np.diff(decayed) < 0).all()
        assert 0 < decayed[-1] < 0.1 / len(decayed) * 1.01


def test_cosine_measures_without_branches():
    optimizer = Optimizer(learning_rate=0.1, warmup=0.1, schedule="cosine")
    plan = segments(optimizer, TRAIN, CONTEXT)
    assert [(s.first, s.last, s.branch) for s in plan] == [(0, 400, False), (400, 1000, False)]
    rate_S = np.concatenate([learning_rates(optimizer, 1000, s) for s in plan])
    assert rate_S.max() <= 0.1
    assert rate_S[-1] == pytest.approx(0.01, rel=1e-3)


def test_linear_decays_in_equal_steps_after_the_warm_up():
    optimizer = Optimizer(learning_rate=0.1, warmup=0.1, schedule="linear")
    plan = segments(optimizer, TRAIN, CONTEXT)
    assert [(s.first, s.last, s.branch) for s in plan] == [(0, 400, False), (400, 1000, False)]
    rate_S = np.concatenate([learning_rates(optimizer, 1000, s) for s in plan])
    assert rate_S.argmax() == 99
    assert rate_S[99] == pytest.approx(0.1)
    assert np.diff(rate_S[99:]) == pytest.approx(-0.1 / 901, rel=1e-3)
    assert rate_S[-1] == pytest.approx(0.1 / 901, rel=1e-3)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (Train(tokens=10_000, batch=1, measure_at=(100,)), ["step 10", "warm-up"]),
        (Train(tokens=5, batch=1), ["5 tokens", "at least 10"]),
    ],
)
def test_impossible_measurements_are_errors(train, words):
    with pytest.raises(InputError) as caught:
        segments(Optimizer(warmup=0.1), train, CONTEXT)
    assert all(word in str(caught.value) for word in words), caught.value
