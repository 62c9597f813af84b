"""What was found, in sentences for a person who has not seen a single number yet.

The first sentence is the answer and each one stands alone. Nothing is claimed that `Findings` does not hold; where
the runs cannot tell two mixtures apart, that is what is said.
"""

from __future__ import annotations

import math

from mixscale.report.findings import Candidate, Comparison, Estimate, Findings

NAMES = {
    "optimum": "the optimum",
    "best": "the best mixture of the grid",
    "natural": "the natural mixture",
    "uniform": "the uniform mixture",
}

NAMED = 6
"""Domains that a sentence names at most."""


def sentences(found: Findings) -> list[str]:
    """All sentences, the most important first."""
    unit = f" {found.unit}" if found.unit else ""
    told = [_optimum(found), *_elsewhere(found)]
    told += [_comparison(name, c, found, unit) for name, c in _ordered(found)]
    told += _untrained(found)
    told += _prediction(found.candidates["optimum"], unit)
    told += [_held_out(found, unit), _noise(found, unit)]
    return told + _unfinished(found)


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


def amount(value: float) -> str:
    """A large number as `3 M`, `1.5 B`."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _optimum(found: Findings) -> str:
    ordered = sorted(found.optimum.items(), key=lambda item: -item[1])
    present = [(d, w) for d, w in ordered if w >= 0.005]
    parts = [_with_interval(d, w, found) for d, w in present[:NAMED]]
    if len(present) > NAMED:
        parts.append(f"{percent(sum(w for _, w in present[NAMED:]))} of {len(present) - NAMED} others together")
    absent = [d for d, w in ordered if w < 0.005]
    named = _listed(absent) if len(absent) <= NAMED else f"{len(absent)} domains"
    rest = f"; next to nothing of {named}" if absent else ""
    brackets = f" In brackets: {percent(found.level)} intervals." if "(" in parts[0] else ""
    return f"The best mixture by the {found.law} law is {_listed(parts)}{rest}.{brackets}"


def _elsewhere(found: Findings) -> list[str]:
    """A sentence for an optimum that was solved for another size or token count than was trained."""
    trained = {"n_params": found.n_params, "n_tokens": found.n_tokens}
    if all(trained[name] and math.isclose(trained[name], v, rel_tol=0.01) for name, v in found.solved_for.items()):
        return []
    words = {"n_params": "N", "n_tokens": "D"}
    solved = " and ".join(f"{words[n]} = {amount(v)}" for n, v in found.solved_for.items())
    compared = " and ".join(f"{words[n]} = {amount(v)}" for n, v in trained.items() if v)
    return [f"It was solved for {solved}, which is an extrapolation; mixtures are compared at {compared}, as trained."]


def _with_interval(domain: str, weight: float, found: Findings) -> str:
    low, high = found.optimum_interval.get(domain, (math.nan, math.nan))
    return f"{domain} {percent(weight)}" + (f" ({percent(low)} to {percent(high)})" if math.isfinite(low) else "")


def _comparison(name: str, c: Comparison, found: Findings, unit: str) -> str:
    other = NAMES[name]
    if c.verdict == "same mixture":
        return f"The optimum and {other} are the same mixture."
    if c.interval is None:
        return (
            f"Whether the optimum beats {other} cannot be told from one seed of each without knowing the seed noise; "
            f"it came out {number(abs(c.mean))}{unit} {'lower' if c.mean > 0 else 'higher'}."
        )
    reach = (c.interval[1] - c.interval[0]) / 2
    if c.paired:
        basis = f"{percent(found.level)} interval, {count(len(c.differences), 'seed')}"
    else:
        basis = f"{percent(found.level)} interval from the seed noise, because no two seeds are common to both"
    amount = f"{number(abs(c.mean), reach)} ± {number(reach, reach)}{unit} ({basis})"
    if c.verdict == "not distinguishable":
        signed = f"{number(c.mean, reach)} ± {number(reach, reach)}{unit} ({basis})"
        return f"The optimum and {other} are not distinguishable: the difference is {signed}."
    verb = "beats" if c.verdict == "better" else "loses to"
    return f"The optimum {verb} {other} by {amount}{_against_noise(c)}."


def _against_noise(c: Comparison) -> str:
    if c.over_noise is None:
        return ""
    if abs(c.over_noise) < 1:
        return ", which is less than the seed noise of a single run"
    return f", {abs(c.over_noise):.1f} times the seed noise of a single run"


def _ordered(found: Findings) -> list[tuple[str, Comparison]]:
    order = ("uniform", "natural", "best")
    return [(n, found.comparisons[n]) for n in order if n in found.comparisons]


def _untrained(found: Findings) -> list[str]:
    optimum = found.candidates["optimum"].mean_loss
    if not optimum.observed:
        return ["The optimum was not trained: what is said of it is the law's prediction only."]
    names = [NAMES[n] for n, c in found.candidates.items() if not c.mean_loss.observed]
    return [f"No verification run of {_listed(names)} is in the table."] if names else []


def _prediction(optimum: Candidate, unit: str) -> list[str]:
    loss: Estimate = optimum.mean_loss
    low, high = loss.interval
    predicted = f"{number(loss.predicted, high - low)} ({number(low, high - low)} to {number(high, high - low)})"
    if loss.mean is None:
        return [f"The law predicts a mean loss of {predicted}{unit} for the optimum."]
    inside = "inside" if low <= loss.mean <= high else "outside"
    error = f" ± {number(loss.standard_error, loss.standard_error)}" if loss.standard_error else ""
    return [
        f"For the optimum the law predicted a mean loss of {predicted}{unit}; training gave "
        f"{number(loss.mean, loss.standard_error or high - low)}{error} (mean of {count(len(loss.observed), 'seed')}, "
        f"standard error), {inside} that interval."
    ]


def _held_out(found: Findings, unit: str) -> str:
    held = found.held_out
    if held is None:
        return "No mixture was held out, so how well the law predicts was not tested on runs it had not seen."
    error = f"{number(held.mean_absolute_error, held.mean_absolute_error)}{unit}"
    against = f", {held.error_over_noise:.1f} times the seed noise" if held.error_over_noise is not None else ""
    ranks = (
        f"orders the mean loss with a rank correlation of {held.spearman:.3f} and "
        if held.spearman is not None
        else ""
    )
    return (
        f"On {count(held.mixtures, 'mixture')} it was not fitted to, the law {ranks}misses the mean loss by {error} "
        f"on average{against}; {percent(held.coverage)} of these runs lie inside its {percent(found.level)} interval."
    )


def _noise(found: Findings, unit: str) -> str:
    if found.noise is None:
        return "No mixture was trained with two seeds, so the seed noise is not known."
    return (
        f"Training the same mixture with another seed moves its mean loss by {number(found.noise.sd, found.noise.sd)}"
        f"{unit} (standard deviation, {count(found.noise.degrees_of_freedom, 'degree')} of freedom)."
    )


def _unfinished(found: Findings) -> list[str]:
    total = sum(found.runs.values())
    told = []
    for status, verb in (("diverged", "diverged"), ("stopped", "stopped early")):
        names = [r for r, s in found.unfinished.items() if s == status]
        if names:
            shown = ", ".join(names[:4]) + (" and others" if len(names) > 4 else "")
            told.append(f"{len(names)} of {total} runs {verb} ({shown}): kept in the table, used in no number here.")
    return told


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "nothing"
