"""Target by target: on which the optimum is better and on which worse than what it would replace, as trained."""

from __future__ import annotations

from mixscale.report.comparison import Comparison
from mixscale.report.findings import Findings
from mixscale.report.terms_said import shortened
from mixscale.report.wording import listed, number, percent

MANY = 10
"""Targets from which chance is told of: that many intervals of 90 % leave one out."""
REPLACED = ("current", "natural", "uniform")
"""What the optimum would replace, where that was trained: the mixture in use, or the first that needs no law."""


def atomic_write(found: Findings) -> str | None:
    """The baseline that single targets are compared with; None where none was trained, or there is one target."""
    known = [n for n in REPLACED if n in found.by_target and _told(found, n)]
    return known[0] if known and len(found.target_weights) > 1 else None


def _told(found: Findings, name: str) -> bool:
    """Whether it is another mixture, and any target's difference can be told from noise."""
    differ = found.comparisons[name].verdict != "same mixture"
    return differ and any(c.interval is not None for c in found.by_target[name].values())


def by_target(found: Findings) -> list[str]:
    """Better on these targets, worse on those; the doubt is that of the seeds."""
    name = atomic_write(found)
    if name is None:
        return []
    groups: dict[str, list[str]] = {}
    ordered = sorted(found.by_target[name].items(), key=lambda item: -abs(item[1].mean))
    for target, c in ordered:
        told = lowered(c, found.target_sign[target])
        groups.setdefault(c.verdict, []).append(f"{target.split('/', 1)[-1]} ({told})")
    words = {"better": "better on", "worse": "worse on", "not distinguishable": "not distinguishable on"}
    parts = [f"{words[verdict]} {shortened(groups[verdict])}" for verdict in words if verdict in groups]
    many = len(ordered) >= MANY
    chance = f", each on its own: of {MANY} that do not differ one or so looks as if it did" if many else ""
    return [
        f"Target by target, the optimum against {found.phrase(name)} is {_joined(parts)}; in brackets: the optimum's "
        f"value minus the other's, ± half the {percent(found.level)} interval{chance}."
    ]


def lowered(c: Comparison, sign: float = 1.0) -> str:
    """The optimum's value minus the baseline's, as it was measured, with its doubt."""
    value = -sign * c.mean
    reach = (c.interval[1] - c.interval[0]) / 2 if c.interval else None
    told = ("+" if value > 0 else "") + number(value, reach)
    return told if reach is None else f"{told} ± {number(reach, reach)}"


def _joined(parts: list[str]) -> str:
    return listed(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
