"""The benchmark runs from published files to a filled document, goes on where it stopped, and compares honestly."""

import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ANALYSIS = Path(__file__).parents[2] / "analysis"
DOMAINS = ("arxiv", "github", "pile_cc")


@pytest.fixture(scope="module")
def benchmark_of():
    """Imports a module of the benchmark, which is a script and its folder and not part of the package."""
    sys.path.insert(0, str(ANALYSIS))
    yield importlib.import_module
    sys.path.remove(str(ANALYSIS))


@pytest.fixture
def data(tmp_path):
    """Files as RegMix publishes them, with losses that are linear in the weights."""
    folder = tmp_path / "data" / "regmix"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    slope_KxT = np.array([[2.0, 4.0], [4.0, 2.5], [3.0, 3.0]])
    for part, size, runs in (("train", "1m", 60), ("test", "1m", 24), ("test", "60m", 24), ("test", "1B", 12)):
        h_RxK = rng.dirichlet(np.ones(3), runs)
        y_RxT = h_RxK @ slope_KxT * {"1m": 1.0, "60m": 0.8, "1B": 0.6}[size] + 0.001 * rng.standard_normal((runs, 2))
        index = pd.Series(range(runs), name="index")
        mixtures = pd.DataFrame(h_RxK, columns=[f"train_the_pile_{d}" for d in DOMAINS])
        losses = pd.DataFrame(y_RxT, columns=[f"metric/the_pile_{d}_val_loss" for d in ("arxiv", "pile_cc")])
        pd.concat([index, mixtures], axis=1).to_csv(folder / f"{part}_mixture_{size}.csv", index=False)
        pd.concat([index, losses], axis=1).to_csv(folder / f"{part}_pile_loss_{size}.csv", index=False)
    return tmp_path / "data"


def test_from_files_to_a_filled_document_and_on_after_an_interruption(benchmark_of, data, tmp_path, capsys):
    script = benchmark_of("law_benchmark")
    document = tmp_path / "docs" / "benchmark.md"
    document.parent.mkdir()
    document.write_text(
        "before\n<!-- table:regmix -->\nold\n<!-- end -->\nbetween\n<!-- table:olmix -->\nkept\n<!-- end -->\n"
    )
    asked = script.Benchmark(
        data, tmp_path / "out", only="regmix,olmix", methods="mean,linear,exponential", quick=True, docs=document
    )
    script.main(asked)
    assert "olmix is skipped" in capsys.readouterr().out
    file = tmp_path / "out" / "quick" / "cells.csv"
    cells = pd.read_csv(file)
    assert set(cells["status"]) == {"done"}
    found = cells[(cells["split"] == "all 512") & (cells["part"] == "1M")].set_index("method")
    assert found.loc["linear", "r2"] > 0.99
    assert found.loc["linear", "regret"] < found.loc["mean", "regret"]
    assert 0.7 < found.loc["linear", "coverage"] <= 1
    assert cells.loc[cells["part"] == "60M", "mae"].isna().all()
    assert cells.loc[(cells["part"] == "60M") & (cells["method"] == "linear"), "rho"].min() > 0.99
    text = document.read_text()
    assert text.startswith("before\n")
    assert "| linear |" in text
    assert "old" not in text
    assert "kept" in text
    assert str(tmp_path) not in text
    assert (tmp_path / "docs" / "figures" / "benchmark_curves.png").stat().st_size > 1000

    whole = file.read_text()
    script.main(asked)
    assert file.read_text() == whole
    cells[cells["key"] != cells["key"].iloc[0]].to_csv(file, index=False)
    script.main(asked)
    assert pd.read_csv(file)["key"].value_counts().to_dict() == cells["key"].value_counts().to_dict()

    table = data / "regmix" / "test_pile_loss_1m.csv"
    frame = pd.read_csv(table)
    frame.assign(**{c: 1.5 * frame[c] for c in frame if c != "index"}).to_csv(table, index=False)
    script.main(dataclasses.replace(asked, methods="mean", docs=None))
    newest = benchmark_of("benchmark.store").Store(file.parent).read()
    changed = newest[(newest["split"] == "all 512") & (newest["part"] == "1M") & (newest["method"] == "mean")]
    assert len(changed) == 1
    assert changed["mae"].item() > found.loc["mean", "mae"]


