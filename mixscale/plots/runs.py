"""Figures of the runs of a table: each mixture with its losses, each mixture as a line, and ranks across scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from mixscale.errors import InputError
from mixscale.formatting import amount
from mixscale.mixture import Mixture, mixture_index
from mixscale.objective import Objective
from mixscale.plots import style
from mixscale.plots.style import Picture
from mixscale.run_table import RunTable

MANY = 80  # with more mixtures, only the best tenth is drawn strongly
FEWEST = 5  # least mixtures in common to compare the ranks of two scales
SCALES = 6  # most scales to compare; of more, so many evenly from smallest to largest


@style.styled
def swarm(
    domains: Sequence[str], h_RxK: np.ndarray, y_R: np.ndarray, role_R: Sequence[str], objective: str = "objective"
) -> Picture:
    """Every mixture, best first: the objective of its runs (lower is better) above, its domains below.

    Args:
        h_RxK, y_R, role_R: mixture, objective and role ('fit', 'held_out', 'verify') of each run.
    """
    unique_QxK, kind_R = np.unique(h_RxK.round(9), axis=0), mixture_index(h_RxK)
    order_Q = np.argsort(np.bincount(kind_R, y_R) / np.bincount(kind_R), kind="stable")
    place_R = np.argsort(order_Q)[kind_R]
    count = len(order_Q)
    fig = style.picture(3.7 + 0.2 * -(-len(domains) // 6))
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    for role, (marker, colour, label) in style.RUNS.items():
        of_R = np.asarray(role_R) == role
        if of_R.any():
            look = {"color": colour, "markersize": 3.2, "markeredgewidth": 0, "label": label}
            above.plot(place_R[of_R], y_R[of_R], marker, **look)
    style.stacked(below, unique_QxK[order_Q], 0.86 if count <= MANY else 1.0)
    below.set(xlim=(-0.7, count - 0.3), xlabel=f"mixtures, ordered by {objective}")
    above.set_ylabel(objective)
    above.legend(loc="upper left", ncols=3, handletextpad=0.2)
    above.grid(False, axis="x")
    style.domain_legend(fig, domains)
    return fig


def objective(table: RunTable, weights: Mapping[str, float] | None = None) -> tuple[str, np.ndarray]:
    """Name and value (R,) of the mean of the targets with a weight, or else of the losses, or of all targets."""
    columns = [table.column_of(t) for t in weights] if weights else []
    columns = columns or [t for t in table.targets if t.startswith("loss/")] or list(table.targets)
    bound = Objective(dict(weights or {})).bind(columns)
    return bound.name, bound.observed(table.frame[columns].to_numpy(float))


@style.styled
def parallel(table: RunTable, weights: Mapping[str, float] | None = None, optimum: Mixture | None = None) -> Picture:
    """Every mixture as a line over the domains, coloured by its objective, with the best one and the optimum.

    Shows the last row of each run at the largest scale, without verification runs. The best fitted mixture has the
    lowest mean objective over its seeds. The axis is the square root of the weights, so that small ones differ.
    """
    rows = at_one_scale(table.complete().final())
    role_R = rows.frame["role"].fillna("fit").to_numpy() if "role" in rows.frame else np.full(len(rows), "fit")
    if (role_R == "fit").any():
        rows, role_R = rows.where(role_R != "verify"), role_R[role_R != "verify"]
    (name, value_R), h_RxK = objective(rows, weights), rows.mixtures_RxK
    mean_R = pd.Series(value_R).groupby(mixture_index(h_RxK)).transform("mean").to_numpy()
    best = np.where((role_R == "fit") | (not (role_R == "fit").any()), mean_R, np.inf).argmin()
    order_K = np.argsort(-h_RxK.mean(axis=0), kind="stable")
    h_RxK, domains = np.sqrt(h_RxK[:, order_K]), [rows.domains[k] for k in order_K]
    fig = style.picture(3.3)
    axes = fig.subplots()
    place_K = np.arange(len(domains))
    low, high = np.quantile(value_R, [0, 0.8])
    norm = Normalize(low, high if high > low else low + 1)
    lines = [np.column_stack([place_K, h_K]) for h_K in h_RxK]
    best_first = np.argsort(value_R, kind="stable")
    strong = len(lines) if len(lines) <= MANY else max(MANY // 4, len(lines) // 10)
    for chosen, look in (
        (best_first[strong:], {"linewidths": 0.4, "alpha": 0.15}),
        (best_first[:strong][::-1], {"linewidths": 0.9, "alpha": 0.85}),
    ):
        bundle = [lines[r] for r in chosen]
        axes.add_collection(LineCollection(bundle, array=value_R[chosen], cmap=style.CMAP, norm=norm,
                                           rasterized=len(bundle) > 300, **look))  # fmt: skip
    axes.plot(place_K, h_RxK[best], color=style.INK, linewidth=1.8, label=style.LABELS["best"], marker="o",
              markersize=3)  # fmt: skip
    if optimum is not None:
        star = {"color": style.COLOURS["optimum"], "marker": "*", "markersize": 6}
        axes.plot(place_K, np.sqrt(optimum.array(domains)), linewidth=1.8, label="optimum", **star)
    ticks = np.array([0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
    top = max(h_RxK.max(), 0.0 if optimum is None else np.sqrt(max(optimum.values())))
    axes.set(xlim=(-0.2, len(domains) - 0.8), ylim=(-0.01, top * 1.03), ylabel="weight (square-root axis)")
    axes.set_yticks(np.sqrt(ticks[np.sqrt(ticks) <= top * 1.03]))
    axes.yaxis.set_major_formatter(lambda root, _: f"{100 * root**2:.0f}%")
    names = [style.short(d, 18) for d in domains]
    slanted = sum(map(len, names)) > 60
    axes.set_xticks(place_K, names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axes.grid(True, axis="x", color=style.FAINT, linewidth=0.5)
    axes.grid(False, axis="y")
    style.colorbar(fig, ScalarMappable(norm, style.CMAP), axes, name, pad=0.01, fraction=0.03, extend="max")
    fig.legend(loc="outside upper left", ncols=2)
    return fig


@style.styled
def ranks(table: RunTable, weights: Mapping[str, float] | None = None) -> Picture:
    """Ranks of mixtures at the two scales with most mixtures in common, and the rank correlation of all scales.

    A scale is a size and a token count. Mixtures are matched by their weights and averaged over seeds.

    Raises:
        InputError: there is one scale only, or no two have `FEWEST` mixtures in common.
    """
    values = _by_scale(table.complete().final(), weights)
    rho_SxS = values.corr("spearman", min_periods=FEWEST).to_numpy()
    paired_S = np.flatnonzero(np.isfinite(rho_SxS).sum(axis=1) > 1)
    if len(paired_S) < 2:
        raise InputError(f"no two scales have {FEWEST} mixtures in common; ranks across scales need the same mixtures")
    if len(paired_S) > SCALES:
        paired_S = paired_S[np.linspace(0, len(paired_S) - 1, SCALES).round().astype(int)]
    values, rho_SxS = values.iloc[:, paired_S], rho_SxS[np.ix_(paired_S, paired_S)]
    names, known = list(values), values.notna().to_numpy()
    pairs = [(i, j) for i, j in np.ndindex(*rho_SxS.shape) if i < j and np.isfinite(rho_SxS[i, j])]
    small, large = max(pairs, key=lambda p: ((known[:, p[0]] & known[:, p[1]]).sum(), p[1] - p[0], p[1]))
    x, y = (side for _, side in values.iloc[:, [small, large]].dropna().items())
    fig = style.picture(3.1)
    left, right = fig.subplots(1, 2)
    points = {"color": style.HELD_OUT, "markersize": 3.5, "alpha": 0.6, "markeredgewidth": 0}
    left.plot(x, y, "o", **points)
    style.corner(left, f"ρ = {rho_SxS[small, large]:.3f}\n{len(x)} mixtures")
    left.set(xlabel=f"{objective(table, weights)[0]} at {names[small]}", ylabel=f"at {names[large]}", box_aspect=1)
    left.locator_params(nbins=5)
    if len(names) == 2:
        right.plot([1, len(x)], [1, len(x)], color=style.FAINT, linewidth=0.8)
        right.plot(x.rank(), y.rank(), "o", **points)
        right.set(xlabel=f"rank at {names[small]} (1 is best)", ylabel=f"rank at {names[large]}", box_aspect=1)
    else:
        _matrix(fig, right, names, rho_SxS)
    return fig


def _matrix(fig: Picture, axes: Axes, names: list[str], rho_SxS: np.ndarray) -> None:
    """Rank correlations as a coloured matrix; a pair without mixtures in common stays white."""
    least = np.nanmin(rho_SxS)
    image = axes.imshow(rho_SxS, cmap="cividis", vmin=min(0.5, np.floor(10 * least) / 10), vmax=1.0)
    for i, j in np.ndindex(*rho_SxS.shape):
        if np.isfinite(rho_SxS[i, j]) and i != j:
            ink = "white" if image.norm(rho_SxS[i, j]) < 0.6 else style.INK
            axes.text(j, i, f"{rho_SxS[i, j]:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    style.matrix(axes)
    axes.set_title("rank correlation of mixtures")
    style.colorbar(fig, image, axes, fraction=0.045, pad=0.03)


def at_one_scale(rows: RunTable) -> RunTable:
    """The rows of the largest size and, among these, of the commonest token count."""
    for column in ("n_params", "n_tokens"):
        if column not in rows.frame or rows.frame[column].isna().any():
            continue
        value_R = rows.frame[column].to_numpy(float)
        chosen = value_R.max() if column == "n_params" else pd.Series(value_R).mode().max()
        rows = rows.where(np.isclose(value_R, chosen, rtol=0.01))
    return rows


def _by_scale(table: RunTable, weights: Mapping[str, float] | None) -> pd.DataFrame:
    """Objective of each mixture (row) at each scale (column)."""
    frame = table.frame
    scale = [c for c in ("n_params", "n_tokens") if c in frame and frame[c].nunique() > 1]
    if not scale:
        raise InputError("the table has one scale; ranks across scales need rows of several n_params or n_tokens")
    keys = [" ".join(f"{w:.4f}" for w in h_K) for h_K in table.mixtures_RxK]
    rows = frame[scale].assign(value=objective(table, weights)[1], mixture=keys)
    values = rows.pivot_table("value", "mixture", scale)
    values.columns = [
        ", ".join(f"{style.SCALE[c]} {amount(v)}" for c, v in zip(scale, np.atleast_1d(at), strict=True))
        for at in values.columns
    ]
    return values
