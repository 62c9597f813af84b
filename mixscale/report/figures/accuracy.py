"""Figures of how far the law can be trusted: predicted against observed losses, and errors beside the seed noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mixscale.report.figures import style
from mixscale.report.findings import Findings
from mixscale.report.held_out import left_out_rows
from mixscale.report.material import Material
from mixscale.report.seeds import goal_of_rows, targets_of_rows
from mixscale.report.statistics import mean_absolute_error, spearman

VERIFY = style.COLOURS["optimum"]


Points = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""observed, predicted, and the ends of the interval, each (R,)"""
LOOKS = {"fit": ("o", style.FIT, "fitted"), "left_out": ("o", style.FIT, "fitted, each left out"),
         "held_out": ("o", style.HELD_OUT, "held out"), "verify": ("D", VERIFY, "verification")}  # fmt: skip
"""Marker, colour and name of each kind of run."""
NEAR = 0.35
"""Share of the axes below which the place of some runs is enlarged."""


@style.styled
def predicted_observed(material: Material, found: Findings) -> Figure:
    """Predicted against observed: the goal large, each target small; bars are intervals of a run with its seed.

    Where no mixture was held out, the fitted runs are predicted by fits without them. An inset enlarges the place of
    the verification runs, or else of the held-out ones, where it is small.
    """
    cells, columns = _cells(len(material.targets))
    rows = max([1, *(row for row, _ in cells)]) + 1
    fig = style.figure(1.6 * rows + 0.3, 0.5 + 1.5 * columns)
    grid = fig.add_gridspec(rows, columns)
    goal, targets = _points(material, found)
    mean = fig.add_subplot(grid[:2, :2])
    _against(mean, goal)
    mean.set(title=material.aim.name, xlabel="observed", ylabel="predicted")
    _inset(mean, goal)
    for i, cell in enumerate(cells):
        axes = fig.add_subplot(grid[cell])
        _against(axes, {role: tuple(a[:, i] for a in arrays) for role, arrays in targets.items()})
        axes.set_title(style.short(material.target_names[i], 18), fontsize=8)
        axes.tick_params(labelsize=6.5)
    mean.legend(handles=_legend(goal), loc="upper left", handletextpad=0.3)
    return fig


@style.styled
def noise(material: Material, found: Findings) -> Figure:
    """Per target, on one logarithmic axis: seed noise, the law's error, and the spread over mixtures."""
    fitted = material.at_scale[material.at_scale["role"] == "fit"]
    names = [material.aim.name, *material.target_names]
    columns = ["goal", *material.targets]
    seed = [n.sd if n and n.sd > 0 else None for n in (found.noise, *found.target_noise.values())]
    errors = _errors(material, found)
    fig = style.figure(0.9 + 0.27 * len(names))
    axes = fig.subplots()
    for row, column in enumerate(columns):
        y = len(columns) - 1 - row
        spread = _spread(material, fitted, column)
        if seed[row] and spread:
            axes.plot([seed[row], spread], [y, y], color=style.GRID, linewidth=4, solid_capstyle="round", zorder=1)
        if seed[row]:
            axes.plot(seed[row], y, "o", color=VERIFY, zorder=3)
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
    legend = _noise_legend(sum(sd is not None for sd in seed), len(seed), found.held_out is not None)
    fig.legend(handles=legend, loc="outside upper left", ncols=3, handletextpad=0.3)
    return fig


def _points(material: Material, found: Findings) -> tuple[dict[str, Points], dict[str, Points]]:
    """Goal (R,) and targets (R, T) of each kind of run: observed, predicted, and the ends of the interval."""
    predictable = material.predictable
    noise = {"goal": found.noise, **found.target_noise}
    goal, targets = {}, {}
    for role in ("fit", "held_out", "verify"):
        rows = predictable[predictable["role"] == role]
        if role == "fit" and not found.held_out:
            (predicted_R, observed_R), (predicted_RxT, observed_RxT) = left_out_rows(material)
            goal["left_out"] = (observed_R, *[predicted_R] * 3)
            targets["left_out"] = (observed_RxT, *[predicted_RxT] * 3)
        elif len(rows):
            goal[role] = (rows["goal"].to_numpy(), *goal_of_rows(material, rows, noise))
            targets[role] = (material.observed_RxT(rows), *targets_of_rows(material, rows, noise))
    return goal, targets


def _errors(material: Material, found: Findings) -> list[float]:
    """The law's mean error of the goal and of each target, on held-out runs or else on fitted ones left out."""
    if found.held_out:
        held = found.held_out
        return [held.mean_absolute_error, *(v["mean_absolute_error"] for v in held.targets.values())]
    _, (predicted_RxT, observed_RxT) = left_out_rows(material)
    return [found.left_out.mean_absolute_error, *np.abs(predicted_RxT - observed_RxT).mean(axis=0).tolist()]


