"""What was found, in sentences for a person who has not seen a single number yet.

The first sentence is the answer and each one stands alone. Nothing is claimed that `Findings` does not hold; where
the runs cannot tell two mixtures apart, that is what is said.
"""

from __future__ import annotations

import math

from mixscale.report import terms_said
from mixscale.report.candidates import CANDIDATES, Estimate
from mixscale.report.comparison import Comparison
from mixscale.report.findings import Findings
from mixscale.report.held_out import ERROR_BAR, RANKS_BAR, HeldOut
from mixscale.report.targets_said import by_target
from mixscale.report.wording import count, listed, number, percent
from mixscale.run_table import Status

NAMED = 8
"""Domains that a sentence names at most."""


def sentences(found: Findings) -> list[str]:
    """All sentences, the most important first."""
    unit = f" {found.unit}" if found.unit else ""
    told = [
        _optimum(found),
        *refuted(found),
        *terms_said.unsupported(found),
        *terms_said.decision(found),
        *terms_said.expected(found),
        *terms_said.asked(found),
    ]
    told += [_comparison(name, c, found, unit) for name, c in _ordered(found)]
    told += [*by_target(found), *_untrained(found)]
    told += _prediction(found, unit)
    told += [*_held_out(found, unit), _noise(found, unit)]
    return told + terms_said.doubts(found) + _unfinished(found) + _strangers(found)


def refuted(found: Findings) -> list[str]:
    """What to do where training said otherwise than the law; a mixture that breaks the constraints may be better."""
    worse = [name for name, c in _ordered(found) if c.verdict == "worse" and not found.candidates[name].breaks]
    better = [found.phrase(name) for name in worse]
    if not better:
        return []
    return [
        f"Do not use it: trained, it is worse than {listed(better)}, so the law is wrong there. Train more mixtures "
        "(`mixscale design FIT` names those that say most) and fit again."
    ]


def _strangers(found: Findings) -> list[str]:
    return [
        f"{count(runs, 'run')} with {domain} could not be predicted, because no fitted run used it."
        for domain, runs in found.strangers.items()
    ]


def shared_seeds(found: Findings) -> str | None:
    """What it means that held-out runs have the seed of fitted ones; None where they have not."""
    held = found.held_out
    if held is None or not held.shared_seeds:
        return None
    several = len(held.shared_seeds) > 1
    seeds = f"seeds {listed(held.shared_seeds)}" if several else f"seed {held.shared_seeds[0]}"
    return (
        f"Held-out runs share {seeds} with fitted ones, and with it all that a seed decides (the initial weights, the "
        "rows of each domain). What it does to all mixtures alike is in the law too and cancels in these errors, but "
        "is part of the seed noise they are measured by, and the law's predictions are for the seeds it was fitted to."
    )


def _optimum(found: Findings) -> str:
    ordered = sorted(found.optimum.items(), key=lambda item: -item[1])
    present = [(d, w) for d, w in ordered if w >= 0.005]
    parts = [_with_interval(d, w, found) for d, w in present[:NAMED]]
    rest = present[NAMED:]
    if len(rest) == 1:
        parts.append(_with_interval(*rest[0], found))
    elif rest:
        parts.append(f"{percent(sum(w for _, w in rest))} of {len(rest)} others together")
    absent = [d for d, w in ordered if w < 0.005]
    named = listed(absent) if len(absent) <= NAMED else f"{len(absent)} domains"
    little = f"; next to nothing of {named}" if absent else ""
    brackets = f" In brackets: {percent(found.level)} intervals." if found.spreads else same_optimum(found)
    unsupported = ", which the runs do not support," if terms_said.unsupported(found) else ""
    return f"The best mixture by the {found.law} law{unsupported} is {listed(parts)}{little}.{brackets}"


