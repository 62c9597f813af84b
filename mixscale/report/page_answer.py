"""The first part of the page: the mixture, how sure it is, what it beats, and what it had to keep."""

from __future__ import annotations

from mixscale.report.candidates import CANDIDATES
from mixscale.report.findings import Findings
from mixscale.report.markup import Markup, bar, join, table, tag, tiles
from mixscale.report.material import Material
from mixscale.report.sentences import refuted, sentences
from mixscale.report.terms_said import POINT, decision, extrapolated, goal, justified, unsupported
from mixscale.report.wording import amount, count, little, number, percent, signed

BASELINES = CANDIDATES[1:]


def head(material: Material, found: Findings) -> Markup:
    """Title, what was asked, and the answer in a sentence."""
    facts = [f"{len(material.domains)} domains", f"{sum(found.runs.values())} runs", f"{found.law} law"]
    facts += [f"N = {amount(found.n_params)} parameters"] if found.n_params else []
    facts += [f"D = {amount(found.n_tokens)} tokens"] if found.n_tokens else []
    css = "decision" if justified(found) else "decision no"
    return join(
        [
            tag("p", "mixscale report", "eyebrow"),
            tag("h1", material.title),
            tag("p", " · ".join(facts), "facts"),
            tag("p", f"Goal: {goal(found)}", "facts"),
            tag("p", sentences(found)[0], "lead"),
            *(tag("p", told, "decision no") for told in _against_it(found)),
            *(tag("p", told, css) for told in decision(found)),
        ]
    )


def _against_it(found: Findings) -> list[str]:
    """Why the mixture should not be used."""
    return [*refuted(found), *unsupported(found)]


def versus(found: Findings) -> Markup:
    """A tile for each mixture that the optimum is set against, and two for how sure the answer is."""
    shown = [_against(found, n) for n in BASELINES[:-1] if n in found.candidates]
    unit = f", in {found.unit}" if found.unit else ""
    return join([tag("p", f"The optimum's {found.objective}{unit}", "note"), tiles([*shown, *_sure(found)])])


def _sure(found: Findings) -> list[tuple[str, str, str, str]]:
    """Tiles on the doubt: what not knowing the law costs, and how far it misses runs that it did not see."""
    terms, held, shown = found.terms, found.held_out, []
    if terms.expected_regret is not None:
        local = "not converged" if terms.is_convex else "the best of many starts"
        kind = "the global optimum" if terms.is_global else local
        regret = little(terms.expected_regret, terms.regret_95)
        shown.append(("expected regret", regret, f"what not knowing the true law costs; {kind}", ""))
    score = held or found.left_out
    label = f"error on {count(held.runs, 'held-out run')}" if held else "error on runs left out"
    error = number(score.mean_absolute_error, score.mean_absolute_error)
    basis = [f"{percent(held.coverage)} in the {percent(found.level)} interval"] if held else ["by cross-validation"]
    basis += [f"rank correlation {score.spearman:.3f}"] if score.spearman is not None else []
    return [*shown, (label, error, ", ".join(basis), "")]


def _against(found: Findings, name: str) -> tuple[str, str, str, str]:
    """Label, value, what it rests on and the class of a verdict."""
    label, c = f"against {found.label(name)}", found.comparisons.get(name)
    if c is not None and c.verdict == "same mixture":
        return label, "the same mixture", "", ""
    if c is not None and c.interval:
        reach = (c.interval[1] - c.interval[0]) / 2
        value = f"{number(abs(c.mean), reach)} ± {number(reach, reach)} {_side(c.mean)}"
        basis = f"trained, {count(len(c.differences), 'seed')}" if c.paired else "trained"
        return label, value, f"{basis}: {c.verdict}", c.verdict if c.verdict in ("better", "worse") else ""
    value, low, high = found.candidates[name].above
    verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
    # The interval is of what is told: how much lower the optimum is, or how much higher.
    ends = (low, high) if value >= 0 else (-high, -low)
    told = f"by the law ({number(ends[0], high - low)} to {number(ends[1], high - low)}): {verdict}"
    if found.candidates[name].breaks:
        told += "; it does not keep the constraints"
    css = "" if verdict == "not distinguishable" else verdict
    return label, f"{number(abs(value), high - low)} {_side(value)}", told, css


def _side(baseline_minus_optimum: float) -> str:
    return "lower" if baseline_minus_optimum >= 0 else "higher"


