"""The report's figures show what these runs have, and their legends and captions name no more than that."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from mixscale.report import captions, findings
from mixscale.report.figures import accuracy, answer, landscape
from mixscale.report.held_out import left_out_rows
from mixscale.report.material import Material
from mixscale.run_table import RunTable


@pytest.fixture(scope="module")
def foreign(material) -> Material:
    """The fitted runs alone, of which nothing but mixture and losses is known."""
    frame = (
        material.table.complete()
        .frame.query("role == 'fit'")
        .drop_duplicates(list(material.table.frame.filter(like="mix/")))
    )
    known = ["run", *(c for c in frame if c.startswith(("mix/", "loss/")))]
    return Material(RunTable(frame[known]), material.fit, material.optimum)


def labels(figure) -> str:
    texts = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    return ", ".join(
        texts + [t.get_text() for a in figure.axes for t in (a.get_legend().get_texts() if a.get_legend() else [])]
    )


def test_seed_noise_that_is_not_known_has_no_mark(material, foreign):
    known, unknown = (accuracy.noise(m, findings(m)) for m in (material, foreign))
    marks = [{line.get_marker() for line in f.axes[0].lines} for f in (known, unknown)]
    assert "o" in marks[0]
    assert "o" not in marks[1]
    assert {"D", "|"} <= marks[1]  # the law's error without held-out runs is that of runs left out
    assert "seed noise (one run), " in labels(known)
    assert labels(unknown).startswith("seed noise: not known, the law's mean error, each run left out")
    assert "two seeds" in captions.of("noise", findings(foreign))
    found = findings(material)
    one = dataclasses.replace(found, target_noise={**found.target_noise, material.targets[0]: None})
    assert "known of 3 of 4" in labels(accuracy.noise(material, one))


def test_a_bar_is_in_the_legend_where_one_is_drawn(material):
    found = findings(material)
    same = dataclasses.replace(found, optimum_interval={d: (w, w) for d, w in found.optimum.items()})
    none = dataclasses.replace(found, optimum_interval={})
    drawn = [answer.optimum(material, f) for f in (found, same, none)]
    assert ["90% interval" in labels(f) for f in drawn] == [True, False, False]
    wide = [any(line.get_linewidth() == 7 for line in f.axes[0].lines) for f in drawn]
    assert wide == [True, False, False]
    assert "interval" in captions.of("optimum", found)
    assert "interval" not in captions.of("optimum", same)


def test_a_band_ends_where_the_runs_do(material):
    figure = landscape.slices(material)
    h_RxK = material.mixtures_RxK(material.at_scale)
    frame = material.table.frame.query("role != 'fit'").copy()
    inner = landscape.slices(Material(RunTable(frame), material.fit, material.optimum))
    for shown, largest_K in ((figure, h_RxK.max(axis=0)), (inner, frame.filter(like="mix/").to_numpy().max(axis=0))):
        for axes, largest in zip(shown.axes, largest_K, strict=True):
            [band] = [c for c in axes.collections if isinstance(c, PolyCollection)]
            assert band.get_paths()[0].vertices[:, 0].max() == pytest.approx(largest)
            assert max(line.get_xdata().max() for line in axes.lines if len(line.get_xdata()) == 21) == pytest.approx(
                1
            )


def test_runs_close_together_are_enlarged(material, foreign):
    def inset(m: Material) -> list:
        return accuracy.predicted_observed(m, findings(m)).axes[0].child_axes

    frame = material.table.frame.query("role != 'verify' or origin == 'optimum'")
    near = Material(RunTable(frame), material.fit, material.optimum)
    [inner] = inset(near)
    rows = near.measured.query("role == 'verify'")["goal"]
    assert inner.get_xlim()[0] < rows.min() < rows.max() < inner.get_xlim()[1]
    assert np.ptp(inner.get_xlim()) < 0.5 * np.ptp(material.measured["goal"])
    assert inset(foreign) == inset(material) == []
    assert "inset" not in captions.of("predicted_observed", findings(foreign))


def test_fitted_runs_are_predicted_without_them_where_none_was_held_out(foreign):
    axes = accuracy.predicted_observed(foreign, findings(foreign)).axes[0]
    (predicted_R, observed_R), _ = left_out_rows(foreign)
    [points] = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(points.get_data(), (observed_R, predicted_R))
    assert "fitted, each left out" in labels(axes.figure)


def test_the_bar_beside_verification_runs_is_that_of_their_mean(material):
    found = findings(material)
    best = found.candidates["optimum"]
    apart = dataclasses.replace(best.goal, interval=(2.4, 2.6), of_mean=(2.3, 2.7), of_run=(2.2, 2.8))
    compared = {**found.candidates, "optimum": dataclasses.replace(best, goal=apart)}
    axes = answer.verification(dataclasses.replace(found, candidates=compared)).axes[0]
    thick = {tuple(line.get_ydata()): line.get_linewidth() for line in axes.lines if len(line.get_ydata()) == 2}
    assert thick[2.3, 2.7] > thick[2.2, 2.8]
    assert (2.4, 2.6) not in thick
