"""Figures of the law itself: the mean loss along each domain's weight, and which domain helps which target."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from mixscale.report.figures import style
from mixscale.report.material import Material
from mixscale.report.statistics import LEVEL
from mixscale.report.wording import percent

VERTEX = 0.9
"""Weight from which a mixture is near a vertex; the loss soars there and would flatten all the rest."""

BEYOND = (0, (3, 1.5))
"""Dashes of a law where no run had so much of a domain."""
STEP = 0.1
"""Weight that a domain gains in the interaction figure."""


@style.styled
def slices(material: Material) -> Figure:
    """The goal against each domain's weight, the others sharing the rest equally; points are runs.

    Beyond the largest weight that a run had the law is drawn dashed and its band, which soars there, is not. Only
    domains that the law knows have a panel, and only these share the rest.
    """
    known_U = np.flatnonzero(material.known_K)
    count = len(known_U)
    columns = 4 if count > 3 else count
    fig = style.figure(0.6 + 1.75 * -(-count // columns))
    best_K = material.optimum.mixture.array(material.domains)
    rows = material.at_scale
    h_RxK = material.mixtures_RxK(rows)
    inner_R = h_RxK.max(axis=1) < VERTEX
    shown = [rows["goal"].to_numpy()[inner_R]]
    axes_U = list(style.panels(fig, count, columns, sharex=True, sharey=True))
    for k, axes in zip(known_U, axes_U, strict=True):
        weight_Q, dataset = weights(h_RxK[:, k].max())
        mean_Q, low_Q, high_Q = material.objective(along(k, weight_Q, material.known_K))
        shown.append(mean_Q[weight_Q < VERTEX])
        axes.fill_between(
            weight_Q[:dataset], low_Q[:dataset], high_Q[:dataset], color=style.HELD_OUT, alpha=0.2, linewidth=0
        )
        axes.plot(weight_Q[:dataset], mean_Q[:dataset], color=style.HELD_OUT)
        axes.plot(
            weight_Q[dataset - 1 :], mean_Q[dataset - 1 :], color=style.HELD_OUT, linewidth=0.9, linestyle=BEYOND
        )
        axes.plot(h_RxK[:, k], rows["goal"], "o", color=style.FAINT, markersize=2.8, alpha=0.7,
                  markeredgewidth=0)  # fmt: skip
        axes.axvline(1 / count, color=style.FAINT, linewidth=0.7, linestyle=":")
        axes.axvline(best_K[k], color=style.COLOURS["optimum"], linewidth=1)
        axes.set_title(style.short(material.domains[k], 24))
    axes_U[0].set(xlim=(-0.02, 1.02), ylim=style.padded(np.concatenate(shown)))
    axes_U[0].xaxis.set_major_formatter(PercentFormatter(1.0))
    axes_U[0].set_xticks([0, 0.5, 1.0])
    fig.supylabel(material.aim.name + (f",{material.unit}" if material.unit else ""), fontsize=8.5)
    fig.supxlabel("weight of the domain", fontsize=8.5)
    fig.legend(handles=_slice_legend(), loc="outside upper left", ncols=5, handlelength=1.8)
    return fig


@style.styled
def interaction(material: Material) -> Figure:
    """Percent by which each target changes when a domain gains ten points at the centre; one colour is better."""
    change_TxU, sure_TxU = interactions(material)
    count_t, count_u = change_TxU.shape
    fig = style.figure(1.8 + 0.3 * count_t)
    axes = fig.subplots()
    largest = float(np.abs(change_TxU).max()) or 1.0
    losses_only = (material.aim.sign_T > 0).all()
    image = axes.imshow(
        change_TxU * material.aim.sign_T[:, None],
        cmap="PuOr_r",
        norm=TwoSlopeNorm(0, -largest, largest),
        aspect="auto",
    )
    size = 7.5 if count_u <= 12 else 6.2
    for t in range(count_t):
        for u in range(count_u):
            value, strong = change_TxU[t, u], abs(change_TxU[t, u]) > 0.6 * largest
            text = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"
            look = {} if sure_TxU[t, u] else {"alpha": 0.55, "style": "italic"}
            colour = "white" if strong else style.INK
            axes.text(u, t, text, ha="center", va="center", fontsize=size, color=colour, **look)
    names = [style.short(d, 18) for d, known in zip(material.domains, material.known_K, strict=True) if known]
    level = sum(map(len, names)) < 60
    axes.set_xticks(range(count_u), names, rotation=0 if level else 35, ha="center" if level else "left")
    axes.xaxis.tick_top()
    axes.set_xlabel("domain whose weight grows by 10 points")
    axes.xaxis.set_label_position("top")
    axes.set_yticks(range(count_t), [style.short(t) for t in material.target_names])
    axes.set_ylabel("loss of" if losses_only else "target")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = fig.colorbar(image, ax=axes, pad=0.01, fraction=0.04)
    bar.set_label("change of the loss, %" if losses_only else "change, % (of a score: negated)", fontsize=7.5)
    bar.outline.set_visible(False)
    return fig


def weights(largest: float) -> tuple[np.ndarray, int]:
    """Weights from 0 to 1, close together at both ends where a law bends, and how many reach to the largest seen."""
    inside_Q = largest * (1 - np.cos(np.linspace(0, np.pi, 81))) / 2
    beyond_Q = 1 - (1 - largest) * (1 - np.sin(np.linspace(0, np.pi / 2, 21)[1:]))
    return np.r_[inside_Q, beyond_Q], len(inside_Q)


def along(domain: int, weight_Q: np.ndarray, known_K: np.ndarray) -> np.ndarray:
    """Mixtures (Q, K) from one domain's vertex through the centre of the known ones, which share the rest equally."""
    others_K = known_K & (np.arange(len(known_K)) != domain)
    h_QxK = (1 - weight_Q[:, None]) * others_K / max(others_K.sum(), 1)
    h_QxK[:, domain] = 1 - h_QxK.sum(axis=1)
    return h_QxK


