"""How mixtures, tables, fits and optima show themselves in a notebook: small HTML tables, with bars for weights.

Text from a table (names of domains and targets) is escaped; the markup refers to nothing outside of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixscale.laws import LawFit
    from mixscale.mixture import Mixture
    from mixscale.optimization import Optimum
    from mixscale.run_table import RunTable

BAR, INK = "#e08a4d", "#222222"
RIGHT = ' style="text-align:right"'


def of_mixture(mixture: Mixture) -> str:
    """Weights with bars."""
    most = max(mixture.values())
    return _table(("domain", "weight", ""), [(d, f"{w:.1%}", _bar(w, w, w, most)) for d, w in mixture.items()])


def of_table(table: RunTable) -> str:
    """What the table holds, and each column's range."""
    frame = table.frame
    columns = [*(f"mix/{d}" for d in table.domains), *table.targets]
    scale = [c for c in ("n_params", "n_tokens") if c in frame]
    rows = [(c, *(f"{v:.4g}" for v in frame[c].quantile([0, 0.5, 1]))) for c in (*scale, *columns)]
    notes = "".join(f"<p>{escape(n)}</p>" for n in table.notes)
    return f"<p>{escape(repr(table))}</p>" + _table(("column", "least", "median", "greatest"), rows) + notes


def of_fit(fit: LawFit) -> str:
    """The law, and how far it is off at mixtures it has not seen."""
    import numpy as np

    rows = []
    for t, target in enumerate(fit.targets):
        error, noise = np.nanmean(np.abs(fit.oof_pred_TxR[t] - fit.dataset.y_TxR[t])), fit.noise[target]
        spread = float(np.nanstd(fit.dataset.y_TxR[t]))
        rows.append((target, f"{error:.4f}", "unknown" if noise is None else f"{noise:.4f}", f"{spread:.4f}"))
    head = (
        f"<p>law <b>{escape(fit.law)}</b>, fitted to {fit.n_runs} runs of {len(fit.domains)} domains; "
        f"{escape(fit.reason)}</p>"
    )
    return head + _table(("target", "mean error, unseen mixtures", "seed noise", "spread of the runs"), rows)


def of_optimum(best: Optimum) -> str:
    """The mixture with its intervals, beside the one in use, and what is expected of it."""
    most = max([*best.mixture.values(), *(hi for _, hi in best.interval.values())])
    now = best.current
    rows = []
    for domain, weight in best.mixture.items():
        low, high = best.interval[domain]
        cells = (domain, f"{weight:.1%}", f"{low:.1%} to {high:.1%}", _bar(weight, low, high, most))
        rows.append(cells if now is None else (*cells, f"{now[domain]:.1%}"))
    header = ("domain", "weight", "90 % region", "", *(() if now is None else ("now",)))
    value, lo, hi = best.mean
    told = [f"predicted {value:.4f}, {lo:.4f} to {hi:.4f} for a new run; law {best.law}"]
    if best.gain is not None:
        gain, least, greatest = best.gain
        told.append(f"gain over the mixture in use {gain:.4f}, {least:.4f} to {greatest:.4f}")
        told += [] if best.justified else ["no change is justified"]
    return _table(header, rows) + "".join(f"<p>{escape(t)}</p>" for t in [*told, *best.notes])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table; the first column is words, and what begins with a tag is markup of this module's own."""
    head = "".join(f"<th{RIGHT if i else ''}>{escape(h)}</th>" for i, h in enumerate(header))
    body = "".join("<tr>" + "".join(_cell(c, i) for i, c in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class _Markup(str):
    """Text that is HTML already."""


def _cell(content: str, place: int) -> str:
    if isinstance(content, _Markup):
        return f"<td>{content}</td>"
    return f"<td{RIGHT if place else ''}>{escape(content)}</td>"


def _bar(weight: float, low: float, high: float, most: float) -> _Markup:
    """A bar to `weight` and a whisker from `low` to `high`, on an axis from zero to `most`."""
    to, left, width = (f"{100 * v / most:.2f}%" for v in (weight, low, high - low))
    bar = _div(f"left:0;width:{to};height:8px;top:3px;background:{BAR}")
    whisker = _div(f"left:{left};width:{width};height:2px;top:6px;background:{INK}") if high > low else ""
    return _Markup(f'<div style="position:relative;width:160px;height:14px">{bar}{whisker}</div>')


def _div(css: str) -> str:
    return f'<div style="position:absolute;{css}"></div>'
