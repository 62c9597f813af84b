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

STEP = 0.1
"""Weight that a domain gains in the interaction figure."""


@style.styled
def slices(material: Material) -> Figure:
    """Mean loss against each domain's weight, the others sharing the rest equally; points are runs."""
    count = len(material.domains)
    columns = 4 if count > 3 else count
    fig = style.figure(0.6 + 1.75 * -(-count // columns))
    best_K = material.optimum.mixture.array(material.domains)
    rows = material.at_scale
    weight_Q = np.linspace(0, 1, 41)
    inner_R = material.mixtures_RxK(rows).max(axis=1) < VERTEX
    shown = [rows["goal"].to_numpy()[inner_R]]
    axes_K = list(style.panels(fig, count, columns, sharex=True, sharey=True))
    for k, axes in enumerate(axes_K):
        mean_Q, low_Q, high_Q = material.objective(along(k, weight_Q, count))
        shown.append(mean_Q[weight_Q < VERTEX])
        axes.fill_between(weight_Q, low_Q, high_Q, color=style.HELD_OUT, alpha=0.2, linewidth=0)
        axes.plot(weight_Q, mean_Q, color=style.HELD_OUT)
        axes.plot(material.mixtures_RxK(rows)[:, k], rows["goal"], "o", color=style.FAINT, markersize=2.8, alpha=0.7,
                  markeredgewidth=0)  # fmt: skip
        axes.axvline(1 / count, color=style.FAINT, linewidth=0.7, linestyle=":")
        axes.axvline(best_K[k], color=style.COLOURS["optimum"], linewidth=1)
        axes.set_title(style.short(material.domains[k], 24))
    axes_K[0].set(xlim=(-0.02, 1.02), ylim=style.padded(np.concatenate(shown)))
    axes_K[0].xaxis.set_major_formatter(PercentFormatter(1.0))
    axes_K[0].set_xticks([0, 0.5, 1.0])
    fig.supylabel(material.aim.name + (f",{material.unit}" if material.unit else ""), fontsize=8.5)
    fig.supxlabel("weight of the domain", fontsize=8.5)
    fig.legend(handles=_slice_legend(), loc="outside upper left", ncols=4, handlelength=1.4)
    return fig


@style.styled
def interaction(material: Material) -> Figure:
    """Percent by which each target changes when a domain gains ten points at the centre; one colour is better."""
    change_TxK, sure_TxK = interactions(material)
    count_t, count_k = change_TxK.shape
    fig = style.figure(1.8 + 0.3 * count_t)
    axes = fig.subplots()
    largest = float(np.abs(change_TxK).max()) or 1.0
    losses_only = (material.aim.sign_T > 0).all()
    image = axes.imshow(
        change_TxK * material.aim.sign_T[:, None],
        cmap="PuOr_r",
        norm=TwoSlopeNorm(0, -largest, largest),
        aspect="auto",
    )
    size = 7.5 if count_k <= 12 else 6.2
    for t in range(count_t):
        for k in range(count_k):
            value, strong = change_TxK[t, k], abs(change_TxK[t, k]) > 0.6 * largest
            text = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"
            look = {} if sure_TxK[t, k] else {"alpha": 0.55, "style": "italic"}
            colour = "white" if strong else style.INK
            axes.text(k, t, text, ha="center", va="center", fontsize=size, color=colour, **look)
    names = [style.short(d, 18) for d in material.domains]
    level = sum(map(len, names)) < 60
    axes.set_xticks(range(count_k), names, rotation=0 if level else 35, ha="center" if level else "left")
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


def along(domain: int, weight_Q: np.ndarray, count: int) -> np.ndarray:
    """Mixtures (Q, K) on the line through the centre and one domain's vertex, the rest shared equally."""
    h_QxK = np.repeat((1 - weight_Q[:, None]) / max(count - 1, 1), count, axis=1)
    h_QxK[:, domain] = weight_Q
    return h_QxK


def interactions(material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Change of each target's loss in percent when each domain gains `STEP` at the centre, and where it is sure.

    Returns:
        change (T, K) in percent; and (T, K) booleans that say whether the interval over the law's draws leaves
        out zero.
    """
    count = len(material.domains)
    h_QxK = np.concatenate([np.full((1, count), 1 / count), *_raised(count)])
    loss_QxT = np.asarray(material.fit.predict(h_QxK, **material.scale))
    draws_SxQxT = np.asarray(material.fit.draws(h_QxK, **material.scale))
    change_KxT = 100 * (loss_QxT[1:] - loss_QxT[:1]) / np.abs(loss_QxT[:1])
    change_SxKxT = 100 * (draws_SxQxT[:, 1:] - draws_SxQxT[:, :1]) / np.abs(draws_SxQxT[:, :1])
    low_KxT, high_KxT = np.quantile(change_SxKxT, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return change_KxT.T, ((low_KxT > 0) | (high_KxT < 0)).T


def _raised(count: int) -> list[np.ndarray]:
    """Mixtures (1, K), one per domain: the centre with that domain raised by `STEP`."""
    return [along(k, np.array([min(1 / count + STEP, 1.0)]), count) for k in range(count)]


def _slice_legend() -> list[Line2D]:
    return [
        Line2D([], [], color=style.HELD_OUT, label=f"the law, from centre to vertex ({percent(LEVEL)} band)"),
        Line2D([], [], color=style.FAINT, marker="o", markersize=3, linestyle="", label="runs"),
        Line2D([], [], color=style.COLOURS["optimum"], label="optimum"),
        Line2D([], [], color=style.FAINT, linestyle=":", label="centre"),
    ]
