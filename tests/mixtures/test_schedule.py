"""Schedules: their mixture at every stage and over a whole run."""

import pytest

from mixscale.config import Stage
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant, Staged

WEB, CODE = Mixture({"web": 0.9, "code": 0.1}), Mixture({"code": 0.6, "web": 0.4})
STAGED = Staged(((0.75, WEB), (0.25, CODE)))


def test_a_staged_schedule_has_the_mean_of_its_mixtures_weighted_by_tokens():
    assert dict(STAGED.mixture) == pytest.approx({"web": 0.775, "code": 0.225})
    assert STAGED.spans(10) == ((8, WEB), (2, CODE))
    assert sum(steps for steps, _ in STAGED.spans(1_001)) == 1_001
    assert STAGED.columns(["code", "web"]) == {
        "stage/0/share": 0.75, "stage/0/mix/code": 0.1, "stage/0/mix/web": 0.9,
        "stage/1/share": 0.25, "stage/1/mix/code": 0.6, "stage/1/mix/web": 0.4,
    }  # fmt: skip


def test_a_constant_schedule_has_one_span():
    assert Constant(WEB).mixture is WEB
    assert Constant(WEB).spans(10) == ((10, WEB),)
    assert Constant(WEB).columns(["web", "code"]) == {}


def test_configs_of_schedules_differ_but_ignore_the_order_of_domains():
    turned = Constant(Mixture({"code": 0.1, "web": 0.9}))
    assert turned.config == Constant(WEB).config
    assert Staged(((1.0, WEB),)).config != Constant(WEB).config
    assert Staged(((0.25, CODE), (0.75, WEB))).config != STAGED.config


def test_stages_come_from_a_config():
    staged = Staged.of((Stage(0.5, {"web": 1.0}), Stage(0.5, {"code": 1.0})))
    assert dict(staged.mixture) == {"code": 0.5, "web": 0.5}


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.5, -0.5)])
def test_shares_that_do_not_sum_to_one_are_errors(shares):
    with pytest.raises(InputError):
        Staged(tuple((share, WEB) for share in shares))


def test_a_stage_shorter_than_one_step_is_an_error():
    with pytest.raises(InputError, match="0.001"):
        Staged(((0.999, WEB), (0.001, CODE))).spans(100)
