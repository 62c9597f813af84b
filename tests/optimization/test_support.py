"""An optimum of a law that fails validation starts with a warning and justifies no change."""

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
    """A fit with skill for `code` only: the out-of-fold predictions of the others are shifted to other rows."""
    fit = fits["effective"]
    oof_pred_TxR = fit.oof_pred_TxR.copy()
    oof_pred_TxR[1:] = np.roll(oof_pred_TxR[1:], 7, axis=1)
    return dataclasses.replace(fit, oof_pred_TxR=oof_pred_TxR)


def test_skill_is_judged_by_the_objective(fits, blind):
    def warning(fit, objective):
        problem = build_problem(fit, objective, current=NOW)
        return dataclasses.replace(problem, best_TxK=np.eye(4)[:3]).skill().warning

    others = {"web": 1, "wiki": 1}
    objectives = [
        Objective(others),
        *(Objective(others, kind="worst", relative_to=since) for since in (None, "current", "best")),
    ]
    for objective in objectives:
        assert warning(fits["effective"], objective) is None
        assert warning(blind, objective).startswith(
            "on 30 left-out mixtures (cross-validation) the law ranks the objective with correlation"
        )
        assert warning(blind, dataclasses.replace(objective, weights={"code": 1})) is None


def test_an_unsupported_optimum_starts_with_a_warning(blind, tmp_path, capsys):
    blind.save(tmp_path / "fit")
    options = ["--weights", "web", "1", "--current", *(str(x) for d, w in NOW.items() for x in (d, w))]
    assert main(["optimize", str(tmp_path / "fit"), *options]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Warning: on 30 left-out mixtures")
    assert "A change is not justified" in printed
    assert printed.count("do not act on this; train 30 more mixtures") == 1
    loaded = Optimum.load(tmp_path / "optimum.json")
    assert loaded.summary() in printed
    assert loaded.gain[1] > 0
    assert loaded.justified is False
    assert loaded.warning


def test_a_note_names_a_size_that_the_table_does_not_have(planted):
    table = planted("effective")
    for sizes, noted in ((1e9, False), (1e8, True), (None, True)):
        sized = table if sizes is None else RunTable(table.frame.assign(n_params=sizes))
        best = optimize(laws.fit(sized, "linear", bootstrap=2), n_params=1e9)
        assert any("not at 1e+09" in note for note in best.notes) is noted
