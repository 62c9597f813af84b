"""The HTML page: the answer first, then the evidence, then how it was made.

One file that needs nothing else: style and figures are inside, there is no script, and it asks the network for
nothing. Each section is a function that gives nothing where its data is absent.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from mixscale.report import captions
from mixscale.report import page_answer as answer
from mixscale.report.candidates import Estimate
from mixscale.report.comparison import Comparison
from mixscale.report.findings import Findings
from mixscale.report.frames import framed
from mixscale.report.markup import Markup, details, escape, join, picture, section, table, tag
from mixscale.report.material import Material
from mixscale.report.page_domains import domains
from mixscale.report.sentences import shared_seeds
from mixscale.report.stylesheet import CSS
from mixscale.report.targets_said import atomic_write, lowered
from mixscale.report.wording import capital, count, number, percent

RANKING = (
    "error: mean absolute error on rows left out as the question asks, over that of always saying the median; "
    "worse_by and standard_error: paired difference to the best law, by mixture; rho: mean rank "
    "correlation over targets."
)


def page(material: Material, found: Findings, figures: dict[str, Path]) -> str:
    """The whole page; `figures` gives the PNG of each figure that could be drawn."""
    shown = {name: picture(png, captions.of(name, found)) for name, png in figures.items()}
    trained = "What training gave" if found.comparisons else "What the law expects"
    body = join(
        [
            answer.head(material, found),
            answer.mixtures(found),
            answer.versus(found),
            section("In words", answer.reading(found)),
            section("The mixture in a picture", shown["optimum"]),
            section("What it had to keep", answer.constraints(found)),
            section("One target against another", shown.get("front", Markup(""))),
            section("Predicted for the size asked for", answer.predicted_there(material, found)),
            section(trained, _verification(found), shown.get("verification", Markup(""))),
            section("Each target", _targets(material, found)),
            section("How well the law predicts", shown["predicted_observed"], _held_out(material, found)),
            section("What the domains do", shown["slices"], shown["interaction"]),
            section("Seed noise, error and spread", shown["noise"]),
            section("The law", *_law(material)),
            section("The domains", domains(material)),
            section("The runs", shown["swarm"], _runs(material)),
            section("How it was made", *_origin(material)),
            tag("footer", "Made by mixscale. The numbers are in result.json, the figures in figures/ as PNG and PDF."),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(material.title)} – mixture report</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _verification(found: Findings) -> Markup:
    trained = {n: c.goal for n, c in found.candidates.items() if c.goal.observed}
    seeds = sorted({s for e in trained.values() for s in e.observed}, key=lambda s: (len(s), s))
    doubt = max((e.standard_error or 0 for e in trained.values()), default=0) or 1e-3
    rows = []
    for name, candidate in found.candidates.items():
        loss = candidate.goal
        values = [number(loss.observed[s], doubt) if s in loss.observed else "–" for s in seeds]
        mean = [_with_error(loss, doubt)] if seeds else []
        rows.append([found.label(name), _predicted(loss), *mean, *_difference(found, name), *values])
    # Seeds come last: with many of them it is they that a narrow page scrolls to.
    headers = [found.objective, "predicted", *(["mean ± s.e."] if seeds else [])]
    headers += ["minus optimum", "optimum is"] if found.comparisons else []
    headers += [f"seed {s}" for s in seeds]
    foot = f"In {found.unit}. " if found.unit else ""
    foot += captions.expected(found) + " "
    if found.comparisons:
        foot += _basis(found)
    return table(headers, rows, foot=foot.strip())


def _basis(found: Findings) -> str:
    """What the intervals of the differences rest on."""
    half = f"± is half the {percent(found.level)} interval of a difference"
    paired = [c for c in found.comparisons.values() if c.paired and c.interval]
    if not paired:
        return f"{half}, from the seed noise: no two seeds are common to the mixtures."
    degrees = count(paired[0].degrees_of_freedom, "degree")
    return (
        f"Differences are the means over common seeds; {half}. Its variance is what neither the mixture nor the seed "
        f"explains, pooled over all mixtures of this table ({degrees} of freedom) and taken to be the same for each."
    )


def _difference(found: Findings, name: str) -> list[object]:
    if not found.comparisons:
        return []
    c: Comparison | None = found.comparisons.get(name)
    if c is None:
        return ["", ""]
    if c.interval is None:
        return [number(c.mean), tag("span", c.verdict, c.verdict)]
    reach = (c.interval[1] - c.interval[0]) / 2
    css = c.verdict if c.verdict in ("better", "worse") else ""
    return [f"{number(c.mean, reach)} ± {number(reach, reach)}", tag("span", c.verdict, css)]


def _targets(material: Material, found: Findings) -> Markup:
    if len(material.targets) < 2:
        return Markup("")
    rows, against = [], atomic_write(found)
    for target, name in zip(material.targets, material.target_names, strict=True):
        best = found.candidates["optimum"].targets[target]
        others = [c.targets[target] for n, c in found.candidates.items() if n != "optimum"]
        weight = percent(found.target_weights[target])
        noise = found.target_noise[target]
        observed = [_observed(e) for e in (best, *others)]
        compared = [_against(found, against, target)] if against else []
        said = number(noise.sd, noise.sd) if noise else "–"
        rows.append([name, weight, _predicted(best), *observed, *compared, said])
    headers = ["target", "counts for", "predicted", *(found.label(n) for n in found.candidates)]
    headers += [f"optimum minus {found.label(against)}", "seed noise"] if against else ["seed noise"]
    foot = "Means over seeds of what training gave; in italics the law's prediction, where nothing was trained."
    foot += f" ± is half the {percent(found.level)} interval." if against else ""
    return table(headers, rows, foot=foot)


def _against(found: Findings, name: str, target: str) -> Markup:
    c = found.by_target[name][target]
    return tag("span", lowered(c, found.target_sign[target]), c.verdict if c.verdict in ("better", "worse") else "")


def _held_out(material: Material, found: Findings) -> Markup:
    held = found.held_out
    if held is None:
        return tag("p", "No mixture was held out.", "note")
    rows = [_score(found.objective, held.spearman, held.mean_absolute_error, held.coverage)]
    if held.plain:
        plain = found.objective.replace("weighted", "plain")
        rows.append(_score(plain, held.plain.spearman, held.plain.mean_absolute_error, None))
    for target, name in zip(material.targets, material.target_names, strict=True):
        v = held.targets[target]
        rows.append(_score(name, v["spearman"], v["mean_absolute_error"], v["coverage"]))
    inside = f"inside the {percent(found.level)} interval"
    headers = [f"{held.runs} held-out runs", "rank correlation ρ", "mean absolute error", inside]
    return table(headers, rows, foot=shared_seeds(found) or "")


def _score(name: str, rho: float | None, error: float, coverage: float | None) -> list[str]:
    ranks = f"{rho:.3f}" if rho is not None else "–"
    return [name, ranks, number(error, error), percent(coverage) if coverage is not None else "–"]


def _law(material: Material) -> list[Markup]:
    fit = material.fit
    said = [tag("b", fit.law), escape(f": {fit.family.source.replace('`', '')}. Fitted to {fit.n_runs} runs.")]
    reason = f"Chosen because {fit.reason}." if len(fit.cross_validation) > 1 else f"{capital(fit.reason)}."
    parts = [tag("p", join(said, "")), tag("p", reason)]
    parts += [
        tag("h3", "Ranking of the families, by cross-validation on rows left out as the question asks"),
        framed(fit.cross_validation),
    ]
    parts.append(tag("p", RANKING, "note"))
    parts += [tag("p", f"Note: {note}", "note") for note in fit.notes]
    params = pd.DataFrame(fit.params).rename_axis("parameter").reset_index()
    return [*parts, details("Parameters of each target", framed(params, css="tall"))]


def _runs(material: Material) -> Markup:
    """Every run: verification first, then held out, then fitted; the best first in each, what did not end last."""
    final = material.table.final().frame
    goal = final["run"].map(material.measured.set_index("run")["goal"])
    final = final.assign(**{material.aim.name: goal})
    role = final["role"].fillna("fit").replace("", "fit") if "role" in final else pd.Series("fit", index=final.index)
    rank = role.map({"verify": 0, "held_out": 1, "fit": 2}).fillna(3)
    final = final.assign(rank=rank).sort_values(["rank", material.aim.name], kind="stable", na_position="last")
    mixtures = [f"mix/{d}" for d in material.domains]
    first = [c for c in ("run", "role", "origin", "status", "size", "seed", "n_params", "n_tokens") if c in final]
    extra = [c for c in ("seconds",) if c in final]
    shown = final[[*first, material.aim.name, *mixtures, *material.targets, *extra]].copy()
    for column in mixtures:
        shown[column] = [percent(w, 1).removesuffix("%") for w in shown[column]]
    names = {c: c.removeprefix("mix/") + " %" if c in mixtures else c for c in shown}
    words = sum(c in ("run", "role", "origin", "status", "size") for c in shown)
    several = role.nunique() > 1
    order = "Verification runs first, then held-out, then fitted ones; of each the" if several else "The"
    foot = f"{order} lowest {material.aim.name} first, and last what did not complete."
    return framed(shown.rename(columns=names), css="tall", words=words, foot=foot)


def _origin(material: Material) -> list[Markup]:
    parts = [tag("p", note, "note") for note in material.table.notes]
    if material.experiment:
        echo = json.dumps(material.experiment, indent=2, ensure_ascii=False)
        parts.append(details("The whole config", Markup(f"<pre>{escape(echo)}</pre>")))
    return parts


def _with_error(loss: Estimate, doubt: float) -> str:
    if loss.mean is None:
        return "–"
    error = f" ± {number(loss.standard_error, doubt)}" if loss.standard_error else ""
    return number(loss.mean, doubt) + error


def _predicted(loss: Estimate) -> Markup:
    low, high = loss.of_mean
    value, ends = number(loss.predicted, high - low), f"{number(low, high - low)} – {number(high, high - low)}"
    return join([escape(value), tag("span", f"({ends})", "range")], " ")


def _observed(loss: Estimate) -> object:
    return tag("i", number(loss.predicted)) if loss.mean is None else number(loss.mean)
