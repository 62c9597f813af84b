"""The figures of a report and their legends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from mixscale import plots
from mixscale.report import Analysis, Inputs, analyse
from mixscale.run_table import RunTable


@pytest.fixture(scope="module")
def foreign(inputs) -> Inputs:
    """The fitted runs, with mixture and losses only."""
    frame = inputs.table.complete().frame.query("role == 'fit'")
    frame = frame.drop_duplicates(list(frame.filter(like="mix/")))
    known = ["run", *(c for c in frame if c.startswith(("mix/", "loss/")))]
    return Inputs(RunTable(frame[known]), inputs.fit, inputs.optimum)


def labels(figure) -> list[str]:
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    return [t.get_text() for legend in legends for t in legend.get_texts()]


def noise(found: Analysis):
    errors = [s.mean_absolute_error for s in found.left_out.values()]
    seed = [n.sd if n else None for n in (found.noise, *found.target_noise.values())]
    return plots.noise(list(found.spread), seed, errors, list(found.spread.values()), found.held_out is not None)


def test_unknown_seed_noise_has_no_mark(found, foreign):
    known, unknown = noise(found), noise(analyse(foreign))
    marks = [{line.get_marker() for line in f.axes[0].lines} for f in (known, unknown)]
    assert "o" in marks[0]
    assert "o" not in marks[1]
    assert {"D", "|"} <= marks[1]
    assert labels(unknown)[:2] == ["seed noise: unknown", "mean error of the law, left-out runs"]
    assert labels(known)[:2] == ["seed noise (one run)", "mean error of the law, held-out runs"]
    one = dataclasses.replace(found, target_noise={**found.target_noise, next(iter(found.target_noise)): None})
    assert "known for 3 of 4" in labels(noise(one))[0]


@pytest.mark.parametrize("shown", [True, False])
def test_the_legend_has_an_interval_if_one_is_drawn(found, shown):
    figure = plots.weights(found.mixtures, found.optimum_interval if shown else None)
    assert ("90% interval" in labels(figure)) == shown
    assert any(line.get_linewidth() == 7 for line in figure.axes[0].lines) == shown


def slices(inputs: Inputs):
    rows, best_K = inputs.at_scale, inputs.optimum.mixture.array(inputs.domains)
    h_RxK, y_R = inputs.mixtures_RxK(rows), rows["objective"].to_numpy()
    return plots.slices(inputs.domains, h_RxK, y_R, inputs.objective_at_scale, best_K, inputs.known_K)


def test_a_band_ends_where_the_runs_do(inputs):
    frame = inputs.table.frame.query("role != 'fit'").copy()
    for data in (inputs, Inputs(RunTable(frame), inputs.fit, inputs.optimum)):
        largest_K = data.mixtures_RxK(data.at_scale).max(axis=0)
        for axes, largest in zip(slices(data).axes, largest_K, strict=True):
            [band] = [c for c in axes.collections if isinstance(c, PolyCollection)]
            assert band.get_paths()[0].vertices[:, 0].max() == pytest.approx(largest)
            dashed = [line.get_xdata().max() for line in axes.lines if len(line.get_xdata()) == 21]
            assert max(dashed) == pytest.approx(1)


def agreement(found: Analysis):
    return plots.agreement(found.points, list(found.spread))


def test_an_inset_enlarges_runs_that_are_close_together(inputs, foreign, found):
    frame = inputs.table.frame.query("role != 'verify' or origin == 'optimum'")
    near = Inputs(RunTable(frame), inputs.fit, inputs.optimum)
    [inner] = agreement(analyse(near)).axes[0].child_axes
    rows = near.measured.query("role == 'verify'")["objective"]
    assert inner.get_xlim()[0] < rows.min() < rows.max() < inner.get_xlim()[1]
    assert np.ptp(inner.get_xlim()) < 0.5 * np.ptp(inputs.measured["objective"])
    assert not agreement(analyse(foreign)).axes[0].child_axes
    assert not agreement(found).axes[0].child_axes


def test_without_held_out_runs_fitted_runs_are_predicted_out_of_fold(foreign):
    figure = agreement(analyse(foreign))
    observed, predicted = foreign.left_out()
    [points] = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(points.get_data(), (observed[:, 0], predicted[:, 0]))
    assert "fitted, each left out" in labels(figure)


def test_the_bar_of_verification_runs_is_the_interval_of_their_mean(found):
    apart = dataclasses.replace(
        found.candidates["optimum"].objective, interval=(2.4, 2.6), of_mean=(2.3, 2.7), of_run=(2.2, 2.8)
    )
    figure = plots.verification(found.estimates | {"optimum": apart}, found.comparisons, found.noise.sd, "loss")
    thick = {tuple(e.get_ydata()): e.get_linewidth() for e in figure.axes[0].lines if len(e.get_ydata()) == 2}
    assert thick[2.3, 2.7] > thick[2.2, 2.8]
    assert (2.4, 2.6) not in thick


def test_equal_figures_give_equal_files(inputs, tmp_path):
    first, second = (plots.save(plots.interaction(inputs.fit), tmp_path / name, 100) for name in ("a", "b"))
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
