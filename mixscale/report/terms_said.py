"""What was asked of the law and what it answers, in sentences: goal, constraints, prices, change, regret, doubt."""

from __future__ import annotations

from collections.abc import Sequence

from mixscale.report.findings import Findings
from mixscale.report.terms import Beyond, Constraint
from mixscale.report.wording import amount, capital, count, listed, little, number, percent, ranged, signed

SHOWN = 8
"""Targets or constraints that a sentence names at most."""
POINT = 0.01
"""Change of a share that a price is told for."""
TRAINED = {
    "better": "Trained, it beats the current mixture: a change is justified.",
    "worse": "Trained, it loses to the current mixture: no change is justified.",
    "not distinguishable": "Trained, it cannot be told from the current mixture: no change is justified.",
}
"""What to do by the verdict of a comparison with the current mixture."""
LETTERS = {"n_params": "N", "n_tokens": "D"}


def goal(found: Findings) -> str:
    """What was minimized, with the shares of the targets, the largest first, where they differ."""
    parts = [found.objective]
    if found.weighted:
        ordered = sorted(found.target_weights.items(), key=lambda item: -item[1])
        shares = [f"{t.split('/', 1)[-1]} {percent(w)}" for t, w in ordered]
        parts.append(shortened(shares))
    return ", ".join(part for part in (*parts, found.terms.said) if part)


def shortened(parts: list[str]) -> str:
    return listed(parts if len(parts) <= SHOWN + 1 else [*parts[:SHOWN], f"{len(parts) - SHOWN} others"])


def decision(found: Findings) -> list[str]:
    """Whether to leave the current mixture: what training said, or else the law."""
    terms = found.terms
    if terms.gain is None:
        return []
    if verdict := _verdict(found):
        return [f"{TRAINED[verdict]}{_broken(found)}"]
    gain = f"{ranged(terms.gain)}{_unit(found)}"
    if terms.justified:
        told = f"By the law it beats the current mixture by {gain}: a change is justified."
    elif terms.unsupported:
        told = f"No change from the current mixture is justified: the gain of {gain} is of a law without support."
    elif terms.gain[2] < 0:
        told = f"The current mixture is the better one by the law: the gain would be {gain}."
    else:
        told = f"No change from the current mixture is justified: by the law the gain is {gain}, within the doubt."
    return [told + _broken(found)]


def justified(found: Findings) -> bool | None:
    """Whether to leave the current mixture: by training, where it was trained, and else by the law."""
    verdict = _verdict(found)
    return verdict == "better" if verdict else found.terms.justified


def _verdict(found: Findings) -> str | None:
    """What training said of the optimum against the current mixture; None where it could not tell."""
    trained = found.comparisons.get("current")
    return trained.verdict if trained and trained.interval else None


def _broken(found: Findings) -> str:
    current = found.candidates.get("current")
    return (
        f" But the current mixture does not keep: {'; '.join(current.breaks)}." if current and current.breaks else ""
    )


def unsupported(found: Findings) -> list[str]:
    """That nothing may be chosen by the law, where training has not said how good the choice is."""
    if found.terms.unsupported is None or found.candidates["optimum"].goal.observed:
        return []
    return [f"The runs do not support a choice: {found.terms.unsupported}."]


def expected(found: Findings) -> list[str]:
    """By how much the optimum is expected to beat what was not trained beside it."""
    if found.candidates["optimum"].goal.observed:
        return []
    parts = [
        f"{_beside(c.above)} than that of {found.phrase(name)}"
        for name, c in found.candidates.items()
        if c.above and name not in ("current", "unconstrained")
    ]
    return [f"By the law its {found.objective} is {listed(parts)}{_unit(found, ', in')}."] if parts else []


def _beside(above: Sequence[float]) -> str:
    value, low, high = above
    return f"{ranged(above)} lower" if value >= 0 else f"{ranged((-value, -high, -low))} higher"


def asked(found: Findings) -> list[str]:
    """Where it was solved for, whether it is the best there is, and what it had to keep at what price."""
    terms = found.terms
    if terms.is_global:
        kind = "It is the global optimum, because law and constraints are convex"
    elif terms.is_convex:
        kind = "It may not be the optimum, because the solver did not converge"
    else:
        kind = "It is the best of many starts, because the law is not convex"
    if terms.expected_regret is not None:
        kind += (
            f"; not knowing the true law is expected to cost {little(terms.expected_regret, terms.regret_95)}"
            f"{_unit(found)} (the regret, averaged over the law's resamples)"
        )
    return [f"{kind}.", *elsewhere(found), *_constraints(found), *_outside(found), *_kept(found)]


