"""Figures of how far the law can be trusted: predicted against observed losses, and errors beside the seed noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mixscale.report.figures import style
from mixscale.report.findings import Findings
from mixscale.report.material import Material
from mixscale.report.statistics import mean_absolute_error, spearman

VERIFY = style.COLOURS["optimum"]


@style.styled
def predicted_observed(material: Material) -> Figure:
    """Predicted against observed: the mean loss large, each target small; bars are the law's intervals."""
    cells, columns = _cells(len(material.targets))
    rows = max([1, *(row for row, _ in cells)]) + 1
    fig = style.figure(1.6 * rows + 0.3, 0.5 + 1.5 * columns)
    grid = fig.add_gridspec(rows, columns)
    predictable = material.predictable
    shown = {role: predictable[predictable["role"] == role] for role in ("fit", "held_out", "verify")}
    mean = fig.add_subplot(grid[:2, :2])
    points = {role: (r["goal"].to_numpy(), *material.row_objective(r)) for role, r in shown.items() if len(r)}
    _against(mean, points)
    mean.set(title=material.aim.name, xlabel="observed", ylabel="predicted")
    _inset(mean, points)
    for i, cell in enumerate(cells):
        axes = fig.add_subplot(grid[cell])
        _against(axes, {role: _target_points(material, r, i) for role, r in shown.items() if len(r)})
        axes.set_title(style.short(material.target_names[i], 18), fontsize=8)
        axes.tick_params(labelsize=6.5)
    mean.legend(handles=_legend(shown), loc="upper left", handletextpad=0.3)
    return fig


@style.styled
def noise(material: Material, found: Findings) -> Figure:
    """Per target, on one logarithmic axis: seed noise, the law's error, and the spread over mixtures."""
    fitted = material.at_scale[material.at_scale["role"] == "fit"]
    held = material.predictable[material.predictable["role"] == "held_out"]
    names = [material.aim.name, *material.target_names]
    columns = ["goal", *material.targets]
    seed = [found.noise, *found.target_noise.values()]
    errors = [found.held_out.mean_absolute_error] if found.held_out else []
    errors += [v["mean_absolute_error"] for v in found.held_out.targets.values()] if found.held_out else []
    fig = style.figure(0.9 + 0.27 * len(names))
    axes = fig.subplots()
    for row, column in enumerate(columns):
        y = len(columns) - 1 - row
        spread = _spread(material, fitted, column)
        points = [v for v in (seed[row].sd if seed[row] else None, spread) if v]
        if len(points) == 2:
            axes.plot(points, [y, y], color=style.GRID, linewidth=4, solid_capstyle="round", zorder=1)
        if seed[row] and seed[row].sd > 0:
            axes.plot(seed[row].sd, y, "o", color=VERIFY, zorder=3)
        if len(held):
            axes.plot(errors[row], y, "D", color=style.HELD_OUT, markersize=5, zorder=3)
        if spread:
            axes.plot(spread, y, "|", color=style.INK, markersize=11, markeredgewidth=2.2, zorder=3)
    axes.set_yticks(range(len(names))[::-1], [style.short(n, 30) for n in names])
    axes.set(xscale="log", ylim=(-0.6, len(names) - 0.4), xlabel="nats a token" if material.unit else "value")
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.get_yticklabels()[0].set_fontweight("bold")
    fig.legend(handles=_noise_legend(bool(len(held))), loc="outside upper left", ncols=3, handletextpad=0.3)
    return fig


