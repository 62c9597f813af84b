"""The style of every figure: type, colours that colour-blind readers can distinguish, labels, reproducible files.

Figures are made without pyplot, so that nothing is global, and text is never parsed as mathematics: a domain may be
called `$HOME`. Knows neither laws nor reports.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mixscale.io import atomic_write

INK, FAINT, GRID = "#222222", "#8a8a8a", "#e4e4e4"
FIT, HELD_OUT = "#9aa5b1", "#0072b2"
MIXTURES = {
    "optimum": ("optimum", "#d55e00", "o"), "current": ("current", "#222222", "X"),
    "best": ("best fitted", "#a14a80", "D"), "natural": ("natural", "#0072b2", "s"),
    "uniform": ("uniform", "#00805e", "^"), "unconstrained": ("unconstrained", "#b8860b", "v"),
    "temperature": ("temperature", "#56b4e9", "<"), "class-balanced": ("class-balanced", "#117733", ">"),
    "quality": ("quality-weighted", "#882255", "p"), "relevance": ("relevance-weighted", "#cc79a7", "P"),
    "unimax": ("UniMax", "#44aa99", "h"), "given": ("given", "#6f6f6f", "d"),
}  # fmt: skip
LABELS, COLOURS, MARKERS = ({name: look[i] for name, look in MIXTURES.items()} for i in range(3))
"""Names of the compared mixtures in figures, tables and sentences, their colours and markers."""
RUNS = {"fit": ("o", FIT, "fitted"), "left_out": ("o", FIT, "fitted, each left out"),
        "held_out": ("o", HELD_OUT, "held out"), "verify": ("D", COLOURS["optimum"], "verification")}  # fmt: skip
"""Marker, colour and name of each kind of run."""
SCALE = {"n_params": "N", "n_tokens": "D"}
PERCENT = FuncFormatter(lambda weight, _: f"{100 * weight:g}%")
CMAP = "viridis"  # of losses: dark is low, and it reads in grey
STAR = {"marker": "*", "markersize": 11, "color": COLOURS["optimum"], "markeredgecolor": "white",
        "markeredgewidth": 0.7, "linestyle": ""}  # fmt: skip
MUTED = ("#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#44aa99", "#aa4499", "#999933", "#882255")
"""Paul Tol's `muted` scheme; domains beyond these nine take the colours again, hatched."""

WIDTH = 8.0  # inches; a page's text is as wide, so that all type has one size

RC = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "text.color": INK, "text.parse_math": False,
    "axes.titlesize": 9, "axes.titlelocation": "left", "axes.labelsize": 8.5, "axes.labelcolor": INK,
    "axes.edgecolor": FAINT, "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "axes.unicode_minus": True, "axes.formatter.useoffset": False,
    "grid.color": GRID, "grid.linewidth": 0.6, "lines.linewidth": 1.4, "hatch.linewidth": 0.6,
    "xtick.color": INK, "xtick.labelsize": 7.5, "xtick.major.width": 0.7,
    "ytick.color": INK, "ytick.labelsize": 7.5, "ytick.major.width": 0.7,
    "legend.frameon": False, "legend.fontsize": 8, "figure.facecolor": "white", "pdf.fonttype": 42,
}  # fmt: skip


class Picture(Figure):
    """A figure that shows itself in a notebook, although it was made without pyplot."""

    def _repr_png_(self) -> bytes:
        with matplotlib.rc_context(RC), io.BytesIO() as file:
            self.savefig(file, format="png", dpi=130)
            return file.getvalue()


def picture(height: float, width: float = WIDTH) -> Picture:
    """An empty figure with an automatic layout; sizes in inches."""
    return Picture(figsize=(width, height), layout="constrained")


def styled(draw: Callable) -> Callable:
    """Decorator: runs a drawing function under the project's style."""

    @functools.wraps(draw)
    def inner(*args, **kwargs):
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return inner


def save(figure: Figure, stem: Path, dpi: int = 300) -> list[Path]:
    """Writes `figure` as PNG and PDF; equal figures give equal files."""
    png, pdf = stem.with_suffix(".png"), stem.with_suffix(".pdf")
    with matplotlib.rc_context(RC):
        with atomic_write(png) as side:
            figure.savefig(side, dpi=dpi, metadata={"Software": None})
        figure.set_layout_engine("none")  # the PNG has computed the layout, which takes most of the time
        with atomic_write(pdf) as side:
            figure.savefig(side, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return [png, pdf]


def panels(fig: Figure, count: int, columns: int, **options) -> Iterator[Axes]:
    """`count` axes in reading order, on a grid of `columns`."""
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


def line_look(count: int) -> list[dict[str, object]]:
    """Colour and dashes of each of `count` lines, different for up to 27."""
    dashes = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
    return [{"color": MUTED[i % 9], "linestyle": dashes[i // 9 % 3]} for i in range(count)]


def mixture_look(name: str) -> dict[str, object]:
    return {"marker": MARKERS[name], "color": COLOURS[name], "linestyle": "", "markersize": 5.5}


def stacked(axes: Axes, h_QxK: np.ndarray, width: float) -> None:
    below_Q = np.zeros(len(h_QxK))
    for weight_Q, look in zip(h_QxK.T, domain_look(h_QxK.shape[1]), strict=True):
        axes.bar(np.arange(len(h_QxK)), weight_Q, width, bottom=below_Q, linewidth=0, **look)
        below_Q = below_Q + weight_Q
    axes.set(ylim=(0, 1), ylabel="weight")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_xticks([])
    axes.grid(False, axis="x")


def domain_legend(fig: Figure, domains: Sequence[str]) -> None:
    handles = [
        Patch(label=short(d), linewidth=0, **k) for d, k in zip(domains, domain_look(len(domains)), strict=True)
    ]
    fig.legend(handles=handles, loc="outside lower left", ncols=min(6, len(handles)), handlelength=1.2)


def legend(over: Figure | Axes, looks: Mapping[str, Mapping], loc: str = "outside upper left", **options) -> None:
    """A legend of lines and markers, from each label to its look."""
    over.legend(handles=[Line2D([], [], label=label, **look) for label, look in looks.items()], loc=loc, **options)


def corner(axes: Axes, text: str) -> None:
    """Small text in the lower right corner, on an opaque background."""
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.2}
    axes.text(0.96, 0.05, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=7, bbox=paper, zorder=9)


def colorbar(fig: Figure, image: ScalarMappable, axes: Axes, label: str = "", **options) -> Colorbar:
    """A colour bar without a frame."""
    bar = fig.colorbar(image, ax=axes, **options)
    bar.outline.set_visible(False)
    if label:
        bar.set_label(label, fontsize=7.5)
    return bar


def matrix(axes: Axes) -> None:
    """Axes of a coloured matrix: without grid, ticks and frame."""
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def label_decades(axis: Axis, written: Callable[[float], str] = "{:g}".format) -> None:
    """Numbers at 1, 2 and 5 of each decade of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="major", labelsize=7)


def short(name: str, longest: int = 22) -> str:
    """`name` on one line, truncated."""
    line = " ".join(name.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def padded(values: np.ndarray, share: float = 0.06) -> tuple[float, float]:
    """Limits around the finite `values`, with a margin."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    low, high = float(finite.min()), float(finite.max())
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
