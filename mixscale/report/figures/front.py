"""The front between two goals: what one costs the other, and which mixtures lie on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from mixscale.objective import sign_of
from mixscale.report.figures import style
from mixscale.report.findings import Findings
from mixscale.report.material import Material
from mixscale.report.wording import percent


@style.styled
def front(material: Material, found: Findings) -> Figure | None:
    """Values of both goals along the front with their intervals, and below the mixture at each of its points."""
    table = material.front
    if table is None:
        return None
    fig = style.figure(3.7)
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    names = [str(table[f"{which}_goal"].iloc[0]) for which in ("first", "second")]
    sign_2 = [_sign(material, name) for name in names]
    first, second = (table[which].to_numpy() * sign for which, sign in zip(("first", "second"), sign_2, strict=True))
    if {"second_lo", "second_hi"} <= set(table):
        low, high = (table[f"second_{end}"].to_numpy() * sign_2[1] for end in ("lo", "hi"))
        left.fill_between(first, low, high, color=style.HELD_OUT, alpha=0.15, linewidth=0)
    left.plot(first, second, "o-", color=style.HELD_OUT, markersize=4)
    _solved(left, material, found, names, sign_2)
    left.set(xlabel=style.short(names[0], 40), ylabel=style.short(names[1], 40))
    left.set_title(f"less of one is more of the other ({percent(found.level)} band)")
    _mixtures(right, material, table)
    right.set_title(f"the mixtures: best for {style.short(names[0], 12)} … best for {style.short(names[1], 12)}")
    looks = style.domain_look(len(material.domains))
    handles = [Patch(label=style.short(d), linewidth=0, **k) for d, k in zip(material.domains, looks, strict=True)]
    fig.legend(handles=handles, loc="outside lower left", ncols=min(6, len(handles)), handlelength=1.2)
    return fig


def _sign(material: Material, name: str) -> float:
    columns = dict(zip(material.target_names, material.targets, strict=True))
    return sign_of(columns[name]) if name in columns else 1.0


def _solved(axes, material: Material, found: Findings, names: list[str], sign_2: list[float]) -> None:
    """The compared mixtures beside the front, where its goals are targets."""
    if not set(names) <= set(material.target_names):
        return
    index_2, question = [material.target_names.index(n) for n in names], material.optimum.problem
    for name in ("optimum", "current"):
        if name in found.candidates:
            h_1xK = np.array([[found.candidates[name].mixture.get(d, 0.0) for d in material.domains]])
            cost_T = question.costs(material.fit.theta_TxP[None], h_1xK)[0, 0]
            at_2 = [cost_T[i] * sign for i, sign in zip(index_2, sign_2, strict=True)]
            axes.plot(*at_2, style.MARKERS[name], color=style.COLOURS[name], markersize=7, label=found.label(name))
    axes.legend(loc="upper right")


def _mixtures(axes, material: Material, table: pd.DataFrame) -> None:
    below_Q, place_Q = np.zeros(len(table)), np.arange(len(table))
    for domain, look in zip(material.domains, style.domain_look(len(material.domains)), strict=True):
        weight_Q = table[f"mix/{domain}"].to_numpy()
        axes.bar(place_Q, weight_Q, 0.9, bottom=below_Q, linewidth=0, **look)
        below_Q = below_Q + weight_Q
    axes.set(ylim=(0, 1), xlim=(-0.6, len(table) - 0.4), ylabel="weight")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xticks([])
    axes.grid(False, axis="x")