def mixtures(found: Findings) -> Markup:
    """Every domain's weight with its interval, beside that in the mixtures it is compared with."""
    others = [n for n in BASELINES if n in found.candidates]
    rows = []
    longest = max(max(found.optimum.values()), *(high for _, high in found.optimum_interval.values()))
    for domain, weight in sorted(found.optimum.items(), key=lambda item: -item[1]):
        low, high = found.optimum_interval.get(domain, (None, None))
        interval = f"{percent(low, 1)} – {percent(high, 1)}" if low is not None else "–"
        baselines = [percent(found.candidates[n].mixture.get(domain, 0.0), 1) for n in others]
        rows.append([domain, tag("strong", percent(weight, 1)), bar(weight, low, high, longest), interval, *baselines])
    headers = ["domain", "optimum", "", f"{percent(found.level)} interval", *(found.label(n) for n in others)]
    return table(headers, rows, foot="Bars are weights; the line over a bar is the interval.")


def reading(found: Findings) -> Markup:
    """All sentences but those that stand in the head."""
    first, *rest = sentences(found)
    in_head = [*_against_it(found), *decision(found)]
    items = join(tag("li", s) for s in rest if s not in in_head)
    return Markup(f'<ul class="found">{items}</ul>')


def constraints(found: Findings) -> Markup:
    """Each constraint, whether it holds the optimum, and its price."""
    terms = found.terms
    if not (terms.constraints or terms.others):
        return Markup("")
    priced = any(c.tokens is not None for c in terms.constraints)
    texts = any(c.unique_token is not None for c in terms.constraints)
    rows = []
    for c in sorted(terms.constraints, key=lambda c: -abs(c.per_unit)):
        binds = tag("strong", "holds it") if c.binds else "has room"
        row = [c.said, binds, signed(c.per_unit), signed(POINT * c.per_unit)]
        row += [amount(c.tokens) if c.tokens is not None else "–"] if priced else []
        row += [signed(1e9 * c.unique_token) if c.unique_token is not None else "–"] if texts else []
        rows.append(row)
    rows += [[told, "asked", "–", "–", *(["–"] * (priced + texts))] for told in terms.others]
    headers = ["constraint", "the optimum", "price a unit", "price of 0.01"]
    headers += [*(["worth in tokens"] if priced else []), *(["a billion unique tokens"] if texts else [])]
    broken = [
        tag("p", f"Not kept by {found.phrase(n)}: {'; '.join(c.breaks)}.", "note")
        for n, c in found.candidates.items()
        if c.breaks
    ]
    return join([table(headers, rows, foot=_prices_mean(found, priced), words=2, css="words"), *broken])


def _prices_mean(found: Findings, priced: bool) -> str:
    unit = f" in {found.unit}" if found.unit else ""
    told = (
        f"A price is how the goal changes{unit} when the bound grows: below zero, a larger bound helps. A unit is all "
        "of the weight, one nat of divergence, or one of a target to keep; of domains kept in proportion it is what "
        "weight moved between them would gain."
    )
    if priced:
        told += " Worth in tokens: how many more would help as much as a hundredth of a unit."
    else:
        told += " Tokens are not told, because the law does not know what they are worth."
    if found.terms.given_up is not None:
        told += f" All together cost {number(found.terms.given_up, found.terms.given_up)}."
    return told


def predicted_there(material: Material, found: Findings) -> Markup:
    """The law's predictions at the size and tokens asked for, where these were not trained."""
    terms = found.terms
    trained = {"n_params": found.n_params, "n_tokens": found.n_tokens}
    if all(trained[n] and abs(v / trained[n] - 1) <= 0.01 for n, v in terms.solved_for.items()):
        return Markup("")
    rows = []
    for target, estimate in terms.predicted.items():
        value, low, high = estimate
        row = [target, number(value, high - low), f"{number(low, high - low)} – {number(high, high - low)}"]
        kept = [percent(terms.kept[target]) if target in terms.kept else "–"] if terms.kept else []
        rows.append([*row, *kept])
    at = ", ".join(f"{'N' if n == 'n_params' else 'D'} = {amount(v)}" for n, v in terms.solved_for.items())
    headers = [f"target at {at}", "predicted", f"{percent(found.level)} of new runs"]
    headers += ["kept in resamples"] if terms.kept else []
    note = tag("p", extrapolated(found), "note warn") if terms.extrapolation else Markup("")
    return join([table(headers, rows), note])
