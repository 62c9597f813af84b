"""Figures of accuracy against the number of fitted runs, and of the optimum against size and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator, PercentFormatter

from mixscale import laws
from mixscale.errors import InputError
from mixscale.formatting import amount
from mixscale.laws import LawFit
from mixscale.mixture import mixture_index
from mixscale.optimization import optimize
from mixscale.plots import style
from mixscale.plots.accuracy import spearman
from mixscale.plots.effects import scale_of
from mixscale.plots.runs import at_one_scale, objective
from mixscale.plots.style import Picture
from mixscale.run_table import RunTable

HELD_OUT = 1 / 3  # share of the mixtures to hold out if the table has no held-out rows
ROUNDING = 1e-9  # rank correlations closer to one than this are one
EXTRAPOLATE = 10.0  # how many times the largest size or token count of the table the optimum is drawn


def learning(
    table: RunTable,
    names: Sequence[str] = ("additive", "linear"),
    sizes: Sequence[int] = (),
    repeats: int = 3,
    seed: int = 0,
    weights: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Errors on held-out mixtures of laws fitted to random subsets of the others.

    Uses the last row of each run at the largest scale. Held out are the rows with that role, or else a third of the
    mixtures, the same for every fit.

    Args:
        names: of laws. sizes: numbers of mixtures to fit; six from a few to all by default.
        repeats: random subsets of each size. seed: of the subsets.
        weights: of the targets in their mean; equal by default.

    Returns:
        a row a fit: `law`, `runs`, `repeat`, and `rho` (rank correlation) and `mae` of the mean of the targets; no
        row if so few runs cannot determine a law.

    Raises:
        InputError: the table has fewer than eight mixtures.
    """
    rows = at_one_scale(table.complete().final())
    kind_R = mixture_index(rows.mixtures_RxK, 6)
    rng = np.random.default_rng(seed)
    roles = rows.frame.get("role")
    if roles is not None and (roles == "held_out").any():
        test_R = (roles == "held_out").to_numpy()
        pool = np.unique(kind_R[(roles == "fit").to_numpy()])
    else:
        shuffled = rng.permutation(kind_R.max() + 1)
        held, pool = np.split(shuffled, [int(HELD_OUT * len(shuffled))])
        test_R = np.isin(kind_R, held)
    if len(pool) < 8:
        raise InputError(f"a learning curve needs more than {len(pool)} mixtures to fit")
    counts = sizes or np.unique(np.geomspace(max(6, len(pool) // 16), len(pool), 6).round().astype(int))
    test = rows.where(test_R)
    observed_R = objective(test, weights)[1]
    found = []
    for count in counts:
        for repeat in range(repeats if count < len(pool) else 1):
            part = rows.where(np.isin(kind_R, rng.permutation(pool)[:count]))
            if "role" in part.frame:
                part = RunTable(part.frame.drop(columns="role"))
            for name in names:
                try:
                    fitted = laws.fit(part, name, bootstrap=2)
                except InputError:
                    continue
                predicted_R = fitted.mean_objective(weights).mean(fitted.predict(test.mixtures_RxK))
                rho, mae = spearman(observed_R, predicted_R), float(np.abs(observed_R - predicted_R).mean())
                found.append({"law": name, "runs": int(count), "repeat": repeat, "rho": rho, "mae": mae})
    return pd.DataFrame(found)


@style.styled
def learning_curve(measured: pd.DataFrame) -> Picture:
    """Error and rank correlation against the number of mixtures fitted, from `learning`; dots are single subsets."""
    if len(measured) == 0:
        raise InputError("no law could be fitted to any of the subsets; give more runs or laws of fewer parameters")
    fig = style.picture(2.9)
    left, right = fig.subplots(1, 2)
    names = list(dict.fromkeys(measured["law"]))
    for name, look in zip(names, style.line_look(len(names)), strict=True):
        rows = measured[measured["law"] == name]
        lost = (1 - rows["rho"]).where(rows["rho"] < 1 - ROUNDING, 0.0)
        for axes, value in ((left, rows["mae"]), (right, lost)):
            axes.plot(rows["runs"], value, "o", color=look["color"], markersize=3, alpha=0.35, markeredgewidth=0)
            middle = value.groupby(rows["runs"]).median()
            axes.plot(middle.index, middle, label=name, marker="o", markersize=4, **look)
    ticks = sorted(measured["runs"].unique())
    for axes, label in ((left, "mean absolute error"), (right, "1 − rank correlation")):
        axes.set(xscale="log", xlabel="mixtures fitted", ylabel=label)
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        _logarithmic(axes)
    left.set_title("on mixtures held out of every fit")
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=len(names))
    return fig


@style.styled
def optimum_by_scale(fit: LawFit, weights: Mapping[str, float] | None = None, points: int = 7) -> Picture:
    """The optimum against the size and the tokens of the target run; grey is outside the table.

    Args:
        weights: of the targets; equal by default. points: optima in each direction.

    Raises:
        InputError: the law has no scale.
    """
    if not fit.uses_scale:
        raise InputError(
            f"law '{fit.law}' has no scale, so its optimum is the same at every N and D; fit a law with scale"
        )
    centre = scale_of(fit)
    n_R, d_R = fit.dataset.points.n_R * fit.dataset.scale.n, fit.dataset.points.d_R * fit.dataset.scale.d
    fig = style.picture(3.2)
    axes_2 = fig.subplots(1, 2, sharey=True)
    looks, highest = style.line_look(len(fit.domains)), 0.0
    for axes, column, value_R in zip(axes_2, style.SCALE, (n_R, d_R), strict=True):
        low, high = value_R.min(), value_R.max()
        at_Q = np.geomspace(low if high > 1.5 * low else low / EXTRAPOLATE, EXTRAPOLATE * high, points)
        best = [optimize(fit, weights=weights, **{**centre, column: float(value)}) for value in at_Q]
        for domain, look in zip(fit.domains, looks, strict=True):
            edges_Qx2 = np.array([b.interval[domain] for b in best])
            highest = max(highest, edges_Qx2.max())
            axes.fill_between(at_Q, *edges_Qx2.T, color=look["color"], alpha=0.15, linewidth=0)
            axes.plot(at_Q, [b.mixture[domain] for b in best], label=style.short(domain), **look)
        for edges in ((at_Q[0], low), (high, at_Q[-1])):
            axes.axvspan(*edges, color=style.GRID, alpha=0.6, linewidth=0, zorder=0)
        other = next(name for name in style.SCALE if name != column)
        axes.set(xscale="log", xlim=(at_Q[0], at_Q[-1]))
        axes.set_xlabel(f"{style.SCALE[column]}, where {style.SCALE[other]} is {amount(centre[other])}")
        style.label_decades(axes.xaxis, amount)
    axes_2[0].set(ylabel="weight in the optimum", ylim=(0, 1.03 * highest))
    axes_2[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles = [*axes_2[0].get_legend_handles_labels()[0], Patch(color=style.GRID, label="outside the table")]
    fig.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)))
    return fig


def _logarithmic(axes: Axes) -> None:
    """A logarithmic y axis; if some values are zero, its lower end is zero."""
    value_R = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    value_R = value_R[np.isfinite(value_R)]
    above_R = value_R[value_R > 0]
    if len(above_R) == len(value_R):
        axes.set_yscale("log")
        style.label_decades(axes.yaxis)
        return
    least, most = (above_R.min(), above_R.max()) if len(above_R) else (0.1, 1.0)
    axes.set_yscale("symlog", linthresh=least, linscale=0.4)
    exponents = range(int(np.floor(np.log10(least))), int(np.ceil(np.log10(most))) + 1)
    decades = [d * 10.0**e for e in exponents for d in (1, 2, 5) if least <= d * 10.0**e <= 1.2 * most]
    ticks = [0.0, *decades]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks], fontsize=7)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.15 * least, 1.4 * most)
