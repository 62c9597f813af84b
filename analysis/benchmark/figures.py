"""Pictures of the cells: learning curves, predicted against observed, coverage, and auto against the best law."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from benchmark import report
from benchmark.methods import LEVEL

STRONG = ("auto", "gp", "additive", "power-additive", "effective", "lightgbm", "lightgbm-cv", "exponential", "linear")
"""Methods with a colour of their own; the others are grey."""


def draw(found: pd.DataFrame, shown: pd.DataFrame, folder: Path) -> list[Path]:
    """Every picture that there are cells for, as PNG; their names begin with `benchmark_`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = found[found["status"] == "done"]
    figures = {
        "curves": learning_curves(done),
        "predicted": predicted(shown),
        "coverage": coverage(done),
        "auto": auto(report.hindsight(found)),
    }
    written = []
    for name, figure in figures.items():
        if figure is None:
            continue
        figure.savefig(folder / f"benchmark_{name}.png", dpi=150)
        plt.close(figure)
        written.append(folder / f"benchmark_{name}.png")
    return written


def learning_curves(done: pd.DataFrame) -> plt.Figure | None:
    """Rank correlation and error at 1M against runs; open marks are designed subsets."""
    rows = done[(done["table"] == "regmix") & (done["part"] == "1M")]
    if rows["runs"].nunique() < 2:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, (measure, label) in zip(axes, {"rho": "1 − ρ at 1M", "mae": "MAE at 1M"}.items(), strict=True):
        for method, of_method in rows.groupby("method", sort=False):
            _curve(axis, str(method), of_method.assign(y=_error(of_method, measure)))
        axis.set(xscale="log", yscale="log", xlabel="runs fitted", ylabel=label)
        axis.set_xticks(sorted(rows["runs"].unique()), sorted(rows["runs"].unique()))
        axis.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    return figure


def _error(rows: pd.DataFrame, measure: str) -> pd.Series:
    return 1 - rows["rho"] if measure == "rho" else rows[measure]


def _curve(axis: plt.Axes, method: str, rows: pd.DataFrame) -> None:
    strong = method in STRONG
    style = {"color": f"C{STRONG.index(method)}", "zorder": 3} if strong else {"color": "0.8", "zorder": 1}
    mean = rows[rows["split"] != "designed"].groupby("runs")["y"].mean()
    axis.plot(mean.index, mean, "o-", markersize=4, label=method if strong else None, **style)
    designed = rows[rows["split"] == "designed"].groupby("runs")["y"].mean()
    if strong:
        axis.plot(designed.index, designed, "o", markersize=8, markerfacecolor="none", **style)


def predicted(shown: pd.DataFrame) -> plt.Figure | None:
    """Auto's predictions of rows it had not seen, each target over its own mean."""
    if len(shown) == 0:
        return None
    panels = list(shown.groupby(["table", "split", "part"], sort=False))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.2 * columns, 3.2 * rows), layout="constrained", squeeze=False
    )
    for axis, (name, of_panel) in zip(axes.flat, panels, strict=False):
        unit = of_panel.groupby("target")["observed"].transform("mean")
        axis.plot(of_panel["observed"] / unit, of_panel["predicted"] / unit, ".", markersize=3, alpha=0.6)
        low, high = (of_panel["observed"] / unit).agg(["min", "max"])
        axis.plot([low, high], [low, high], color="0.5", linewidth=0.8)
        axis.set_title(f"{name[0]}: {name[1]}\n{name[2]}", fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    figure.supxlabel("observed, over the target's mean")
    figure.supylabel("predicted by auto")
    return figure


def coverage(done: pd.DataFrame) -> plt.Figure | None:
    """Share of new runs within their interval, a line a table and split; auto is the filled mark."""
    rows = done[done["coverage"].notna() & ~done["table"].isin(["planted"]) & (done["method"] != "mean")]
    if len(rows) == 0:
        return None
    names, values = [], []
    for name, of_part in rows.groupby(["table", "split", "part"], sort=False):
        names.append(f"{name[0]}: {name[1]}, {name[2]}")
        values.append(of_part.groupby("method")["coverage"].mean())
    figure, axis = plt.subplots(figsize=(7, 1 + 0.35 * len(names)), layout="constrained")
    for y, value in enumerate(values):
        axis.plot(value, np.full(len(value), y), "|", color="0.6", markersize=10)
        if "auto" in value:
            axis.plot(value["auto"], y, "o", color="C0")
    axis.axvline(LEVEL, color="C3", linewidth=1)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set(
        xlabel=f"share of new runs within their {LEVEL:.0%} interval\n(filled: auto; marks: each law)", xlim=(0, 1.02)
    )
    return figure


def auto(table: pd.DataFrame) -> plt.Figure | None:
    """Auto's error over that of the law that turned out best."""
    if len(table) == 0:
        return None
    figure, axis = plt.subplots(figsize=(7, 1 + 0.3 * len(table)), layout="constrained")
    names = [f"{r['table']}: {r['split']}, {r['runs']} runs, {r['part']}" for _, r in table.iterrows()]
    axis.barh(names, table["auto / best law"], color="C0", height=0.6)
    axis.axvline(1.0, color="0.3", linewidth=1)
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xlabel("MAE of auto over that of the best law in hindsight")
    return figure
