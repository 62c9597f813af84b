"""Figures of a law: loss against each weight, the effect of each domain on each target, loss on a triangle."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import PercentFormatter

from mixscale.errors import InputError
from mixscale.formatting import amount, percent
from mixscale.laws import LawFit
from mixscale.laws.uncertainty import LEVEL
from mixscale.plots import style
from mixscale.plots.style import Picture

VERTEX = 0.9  # from this weight on a mixture is near a vertex, where a steep loss would flatten the others
OUTSIDE = (0, (3, 1.5))  # dashes of a law beyond the largest weight of any run
RUNS = {"color": style.FAINT, "marker": "o", "markersize": 3, "linestyle": ""}
STEP = 0.1  # weight that a domain gains in the figure of effects
HEIGHT = np.sqrt(3) / 2
CORNERS_3x2 = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, HEIGHT]])  # where each domain has all the weight
GRID_STEPS = 60  # steps along a side of the triangular grid on which contours are drawn
CONTOURS = 12


def along(centre_K: np.ndarray, domain: int, weight_Q: np.ndarray) -> np.ndarray:
    """Mixtures (Q, K): one domain has the given weights, the others the proportions of the centre."""
    others_K = np.where(np.arange(len(centre_K)) == domain, 0.0, centre_K)
    if others_K.sum() == 0:
        others_K = (np.arange(len(centre_K)) != domain).astype(float)
    h_QxK = (1 - weight_Q[:, None]) * (others_K / max(others_K.sum(), 1e-300))
    h_QxK[:, domain] = 1 - h_QxK.sum(axis=1)
    return h_QxK


@style.styled
def slices(
    domains: tuple[str, ...],
    h_RxK: np.ndarray,
    y_R: np.ndarray,
    value: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
    best_K: np.ndarray,
    known_K: np.ndarray,
    label: str = "objective",
    level: float = LEVEL,
) -> Picture:
    """The objective against each domain's weight while the others are equal; points are runs.

    Beyond the largest weight of any run the law is dashed and has no band, which would be very wide.

    Args:
        h_RxK, y_R: mixtures of the runs, and their objective.
        value: the objective of mixtures (Q, K), and the ends of its interval.
        known_K: domains that a fitted run used; only these are varied.
    """
    count, curve = int(known_K.sum()), {"color": style.HELD_OUT}
    columns = 4 if count > 3 else count
    fig = style.picture(0.6 + 1.75 * -(-count // columns))
    shown = [y_R[h_RxK.max(axis=1) < VERTEX]]
    axes_U = list(style.panels(fig, count, columns, sharex=True, sharey=True))
    for k, axes in zip(np.flatnonzero(known_K), axes_U, strict=True):
        largest = h_RxK[:, k].max()
        # Dense at both ends, where a law bends.
        inside_Q = largest * (1 - np.cos(np.linspace(0, np.pi, 81))) / 2
        weight_Q = np.r_[inside_Q, 1 - (1 - largest) * (1 - np.sin(np.linspace(0, np.pi / 2, 21)[1:]))]
        mean_Q, low_Q, high_Q = value(along(known_K.astype(float), k, weight_Q))
        shown.append(mean_Q[weight_Q < VERTEX])
        axes.fill_between(inside_Q, low_Q[:81], high_Q[:81], alpha=0.2, linewidth=0, **curve)
        axes.plot(inside_Q, mean_Q[:81], **curve)
        axes.plot(weight_Q[80:], mean_Q[80:], linewidth=0.9, linestyle=OUTSIDE, **curve)
        axes.plot(h_RxK[:, k], y_R, "o", color=style.FAINT, markersize=2.8, alpha=0.7, markeredgewidth=0)
        axes.axvline(1 / count, color=style.FAINT, linewidth=0.7, linestyle=":")
        axes.axvline(best_K[k], color=style.COLOURS["optimum"], linewidth=1)
        axes.set_title(style.short(domains[k], 24))
    axes_U[0].set(xlim=(-0.02, 1.02), ylim=style.padded(np.concatenate(shown)))
    axes_U[0].xaxis.set_major_formatter(PercentFormatter(1.0))
    axes_U[0].set_xticks([0, 0.5, 1.0])
    fig.supylabel(label, fontsize=8.5)
    fig.supxlabel("weight of the domain", fontsize=8.5)
    looks = {
        f"law ({percent(level)} band)": curve,
        "outside the runs": {"linewidth": 0.9, "linestyle": OUTSIDE, **curve},
        "runs": RUNS,
        "optimum": {"color": style.COLOURS["optimum"]},
        "centre": {"color": style.FAINT, "linestyle": ":"},
    }
    style.legend(fig, looks, ncols=5, handlelength=1.8)
    return fig


@style.styled
def proportion(
    fit: LawFit,
    n_params: float | None = None,
    n_tokens: float | None = None,
    at: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Picture:
    """Loss against the weight of each domain; along the law the other domains keep their proportions.

    A panel shows the loss on the domain itself if it is a target, and the objective otherwise.

    Args:
        n_params, n_tokens: for a law with scale, see `scale_of`.
        at: the mixture whose proportions the others keep; the mean of the runs by default.
        weights: of the targets in the objective; equal by default.
    """
    scale = scale_of(fit, n_params, n_tokens)
    runs_R = near(fit, scale)
    h_RxK = fit.dataset.points.h_RxK[runs_R]
    centre_K = h_RxK.mean(axis=0) if at is None else np.array([at.get(d, 0.0) for d in fit.domains])
    count, many = len(fit.domains), len(h_RxK) > 1000
    columns = min(5 if count > 8 else 4, count)
    of = fit.mean_objective(weights)
    faint = {"color": style.FAINT, "alpha": float(np.clip(12 / np.sqrt(len(h_RxK)), 0.25, 0.8))}
    fig = style.picture(0.8 + -(-count // columns) * (1.35 if columns == 5 else 1.7))
    for k, axes in enumerate(style.panels(fig, count, columns)):
        own = fit.domains[k] in fit.targets
        one_T = np.array(fit.targets) == fit.domains[k] if own else of.coef_T
        weight_Q = min(1.0, max(1.05 * h_RxK[:, k].max(), 0.05)) * np.linspace(0, 1, 101) ** 2  # finer where it bends
        h_QxK = along(centre_K, k, weight_Q)
        ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        low_Q, high_Q = np.quantile(fit.draws(h_QxK, **scale) @ one_T, ends, axis=0)
        axes.plot(h_RxK[:, k], one_T @ fit.dataset.y_TxR[:, runs_R], "o", markersize=2.4, markeredgewidth=0,
                  rasterized=many, **faint)  # fmt: skip
        axes.fill_between(weight_Q, low_Q, high_Q, color=style.HELD_OUT, alpha=0.25, linewidth=0)
        axes.plot(weight_Q, fit.predict(h_QxK, **scale) @ one_T, color=style.HELD_OUT)
        axes.set_title(style.short(fit.domains[k], 22 if own else 14) + ("" if own else " → mean"), fontsize=7.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.locator_params(nbins=4)
        axes.tick_params(labelsize=6.5)
    fig.supxlabel("weight of the domain in the mixture", fontsize=8)
    mean = "" if set(fit.domains) <= set(fit.targets) else f" (or {of.name})"
    fig.supylabel(f"loss on the domain{mean}", fontsize=8)
    where = f" at N = {amount(scale['n_params'])}, D = {amount(scale['n_tokens'])}" if scale else ""
    looks = {
        f"law{where}, other weights in proportion": {"color": style.HELD_OUT},
        "runs with any other weights": RUNS,
    }
    style.legend(fig, looks, ncols=2)
    return fig


def interactions(fit: LawFit, known_K: np.ndarray | None = None, **scale) -> tuple[np.ndarray, np.ndarray]:
    """Change in percent of each target when each of U known domains gains `STEP` at the centre, (T, U).

    Also whether the bootstrap interval of the change excludes zero, (T, U).
    """
    known_K = np.ones(len(fit.domains), bool) if known_K is None else known_K
    centre_K = known_K / known_K.sum()
    weight_1 = np.array([min(1 / known_K.sum() + STEP, 1.0)])
    h_QxK = np.concatenate([centre_K[None], *(along(centre_K, k, weight_1) for k in np.flatnonzero(known_K))])
    loss_QxT = np.asarray(fit.predict(h_QxK, **scale))
    draws_SxQxT = np.asarray(fit.draws(h_QxK, **scale))
    change_UxT = 100 * (loss_QxT[1:] - loss_QxT[:1]) / np.abs(loss_QxT[:1])
    change_SxUxT = 100 * (draws_SxQxT[:, 1:] - draws_SxQxT[:, :1]) / np.abs(draws_SxQxT[:, :1])
    low_UxT, high_UxT = np.quantile(change_SxUxT, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return change_UxT.T, ((low_UxT > 0) | (high_UxT < 0)).T


@style.styled
def interaction(fit: LawFit, known_K: np.ndarray | None = None, **scale) -> Picture:
    """Percent by which each target changes when a domain gains ten points at the centre; orange is worse."""
    known_K = np.ones(len(fit.domains), bool) if known_K is None else known_K
    change_TxU, sure_TxU = interactions(fit, known_K, **scale)
    count_t, count_u = change_TxU.shape
    fig = style.picture(1.8 + 0.3 * count_t)
    axes = fig.subplots()
    largest = float(np.abs(change_TxU).max()) or 1.0
    of = fit.mean_objective()
    worse_TxU, losses_only = change_TxU * of.sign_T[:, None], of.losses_only
    image = axes.imshow(worse_TxU, cmap="PuOr_r", norm=TwoSlopeNorm(0, -largest, largest), aspect="auto")
    for (t, u), value in np.ndenumerate(change_TxU):
        text = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"
        look = {} if sure_TxU[t, u] else {"alpha": 0.55, "style": "italic"}
        colour = "white" if abs(value) > 0.6 * largest else style.INK
        size = 7.5 if count_u <= 12 else 6.2
        axes.text(u, t, text, ha="center", va="center", fontsize=size, color=colour, **look)
    names = [style.short(d, 18) for d, known in zip(fit.domains, known_K, strict=True) if known]
    level = sum(map(len, names)) < 60
    axes.set_xticks(range(count_u), names, rotation=0 if level else 35, ha="center" if level else "left")
    axes.xaxis.tick_top()
    axes.set_xlabel("domain whose weight grows by 10 points")
    axes.xaxis.set_label_position("top")
    axes.set_yticks(range(count_t), [style.short(t) for t in fit.targets])
    axes.set_ylabel("loss on" if losses_only else "target")
    style.matrix(axes)
    label = "change of the loss, %" if losses_only else "change, % (of a score: negated)"
    style.colorbar(fig, image, axes, label, pad=0.01, fraction=0.04)
    return fig


@style.styled
def ternary(
    fit: LawFit,
    n_params: float | None = None,
    n_tokens: float | None = None,
    weights: Mapping[str, float] | None = None,
) -> Picture:
    """The law's loss on a triangle, for each target and the objective, with the best mixture as a star.

    Args:
        n_params, n_tokens: for a law with scale, see `scale_of`.
        weights: of the targets in the objective; equal by default.

    Raises:
        InputError: the fit does not have three domains.
    """
    if len(fit.domains) != 3:
        raise InputError(f"a ternary plot shows three domains, and the fit has {len(fit.domains)}")
    scale = scale_of(fit, n_params, n_tokens)
    runs_R = near(fit, scale)
    h_QxK, triangles = _grid()
    loss_QxT = fit.predict(h_QxK, **scale)
    shown = [(np.eye(len(fit.targets))[t], name) for t, name in enumerate(fit.targets)][:7]
    if len(shown) > 1:
        of = fit.mean_objective(weights)
        shown.append((of.coef_T, of.name))
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    side = style.WIDTH / max(columns, 2)
    fig = style.picture(-(-len(shown) // columns) * (0.85 * side + 0.4) + 0.3)
    for (one_T, name), axes in zip(shown, style.panels(fig, len(shown), columns), strict=True):
        value_Q, seen_R = loss_QxT @ one_T, (one_T @ fit.dataset.y_TxR)[runs_R]
        low, high = np.quantile(np.r_[value_Q, seen_R], [0.0, 0.98])
        place_Qx2 = h_QxK @ CORNERS_3x2
        levels = np.linspace(low, high, CONTOURS)
        look = {"cmap": style.CMAP, "vmin": low, "vmax": high}
        filled = axes.tricontourf(*place_Qx2.T, triangles, value_Q, levels=levels, extend="max", **look)
        axes.tricontour(*place_Qx2.T, triangles, value_Q, levels=levels, colors="white", linewidths=0.3, alpha=0.6)
        place_Rx2 = fit.dataset.points.h_RxK[runs_R] @ CORNERS_3x2
        axes.scatter(*place_Rx2.T, c=seen_R, s=16, edgecolors="white", linewidths=0.6, zorder=4, clip_on=False, **look)
        axes.plot(*(h_QxK[value_Q.argmin()] @ CORNERS_3x2), zorder=5, clip_on=False, **style.STAR)
        _frame(axes, fit.domains)
        axes.set_title(style.short(name, 26))
        bar = style.colorbar(fig, filled, axes, orientation="horizontal", fraction=0.05, pad=0.02, shrink=0.6)
        bar.ax.tick_params(labelsize=6.5, length=2)
        bar.set_ticks(np.linspace(low, high, 3), labels=[f"{v:.2f}" for v in np.linspace(low, high, 3)])
    runs = RUNS | {"markersize": 4.5, "markeredgecolor": "white"}
    looks = {"the law's best mixture": style.STAR, "runs, coloured by measured value": runs}
    style.legend(fig, looks, "outside lower center", ncols=2, handletextpad=0.3)
    return fig


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Mixtures on a regular triangular grid, (Q, 3), and its triangles, (T, 3) indices."""
    places = [(i, j) for i in range(GRID_STEPS + 1) for j in range(GRID_STEPS + 1 - i)]
    number = {place: q for q, place in enumerate(places)}
    h_Qx3 = np.array([(i, j, GRID_STEPS - i - j) for i, j in number], dtype=float) / GRID_STEPS
    triangles = [(number[i, j], number[i + 1, j], number[i, j + 1]) for i, j in number if i + j < GRID_STEPS] + [
        (number[i + 1, j], number[i, j + 1], number[i + 1, j + 1]) for i, j in number if i + j < GRID_STEPS - 1
    ]
    return h_Qx3, np.array(triangles)