def elsewhere(found: Findings) -> list[str]:
    """A sentence for an optimum solved for another size or token count than was trained."""
    terms, trained = found.terms, {"n_params": found.n_params, "n_tokens": found.n_tokens}
    moved = {n: v for n, v in terms.solved_for.items() if not trained[n] or abs(v / trained[n] - 1) > 0.01}
    if not moved:
        return []
    solved = listed([f"{LETTERS[n]} = {amount(v)}" for n, v in terms.solved_for.items()])
    compared = listed([f"{LETTERS[n]} = {amount(v)}" for n, v in trained.items() if v])
    told = [f"It was solved for {solved}; mixtures are compared at {compared}, as trained."]
    return told + ([extrapolated(found)] if terms.extrapolation else [])


def extrapolated(found: Findings) -> str:
    """How far the question lies outside of the table, and what the intervals there rest on."""
    extrapolation = found.terms.extrapolation
    far = listed([_far(name, b) for name, b in extrapolation.items()])
    if all(b.left_out for b in extrapolation.values()):
        return (
            f"That lies outside of the table ({far}): intervals there widen with the distance, by how much the law "
            "missed of the table's larger runs when these were left out, and are less reliable than inside of it."
        )
    question = {("n_params",): "larger-n", ("n_tokens",): "larger-d"}.get(tuple(extrapolation), "both")
    return (
        f"That lies outside of the table ({far}), which the fit was not asked for: intervals there widen with the "
        "distance by a prior, or by what the law missed where other runs were left out, and are less reliable; "
        f"`mixscale fit --holdout {question}` judges that by leaving out the larger runs."
    )


def _far(name: str, extrapolation: Beyond) -> str:
    if extrapolation.asked > extrapolation.most:
        return f"{LETTERS[name]} is {extrapolation.asked / extrapolation.most:.2g} times its largest"
    return f"{LETTERS[name]} is {extrapolation.least / extrapolation.asked:.2g} times below its smallest"


def _constraints(found: Findings) -> list[str]:
    terms = found.terms
    if not (terms.constraints or terms.others):
        return []
    binding = sorted((c for c in terms.constraints if c.binds), key=lambda c: -abs(c.per_unit))
    idle = [c.said for c in terms.constraints if not c.binds]
    told = []
    if binding:
        told.append(f"It is held by {shortened([f'{c.said} ({price(c, found)})' for c in binding])}.")
    if idle:
        told.append(f"These do not hold it: {shortened(idle)}.")
    if terms.others:
        told.append(f"Also asked: {shortened(terms.others)}.")
    if terms.given_up is not None:
        told.append(
            f"All constraints together cost {number(terms.given_up, terms.given_up)}{_unit(found)}; the optimum "
            "without them is shown beside it."
            if terms.given_up > 5e-5
            else "Together the constraints cost nothing."
        )
    return [" ".join(told)]


def price(constraint: Constraint, found: Findings) -> str:
    """What one hundredth more of a constraint's bound does, in loss and in tokens."""
    told = f"{signed(POINT * constraint.per_unit)}{_unit(found)} for {constraint.hundredth}"
    return told + (f", worth {amount(constraint.tokens)} tokens" if constraint.tokens is not None else "")


def _outside(found: Findings) -> list[str]:
    """The compared mixtures that do not keep the constraints; the current one is told with the decision."""
    names = [found.phrase(n) for n, c in found.candidates.items() if c.breaks and n != "current"]
    if not names:
        return []
    return [f"{capital(listed(names))} {'does' if len(names) == 1 else 'do'} not keep all constraints."]


def _kept(found: Findings) -> list[str]:
    shares = [f"{target} {percent(share)}" for target, share in found.terms.kept.items()]
    if not shares:
        return []
    return [f"Share of the law's resamples in which a target to keep is kept: {shortened(shares)}."]


def doubts(found: Findings) -> list[str]:
    """What a diagnosis of the fit worries about, and what the solver noted."""
    terms, told = found.terms, []
    if terms.fit_warnings:
        several = f"{count(len(terms.fit_warnings), 'thing')}: " if len(terms.fit_warnings) > 1 else ""
        told.append(f"The diagnosis of the fit says {several}{'; '.join(terms.fit_warnings)}.")
    return told + [f"{capital(note)}." for note in terms.notes]


def _unit(found: Findings, before: str = "") -> str:
    return f"{before} {found.unit}" if found.unit else ""