def test_what_a_method_cannot_do_is_told_with_its_reason(benchmark_of, data, tmp_path):
    script = benchmark_of("law_benchmark")
    cells = benchmark_of("benchmark.cells")
    tasks = benchmark_of("benchmark.tasks")
    task = next(iter(tasks.regmix(data, True)))
    few = [dataclasses.replace(f, fit=f.fit.where(np.arange(len(f.fit)) < 4)) for f in task.folds]
    (cell,) = cells.of_task(dataclasses.replace(task, folds=few), 2, {"additive"})
    rows, _ = cells.attempt(cell)
    assert rows[0]["status"] == "cannot"
    assert "fewer runs than parameters" in rows[0]["reason"]
    with pytest.raises(SystemExit, match="nosuch"):
        script.main(script.Benchmark(data, tmp_path / "out", only="regmix", methods="nosuch", quick=True))


def test_trees_decide_on_fitted_runs_and_never_see_the_test(benchmark_of, data):
    pytest.importorskip("lightgbm")
    tables, trees = benchmark_of("benchmark.tables"), benchmark_of("benchmark.trees")
    pool, test = tables.regmix(data, "train"), tables.regmix(data, "test")
    tuned = trees.Trees.tuned(pool, 0)
    y_QxT = test.frame[list(test.targets)].to_numpy()
    naive = np.abs(y_QxT - y_QxT.mean(axis=0)).mean()
    assert np.abs(tuned.predict(test) - y_QxT).mean() < 0.5 * naive
    # The reference's settings need 40 runs for one split.
    few = trees.Trees.of(tables.part(pool, np.arange(30)), 0).predict(test)
    assert np.ptp(few, axis=0).max() == 0


def test_splits_leave_whole_mixtures_out_and_keep_every_domain(benchmark_of):
    tasks = benchmark_of("benchmark.tasks")
    rng = np.random.default_rng(0)
    h_RxK = rng.dirichlet(np.ones(4), 30)
    h_RxK[3:, 3] = 0
    chosen = tasks.covering(h_RxK, 10, rng)
    assert len(set(chosen)) == 10
    assert set(chosen) & {0, 1, 2}
    alone_R = np.zeros(30, dtype=bool)
    alone_R[7] = True
    fold_R = tasks.covered_folds(h_RxK, alone_R)
    assert fold_R[7] == -1
    assert set(fold_R) == {-1, 0, 1, 2, 3, 4}


def test_measures_are_what_they_are_called(benchmark_of):
    measures = benchmark_of("benchmark.measures")
    y_QxT = np.array([[1.0], [2.0], [4.0]])
    exact = measures.measures(y_QxT, y_QxT, (y_QxT - 1, y_QxT + 1), False, True)
    assert exact["rho"] == pytest.approx(1)
    assert (exact["mae"], exact["r2"], exact["coverage"], exact["width"]) == (0, 1, 1, 2)
    assert (exact["regret"], exact["rank"]) == (0, 1)
    # A constant prediction chooses at random and orders nothing.
    drawn = measures.choice(y_QxT[:, 0], np.ones(3))
    assert drawn == {"regret": pytest.approx(4 / 3), "rank": 2}
    assert measures.spearman(np.ones(3), y_QxT[:, 0]) == 0


def test_hindsight_compares_auto_with_laws_and_with_all(benchmark_of, tmp_path):
    report, figures = benchmark_of("benchmark.report"), benchmark_of("benchmark.figures")
    mae = {"mean": 1.0, "linear": 0.4, "additive": 0.2, "lightgbm": 0.1, "lightgbm-leak": 0.05, "auto": 0.3}
    cells = pd.DataFrame(
        [
            {"method": m, "mae": e, "chosen": "gp" if m == "auto" else None, "coverage": 0.9, "rho": 0.5}
            for m, e in mae.items()
        ]
    ).assign(table="olmix", split="5 folds", part="all rows", runs=9, seed=0, status="done")
    (line,) = report.hindsight(cells).to_dict("records")
    assert (line["best law"], line["chosen by auto"]) == ("additive", "gp")
    assert line["auto / best law"] == pytest.approx(1.5)
    assert line["auto / best"] == pytest.approx(3)
    shown = pd.DataFrame({"observed": [1.0, 2.0], "predicted": [1.1, 2.0]})
    shown = shown.assign(table="olmix", split="5 folds", part="all rows", target="mean")
    drawn = figures.draw(cells, shown, tmp_path)
    assert [f.stem for f in drawn] == ["benchmark_predicted", "benchmark_coverage", "benchmark_auto"]
