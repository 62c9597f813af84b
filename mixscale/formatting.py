"""Formats of numbers, and the Jinja environment whose templates word results. Knows nothing of laws or tables."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "report" / "templates"


def percent(share: float, decimals: int | None = None) -> str:
    """A weight: `0%`, `0.4%`, `37%`; or with a fixed number of decimals, for columns."""
    if decimals is None:
        decimals = 0 if share >= 0.0995 or share < 0.0005 else 1
    return f"{100 * share:.{decimals}f}%"


def number(value: float, uncertainty: float | None = None) -> str:
    """`value` with three decimals, or with the two to four that show two digits of its `uncertainty`."""
    decimals = 3
    if uncertainty is not None and math.isfinite(uncertainty) and uncertainty > 0:
        decimals = min(max(1 - math.floor(math.log10(uncertainty)), 2), 4)
    return f"{value:z.{decimals}f}".replace("-", "−")


def positive(value: float, uncertainty: float | None = None) -> str:
    """A non-negative number; one that rounds to zero reads `less than 0.0001`."""
    return "less than 0.0001" if 0 < value < 5e-5 else number(value, uncertainty)


def ends(interval: Sequence[float], between: str = " to ") -> str:
    """`0.008 to 0.016`."""
    low, high = interval
    return f"{number(low, high - low)}{between}{number(high, high - low)}"


def estimate(value: float, interval: Sequence[float]) -> str:
    """`0.012 (0.008 to 0.016)`."""
    return f"{number(value, interval[1] - interval[0])} ({ends(interval)})"


def plus_minus(value: float, interval: Sequence[float]) -> str:
    """`0.050 ± 0.010`: half the width of the interval."""
    half = (interval[1] - interval[0]) / 2
    return f"{number(value, half)} ± {number(half, half)}"


def amount(value: float) -> str:
    """A large number: `85M`, `1.2B`."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def signed(value: float) -> str:
    """Two significant digits and a sign."""
    return "0" if value == 0 else f"{value:+.2g}".replace("-", "−")


def count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def series(names: Sequence[str], most: int | None = None) -> str:
    """`a, b and c`; beyond `most` names, `and 4 others`."""
    names = list(names)
    if most is not None and len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} others"]
    if len(names) < 2:
        return names[0] if names else "nothing"
    kind = Markup if any(isinstance(n, Markup) for n in names) else str  # markup escapes what it joins
    return kind(" and ").join([kind(", ").join(names[:-1]), names[-1]])


def significant(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def cell(value: object) -> object:
    """A data frame's value for a table: four digits, `yes` or `no`, a dash for a missing value."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        shown = f"{int(value):,}" if value == int(value) else f"{value:#.4g}".rstrip(".")
        return shown.replace("-", "−")
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


@functools.cache
def environment(html: bool) -> jinja2.Environment:
    """Templates with the formats above as filters; for HTML every value is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=html, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    formats = (percent, number, positive, ends, estimate, plus_minus, amount, signed, count, series, significant, cell)
    env.filters.update({f.__name__: f for f in formats})
    env.filters["lookup"] = lambda key, mapping: mapping[key]
    env.globals["html"] = html
    return env


def notebook_html(view: str, it: object, **data: object) -> str:
    """How the object `it` looks in a notebook; `view` is its part of the template."""
    return environment(html=True).get_template("notebook.html.j2").render(view=view, it=it, **data)
