"""Figures of one fit: predicted against observed, and loss against a domain's weight with the law."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import PercentFormatter

from mixscale.laws import LawFit
from mixscale.laws.uncertainty import LEVEL
from mixscale.plots import canvas
from mixscale.report.figures import style

MOST = 11
"""Targets with a panel beside that of the objective."""


@style.styled
def predicted_observed(fit: LawFit, weights: dict[str, float] | None = None) -> canvas.Picture:
    """Each run's loss against what a fit without its mixture predicts, by target; the objective comes first.

    Args:
        weights: of the targets in the objective; all alike where none are given.
    """
    weight_T = fit.signs_T * fit.target_weights(weights)
    several = len(fit.targets) > 1
    shown = (
        [(weight_T, canvas.objective_name(weights, len(fit.targets)).removesuffix(" of the targets"))]
        if several
        else []
    )
    order = np.argsort(-np.abs(weight_T), kind="stable")[:MOST]
    shown += [(np.eye(len(fit.targets))[t], fit.targets[t]) for t in np.sort(order)]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    fig = canvas.picture(0.25 + canvas.WIDTH / 4 * rows * (1.0 if columns == 4 else 4 / columns * 0.75))
    for (one_T, name), axes in zip(shown, canvas.panels(fig, len(shown), columns), strict=True):
        observed_R, predicted_R = one_T @ fit.dataset.y_TxR, one_T @ fit.oof_pred_TxR
        known_R = np.isfinite(predicted_R)
        observed_R, predicted_R = observed_R[known_R], predicted_R[known_R]
        limits = style.padded(np.r_[observed_R, predicted_R])
        axes.plot(limits, limits, color=style.FAINT, linewidth=0.8, zorder=1)
        axes.plot(observed_R, predicted_R, "o", color=style.HELD_OUT, markersize=2.6, alpha=_alpha(len(observed_R)),
                  markeredgewidth=0, rasterized=len(observed_R) > 1000)  # fmt: skip
        error = np.mean(np.abs(predicted_R - observed_R))
        canvas.corner(axes, f"ρ = {canvas.rank_correlation(observed_R, predicted_R):.3f}\nMAE = {error:.2g}")
        axes.set(xlim=limits, ylim=limits, box_aspect=1)
        axes.set_title(style.short(name, 24), fontsize=8)
        axes.locator_params(nbins=4)
        axes.tick_params(labelsize=6.5)
    fig.supxlabel(f"observed (law: {style.short(fit.law, 60)}, fitted without the mixture)", fontsize=8)
    fig.supylabel("predicted", fontsize=8)
    return fig


@style.styled
def proportion(
    fit: LawFit,
    n_params: float | None = None,
    n_tokens: float | None = None,
    at: dict[str, float] | None = None,
    weights: dict[str, float] | None = None,
) -> canvas.Picture:
    """Loss against the weight of each domain, with the law where the other domains keep their proportions.

    A panel shows the loss on the domain itself where that is a target, and the objective otherwise.

    Args:
        n_params, n_tokens: N and D of the curve, for a law with scale; the largest of the table where not given.
        at: the mixture whose proportions the others keep; the mean of the runs where none is given.
        weights: of the targets in the objective; all alike where none are given.
    """
    points = fit.dataset.points
    scale = scale_of(fit, n_params, n_tokens)
    runs_R = near(fit, scale)
    h_RxK = points.h_RxK[runs_R]
    centre_K = h_RxK.mean(axis=0) if at is None else np.array([at.get(d, 0.0) for d in fit.domains])
    count = len(fit.domains)
    columns = min(5 if count > 8 else 4, count)
    rows = -(-count // columns)
    fig = canvas.picture(0.8 + rows * (1.35 if columns == 5 else 1.7))
    for k, axes in enumerate(canvas.panels(fig, count, columns)):
        own = fit.domains[k] in fit.targets
        one_T = (
            np.eye(len(fit.targets))[fit.targets.index(fit.domains[k])]
            if own
            else fit.signs_T * fit.target_weights(weights)
        )
        weight_Q = min(1.0, max(1.05 * h_RxK[:, k].max(), 0.05)) * np.linspace(0, 1, 101) ** 2  # finer where it bends
        h_QxK = along(centre_K, k, weight_Q)
        mean_Q = fit.predict(h_QxK, **scale) @ one_T
        half = fit.draws(h_QxK, **scale) @ one_T
        low_Q, high_Q = np.quantile(half, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        axes.plot(h_RxK[:, k], one_T @ fit.dataset.y_TxR[:, runs_R], "o", color=style.FAINT, markersize=2.4,
                  alpha=_alpha(len(h_RxK)), markeredgewidth=0, rasterized=len(h_RxK) > 1000)  # fmt: skip
        axes.fill_between(weight_Q, low_Q, high_Q, color=style.HELD_OUT, alpha=0.25, linewidth=0)
        axes.plot(weight_Q, mean_Q, color=style.HELD_OUT)
        axes.set_title(style.short(fit.domains[k], 22 if own else 14) + ("" if own else " → mean"), fontsize=7.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.locator_params(nbins=4)
        axes.tick_params(labelsize=6.5)
    fig.supxlabel("weight of the domain in the mixture", fontsize=8)
    fig.supylabel(
        "loss on the domain" + ("" if set(fit.domains) <= set(fit.targets) else " (or mean loss)"), fontsize=8
    )
    where = f" at N = {canvas.said(scale['n_params'])}, D = {canvas.said(scale['n_tokens'])}" if scale else ""
    fig.legend(
        handles=[
            canvas.entry(f"law{where}, the others in proportion", color=style.HELD_OUT),
            canvas.entry("runs, whatever the others", marker="o", linestyle="", markersize=3, color=style.FAINT),
        ],
        loc="outside upper left", ncols=2,
    )  # fmt: skip
    return fig


def along(centre_K: np.ndarray, domain: int, weight_Q: np.ndarray) -> np.ndarray:
    """Mixtures (Q, K) in which one domain has the given weights and the others the proportions of the centre."""
    others_K = centre_K.copy()
    others_K[domain] = 0.0
    if others_K.sum() == 0:
        others_K[:] = 1.0
        others_K[domain] = 0.0
    h_QxK = (1 - weight_Q[:, None]) * (others_K / others_K.sum())
    h_QxK[:, domain] = weight_Q
    return h_QxK


def scale_of(fit: LawFit, n_params: float | None = None, n_tokens: float | None = None) -> dict[str, float]:
    """N and D where a law with scale is evaluated: as given, or the largest N and the D of most of its rows."""
    if not fit.uses_scale:
        return {}
    n_R, d_R = fit.dataset.points.n_R * fit.dataset.scale.n, fit.dataset.points.d_R * fit.dataset.scale.d
    size = n_params or float(n_R.max())
    same_R = np.isclose(n_R, size, rtol=0.01)
    values_D, counts_D = np.unique(d_R[same_R] if same_R.any() else d_R, return_counts=True)
    commonest = values_D[len(values_D) - 1 - counts_D[::-1].argmax()]
    return {"n_params": size, "n_tokens": n_tokens or float(commonest)}


def near(fit: LawFit, scale: dict[str, float]) -> np.ndarray:
    """Which fitted rows are at a scale, within a percent, shape (R,); all where the law has none."""
    points = fit.dataset.points
    if not scale:
        return np.ones(points.count, dtype=bool)
    same_n = np.isclose(points.n_R * fit.dataset.scale.n, scale["n_params"], rtol=0.01)
    return same_n & np.isclose(points.d_R * fit.dataset.scale.d, scale["n_tokens"], rtol=0.01)


def _alpha(count: int) -> float:
    """Points are the fainter the more there are."""
    return float(np.clip(12 / np.sqrt(count), 0.25, 0.8))
