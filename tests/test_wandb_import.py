"""Exports of Weights & Biases as people make them: dicts in cells, histories, groups, and runs that share a name."""

import json

import numpy as np
import pandas as pd
import pytest

from mixscale.errors import InputError
from mixscale.interop import importers
from mixscale.interop.importers import Columns


def imported(tmp_path, frame, **columns):
    frame.to_csv(tmp_path / "export.csv", index=False)
    return importers.wandb(tmp_path / "export.csv", Columns(**{"mix": "mix.", "loss": "val/{t}/loss", **columns}))


def noted(table, *words):
    return any(all(word in note for word in words) for note in table.notes)


@pytest.mark.parametrize("write", [str, json.dumps])
@pytest.mark.parametrize("mix", ["mix.", "config.mix.", "config.mix"])
def test_cells_may_hold_dicts(tmp_path, write, mix):
    weights = [[{"name": "no", "weight": w}, {"name": "en", "weight": 1 - w}] for w in (0.2, 0.4)]
    configs = [{"mix": mixture, "n_params": 1e6} for mixture in weights]
    finite, infinite = {"_runtime": 5, "val/no/loss": 3.0}, {"_wandb": {"x": 1}, "val/no/loss": float("nan")}
    summaries = [{"_step": 70, **finite}, {"_step": 70, **infinite}]
    frame = pd.DataFrame({"name": ["x", "y"], "config": map(write, configs), "summary": map(write, summaries)})
    table = imported(tmp_path, frame, mix=mix)
    assert table.domains == ("no", "en")
    assert list(table.frame["step"]) == [70, 70]
    assert list(table.frame["n_params"]) == [1e6, 1e6]
    assert list(table.frame["status"]) == ["complete", "diverged"]
    assert noted(table, "1 of 2 runs end with a value that is not finite", "not fitted: y")
    frame["config"] = ["{'mix': <mixture>}", write(configs[1])]
    with pytest.raises(InputError, match="column 'config', row 0: '{'mix': <mixture>}' is neither JSON nor a dict"):
        imported(tmp_path, frame)


