"""Figures of the result: the optimum and its baselines, their verification, and a Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from mixscale.formatting import percent
from mixscale.plots import style
from mixscale.plots.style import Picture

Interval = tuple[float, float]


@style.styled
def weights(
    mixtures: Mapping[str, Mapping[str, float]], interval: Mapping[str, Interval] | None = None, level: float = 0.9
) -> Picture:
    """Weight of each domain in the optimum, with its interval, and in the baselines.

    Args:
        mixtures: by name as in `style.LABELS`, with 'optimum'. interval: of the optimum's weights.
    """
    best = mixtures["optimum"]
    order = sorted(best, key=best.__getitem__)
    fig = style.picture(0.95 + 0.33 * len(order))
    axes = fig.subplots()
    bar = {"color": style.COLOURS["optimum"], "alpha": 0.3}
    for y, domain in enumerate(order):
        if interval and domain in interval:
            axes.plot(interval[domain], [y, y], linewidth=7, solid_capstyle="round", **bar)
    for name in reversed(mixtures):
        weight_K = [mixtures[name].get(d, 0.0) for d in order]
        hollow = {} if name == "optimum" else {"markerfacecolor": "white"}
        look = style.mixture_look(name) | hollow | {"clip_on": False, "zorder": 3 + (name == "optimum")}
        axes.plot(weight_K, range(len(order)), label=style.LABELS[name], **look)
    axes.set_yticks(range(len(order)), [style.short(d) for d in order])
    axes.set(ylim=(-0.6, len(order) - 0.4), xlabel="weight in the mixture")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(style.PERCENT)
    axes.grid(True, axis="y", linestyle=":")
    first, *others = reversed(axes.get_legend_handles_labels()[0])
    bars = [Patch(label=f"{percent(level)} interval", linewidth=0, **bar)] if interval else []
    fig.legend(handles=[first, *bars, *others], loc="outside upper left", ncols=7, handletextpad=0.3,
               columnspacing=0.9, handlelength=1.3)  # fmt: skip
    return fig


@style.styled
def verification(
    estimates: Mapping[str, Any], comparisons: Mapping[str, Any], noise: float | None, objective: str, unit: str = ""
) -> Picture | None:
    """The objective by seed, its prediction, and the differences to the optimum; None without runs.

    Args:
        estimates: `report.comparison.Estimate` of each mixture. comparisons: `Comparison` of each baseline.
        noise: standard deviation between seeds. objective, unit: of the values.
    """
    trained = {name: e for name, e in estimates.items() if e.observed}
    if not trained:
        return None
    fig = style.picture(3.4)
    left, *right = fig.subplots(1, 2, width_ratios=(1.25, 1)) if comparisons else [fig.subplots()]
    for seed in sorted({s for e in trained.values() for s in e.observed}):
        values = [e.observed.get(seed, np.nan) for e in trained.values()]
        left.plot(range(len(trained)), values, color=style.FAINT, linewidth=0.7, alpha=0.8, zorder=1)
    for x, (name, e) in enumerate(trained.items()):
        _measured(left, x, e, style.COLOURS[name])
    left.set_xticks(range(len(trained)), [style.LABELS[n].replace(" ", "\n") for n in trained])
    left.set(xlim=(-0.5, len(trained) - 0.5), ylabel=objective + (f", {unit}" if unit else ""))
    left.set_title("measured, one point per seed; bar: predicted mean")
    left.grid(False, axis="x")
    for axes in right:
        _differences(axes, comparisons, noise, objective)
    return fig


def _measured(axes: Axes, x: int, e: Any, colour: str) -> None:
    axes.plot([x + 0.2] * 2, e.of_run, color=colour, alpha=0.6, linewidth=1, zorder=1)
    axes.plot([x + 0.2] * 2, e.of_mean, color=colour, alpha=0.3, linewidth=6, solid_capstyle="butt", zorder=1)
    axes.plot(x + 0.2, e.predicted, "_", color=colour, markersize=8, markeredgewidth=1.6, zorder=2)
    values = list(e.observed.values())
    axes.plot([x] * len(values), values, "o", color=colour, markersize=5, markeredgecolor="white", zorder=3)
    axes.plot(x - 0.17, e.mean, ">", color=colour, markersize=5, zorder=3)


def _differences(axes: Axes, comparisons: Mapping[str, Any], noise: float | None, objective: str) -> None:
    """Baseline minus optimum by seed, with mean and interval."""
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
    if noise:
        axes.axvspan(-noise, noise, color=style.GRID, alpha=0.7, linewidth=0, zorder=0)
    names = list(reversed(comparisons))
    for y, name in enumerate(names):
        c, colour = comparisons[name], style.COLOURS[name]
        if c.interval:
            axes.plot(c.interval, [y, y], color=colour, alpha=0.35, linewidth=6, solid_capstyle="butt", zorder=2)
        axes.plot(list(c.differences.values()), [y] * len(c.differences), "o", color=colour, markersize=4, zorder=3)
        axes.plot(c.mean, y, "|", color=colour, markersize=14, markeredgewidth=2, zorder=3)
        verdict = f"optimum {c.verdict}" if c.verdict in ("better", "worse") else c.verdict
        axes.text(c.mean, y + 0.26, verdict, ha="center", fontsize=7.5, zorder=4, bbox=paper)
    axes.set_yticks(range(len(names)), [style.LABELS[n].replace(" ", "\n") for n in names])
    axes.set(ylim=(-0.6, len(names) - 0.3), xlabel=f"{objective} above the optimum's")
    axes.margins(x=0.12)
    axes.set_title("difference to the optimum, by seed")
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=5)


@style.styled
def front(
    table: pd.DataFrame | None,
    domains: Sequence[str],
    points: Mapping[str, tuple[float, float]] | None = None,
    scores: Sequence[str] = (),
    level: float = 0.9,
) -> Picture | None:
    """Two objectives along their Pareto front, with intervals, and the mixture at each point.

    Args:
        table: of `optimization.pareto`; None draws nothing.
        points: values of both objectives at mixtures to mark, by name as in `style.LABELS`.
        scores: objectives of which higher is better; their columns are negated.
    """
    if table is None:
        return None
    names = [str(table[f"{which}_objective"].iloc[0]) for which in ("first", "second")]
    sign_2 = [-1.0 if name in scores else 1.0 for name in names]
    first, second = (table[which].to_numpy() * sign for which, sign in zip(("first", "second"), sign_2, strict=True))
    fig = style.picture(3.7)
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    if {"second_lo", "second_hi"} <= set(table):
        low, high = (table[f"second_{end}"].to_numpy() * sign_2[1] for end in ("lo", "hi"))
        left.fill_between(first, low, high, color=style.HELD_OUT, alpha=0.15, linewidth=0)
    left.plot(first, second, "o-", color=style.HELD_OUT, markersize=4)
    for name, values in (points or {}).items():
        left.plot(*values, label=style.LABELS[name], **style.mixture_look(name) | {"markersize": 7})
    if points:
        left.legend(loc="upper right")
    left.set(xlabel=style.short(names[0], 40), ylabel=style.short(names[1], 40))
    left.set_title(f"Pareto front ({percent(level)} band)")
    style.stacked(right, table[[f"mix/{d}" for d in domains]].to_numpy(), 0.9)
    right.set(xlim=(-0.6, len(table) - 0.4))
    right.set_title(f"mixtures: best for {style.short(names[0], 12)} … best for {style.short(names[1], 12)}")
    style.domain_legend(fig, domains)
    return fig
