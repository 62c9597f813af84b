"""Loss over all mixtures of three domains, drawn on a triangle: the law as contours, the runs as points."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from mixscale.errors import InputError
from mixscale.laws import LawFit
from mixscale.plots import canvas
from mixscale.plots.fitted import near, scale_of
from mixscale.report.figures import style

HEIGHT = np.sqrt(3) / 2
CORNERS_3x2 = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, HEIGHT]])
"""Where the first, second and third domain have all the weight."""
FINE = 60
"""Steps along a side of the triangles that the contours are drawn on."""
LEVELS = 12


@style.styled
def ternary(
    fit: LawFit,
    n_params: float | None = None,
    n_tokens: float | None = None,
    weights: dict[str, float] | None = None,
) -> canvas.Picture:
    """The law's loss on a triangle, a panel a target and one for the objective, each with its best mixture as a star.

    Args:
        n_params, n_tokens: where a law with scale is drawn; the largest of the table where not given.
        weights: of the targets in the objective; all alike where none are given.

    Raises:
        InputError: the fit has not exactly three domains.
    """
    if len(fit.domains) != 3:
        raise InputError(f"a ternary plot shows three domains, and the fit has {len(fit.domains)}")
    scale = scale_of(fit, n_params, n_tokens)
    runs_R = near(fit, scale)
    h_QxK, triangles = _grid()
    loss_QxT = fit.predict(h_QxK, **scale)
    shown = [(np.eye(len(fit.targets))[t], name) for t, name in enumerate(fit.targets)][:7]
    if len(shown) > 1:
        shown.append((fit.signs_T * fit.target_weights(weights), canvas.objective_name(weights, len(fit.targets))))
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    side = canvas.WIDTH / max(columns, 2)
    fig = canvas.picture(-(-len(shown) // columns) * (0.85 * side + 0.4) + 0.3)
    for (one_T, name), axes in zip(shown, canvas.panels(fig, len(shown), columns), strict=True):
        value_Q, seen_R = loss_QxT @ one_T, (one_T @ fit.dataset.y_TxR)[runs_R]
        low, high = np.quantile(np.r_[value_Q, seen_R], [0.0, 0.98])
        place_Qx2 = h_QxK @ CORNERS_3x2
        levels = np.linspace(low, high, LEVELS)
        look = {"cmap": canvas.CMAP, "vmin": low, "vmax": high}
        filled = axes.tricontourf(*place_Qx2.T, triangles, value_Q, levels=levels, extend="max", **look)
        axes.tricontour(*place_Qx2.T, triangles, value_Q, levels=levels, colors="white", linewidths=0.3, alpha=0.6)
        place_Rx2 = fit.dataset.points.h_RxK[runs_R] @ CORNERS_3x2
        axes.scatter(*place_Rx2.T, c=seen_R, s=16, edgecolors="white", linewidths=0.6, zorder=4, clip_on=False, **look)
        axes.plot(*(h_QxK[value_Q.argmin()] @ CORNERS_3x2), zorder=5, clip_on=False, **canvas.STAR)
        _frame(axes, fit.domains)
        axes.set_title(style.short(name, 26))
        bar = fig.colorbar(filled, ax=axes, orientation="horizontal", fraction=0.05, pad=0.02, shrink=0.6)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=6.5, length=2)
        bar.set_ticks(np.linspace(low, high, 3), labels=[f"{v:.2f}" for v in np.linspace(low, high, 3)])
    fig.legend(
        handles=[
            canvas.entry("the law's best mixture", **canvas.STAR),
            canvas.entry("runs, filled with what they measured", marker="o", linestyle="", markersize=4.5,
                         color=style.FAINT, markeredgecolor="white"),
        ],
        loc="outside lower center", ncols=2, handletextpad=0.3,
    )  # fmt: skip
    return fig


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Mixtures on a regular triangular grid, (Q, 3), and its small triangles, (T, 3) rows of three."""
    number = {}
    for i in range(FINE + 1):
        for j in range(FINE + 1 - i):
            number[i, j] = len(number)
    h_Qx3 = np.array([(i, j, FINE - i - j) for i, j in number], dtype=float) / FINE
    triangles = [(number[i, j], number[i + 1, j], number[i, j + 1]) for i, j in number if i + j < FINE] + [
        (number[i + 1, j], number[i, j + 1], number[i + 1, j + 1]) for i, j in number if i + j < FINE - 1
    ]
    return h_Qx3, np.array(triangles)


def _frame(axes: Axes, domains: tuple[str, ...]) -> None:
    """The sides, lines of equal weight at each quarter, and the domains at the corners where they are all there is.

    The numbers on a side count the domain at the corner they rise to, along lines that slant as their ticks do.
    """
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set(xlim=(-0.2, 1.2), ylim=(-0.17, HEIGHT + 0.1))
    axes.plot(*CORNERS_3x2[[0, 1, 2, 0]].T, color=style.INK, linewidth=0.8, zorder=3, clip_on=False)
    for k in range(3):
        here, right, there = CORNERS_3x2[k], CORNERS_3x2[(k + 1) % 3], CORNERS_3x2[(k + 2) % 3]
        outward = there - right
        for part in (0.25, 0.5, 0.75):
            place = there + part * (here - there)
            other = right + part * (here - right)
            axes.plot(*np.stack([place, other]).T, color="white", linewidth=0.5, alpha=0.5, zorder=2)
            axes.plot(*np.stack([place, place + 0.03 * outward]).T, color=style.INK, linewidth=0.7, clip_on=False)
            axes.text(*(place + 0.075 * outward), f"{100 * part:.0f}", fontsize=6, color=style.INK, ha="center",
                      va="center")  # fmt: skip
    names = [style.short(d, 18) for d in domains]
    axes.text(-0.03, -0.06, names[0], ha="center", va="top", fontsize=7.5, fontweight="bold")
    axes.text(1.03, -0.06, names[1], ha="center", va="top", fontsize=7.5, fontweight="bold")
    axes.text(0.5, HEIGHT + 0.05, names[2], ha="center", va="bottom", fontsize=7.5, fontweight="bold")