def history(**columns):
    """Two runs that log one loss after the other, thrice, and a training loss in between."""
    logged = [(run, web, s) for run, web in (("a", 0.25), ("b", 0.5)) for s in (10, 20, 23, 30, 40, 43, 60, 63)]
    rows = [
        {"Name": run, "State": "finished", "_step": step, "mix.web": web, "mix.code": 1 - web, "train/loss": 5.0,
         "val/web/loss": 4 - step / 50 if step % 20 == 0 else None,
         "val/code/loss": 3 - step / 50 if step % 20 == 3 else None}
        for run, web, step in logged
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


def test_losses_logged_at_different_steps_are_joined(tmp_path):
    table = imported(tmp_path, history())
    assert list(table.frame["run"]) == ["a", "b"]
    assert list(table.frame["step"]) == [63, 63]
    np.testing.assert_allclose(table.losses("web"), 4 - 60 / 50)
    np.testing.assert_allclose(table.losses("code"), 3 - 63 / 50)
    assert noted(table, "2 of 2 runs", "different steps", "val/web/loss at 60", "val/code/loss at 63")
    # A run that ended between its two losses has no newer pair.
    table = imported(tmp_path, history()[:-1])
    assert list(table.frame["step"]) == [63, 43]
    assert noted(table, "1 of 2 runs end before the last step, 63: b")
    tokens = history()["_step"] * 10.0
    table = imported(tmp_path, history(n_tokens=tokens.mask(tokens == 630)))
    assert list(table.frame["n_tokens"]) == [600, 600]
    assert noted(table, "n_tokens was not logged", "at step 63 the value of step 60")


def test_a_history_keeps_all_its_measurements_if_they_are_whole(tmp_path):
    whole = history(**{"val/code/loss": history()["val/web/loss"]})
    table = imported(tmp_path, whole)
    assert list(table.frame["step"]) == [20, 40, 60] * 2
    assert noted(table, "10 of 16 rows measure no target")
    history().rename(columns={"Name": "run"}).to_csv(tmp_path / "runs.csv")
    with pytest.raises(InputError, match="no row has all weights and targets.*`mixscale import wandb`"):
        importers.csv(tmp_path / "runs.csv", Columns(mix="mix.", loss="val/{t}/loss"))


SHARED = pd.DataFrame(
    {"Name": ["a", "a", "b", "c"], "State": ["crashed", "finished", "finished", "finished"], "_step": [40, 90, 90, 90],
     "mix.web": [0.5, 0.5, 0.1, 0.9], "mix.code": [0.5, 0.5, 0.9, 0.1], "val/web/loss": [4.0, 3.0, 3.1, 3.2]}
)  # fmt: skip


def test_runs_that_share_a_name_are_told_apart_or_refused(tmp_path):
    for columns in ({}, {"run": ("Name",)}):
        table = imported(tmp_path, SHARED, **columns)
        assert list(table.frame["run"]) == ["a-2", "a", "b", "c"]
        assert list(table.complete().frame["run"]) == ["a", "b", "c"]
        assert noted(table, "share a name", "a-2")
    assert list(imported(tmp_path, SHARED.assign(ID=list("wxyz"))).frame["run"]) == list("wxyz")
    seeds = SHARED.assign(State="finished", _step=90, seed=[1, 2, 1, 1])
    assert list(imported(tmp_path, seeds).frame["run"]) == ["a", "a-2", "b", "c"]
    unclear = SHARED.assign(State="finished", seed=[1, 2, 1, 1])
    with pytest.raises(InputError, match="'a' occurs 2 times, at steps 40, 90.*`--run Name`.*`--run Name 'seed'`"):
        imported(tmp_path, unclear)
    assert list(imported(tmp_path, unclear, run=("Name",)).frame["run"]) == ["a", "a", "b", "c"]
    assert list(imported(tmp_path, unclear, run=("Name", "seed")).frame["run"]) == ["a-1", "a-2", "b-1", "c-1"]


def test_groups_of_runs_have_no_state(tmp_path):
    groups = SHARED[2:].assign(State="", Group=["g", "h"], Name="")
    table = imported(tmp_path, groups)
    assert list(table.frame["run"]) == ["g", "h"]
    assert noted(table, "2 of 2 rows have no State")
    chart = pd.DataFrame({"Step": [1], "Group: g - val/web/loss": [3.0]})
    with pytest.raises(InputError, match="export of a chart"):
        imported(tmp_path, chart)


@pytest.mark.parametrize("written", ["NaN", "nan", "Infinity", "-inf"])
def test_a_run_whose_last_loss_is_not_finite_diverged(tmp_path, written):
    frame = SHARED.astype({"val/web/loss": object})
    frame.loc[2, "val/web/loss"] = written
    table = imported(tmp_path, frame)
    assert list(table.frame["status"]) == ["stopped", "complete", "diverged", "complete"]
    numbered = imported(tmp_path, frame, number_rows=True)
    assert list(numbered.frame["status"]) == list(table.frame["status"])
    frame.loc[2, "val/web/loss"] = ""
    with pytest.raises(InputError, match="1 of 4 rows lack a value, run 'b' first"):
        imported(tmp_path, frame)


def test_names_of_metrics_decide_whether_higher_is_better(tmp_path):
    frame = SHARED.rename(columns={"val/web/loss": "arc/acc,none"}).assign(**{"arc/kind,none": 1.5, "loss/x": 1.0})
    table = imported(tmp_path, frame, loss="loss/", metric="{name}/acc,none")
    assert table.targets == ("loss/x", "score/arc")
    assert noted(table, "taken as scores", "arc/acc,none", "--lower-is-better")
    table = imported(tmp_path, frame, loss="loss/", metric="{name}/acc,none", lower_is_better=("arc/acc,none",))
    assert table.targets == ("loss/x", "metric/arc")
    table = imported(tmp_path, frame, loss="loss/", metric="arc/{name},none")
    assert table.targets == ("loss/x", "metric/kind", "score/acc")
    assert noted(table, "do not say", "arc/kind,none", "--higher-is-better")
    told = imported(tmp_path, frame, loss="loss/", metric="arc/{name},none", lower_is_better=("acc", "kind"))
    assert told.targets == ("loss/x", "metric/acc", "metric/kind")
    assert not noted(told, "taken as")
    with pytest.raises(InputError, match="both name 'arc/acc,none'"):
        imported(tmp_path, frame, loss="loss/", metric="arc/", lower_is_better=("acc*",), higher_is_better=("acc*",))
    assert noted(imported(tmp_path, frame, loss="arc/{name},none"), "taken as losses", "arc/acc,none")
