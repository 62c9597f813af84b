"""What all figures of this room are drawn on: one style, the width of a page of print, and display in notebooks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mixscale.report.figures import style

WIDTH = 7.0
"""inches; two columns of most proceedings"""
DPI = 300
CMAP = "viridis"
"""of losses: dark is low, and it reads in grey"""
OPTIMUM = style.COLOURS["optimum"]
STAR = {"marker": "*", "markersize": 11, "color": OPTIMUM, "markeredgecolor": "white", "markeredgewidth": 0.7,
        "linestyle": ""}  # fmt: skip
"""Look of an optimum."""


class Picture(Figure):
    """A figure that shows itself in a notebook, though it was made without pyplot."""

    def _repr_png_(self) -> bytes:
        with matplotlib.rc_context(style.RC), io.BytesIO() as file:
            self.savefig(file, format="png", dpi=130)
            return file.getvalue()


def picture(height: float, width: float = WIDTH) -> Picture:
    """An empty figure of so many inches, whose layout keeps labels apart."""
    return Picture(figsize=(width, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes PNG and PDF beside each other; equal figures give equal files."""
    return style.save(figure, stem, DPI)


def panels(fig: Picture, count: int, columns: int, **options) -> Iterator[Axes]:
    """`count` axes in reading order; places left over stay empty."""
    return style.panels(fig, count, columns, **options)


def colours(count: int) -> list[dict[str, object]]:
    """Colour and dashes of each of `count` lines; no two are alike up to 27."""
    dashes = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
    return [{"color": style.MUTED[i % 9], "linestyle": dashes[i // 9 % 3]} for i in range(count)]


def corner(axes: Axes, text: str, place: str = "lower right") -> None:
    """Small text in a corner, on a ground that lets nothing shine through."""
    vertical, horizontal = place.split()
    x, y = {"left": 0.04, "right": 0.96}[horizontal], {"lower": 0.05, "upper": 0.95}[vertical]
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.2}
    va = "bottom" if vertical == "lower" else "top"
    axes.text(x, y, text, transform=axes.transAxes, ha=horizontal, va=va, fontsize=7, bbox=paper, zorder=9)


def entry(label: str, **look) -> Line2D:
    """A line of a legend."""
    return Line2D([], [], label=label, **look)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; NaN where there are fewer than three pairs or one side is constant."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def objective_name(weights: Mapping[str, float] | None, targets: int) -> str:
    """What a mean over so many targets is called: `weighted` only where some count for more than others."""
    given = list((weights or {}).values())
    unequal = bool(given) and (len(given) < targets or not np.allclose(given, given[0]))
    return f"{'weighted ' if unequal else ''}mean of the targets"


def said(value: float) -> str:
    """A count as people write it: 85M, 1.2B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
