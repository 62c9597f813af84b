"""Figures of the answer: the optimum beside its baselines, what training them gave, and the mixtures of the swarm."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, PercentFormatter

from mixscale.report.candidates import CANDIDATES, Candidate
from mixscale.report.comparison import Comparison
from mixscale.report.figures import style
from mixscale.report.findings import Findings
from mixscale.report.material import Material
from mixscale.report.wording import percent

BASELINES = CANDIDATES[:0:-1]
"""From the back of the figure to its front."""


@style.styled
def optimum(material: Material, found: Findings) -> Figure:
    """Weight of each domain in the optimum, with its interval, and in the baselines."""
    order = sorted(found.optimum, key=lambda d: found.optimum[d])
    fig = style.figure(0.95 + 0.33 * len(order))
    axes = fig.subplots()
    for y, domain in enumerate(order):
        low, high = found.optimum_interval.get(domain, (np.nan, np.nan))
        if found.spreads and np.isfinite(low):
            look = {"color": style.COLOURS["optimum"], "alpha": 0.3, "linewidth": 7, "solid_capstyle": "round"}
            axes.plot([low, high], [y, y], **look)
    for name in (*(b for b in BASELINES if b in found.candidates), "optimum"):
        weights = [found.candidates[name].mixture.get(d, 0.0) for d in order]
        hollow = {"markerfacecolor": "white"} if name != "optimum" else {}
        axes.plot(weights, range(len(order)), **_look(name), **hollow, clip_on=False, zorder=3 + (name == "optimum"))
    axes.set_yticks(range(len(order)), [style.short(d) for d in order])
    axes.set(ylim=(-0.6, len(order) - 0.4), xlabel="weight in the mixture")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda weight, _: f"{100 * weight:g}%"))
    axes.grid(True, axis="y", linestyle=":")
    handles = [Line2D([], [], **_look(n), label=found.label(n)) for n in found.candidates]
    for handle, name in zip(handles, found.candidates, strict=True):
        if name != "optimum":
            handle.set_markerfacecolor("white")
    bar = Patch(color=style.COLOURS["optimum"], alpha=0.3, label=f"{percent(found.level)} interval", linewidth=0)
    bars = [bar] if found.spreads else []
    fig.legend(handles=[handles[0], *bars, *handles[1:]], loc="outside upper left", ncols=7, handletextpad=0.3,
               columnspacing=0.9, handlelength=1.3)  # fmt: skip
    return fig


@style.styled
def verification(found: Findings) -> Figure | None:
    """The goal of each seed for the compared mixtures, where the law expects it, and the differences, if any."""
    names = [n for n in CANDIDATES if n in found.candidates and found.candidates[n].goal.observed]
    if not names:
        return None
    fig = style.figure(3.4)
    left, *right = fig.subplots(1, 2, width_ratios=(1.25, 1)) if found.comparisons else [fig.subplots()]
    seeds = sorted({s for n in names for s in found.candidates[n].goal.observed})
    for seed in seeds:
        values = [found.candidates[n].goal.observed.get(seed, np.nan) for n in names]
        left.plot(range(len(names)), values, color=style.FAINT, linewidth=0.7, alpha=0.8, zorder=1)
    for x, name in enumerate(names):
        _trained(left, x, name, found.candidates[name])
    left.set_xticks(range(len(names)), [found.label(n).replace(" of ", "\nof ") for n in names])
    left.set(xlim=(-0.5, len(names) - 0.5), ylabel=found.objective + (f", {found.unit}" if found.unit else ""))
    left.set_title("trained, a point a seed; bar: their mean as predicted")
    left.grid(False, axis="x")
    if right:
        _differences(right[0], found)
    return fig


@style.styled
def swarm(material: Material) -> Figure:
    """Every mixture that was trained at the compared size, best first: its mean loss above, its domains below."""
    rows = material.at_scale.sort_values("goal", kind="stable")
    mixtures = [rows for _, rows in rows.groupby(material.groups_R(rows))]
    mixtures.sort(key=lambda rows: rows["goal"].mean())
    h_QxK = np.concatenate([material.mixtures_RxK(rows.head(1)) for rows in mixtures])
    legend_rows = -(-len(material.domains) // 6)
    fig = style.figure(3.7 + 0.2 * legend_rows)
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    _swarm_losses(above, mixtures)
    below_Q = np.zeros(len(mixtures))
    looks = style.domain_look(len(material.domains))
    width = 0.86 if len(mixtures) <= 80 else 1.0
    for k, look in enumerate(looks):
        below.bar(np.arange(len(mixtures)), h_QxK[:, k], width, bottom=below_Q, linewidth=0, **look)
        below_Q = below_Q + h_QxK[:, k]
    below.set(ylim=(0, 1), xlim=(-0.7, len(mixtures) - 0.3), ylabel="weight")
    below.set_xlabel(f"mixtures, in the order of their {material.aim.name}")
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.set_xticks([])
    above.set_ylabel(material.aim.name)
    above.legend(handles=_swarm_legend(set(rows["role"])), loc="upper left", ncols=3, handletextpad=0.2)
    for axes in (above, below):
        axes.grid(False, axis="x")
    names = [style.short(d) for d in material.domains]
    handles = [Patch(label=name, linewidth=0, **look) for name, look in zip(names, looks, strict=True)]
    fig.legend(handles=handles, loc="outside lower left", ncols=min(6, len(handles)), handlelength=1.2)
    return fig


def _look(name: str) -> dict[str, object]:
    return {"marker": style.MARKERS[name], "color": style.COLOURS[name], "linestyle": "", "markersize": 5.5}


def _trained(axes: Axes, x: int, name: str, candidate: Candidate) -> None:
    loss, colour = candidate.goal, style.COLOURS[name]
    axes.plot([x + 0.2] * 2, loss.of_run, color=colour, alpha=0.6, linewidth=1, zorder=1)
    axes.plot([x + 0.2] * 2, loss.of_mean, color=colour, alpha=0.3, linewidth=6, solid_capstyle="butt", zorder=1)
    axes.plot(x + 0.2, loss.predicted, "_", color=colour, markersize=8, markeredgewidth=1.6, zorder=2)
    values = list(loss.observed.values())
    axes.plot([x] * len(values), values, "o", color=colour, markersize=5, markeredgecolor="white", zorder=3)
    axes.plot(x - 0.17, loss.mean, ">", color=colour, markersize=5, zorder=3)


def _differences(axes: Axes, found: Findings) -> None:
    """Baseline minus optimum: points by seed, the mean, and its interval against zero."""
    names = [n for n in CANDIDATES[1:] if n in found.comparisons]
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
    if found.noise:
        axes.axvspan(-found.noise.sd, found.noise.sd, color=style.GRID, alpha=0.7, linewidth=0, zorder=0)
    for y, name in enumerate(reversed(names)):
        c, colour = found.comparisons[name], style.COLOURS[name]
        if c.interval:
            axes.plot(c.interval, [y, y], color=colour, alpha=0.35, linewidth=6, solid_capstyle="butt", zorder=2)
        axes.plot(list(c.differences.values()), [y] * len(c.differences), "o", color=colour, markersize=4, zorder=3)
        axes.plot(c.mean, y, "|", color=colour, markersize=14, markeredgewidth=2, zorder=3)
        axes.text(c.mean, y + 0.26, _verdict(c), ha="center", fontsize=7.5, zorder=4, bbox=paper)
    axes.set_yticks(range(len(names)), [found.label(n).replace(" of ", "\nof ") for n in reversed(names)])
    axes.set(ylim=(-0.6, len(names) - 0.3), xlabel=f"{found.objective} above the optimum's")
    axes.margins(x=0.12)
    axes.set_title("difference to the optimum, by seed")
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=5)


def _verdict(c: Comparison) -> str:
    return f"optimum {c.verdict}" if c.verdict in ("better", "worse") else c.verdict


ROLES = {"fit": ("o", style.FIT, "fitted"), "held_out": ("o", style.HELD_OUT, "held out"),
         "verify": ("D", style.COLOURS["optimum"], "verification")}  # fmt: skip


def _swarm_losses(axes: Axes, mixtures: list[pd.DataFrame]) -> None:
    """Every run's mean loss above the place of its mixture."""
    rows = pd.concat(mixtures).assign(place=np.repeat(np.arange(len(mixtures)), [len(m) for m in mixtures]))
    for role, (marker, colour, _) in ROLES.items():
        shown = rows[rows["role"] == role]
        axes.plot(shown["place"], shown["goal"], marker, color=colour, markersize=3.2, markeredgewidth=0)


def _swarm_legend(roles: set[str]) -> list[Line2D]:
    return [
        Line2D([], [], marker=m, color=c, linestyle="", markersize=4, label=label)
        for role, (m, c, label) in ROLES.items()
        if role in roles
    ]
