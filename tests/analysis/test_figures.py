"""The figures show what is in the tables: known optima, ranks and errors; equal figures give equal files."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mixscale import laws
from mixscale import plots as figures
from mixscale.errors import InputError
from mixscale.optimization import optimize
from mixscale.plots.effects import CORNERS_3x2
from mixscale.run_table import RunTable

SCRIPT = Path(__file__).parents[2] / "analysis" / "figures.py"
BEST = np.array([0.5, 0.3, 0.2])


def planted(runs=28, scale=None, seed=0, noise=0.002):
    """Losses of three domains whose mean is lowest at a mixture inside of the triangle."""
    rng = np.random.default_rng(seed)
    h_RxK = rng.dirichlet([1, 1, 1], runs)
    frame = pd.DataFrame(h_RxK, columns=["mix/web", "mix/code", "mix/books"])
    frame["run"] = [f"{scale}-{i}" for i in range(runs)]
    for k, name in enumerate(("web", "code", "books")):
        # Weighted logarithms are least where the weights are BEST; all constants make them power laws.
        frame[f"loss/{name}"] = 2 - 3 * BEST[k] * np.log(h_RxK[:, k] + 0.02) + rng.normal(0, noise, runs)
    return frame if scale is None else frame.assign(n_params=scale, run=[f"{scale}-{i}" for i in range(runs)])


@pytest.fixture(scope="module")
def fitted():
    return laws.fit(RunTable(planted()), law="additive", bootstrap=10)


def star(axes):
    [line] = [line for line in axes.lines if line.get_marker() == "*"]
    return np.array([line.get_xdata()[0], line.get_ydata()[0]])


def texts(axes):
    return "\n".join(t.get_text() for t in axes.texts)


def test_the_star_of_a_ternary_plot_is_at_the_planted_optimum(fitted):
    [mean] = [a for a in figures.ternary(fitted).axes if "mean loss" in a.get_title("left")]
    assert star(mean) == pytest.approx(BEST @ CORNERS_3x2, abs=0.08)
    weights = {"web": 0.0, "code": 1.0, "books": 0.0}
    [code] = [a for a in figures.ternary(fitted, weights=weights).axes if "weighted mean loss" in a.get_title("left")]
    assert star(code) == pytest.approx(CORNERS_3x2[1], abs=0.02)  # that target alone is best at its own corner


def test_no_words_of_a_ternary_plot_lie_on_others():
    figure = figures.ternary(laws.fit(RunTable(planted()), "linear", targets=("web", "code"), bootstrap=2))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axes in figure.axes[:3]:
        words = [t for t in (axes.title, axes._left_title, *axes.texts) if t.get_text().strip()]
        places = [t.get_window_extent(renderer) for t in words]
        assert len(places) > 12
        assert not any(one.overlaps(other) for i, one in enumerate(places) for other in places[:i])


def test_a_ternary_plot_of_four_domains_is_refused(fitted):
    four = RunTable(planted().assign(**{"mix/wiki": 0.0}))
    with pytest.raises(InputError, match="three domains, and the fit has 4"):
        figures.ternary(laws.fit(four, law="linear", bootstrap=2))


def test_predictions_are_of_mixtures_the_fit_lacked(fitted):
    first, *rest = figures.predicted_observed(fitted).axes
    x, y = first.lines[1].get_data()
    assert x == pytest.approx(fitted.dataset.y_TxR.mean(axis=0))
    assert y == pytest.approx(fitted.oof_pred_TxR.mean(axis=0))
    assert f"MAE = {np.abs(x - y).mean():.2g}" in texts(first)
    assert len(rest) == 3


def test_the_law_is_drawn_through_mixtures_that_keep_their_proportions(fitted):
    axes = figures.proportion(fitted).axes[0]
    weight_Q, loss_Q = axes.lines[1].get_data()
    h_K = fitted.dataset.points.h_RxK.mean(axis=0)
    h_K = np.r_[weight_Q[40], (1 - weight_Q[40]) * h_K[1:] / h_K[1:].sum()]
    assert loss_Q[40] == pytest.approx(fitted.predict(h_K[None])[0, 0])


def test_ranks_are_compared_over_the_mixtures_in_common():
    small, large = planted(20, 1e6, noise=0), planted(20, 1e8, noise=0)
    large.loc[:, [c for c in large if c.startswith("loss/")]] **= 0.5  # another scale of losses, the same order
    alien = planted(20, 1e9, seed=5)
    figure = figures.ranks(RunTable(pd.concat([small, large.iloc[:15], alien])))
    assert "15 mixtures" in texts(figure.axes[0])
    left, right = (axes.get_xlabel() for axes in figure.axes)
    assert "N 1M" in left
    assert "rank" in right  # the third size shares no mixture, so two are left
    with pytest.raises(InputError, match="no two scales"):
        figures.ranks(RunTable(pd.concat([small, alien])))
    with pytest.raises(InputError, match="one scale"):
        figures.ranks(RunTable(small))


def test_the_best_mixture_of_the_swarm_stands_out():
    def best(frame):
        axes = figures.parallel(RunTable(frame)).axes[0]
        [line] = [line for line in axes.lines if line.get_label().startswith("best fitted")]
        shown = zip([t.get_text() for t in axes.get_xticklabels()], line.get_ydata() ** 2, strict=True)
        return line.get_label(), dict(shown)

    def weights(row):
        return pytest.approx({d: frame.loc[row, f"mix/{d}"] for d in ("web", "code", "books")})

    frame = planted()
    losses = [c for c in frame if c.startswith("loss/")]
    order = frame[losses].mean(axis=1).sort_values().index
    assert best(frame) == ("best fitted", weights(order[0]))
    # The best over seeds counts, and a verification run is none of the grid.
    unlucky = frame.loc[[order[0]]].assign(run="again", **{c: frame[c].max() for c in losses})
    swept = pd.concat([frame, unlucky]).assign(role="fit", origin="dirichlet")
    verify = frame.loc[[order[5]]].assign(
        run="verified", role="verify", origin="optimum", **dict.fromkeys(losses, 0.1)
    )
    assert best(pd.concat([swept, verify])) == ("best fitted", weights(order[1]))


def test_a_perfect_rank_correlation_has_a_place_on_the_axis():
    measured = pd.DataFrame(
        {"law": "additive", "runs": [8, 8, 16, 16], "repeat": [0, 1] * 2, "mae": [0.02, 0.03, 0.01, 0.01]}
    ).assign(rho=[0.9, 0.97, 1 - 2e-16, 1.0])
    right = figures.learning_curve(measured).axes[1]
    labels = {t.get_text(): t.get_position()[1] for t in right.get_yticklabels()}
    assert labels["0"] == 0
    assert labels["0.1"] == 0.1
    assert set(labels) <= {"0", "0.02", "0.05", "0.1", "0.2"}
    assert right.lines[0].get_ydata() == pytest.approx([0.1, 0.03, 0, 0])
    assert right.get_ylim()[0] > -0.03  # so that the zeros are in the frame and the rest is not squeezed
    perfect = figures.learning_curve(measured.assign(rho=1.0)).axes[1]
    assert "0" in [t.get_text() for t in perfect.get_yticklabels()]


def test_a_law_that_is_true_learns_and_is_judged_on_other_mixtures():
    table = RunTable(planted(40))
    measured = figures.learning(table, ("additive",), sizes=(8, 26), repeats=2)
    error = measured.groupby("runs")["mae"].mean()
    assert error[26] < error[8]
    assert error[26] < 0.1 * np.std(planted(40)[["loss/web", "loss/code", "loss/books"]].mean(axis=1))
    again = figures.learning(table, ("additive",), sizes=(26,), repeats=1)
    assert set(again["runs"]) == {26}  # of 40 mixtures 13 are held out of every fit
    with pytest.raises(InputError, match="no law could be fitted"):
        figures.learning_curve(figures.learning(table, ("additive",), sizes=(2,), repeats=1))


def test_equal_figures_are_equal_files_and_show_in_a_notebook(fitted, tmp_path):
    one, other = (figures.save(figures.predicted_observed(fitted), tmp_path / name) for name in ("a", "b"))
    assert [f.suffix for f in one] == [".png", ".pdf"]
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in other]
    assert figures.proportion(fitted)._repr_png_().startswith(b"\x89PNG")


def test_the_script_draws_what_the_table_has_and_says_what_it_skips(fitted, tmp_path):
    planted().to_csv(tmp_path / "runs.csv", index=False)
    fitted.save(tmp_path / "fit")
    asked = [
        tmp_path / "runs.csv",
        "--out",
        tmp_path / "out",
        "--fit",
        tmp_path / "fit",
        "--only",
        "proportion,ranks,scale",
    ]
    said = subprocess.run([sys.executable, SCRIPT, *asked], capture_output=True, text=True, check=True).stdout
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"proportion.png", "proportion.pdf"}
    assert "ranks is skipped: the table has one scale" in said
    assert "scale is skipped: law 'additive' has no scale" in said


def test_the_script_follows_the_objective_of_the_optimum(fitted, tmp_path):
    planted().to_csv(tmp_path / "runs.csv", index=False)
    Figures = runpy.run_path(str(SCRIPT))["Figures"]
    assert Figures(tmp_path, tmp_path).objective is None
    optimize(fitted, weights={"code": 3, "web": 1}).save(tmp_path / "optimum.json")
    of_folder = Figures(tmp_path, tmp_path).objective
    assert [of_folder[name] for name in ("web", "code", "books")] == pytest.approx([0.25, 0.75, 0])
    assert Figures(tmp_path, tmp_path, weights={"web": 1.0}).objective == {"web": 1.0}
    titles = [figures.predicted_observed(fitted, w).axes[0].get_title("left") for w in (None, of_folder)]
    assert titles == ["mean loss", "weighted mean loss"]


@pytest.mark.slow
def test_the_optimum_moves_with_scale_as_the_law_says():
    frame = pd.concat([planted(16, n, seed=i) for i, n in enumerate((1e6, 1e7, 1e8))])
    d_R = np.tile([1e9, 4e9], 24)
    power = 0.02 * np.log(frame["n_params"] / 1e6)
    table = RunTable(frame.assign(n_tokens=d_R, **{c: frame[c] - power for c in frame if c.startswith("loss/")}))
    figure = figures.optimum_by_scale(laws.fit(table, law="additive-scale", bootstrap=4), points=2)
    left = figure.axes[0]
    weights = {line.get_label(): line.get_ydata() for line in left.lines}
    assert sum(weights.values()) == pytest.approx(np.ones(2), abs=1e-6)
    assert left.get_xlim()[1] == pytest.approx(1e9)
