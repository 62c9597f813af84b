"""Data frames as tables of the page."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixscale.report.markup import Markup, table


def framed(frame: pd.DataFrame, css: str = "", foot: str = "", words: int = 1) -> Markup:
    """A data frame as a table, its numbers with four digits."""
    rows = [[cell(v) for v in row] for row in frame.itertuples(index=False, name=None)]
    return table(list(frame.columns), rows, css=css, foot=foot, words=words)


def cell(value: object) -> object:
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and float(value).is_integer()):
        return f"{int(value):,}".replace("-", "−")
    if isinstance(value, float | np.floating):
        return f"{value:#.4g}".rstrip(".").replace("-", "−")
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
