"""The findings as plain text for a terminal: two small tables, then the sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from mixscale.report.findings import Findings
from mixscale.report.sentences import sentences
from mixscale.report.terms_said import goal
from mixscale.report.wording import number, percent, signed

WIDTH = 100


def summary(found: Findings) -> str:
    """Weights of the compared mixtures, their losses, prices, and what was found; sentences `WIDTH` wide at most."""
    told = [textwrap.fill(s, WIDTH, initial_indent="- ", subsequent_indent="  ") for s in sentences(found)]
    aim = textwrap.fill(f"goal: {goal(found)}", WIDTH)
    prices = [_prices(found), ""] if found.terms.constraints else []
    return "\n".join([aim, "", _weights(found), "", _losses(found), "", *prices, *told]) + "\n"


def _weights(found: Findings) -> str:
    others = [n for n in found.candidates if n != "optimum"]
    rows = []
    for domain, weight in sorted(found.optimum.items(), key=lambda item: -item[1]):
        low, high = found.optimum_interval[domain]
        mixtures = [percent(found.candidates[n].mixture.get(domain, 0.0), 1) for n in others]
        rows.append([domain, percent(weight, 1), f"{percent(low, 1)} to {percent(high, 1)}", *mixtures])
    return _columns(["domain", "optimum", f"{percent(found.level)} interval", *(found.label(n) for n in others)], rows)


def _losses(found: Findings) -> str:
    rows = []
    for name, candidate in found.candidates.items():
        loss, c = candidate.goal, found.comparisons.get(name)
        trained = number(loss.mean, 1e-3) if loss.mean is not None else "-"
        reach = f" ± {number((c.interval[1] - c.interval[0]) / 2, 1e-3)}" if c and c.interval else ""
        above = number(c.mean, 1e-3) + reach if c else ""
        seeds = str(len(loss.observed))
        rows.append([found.label(name), number(loss.predicted, 1e-3), trained, seeds, above, c.verdict if c else ""])
    return _columns([found.objective, "predicted", "trained", "seeds", "minus optimum", "the optimum is"], rows)


def _prices(found: Findings) -> str:
    rows = [
        [textwrap.shorten(c.said, 60), "yes" if c.binds else "no", signed(c.per_unit),
         f"{c.tokens:.3g}" if c.tokens is not None else "-"]
        for c in found.terms.constraints
    ]  # fmt: skip
    return _columns(["constraint", "binds", "loss a unit", "tokens a hundredth"], rows)


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    lines = []
    for row in [headers, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