def interactions(material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Change of each target's loss in percent when a domain gains `STEP` at the centre, and where it is sure.

    Returns:
        change (T, U) in percent for the domains that the law knows; and (T, U) booleans that say whether the interval
        over the law's draws leaves out zero.
    """
    known_K = material.known_K
    h_QxK = np.concatenate([known_K[None] / known_K.sum(), *_raised(known_K)])
    loss_QxT = np.asarray(material.fit.predict(h_QxK, **material.place))
    draws_SxQxT = np.asarray(material.fit.draws(h_QxK, **material.place))
    change_UxT = 100 * (loss_QxT[1:] - loss_QxT[:1]) / np.abs(loss_QxT[:1])
    change_SxUxT = 100 * (draws_SxQxT[:, 1:] - draws_SxQxT[:, :1]) / np.abs(draws_SxQxT[:, :1])
    low_UxT, high_UxT = np.quantile(change_SxUxT, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return change_UxT.T, ((low_UxT > 0) | (high_UxT < 0)).T


def _raised(known_K: np.ndarray) -> list[np.ndarray]:
    """Mixtures (1, K), one per known domain: the centre with that domain raised by `STEP`."""
    weight_1 = np.array([min(1 / known_K.sum() + STEP, 1.0)])
    return [along(k, weight_1, known_K) for k in np.flatnonzero(known_K)]


def _slice_legend() -> list[Line2D]:
    return [
        Line2D([], [], color=style.HELD_OUT, label=f"the law ({percent(LEVEL)} band)"),
        Line2D([], [], color=style.HELD_OUT, linewidth=0.9, linestyle=BEYOND, label="beyond the runs"),
        Line2D([], [], color=style.FAINT, marker="o", markersize=3, linestyle="", label="runs"),
        Line2D([], [], color=style.COLOURS["optimum"], label="optimum"),
        Line2D([], [], color=style.FAINT, linestyle=":", label="centre"),
    ]
