"""How every figure looks: its type, colours that the colour-blind can tell apart, and files that stay equal.

Figures are made without pyplot, so that nothing is global, and text is never read as mathematics: a domain may be
called `$HOME`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixscale.io import atomic_write

INK, FAINT, GRID = "#222222", "#8a8a8a", "#e4e4e4"
FIT, HELD_OUT = "#9aa5b1", "#0072b2"
COLOURS = {
    "optimum": "#d55e00", "current": "#222222", "best": "#a14a80", "natural": "#0072b2", "uniform": "#00805e",
    "unconstrained": "#b8860b", "temperature": "#56b4e9", "class-balanced": "#117733", "quality": "#882255",
    "relevance": "#cc79a7", "unimax": "#44aa99", "given": "#6f6f6f",
}  # fmt: skip
MARKERS = {
    "optimum": "o", "current": "X", "best": "D", "natural": "s", "uniform": "^", "unconstrained": "v",
    "temperature": "<", "class-balanced": ">", "quality": "p", "relevance": "P", "unimax": "h", "given": "d",
}  # fmt: skip

MUTED = ("#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#44aa99", "#aa4499", "#999933", "#882255")
"""Paul Tol's `muted` scheme; domains beyond these nine take the colours again, hatched."""

WIDTH = 8.0
"""inches; a page's text is as wide, so that type comes out in one size"""

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "text.color": INK,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function under the project's style."""

    @functools.wraps(draw)
    def inner(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return inner


def save(figure: Figure, stem: Path, dpi: int = 160) -> list[Path]:
    """Write `figure` as PNG and PDF beside each other; equal figures give equal files."""
    png, pdf = stem.with_suffix(".png"), stem.with_suffix(".pdf")
    with matplotlib.rc_context(RC):
        with atomic_write(png) as side:
            figure.savefig(side, dpi=dpi, metadata={"Software": None})
        figure.set_layout_engine("none")  # the layout is found, and finding it is most of the time
        with atomic_write(pdf) as side:
            figure.savefig(side, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return [png, pdf]


def figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure whose layout keeps labels apart; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(fig: Figure, count: int, columns: int, **options) -> Iterator[Axes]:
    """`count` axes in reading order, on a grid of `columns`; places left over stay empty."""
    columns = min(columns, count)
    grid = fig.subplots(-(-count // columns), columns, squeeze=False, **options).ravel()
    for spare in grid[count:]:
        spare.set_axis_off()
    if options.get("sharex"):
        for above in grid[max(count - columns, 0) : count]:
            above.tick_params(labelbottom=True)
    return iter(grid[:count])


def domain_look(count: int) -> list[dict[str, object]]:
    """Face colour and hatch of each of `count` domains."""
    return [
        {"facecolor": MUTED[i % len(MUTED)], "hatch": ("", "////", "....")[i // len(MUTED) % 3], "edgecolor": "white"}
        for i in range(count)
    ]


def short(name: str, longest: int = 22) -> str:
    """`name` on one line, cut where it would not fit."""
    line = " ".join(name.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def padded(values: np.ndarray, share: float = 0.06) -> tuple[float, float]:
    """Limits around the finite `values` with a margin on both sides."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    low, high = float(finite.min()), float(finite.max())
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
