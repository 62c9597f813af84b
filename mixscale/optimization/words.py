"""How an optimum reads: the mixture, what it costs and gains, and how sure that is, in lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixscale.laws.uncertainty import LEVEL
from mixscale.optimization.prices import POINT, Price

if TYPE_CHECKING:
    from mixscale.optimization.result import Optimum


def summary(best: Optimum) -> str:
    """A page that a person can read."""
    kind = (
        "the global optimum (law and constraints are convex)"
        if best.convex
        else "the best found, which may not be the optimum,"
    )
    warning = [f"not supported: {best.warning}"] if best.warning else []
    parts = [
        warning,
        [f"{kind} of law {best.law}, for {best.goal.said()}"],
        _mixture(best),
        _values(best),
        _prices(best),
        _regret(best),
        _change(best),
        [f"note: {note}" for note in best.notes],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _mixture(best: Optimum) -> list[str]:
    wide = max(24, *(len(d) + 1 for d in best.mixture))
    others = {"free of constraints": best.unconstrained, "current": best.current}
    shown = {name: mixture for name, mixture in others.items() if mixture is not None}
    lines = [f"{'domain':<{wide}}{'weight':>9}{f'{LEVEL:.0%} region':>20}" + "".join(f"{n:>21}" for n in shown)]
    for domain, weight in best.mixture.items():
        low, high = best.interval[domain]
        beside = "".join(f"{m[domain]:>21.1%}" for m in shown.values())
        lines.append(
            f"{domain:<{wide}}{weight:>9.1%}{f'{low:.1%} to {high:.1%}':>20}{beside}{_at_bound(best, domain)}"
        )
    return lines


def _at_bound(best: Optimum, domain: str) -> str:
    weight, low, high = best.mixture[domain], best.lower.get(domain, 0.0), best.upper.get(domain, 1.0)
    if low > 0 and weight <= low + 1e-6:
        return f"  at its lower bound {low:.1%}"
    return f"  at its upper bound {high:.1%}" if high < 1 and weight >= high - 1e-6 else ""


def _values(best: Optimum) -> list[str]:
    wide = max(24, *(len(t) + 1 for t in best.predicted))
    lines = [f"{'target':<{wide}}{'loss':>9}{f'{LEVEL:.0%} of new runs':>20}"]
    rows = {"weighted mean": best.objective, **best.predicted}
    for target, (value, lo, hi) in rows.items():
        kept = best.kept.get(target)
        told = "" if kept is None else f"  not worse than now in {kept:.0%} of the resamples"
        lines.append(f"{target:<{wide}}{value:>9.4f}{f'{lo:.4f} to {hi:.4f}':>20}{told}")
    if best.value is not None and (best.goal.worst or best.goal.robust != "point"):
        lines.append(f"{'the goal':<{wide}}{best.value:>9.4f}")
    return lines


def _prices(best: Optimum) -> list[str]:
    if not best.prices:
        return []
    lines = ["price of the constraints, in loss, for one hundredth more of each (a point of weight):"]
    lines += [f"  {p.said}: {_price(p)}" for p in sorted(best.prices, key=lambda p: -abs(p.per_unit)) if p.binding]
    if idle := [p.said + _text(p) for p in best.prices if not p.binding]:
        lines.append(f"  nothing, as they do not hold the optimum: {'; '.join(idle)}")
    if any(p.binding for p in best.prices) and all(p.tokens is None for p in best.prices):
        lines.append("  (not told in tokens: the law does not know what tokens are worth)")
    if best.given_up is not None:
        lines.append(f"all together they cost {best.given_up:.4f}: without them the goal is {_free(best):.4f}")
    return lines


def _price(price: Price) -> str:
    told = f"{POINT * price.per_unit:+.2g}"
    if price.tokens is not None:
        told += f", worth {price.tokens:.3g} tokens"
    return told + _text(price)


def _text(price: Price) -> str:
    return "" if price.text is None else f"; {1e9 * price.text:+.2g} a billion unique tokens"


def _free(best: Optimum) -> float:
    return (best.value or 0.0) - (best.given_up or 0.0)


def _regret(best: Optimum) -> list[str]:
    if best.expected_regret is None:
        return []
    mean, high = best.expected_regret
    return [
        f"expected regret {mean:.4f} (0.95 quantile {high:.4f}): what not knowing the true law costs, by its resamples"
    ]


def _change(best: Optimum) -> list[str]:
    if best.gain is None:
        return []
    value, lo, hi = best.gain
    told = f"gain over the current mixture {value:.4f} ({LEVEL:.0%} interval {lo:.4f} to {hi:.4f})"
    lines = [told if best.justified else f"{told}: no change is justified"]
    if best.current_breaks:
        lines.append(f"the current mixture does not keep: {'; '.join(best.current_breaks)}")
    return lines