def _cells(count: int) -> tuple[list[tuple[int, int]], int]:
    """Places (row, column) of `count` targets around the mean's two by two, and the number of columns."""
    if count == 1:  # the mean is that target
        return [], 2
    columns = 2 + min(-(-count // 2), 3)
    rows = range(2 + count)
    free = [(row, column) for row in rows for column in range(columns) if row > 1 or column > 1]
    return free[:count], columns


def _against(axes: Axes, points: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Points (observed, predicted, low, high) by role, the diagonal, and the held-out figures in the corner."""
    everything = np.concatenate([np.concatenate(p[:2]) for p in points.values()])
    low, high = style.padded(everything)
    axes.plot([low, high], [low, high], color=style.FAINT, linewidth=0.8, zorder=1)
    for role, (observed, predicted, lower, upper) in points.items():
        if role == "fit":
            axes.plot(observed, predicted, "o", color=style.FIT, markersize=4, alpha=0.8, markeredgewidth=0, zorder=2)
            continue
        colour = style.HELD_OUT if role == "held_out" else VERIFY
        reach = np.maximum([predicted - lower, upper - predicted], 0.0)
        marker = {"marker": "o" if role == "held_out" else "D", "markersize": 4 if role == "held_out" else 3.5}
        axes.errorbar(observed, predicted, yerr=reach, fmt="none", ecolor=colour, elinewidth=0.9, alpha=0.7, zorder=3)
        axes.plot(observed, predicted, linestyle="", color=colour, zorder=4, markeredgewidth=0, **marker)
    if "held_out" in points:
        axes.text(0.97, 0.04, _score(*points["held_out"][:2]), transform=axes.transAxes, ha="right", fontsize=7)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.locator_params(nbins=4)


def _inset(axes: Axes, points: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """The place of the held-out and verification runs, enlarged where fitted runs stretch the axes."""
    unseen = [np.concatenate(p[:2]) for role, p in points.items() if role != "fit"]
    if not unseen or np.ptp(np.concatenate(unseen)) > 0.35 * np.ptp(axes.get_xlim()):
        return
    inner = axes.inset_axes((0.5, 0.21, 0.48, 0.47))
    _against(inner, points)
    for text in inner.texts:
        text.remove()
    low, high = style.padded(np.concatenate(unseen), 0.12)
    inner.set(xlim=(low, high), ylim=(low, high))
    inner.tick_params(labelsize=6.5)
    inner.locator_params(nbins=3)
    axes.indicate_inset_zoom(inner, edgecolor=style.FAINT)


def _score(observed: np.ndarray, predicted: np.ndarray) -> str:
    rank, error = spearman(predicted, observed), mean_absolute_error(predicted, observed)
    return (f"ρ = {rank:.3f}\n" if rank is not None else "") + f"MAE = {error:.3g}"


def _target_points(material: Material, rows: pd.DataFrame, i: int) -> tuple[np.ndarray, ...]:
    low_RxT, high_RxT = material.interval_RxT(rows)
    arrays = (material.observed_RxT(rows), material.predicted_RxT(rows), low_RxT, high_RxT)
    return tuple(a[:, i] for a in arrays)


def _spread(material: Material, rows: pd.DataFrame, column: str) -> float | None:
    """Standard deviation over mixtures, each counted once."""
    if not len(rows):
        return None
    by_mixture = rows.groupby(material.groups_R(rows))[column].mean()
    return float(by_mixture.std()) if len(by_mixture) > 1 else None


def _legend(shown: dict[str, pd.DataFrame]) -> list[Line2D]:
    look = {
        "fit": ("o", style.FIT, "fitted"),
        "held_out": ("o", style.HELD_OUT, "held out"),
        "verify": ("D", VERIFY, "verification"),
    }
    return [
        Line2D([], [], marker=look[r][0], color=look[r][1], linestyle="", markersize=4.5, label=look[r][2])
        for r, rows in shown.items()
        if len(rows)
    ]


def _noise_legend(held_out: bool) -> list[Line2D]:
    found = [Line2D([], [], marker="o", color=VERIFY, linestyle="", label="seed noise (one run)")]
    if held_out:
        label = "the law's mean error, held out"
        found.append(Line2D([], [], marker="D", color=style.HELD_OUT, linestyle="", markersize=5, label=label))
    spread = {"marker": "|", "markersize": 10, "markeredgewidth": 2.2, "label": "spread over the mixtures trained"}
    return [*found, Line2D([], [], color=style.INK, linestyle="", **spread)]