def _cells(count: int) -> tuple[list[tuple[int, int]], int]:
    """Places (row, column) of `count` targets around the mean's two by two, and the number of columns."""
    if count == 1:  # the mean is that target
        return [], 2
    columns = 2 + min(-(-count // 2), 3)
    rows = range(2 + count)
    free = [(row, column) for row in rows for column in range(columns) if row > 1 or column > 1]
    return free[:count], columns


def _against(axes: Axes, points: dict[str, Points]) -> None:
    """Points by role, the diagonal, and in the corner how well those are predicted that were not fitted."""
    everything = np.concatenate([np.concatenate(p[:2]) for p in points.values()])
    low, high = style.padded(everything)
    axes.plot([low, high], [low, high], color=style.FAINT, linewidth=0.8, zorder=1)
    for role, (observed, predicted, lower, upper) in points.items():
        marker, colour, _ = LOOKS[role]
        if colour == style.FIT:
            axes.plot(observed, predicted, "o", color=colour, markersize=4, alpha=0.8, markeredgewidth=0, zorder=2)
            continue
        reach = np.maximum([predicted - lower, upper - predicted], 0.0)
        size = 4 if marker == "o" else 3.5
        axes.errorbar(observed, predicted, yerr=reach, fmt="none", ecolor=colour, elinewidth=0.9, alpha=0.7, zorder=3)
        axes.plot(observed, predicted, marker, color=colour, markersize=size, zorder=4, markeredgewidth=0)
    for role in ("held_out", "left_out"):
        if role in points:
            axes.text(0.97, 0.04, _score(*points[role][:2]), transform=axes.transAxes, ha="right", fontsize=7)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.locator_params(nbins=4)


def _inset(axes: Axes, points: dict[str, Points]) -> None:
    """The place of the verification runs, or else of the held-out ones, enlarged where other runs stretch the axes."""
    near = points.get("verify", points.get("held_out"))
    if near is None or np.ptp(np.concatenate(near[:2])) > NEAR * np.ptp(axes.get_xlim()):
        return
    inner = axes.inset_axes((0.63, 0.2, 0.35, 0.33))
    _against(inner, points)
    for text in inner.texts:
        text.remove()
    low, high = style.padded(np.concatenate(near[:2]), 0.12)
    inner.set(xlim=(low, high), ylim=(low, high))
    inner.tick_params(labelsize=6.5)
    inner.locator_params(nbins=3)
    inner.set_title("verification, enlarged" if "verify" in points else "held out, enlarged", fontsize=7, loc="right")
    place = Rectangle((low, low), high - low, high - low, fill=False, edgecolor=style.INK, linewidth=0.7, zorder=5)
    axes.add_patch(place)


def _score(observed: np.ndarray, predicted: np.ndarray) -> str:
    rank, error = spearman(predicted, observed), mean_absolute_error(predicted, observed)
    return (f"ρ = {rank:.3f}\n" if rank is not None else "") + f"MAE = {error:.3g}"


def _spread(material: Material, rows: pd.DataFrame, column: str) -> float | None:
    """Standard deviation over mixtures, each counted once."""
    if not len(rows):
        return None
    by_mixture = rows.groupby(material.groups_R(rows))[column].mean()
    return float(by_mixture.std()) if len(by_mixture) > 1 else None


def _legend(points: dict[str, Points]) -> list[Line2D]:
    looks = [LOOKS[role] for role in points]
    return [Line2D([], [], marker=m, color=c, linestyle="", markersize=4.5, label=label) for m, c, label in looks]


def _noise_legend(known: int, rows: int, held_out: bool) -> list[Line2D]:
    """An entry for each mark that is drawn; seed noise that is not known is said to be so."""
    seed = "seed noise (one run)" + ("" if known == rows else f", known of {known} of {rows}")
    look = {"marker": "o", "color": VERIFY} if known else {"marker": "", "color": "none"}
    found = [Line2D([], [], linestyle="", label=seed if known else "seed noise: not known", **look)]
    label = f"the law's mean error, {'held out' if held_out else 'each run left out'}"
    found.append(Line2D([], [], marker="D", color=style.HELD_OUT, linestyle="", markersize=5, label=label))
    spread = {"marker": "|", "markersize": 10, "markeredgewidth": 2.2, "label": "spread over the mixtures trained"}
    return [*found, Line2D([], [], color=style.INK, linestyle="", **spread)]