def same_optimum(found: Findings) -> str:
    """How many of the law's resamples have the law's optimum, where its interval has no width."""
    if not found.bootstrap:
        return ""
    if not found.resamples_apart:
        return " All of the law's resamples have the same optimum."
    return f" {found.bootstrap - found.resamples_apart} of the law's {found.bootstrap} resamples have this optimum."


def _with_interval(domain: str, weight: float, found: Findings) -> str:
    low, high = found.optimum_interval.get(domain, (math.nan, math.nan))
    shown = found.spreads and math.isfinite(low)
    return f"{domain} {percent(weight)}" + (f" ({percent(low)} to {percent(high)})" if shown else "")


def _comparison(name: str, c: Comparison, found: Findings, unit: str) -> str:
    other = found.phrase(name)
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
    return [(n, found.comparisons[n]) for n in CANDIDATES if n in found.comparisons]


def _untrained(found: Findings) -> list[str]:
    optimum = found.candidates["optimum"].goal
    if not optimum.observed:
        earlier = "This optimum was not trained; the verification runs are of an earlier one"
        return [
            f"{earlier if found.earlier_optimum else 'The optimum was not trained'}: "
            "what is said of it is the law's prediction only."
        ]
    names = [found.phrase(n) for n, c in found.candidates.items() if not c.goal.observed and n != "unconstrained"]
    return [f"No verification run of {listed(names)} is in the table."] if names else []


def _prediction(found: Findings, unit: str) -> list[str]:
    loss: Estimate = found.candidates["optimum"].goal
    low, high = loss.of_mean
    predicted = f"{number(loss.predicted, high - low)} ({number(low, high - low)} to {number(high, high - low)})"
    if loss.mean is None:
        return [f"The law predicts a {found.objective} of {predicted}{unit} for the optimum."]
    inside = "inside" if low <= loss.mean <= high else "outside"
    error = f" ± {number(loss.standard_error, loss.standard_error)}" if loss.standard_error else ""
    what = ", standard error" if loss.standard_error else ""
    return [
        f"For the optimum the law predicted a {found.objective} of {predicted}{unit}; training gave "
        f"{number(loss.mean, loss.standard_error or high - low)}{error} (mean of {count(len(loss.observed), 'seed')}"
        f"{what}), {inside} that interval. {_new_seeds(found)}"
    ]


def _new_seeds(found: Findings) -> str:
    """How many runs lie where they were expected, and what these intervals hold."""
    inside = {}  # one run may stand for several candidates
    for goal in (candidate.goal for candidate in found.candidates.values()):
        low, high = goal.of_run
        inside |= {(seed, value): low <= value <= high for seed, value in goal.observed.items()}
    holds = "" if found.noise else ", which holds no seed noise, because that is not known"
    return (
        f"Of all verification runs {sum(inside.values())} of {len(inside)} lie inside the {percent(found.level)} "
        f"interval of a run{holds}."
    )


def _held_out(found: Findings, unit: str) -> list[str]:
    held, loss = found.held_out, found.objective
    if held is None:
        left = found.left_out
        ranks = f" with a rank correlation of {left.spearman:.3f}" if left.spearman is not None else ""
        return [
            "No mixture was held out to test the law. Predicted by fits without them, as cross-validation does, the "
            f"fitted runs are missed by {number(left.mean_absolute_error, left.mean_absolute_error)}{unit} on average"
            f"{ranks}."
        ]
    error = f"{number(held.mean_absolute_error, held.mean_absolute_error)}{unit}"
    against = f", {held.error_over_noise:.1f} times the seed noise" if held.error_over_noise is not None else ""
    ranks = (
        f"orders the {loss} with a rank correlation of {held.spearman:.3f} and " if held.spearman is not None else ""
    )
    told = (
        f"On {count(held.mixtures, 'mixture')} it was not fitted to, the law {ranks}misses the {loss} by {error} "
        f"on average{against}; {percent(held.coverage)} of these runs lie inside its {percent(found.level)} interval."
    )
    return [told, _bar(held, found, unit), *_plain(held, unit)]


