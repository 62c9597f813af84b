import numpy as np
import pytest

from mixscale.errors import InputError
from mixscale.mixture import Mixture


def test_weights_are_looked_up_by_name():
    mixture = Mixture({"web": 0.7, "code": 0.3})
    assert mixture.array(["code", "web"]).tolist() == [0.3, 0.7]
    assert mixture == Mixture({"code": 0.3, "web": 0.7})
    assert mixture.array(["code", "new", "web"]).tolist() == [0.3, 0.0, 0.7]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"web": -0.1, "code": 1.1}, ["web", "-0.1", "negative"]),
        ({"web": 0.5, "code": 0.6}, ["1.1", "sum to 1", "web=0.4545", "code=0.5455"]),
        ({"web": float("nan"), "code": 1.0}, ["web", "nan", "finite"]),
        ({"web": 0.0, "code": 0.0}, ["web, code", "zero"]),
        ({}, ["at least one domain"]),
    ],
)
def test_invalid_weights_are_named(weights, words):
    with pytest.raises(InputError) as caught:
        Mixture(weights)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_domain_of_positive_weight_cannot_be_left_out():
    with pytest.raises(InputError, match="web"):
        Mixture({"web": 0.7, "code": 0.3}).array(["code"])


def test_rounded_weights_are_normalized_and_others_refused():
    assert sum(Mixture.from_array(["a", "b"], np.array([0.333, 0.666])).values()) == pytest.approx(1.0, abs=1e-15)
    with pytest.raises(InputError):
        Mixture.from_array(["a", "b"], np.array([0.5, 0.4]))


def test_temperature_0_is_uniform_1_changes_nothing_and_zeros_stay():
    mixture = Mixture({"a": 0.8, "b": 0.2, "c": 0.0})
    assert mixture.tempered(1.0).array() == pytest.approx(mixture.array())
    assert mixture.tempered(0.0).array().tolist() == [0.5, 0.5, 0.0]
    assert 0.5 < mixture.tempered(0.5)["a"] < 0.8
