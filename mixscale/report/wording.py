"""How numbers and lists read in sentences and tables; knows nothing of what they are numbers of."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(share: float, decimals: int | None = None) -> str:
    """A weight as a reader wants it: `0%`, `0.4%`, `37%`; or with a fixed number of decimals, for columns."""
    hundredths = 100 * share
    if decimals is not None:
        return f"{hundredths:.{decimals}f}%"
    return f"{hundredths:.0f}%" if hundredths >= 9.95 or hundredths < 0.05 else f"{hundredths:.1f}%"


def number(value: float, doubt: float | None = None) -> str:
    """`value` with three decimals, or as many as show two digits of its `doubt`, from two to four."""
    decimals = 3
    if doubt is not None and math.isfinite(doubt) and doubt > 0:
        decimals = min(max(1 - math.floor(math.log10(doubt)), 2), 4)
    return f"{value:.{decimals}f}".replace("-", "−")


def ranged(estimate: Sequence[float]) -> str:
    """`0.012 (0.008 to 0.016)` for a value with its interval."""
    value, low, high = estimate
    return f"{number(value, high - low)} ({number(low, high - low)} to {number(high, high - low)})"


def little(value: float, doubt: float | None = None) -> str:
    """A number that is not negative, where nothing is told from zero by `less than 0.0001`."""
    return "less than 0.0001" if 0 < value < 5e-5 else number(value, doubt)


def amount(value: float) -> str:
    """A large number as `3 M`, `1.5 B`."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def signed(value: float) -> str:
    """Two digits and the sign of a number that may be tiny."""
    return "0" if value == 0 else f"{value:+.2g}".replace("-", "−")


def count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "nothing"


def capital(text: str) -> str:
    """`text` as the start of a sentence; a name in quotes stays as it is spelt."""
    return f"The law {text}" if text.startswith(("'", '"')) else text[:1].upper() + text[1:]