def _bar(held: HeldOut, found: Findings, unit: str) -> str:
    """Whether the law is as good as it should be on held-out mixtures and, where it isn't, why that seems so."""
    bar = f"a rank correlation of {RANKS_BAR:g} or more and an error of at most {ERROR_BAR:g} times the seed noise"
    if held.ranks_met and held.error_met:
        return f"That meets the bar for held-out mixtures: {bar}."
    missed = []
    if held.ranks_met is False:
        missed.append(f"the rank correlation is {held.spearman:.3f}")
    if held.error_met is False:
        missed.append(f"the error is {held.error_over_noise:.2f} times the seed noise")
    if missed:
        reasons = [*_why_ranks(held, found, unit), *_why_error(held, unit)]
        return f"That misses the bar for held-out mixtures ({bar}): {listed(missed)}. {' '.join(reasons)}"
    unknown = "there are too few runs to rank" if held.ranks_met is None else "the seed noise is not known"
    return f"Whether that meets the bar for held-out mixtures ({bar}) cannot be said: {unknown}."


def _why_ranks(held: HeldOut, found: Findings, unit: str) -> list[str]:
    if held.ranks_met is not False:
        return []
    noise = f", {held.spread / found.noise.sd:.1f} times the seed noise" if found.noise and found.noise.sd > 0 else ""
    return [
        f"The order of only {count(held.runs, 'run')} is compared, whose losses have a standard deviation of "
        f"{number(held.spread, held.spread)}{unit}{noise}, against a mean error of "
        f"{number(held.mean_absolute_error, held.mean_absolute_error)}."
    ]


def _why_error(held: HeldOut, unit: str) -> list[str]:
    if held.error_met is not False:
        return []
    side = "high" if held.bias > 0 else "low"
    return [
        f"The predictions are too {side} by {number(abs(held.bias), held.mean_absolute_error)}{unit} on average; "
        f"without that shift the error would be {number(held.error_without_bias, held.error_without_bias)}. The law "
        f"has {count(held.parameters, 'parameter')} for each target, fitted to "
        f"{count(held.fitted_mixtures, 'mixture')}."
    ]


def _plain(held: HeldOut, unit: str) -> list[str]:
    plain = held.plain
    if plain is None:
        return []
    ranks = f"a rank correlation of {plain.spearman:.3f} and " if plain.spearman is not None else ""
    against = f", {plain.error_over_noise:.1f} times its seed noise" if plain.error_over_noise is not None else ""
    error = number(plain.mean_absolute_error, plain.mean_absolute_error)
    return [
        f"For the plain mean of the targets, each counting the same, the held-out runs give {ranks}a mean error of "
        f"{error}{unit}{against}."
    ]


def _noise(found: Findings, unit: str) -> str:
    noise = found.noise
    if noise is None:
        return "No mixture was trained with two seeds, so the seed noise is not known."
    told = (
        f"Training the same mixture with another seed moves its {found.objective} by {number(noise.sd, noise.sd)}"
        f"{unit} (standard deviation, {count(noise.degrees_of_freedom, 'degree')} of freedom)"
    )
    if noise.paired_sd is None:
        return f"{told}."
    independent = math.sqrt(2) * noise.sd
    return (
        f"{told}. The difference of two mixtures trained with one seed, which comparisons rest on, has a standard "
        f"deviation of {number(noise.paired_sd, noise.paired_sd)}; if runs of one seed had nothing in common it would "
        f"be {number(independent, noise.paired_sd)}."
    )


def _unfinished(found: Findings) -> list[str]:
    total = sum(found.runs.values())
    told = []
    for status, verb in ((Status.DIVERGED, "diverged"), (Status.STOPPED, "stopped early")):
        names = [r for r, s in found.unfinished.items() if s == status]
        if names:
            shown = ", ".join(names[:4]) + (" and others" if len(names) > 4 else "")
            told.append(f"{len(names)} of {total} runs {verb} ({shown}): kept in the table, used in no number here.")
    return told