def _frame(axes: Axes, domains: tuple[str, ...]) -> None:
    """The sides, lines of equal weight at each quarter, and each domain at its vertex.

    The numbers on a side rise to the vertex of their domain, along lines that slant like their ticks.
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
    places = ((-0.03, -0.06, "top"), (1.03, -0.06, "top"), (0.5, HEIGHT + 0.05, "bottom"))
    for (x, y, va), domain in zip(places, domains, strict=True):
        axes.text(x, y, style.short(domain, 18), ha="center", va=va, fontsize=7.5, fontweight="bold")


def scale_of(fit: LawFit, n_params: float | None = None, n_tokens: float | None = None) -> dict[str, float]:
    """N and D at which to evaluate a law with scale: as given, or the largest N and its commonest D."""
    if not fit.uses_scale:
        return {}
    n_R, d_R = fit.dataset.points.n_R * fit.dataset.scale.n, fit.dataset.points.d_R * fit.dataset.scale.d
    size = n_params or float(n_R.max())
    same_R = np.isclose(n_R, size, rtol=0.01)
    values_D, counts_D = np.unique(d_R[same_R] if same_R.any() else d_R, return_counts=True)
    commonest = values_D[len(values_D) - 1 - counts_D[::-1].argmax()]
    return {"n_params": size, "n_tokens": n_tokens or float(commonest)}


def near(fit: LawFit, scale: Mapping[str, float]) -> np.ndarray:
    """Which fitted rows are at a scale, within a percent, shape (R,); all if the law has none."""
    points = fit.dataset.points
    if not scale:
        return np.ones(points.count, dtype=bool)
    same_n = np.isclose(points.n_R * fit.dataset.scale.n, scale["n_params"], rtol=0.01)
    return same_n & np.isclose(points.d_R * fit.dataset.scale.d, scale["n_tokens"], rtol=0.01)
