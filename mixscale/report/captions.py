"""What stands under each figure of the page: only what the figure shows of these runs."""

from __future__ import annotations

from mixscale.report.findings import Findings
from mixscale.report.sentences import same_optimum
from mixscale.report.wording import percent


def of(name: str, found: Findings) -> str:
    """The caption of a figure."""
    match name:
        case "optimum":
            return _optimum(found)
        case "front":
            return (
                "Mixtures of which none is better for one target without being worse for the other, by the law, under "
                "the same constraints. The optimum lies beside the front where its goal is another."
            )
        case "verification":
            return _verification(found)
        case "predicted_observed":
            return _predicted_observed(found)
        case "slices":
            return (
                f"The {found.objective} against the weight of each domain while all others share the rest equally, "
                "dashed and without a band where no run had so much of the domain. Points are the runs, which lie "
                "anywhere on the simplex, so they need not lie on the curve; near a vertex both may leave the frame."
            )
        case "interaction":
            return (
                "What ten more points of a domain do to the loss on each target, in percent, from the centre, with "
                "the other domains making room in proportion. Below zero helps. Faint italics: the interval holds "
                "zero."
            )
        case "noise":
            return _noise(found)
    return "Every mixture that was trained at the compared size, best first."


def expected(found: Findings) -> str:
    """What the interval beside a prediction is an interval of."""
    trained = any(c.goal.observed for c in found.candidates.values())
    if not trained:
        seed = " with a new seed" if found.noise else ""
        return f"In brackets: the {percent(found.level)} interval of a run{seed}."
    noise = "with the seed noise of new seeds" if found.new_seeds else "of seeds that were fitted"
    seeds = noise if found.noise else "without seed noise, which is not known"
    untrained = "; of a mixture that was not trained, of a run" if _some_untrained(found) else ""
    return f"In brackets: the {percent(found.level)} interval of the mean over the seeds trained, {seeds}{untrained}."


def _some_untrained(found: Findings) -> bool:
    return any(not c.goal.observed for c in found.candidates.values())


def _optimum(found: Findings) -> str:
    if not found.spreads:
        return f"The optimum and the baselines.{same_optimum(found)}"
    return (
        "The optimum, its interval over the law's resampled fits, and the baselines. A wide interval means that the "
        "loss is flat there: another weight would do nearly as well."
    )


def _verification(found: Findings) -> str:
    if not found.noise:
        seeds = "Both are the law's own interval, because the seed noise is not known."
    elif found.new_seeds:
        seeds = (
            "Both are for new seeds, where the law's own interval is for those that were fitted; what seeds do is "
            "known from all mixtures that were trained with several, these too."
        )
    else:
        seeds = "The law was fitted to runs with these seeds, so the thin line is its own interval."
    told = (
        "What training gave. Left: every seed, joined across mixtures; the triangle is their mean, the bar beside it "
        f"where the law expects that mean ({percent(found.level)}), the thin line where it expects a single run. "
        f"{seeds}"
    )
    if not found.comparisons:
        return told.replace(" Left: every", " Every")
    band = "; the grey band is the seed noise of a single run" if found.noise else ""
    return (
        f"{told} Right: how much higher each baseline's {found.objective} is than the optimum's, by seed, with the "
        f"interval of the mean, which rests on the noise of all of them{band}."
    )


def _predicted_observed(found: Findings) -> str:
    trained = any(c.goal.observed for c in found.candidates.values())
    told = "The law's predictions against what training gave."
    unseen = [name for name, there in (("held-out", found.held_out), ("verification", trained)) if there]
    if unseen:
        runs = f"{' and '.join(unseen)} runs were"
        told += f" {runs.capitalize()} not fitted; bars are {percent(found.level)} intervals of a run with its seed."
    if found.held_out:
        return f"{told} ρ and MAE (mean absolute error) are of the held-out runs."
    return (
        f"{told} Each fitted run is predicted by a fit without its mixture; ρ and MAE (mean absolute error) are of "
        "these."
    )


def _noise(found: Findings) -> str:
    if not any((found.noise, *found.target_noise.values())):
        return (
            "How far the law misses, against what the mixtures move the loss by. The seed noise is not known, because "
            "no mixture was trained with two seeds."
        )
    return (
        "How much the seed alone moves the loss, against what the mixtures move it by. An effect left of the seed "
        "noise cannot be seen in one run."
    )
