"""How mixtures, tables, fits and optima show themselves in a notebook: data for `templates/notebook.html.j2`.

Takes the objects as they are, so that it imports none of the packages that call it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixscale.formatting import environment


def of_mixture(mixture: Any) -> str:
    """Weights with bars."""
    return _view("mixture", it=mixture)


def of_table(table: Any) -> str:
    """What the table holds, and each column's range."""
    frame = table.frame
    columns = [*(c for c in ("n_params", "n_tokens") if c in frame), *(f"mix/{d}" for d in table.domains)]
    ranges = {c: frame[c].quantile([0, 0.5, 1]).tolist() for c in (*columns, *table.targets)}
    return _view("table", it=table, summary=repr(table), ranges=ranges)


def of_fit(fit: Any) -> str:
    """The law, its error on mixtures that it was not fitted to, and what that compares with."""
    errors = []
    for t, target in enumerate(fit.targets):
        error, noise = np.nanmean(np.abs(fit.oof_pred_TxR[t] - fit.dataset.y_TxR[t])), fit.noise[target]
        spread = float(np.nanstd(fit.dataset.y_TxR[t]))
        errors.append((target, f"{error:.4f}", "unknown" if noise is None else f"{noise:.4f}", f"{spread:.4f}"))
    return _view("fit", it=fit, errors=errors)


def of_optimum(optimum: Any) -> str:
    """The mixture with its intervals, the current mixture, and the predicted objective and gain."""
    return _view("optimum", it=optimum)


def _view(name: str, **data: Any) -> str:
    return environment(html=True).get_template("notebook.html.j2").render(view=name, **data)
