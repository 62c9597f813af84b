"""An optimum of a law that does not tell mixtures apart says so first, and justifies no change."""

import dataclasses

import numpy as np
import pytest

from mixscale import laws
from mixscale.cli import main
from mixscale.mixture import Mixture
from mixscale.optimization import Objective, Optimum, build_problem, optimize
from mixscale.run_table import RunTable

NOW = Mixture({"code": 0.1, "web": 0.1, "wiki": 0.1, "news": 0.7})


@pytest.fixture
def blind(fits):
    """A fit that foretells `code` and not the rest: its left-out predictions of them are those of other rows."""
    fit = fits["effective"]
    oof_pred_TxR = fit.oof_pred_TxR.copy()
    oof_pred_TxR[1:] = np.roll(oof_pred_TxR[1:], 7, axis=1)
    return dataclasses.replace(fit, oof_pred_TxR=oof_pred_TxR)


def test_support_is_that_of_the_goal(fits, blind):
    def warning(fit, goal):
        asked = build_problem(fit, goal, current=NOW)
        return dataclasses.replace(asked, best_TxK=np.eye(4)[:3]).skill().warning

    rest = {"web": 1, "wiki": 1}
    goals = [
        Objective(rest),
        *(Objective(rest, kind="worst", relative_to=since) for since in (None, "current", "best")),
    ]
    for goal in goals:
        assert warning(fits["effective"], goal) is None
        assert warning(blind, goal).startswith("on 30 held-out mixtures the law ranks the objective with correlation")
        assert warning(blind, dataclasses.replace(goal, weights={"code": 1})) is None


def test_a_choice_that_is_not_supported_is_told_first_and_stays_so(blind, tmp_path, capsys):
    blind.save(tmp_path / "fit")
    asked = ["--weights", "web", "1", "--current", *(str(x) for d, w in NOW.items() for x in (d, w))]
    assert main(["optimize", str(tmp_path / "fit"), *asked]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Not supported: on 30 held-out mixtures")
    assert "A change is not justified" in told
    assert told.count("do not act on this; train 30 more mixtures") == 1
    loaded = Optimum.load(tmp_path / "optimum.json")
    assert loaded.summary() in told
    assert loaded.gain[1] > 0
    assert loaded.justified is False
    assert loaded.warning


def test_a_size_is_called_another_only_where_the_table_has_another(planted):
    table = planted("effective")
    for sizes, noted in ((1e9, False), (1e8, True), (None, True)):
        sized = table if sizes is None else RunTable(table.frame.assign(n_params=sizes))
        best = optimize(laws.fit(sized, "linear", bootstrap=2), n_params=1e9)
        assert any("not at 1e+09" in note for note in best.notes) is noted
