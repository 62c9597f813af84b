"""Figures of a law's accuracy: predicted against measured values, and its error compared with the seed noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from scipy import stats

from mixscale.laws import LawFit
from mixscale.plots import style
from mixscale.plots.style import Picture

MOST_TARGETS = 30
NEAR = 0.35  # an inset enlarges verification runs that take less than this share of the axes


class Points(NamedTuple):
    """Runs of one kind, each (R, 1 + T): the objective in the first column, then each target."""

    observed: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation; None for fewer than three points or if one side does not vary."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(a, b).statistic)


def predicted_observed(fit: LawFit, weights: Mapping[str, float] | None = None) -> Picture:
    """Each run against the prediction of a fit without its mixture: the objective large, each target small.

    Args:
        weights: of the targets in the objective; equal by default.
    """
    of, tested_R, names = fit.mean_objective(weights), np.isfinite(fit.oof_pred_TxR).all(axis=0), list(fit.targets)
    observed, predicted = (y_TxR[:, tested_R].T for y_TxR in (fit.dataset.y_TxR, fit.oof_pred_TxR))
    if len(names) > 1:
        observed, predicted = (np.column_stack([of.mean(y_RxT), y_RxT]) for y_RxT in (observed, predicted))
        names = [of.name, *names]
    return agreement({"left_out": Points(observed, *[predicted] * 3)}, names)


@style.styled
def agreement(points: Mapping[str, Points], names: Sequence[str]) -> Picture:
    """Predicted against measured values by kind of run, a key of `style.RUNS`; bars are intervals of a run.

    An inset enlarges the verification runs, or else the held-out runs, if they take little space.
    """
    count = min(len(names) - 1, MOST_TARGETS)
    columns = 2 + min(-(-count // 2), 3)
    cells = [(r, c) for r in range(2 + count) for c in range(columns) if r > 1 or c > 1][:count]
    rows = max([1, *(row for row, _ in cells)]) + 1
    fig = style.picture(1.6 * rows + 0.3, 0.5 + 1.5 * columns)
    grid = fig.add_gridspec(rows, columns)
    large = fig.add_subplot(grid[:2, :2])
    main = {kind: Points(*(side[:, 0] for side in p)) for kind, p in points.items()}
    _against(large, main)
    large.set(title=style.short(names[0], 40), xlabel="measured", ylabel="predicted")
    _inset(large, main)
    for i, place in enumerate(cells, start=1):
        axes = fig.add_subplot(grid[place])
        _against(axes, {kind: Points(*(side[:, i] for side in p)) for kind, p in points.items()})
        axes.set_title(style.short(names[i], 18), fontsize=8)
        axes.tick_params(labelsize=6.5)
    kinds = [style.RUNS[kind] for kind in points]
    looks = {label: {"marker": m, "color": c, "linestyle": "", "markersize": 4.5} for m, c, label in kinds}
    style.legend(large, looks, "upper left", handletextpad=0.3)
    return fig


def _against(axes: Axes, points: Mapping[str, Points], score: bool = True) -> None:
    """Points by kind, the diagonal, and the accuracy on runs that were not fitted."""
    low, high = style.padded(np.concatenate([np.concatenate(p[:2]) for p in points.values()]))
    axes.plot([low, high], [low, high], color=style.FAINT, linewidth=0.8, zorder=1)
    for kind, p in points.items():
        marker, colour, _ = style.RUNS[kind]
        look = {"color": colour, "markersize": 3.7, "markeredgewidth": 0, "rasterized": len(p.observed) > 1000}
        if kind in ("fit", "left_out"):
            look["alpha"] = float(np.clip(12 / np.sqrt(len(p.observed)), 0.25, 0.8))
        else:
            reach = np.maximum([p.predicted - p.low, p.high - p.predicted], 0.0)
            axes.errorbar(p.observed, p.predicted, yerr=reach, fmt="none", ecolor=colour, elinewidth=0.9, alpha=0.7)
        axes.plot(p.observed, p.predicted, marker, zorder=4, **look)
        if kind in ("held_out", "left_out") and score:
            rank, error = spearman(p.predicted, p.observed), np.abs(p.predicted - p.observed).mean()
            style.corner(axes, (f"ρ = {rank:.3f}\n" if rank is not None else "") + f"MAE = {error:.2g}")
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.locator_params(nbins=4)


def _inset(axes: Axes, points: Mapping[str, Points]) -> None:
    near = points.get("verify", points.get("held_out"))
    if near is None or np.ptp(np.concatenate(near[:2])) > NEAR * np.ptp(axes.get_xlim()):
        return
    inner = axes.inset_axes((0.63, 0.25, 0.35, 0.33))
    _against(inner, points, score=False)
    low, high = style.padded(np.concatenate(near[:2]), 0.12)
    inner.set(xlim=(low, high), ylim=(low, high))
    inner.tick_params(labelsize=6.5)
    inner.locator_params(nbins=3)
    inner.set_title("verification, enlarged" if "verify" in points else "held out, enlarged", fontsize=7, loc="right")
    place = Rectangle((low, low), high - low, high - low, fill=False, edgecolor=style.INK, linewidth=0.7, zorder=5)
    axes.add_patch(place)


@style.styled
def noise(
    names: Sequence[str],
    seed: Sequence[float | None],
    error: Sequence[float],
    spread: Sequence[float | None],
    held_out: bool,
    unit: str = "",
) -> Picture:
    """Seed noise, the law's error and the spread over mixtures on one logarithmic axis.

    Args:
        names: the objective and each target. seed: standard deviation between seeds, None if unknown.
        error: mean absolute error of the law, on held-out runs or out of fold. spread: over mixtures.
    """
    fig = style.picture(0.9 + 0.27 * len(names))
    axes = fig.subplots()
    dot, bar = {"marker": "o", "color": style.COLOURS["optimum"]}, {"marker": "|", "markeredgewidth": 2.2}
    error_look = {"marker": "D", "color": style.HELD_OUT, "markersize": 5}
    for y, sd, missed, wide in zip(range(len(names))[::-1], seed, error, spread, strict=True):
        if sd and wide:
            axes.plot([sd, wide], [y, y], color=style.GRID, linewidth=4, solid_capstyle="round", zorder=1)
        if sd:
            axes.plot(sd, y, zorder=3, **dot)
        axes.plot(missed, y, zorder=3, linestyle="", **error_look)
        if wide:
            axes.plot(wide, y, color=style.INK, markersize=11, zorder=3, **bar)
    axes.set_yticks(range(len(names))[::-1], [style.short(n, 30) for n in names])
    axes.set(xscale="log", ylim=(-0.6, len(names) - 0.4), xlabel=unit or "value")
    axes.grid(False, axis="y")
    style.label_decades(axes.xaxis)
    axes.get_yticklabels()[0].set_fontweight("bold")
    known = sum(bool(sd) for sd in seed)
    some = "" if known == len(seed) else f", known for {known} of {len(seed)}"
    looks = {
        f"seed noise (one run){some}" if known else "seed noise: unknown": dot if known else {"color": "none"},
        f"mean error of the law, {'held-out' if held_out else 'left-out'} runs": error_look,
        "spread over the trained mixtures": {"color": style.INK, "markersize": 10, **bar},
    }
    looks = {label: {"linestyle": "", **look} for label, look in looks.items()}
    style.legend(fig, looks, ncols=3, handletextpad=0.3)
    return fig
