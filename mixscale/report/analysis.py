"""`analyse`: the content of a report as numbers, names and flags; the templates are its text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from mixscale.io import json_default
from mixscale.laws.uncertainty import LEVEL
from mixscale.optimization import Optimum, SolvedConstraint
from mixscale.plots import Points
from mixscale.report import accuracy, comparison
from mixscale.report.accuracy import HeldOut, Score
from mixscale.report.comparison import Candidate, Comparison, Interval, Verdict
from mixscale.report.inputs import SAME_SCALE, Inputs
from mixscale.report.statistics import Noise

FORMAT = 1  # of result.json
VISIBLE = 5e-4  # smallest difference of weights that a table shows
REPLACED = ("current", "natural", "uniform")  # single targets are compared with the first that was trained
SOLUTION = (
    "value", "solved", "cost_of_constraints", "expected_regret", "gain", "kept", "convex", "predicted", "warning",
    "notes",
)  # fmt: skip
"""Attributes of the optimum that result.json repeats."""
Triple = tuple[float, float, float]  # value, and the ends of its interval


class Action(StrEnum):
    """What to do with the optimum."""

    USE = "use"  # it is significantly better than its baseline
    KEEP = "keep"  # keep the current mixture: the optimum is not significantly better
    REJECT = "reject"  # verification found a mixture that keeps the constraints and is significantly better
    UNSUPPORTED = "unsupported"  # the law does not predict differences between mixtures, and nothing was verified
    UNCLEAR = "unclear"  # no mixture is in use, and the optimum is not significantly better than its baseline


@dataclass(frozen=True)
class Recommendation:
    """The first sentence. Verification counts before the law, the current mixture before others."""

    action: Action
    trained: bool  # whether it is based on verification runs, not on predictions
    baseline: str | None  # the mixture that the optimum is compared with
    difference: float | None  # objective of the baseline minus the optimum's: positive if the optimum is better
    interval: Interval | None
    verdict: Verdict | None
    seeds: int  # number of common seeds behind the difference, if trained
    better: list[str]  # mixtures that verification found significantly better than the optimum


@dataclass(frozen=True)
class Extrapolation:
    """A size or token count of the optimum outside the fitted rows."""

    value: float
    least: float
    most: float
    validated: bool  # whether left-out rows of larger values calibrate the intervals


@dataclass(frozen=True)
class Analysis:
    """The content of a report; `to_json` is result.json."""

    law: str
    unit: str
    level: float
    n_params: float | None
    n_tokens: float | None
    objective: str  # its name, such as `weighted mean loss`; lower is better
    objective_settings: dict[str, Any]
    weighted: bool
    target_weights: dict[str, float]
    target_sign: dict[str, float]  # -1 for a score, which is better when higher; else 1
    recommendation: Recommendation
    optimum: dict[str, float]  # heaviest domain first
    optimum_interval: dict[str, Interval]
    bootstrap: int
    bootstrap_moved: int  # number of bootstrap fits with a different optimum
    earlier_optimum: bool  # whether verification trained an optimum, but not this one
    candidates: dict[str, Candidate]
    comparisons: dict[str, Comparison]  # of each trained baseline with the optimum, by the objective
    by_target: dict[str, dict[str, Comparison]]  # the same by each target alone
    target_baseline: str | None  # for single targets; None if none was trained or there is one target
    runs_inside: int  # verification runs inside the interval of a run, of `runs_verified`
    runs_verified: int
    held_out: HeldOut | None
    left_out: dict[str, Score]  # of the fitted runs, each predicted by a fit without it
    noise: Noise | None  # seed noise of the objective
    target_noise: dict[str, Noise | None]
    spread: dict[str, float | None]  # standard deviation over the fitted mixtures, of the objective and each target
    runs: dict[str, int]  # number of runs by status
    unfinished: dict[str, list[str]]  # runs that are not complete, by status
    unpredictable: dict[str, int]  # for each domain that no fitted run used, the number of runs that use it
    solution: Optimum  # result.json has those of its attributes that `SOLUTION` names
    kl_penalty: float | None  # penalty on the divergence from the prior, if it has a weight
    is_convex: bool  # whether the law is; if so, an optimum that is not global did not converge
    solved_for: dict[str, float]  # n_params and n_tokens of the optimum, if the law uses them
    solved_elsewhere: bool  # whether the optimum was solved for another scale than the compared one
    extrapolation: dict[str, Extrapolation]  # by n_params and n_tokens
    fit_warnings: list[str] | None  # of the diagnostics of the fit; None without diagnostics
    points: dict[str, Points]  # measured and predicted values of all runs, for a figure

    @property
    def trained(self) -> bool:
        """Whether verification trained the optimum."""
        return bool(self.candidates["optimum"].objective.observed)

    @property
    def weights_vary(self) -> bool:
        """Whether the optimum differs visibly between bootstrap fits."""
        return any(high - low > VISIBLE for low, high in self.optimum_interval.values())

    @property
    def new_seeds(self) -> bool:
        """Whether any compared mixture was trained with seeds that the law was not fitted to."""
        return any(c.objective.observed and not c.objective.known for c in self.candidates.values())

    @property
    def mixtures(self) -> dict[str, dict[str, float]]:
        return {name: c.mixture for name, c in self.candidates.items()}

    @property
    def estimates(self) -> dict[str, Any]:
        return {name: c.objective for name, c in self.candidates.items()}

    @property
    def bounds(self) -> list[SolvedConstraint]:
        """Constraints with a dual value, the most expensive first."""
        return sorted((c for c in self.solution.solved if c.dual_value is not None), key=lambda c: -abs(c.dual_value))

    @property
    def required(self) -> list[str]:
        """Descriptions of constraints without a dual value."""
        return [c.description for c in self.solution.solved if c.dual_value is None]

    def targets_by_verdict(self, verdict: str) -> dict[str, Comparison]:
        """Targets with this verdict on the optimum, the largest difference first."""
        found = self.by_target[self.target_baseline] if self.target_baseline else {}
        ordered = sorted(found.items(), key=lambda item: -abs(item[1].mean))
        return {target: c for target, c in ordered if c.verdict == verdict}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a number that is not finite becomes null."""
        mine = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        mine |= {"solution": {name: getattr(self.solution, name) for name in SOLUTION}}
        del mine["points"]
        return json.loads(json.dumps({"format": FORMAT, **mine}, default=json_default), parse_constant=lambda _: None)


def analyse(inputs: Inputs) -> Analysis:
    fit, best = inputs.fit, inputs.optimum
    noise = comparison.seed_noise(inputs)
    new = comparison.new_seeds(inputs, noise)
    compared = comparison.candidates(inputs, new)
    values = {name: c.objective.observed for name, c in compared.items()}
    comparisons = comparison.compare(compared, values, noise["objective"])
    sign = dict(zip(inputs.targets, inputs.objective.sign_T.tolist(), strict=True))
    by_target: dict[str, dict[str, Comparison]] = {}
    for target, of in sign.items():
        values = {n: {s: of * v for s, v in c.targets[target].observed.items()} for n, c in compared.items()}
        for name, c in comparison.compare(compared, values, noise[target]).items():
            by_target.setdefault(name, {})[target] = c
    statuses = inputs.statuses()
    unfinished = statuses[statuses != "complete"]
    inside = {}  # by run, since several candidates may share it
    for e in (c.objective for c in compared.values()):
        inside |= {(seed, value): e.of_run[0] <= value <= e.of_run[1] for seed, value in e.observed.items()}
    replaced = [name for name in REPLACED if name in by_target and len(sign) > 1]
    different = [name for name in replaced if comparisons[name].verdict != "same mixture"]
    given = {"n_params": best.n_params, "n_tokens": best.n_tokens}
    solved_for = {name: float(v) for name, v in given.items() if v is not None and fit.uses_scale}
    order = sorted(best.mixture, key=lambda d: -best.mixture[d])
    penalty_1 = inputs.objective.penalty(best.problem.divergence(best.mixture.array()[None]))
    return Analysis(
        law=fit.law,
        unit="nats per token" if all(t.startswith("loss/") for t in inputs.targets) else "",  # of the objective
        level=LEVEL,
        n_params=inputs.scale.get("n_params"),
        n_tokens=inputs.scale.get("n_tokens"),
        objective=inputs.objective.name,
        objective_settings=dataclasses.asdict(best.objective),
        weighted=inputs.objective.weighted,
        target_weights=dict(zip(inputs.targets, inputs.objective.weight_T.tolist(), strict=True)),
        target_sign=sign,
        recommendation=recommend(compared, comparisons, best.gain, best.warning is None),
        optimum={d: float(best.mixture[d]) for d in order},
        optimum_interval={d: (float(low), float(high)) for d, (low, high) in best.interval.items()},
        bootstrap=len(best.samples_SxK),
        bootstrap_moved=int((np.abs(best.samples_SxK - best.mixture.array()).max(axis=1) > VISIBLE).sum()),
        earlier_optimum=comparison.earlier_optimum(inputs),
        candidates=compared,
        comparisons=comparisons,
        by_target=by_target,
        target_baseline=next((n for n in different if any(c.interval for c in by_target[n].values())), None),
        runs_inside=sum(inside.values()),
        runs_verified=len(inside),
        held_out=accuracy.held_out(inputs, noise, new),
        left_out=accuracy.left_out(inputs, noise),
        noise=noise["objective"],
        target_noise={t: noise[t] for t in inputs.targets},
        spread={c: accuracy.spread(inputs, c) for c in inputs.columns},
        runs={str(s): int(n) for s, n in statuses.value_counts().items()},
        unfinished={str(s): list(rows.index) for s, rows in unfinished.groupby(unfinished)},
        unpredictable=dict(inputs.unpredictable),
        solution=best,
        kl_penalty=float(penalty_1[0]) if best.constraints.kl_weight else None,
        is_convex=fit.family.convex,
        solved_for=solved_for,
        solved_elsewhere=any(
            not (trained := inputs.scale.get(name)) or abs(v / trained - 1) > SAME_SCALE
            for name, v in solved_for.items()
        ),
        extrapolation=_extrapolation(inputs, solved_for),
        fit_warnings=None if inputs.fit_warnings is None else list(inputs.fit_warnings),
        points=accuracy.points(inputs, new),
    )


def recommend(
    compared: Mapping[str, Candidate], comparisons: Mapping[str, Comparison], gain: Triple | None, supported: bool
) -> Recommendation:
    """What to do.

    Args:
        gain: of the optimum over the current mixture by the law. supported: whether the law can choose a mixture.
    """
    trained = bool(compared["optimum"].objective.observed)
    better = [n for n, c in comparisons.items() if c.verdict == "worse" and not compared[n].violated]
    judged = [n for n, c in comparisons.items() if c.interval]

    def measured(name: str, otherwise: Action) -> Recommendation:
        c = comparisons[name]
        action = Action.USE if c.verdict == "better" else otherwise
        seeds = len(c.differences) if c.paired else 0
        return Recommendation(action, True, name, c.mean, c.interval, c.verdict, seeds, better)

    def predicted(name: str, value: Triple, reliable: bool, otherwise: Action) -> Recommendation:
        action = Action.USE if reliable and value[1] > 0 else otherwise
        verdict = comparison.verdict(value[1:])
        return Recommendation(action, False, name, value[0], value[1:], verdict, 0, better)

    if better:
        return measured(min(better, key=lambda n: comparisons[n].mean), Action.REJECT)
    if "current" in judged:
        return measured("current", Action.KEEP)
    unsupported = not (supported or trained)
    if gain is not None:
        return predicted("current", gain, supported, Action.UNSUPPORTED if unsupported else Action.KEEP)
    names = [n for n in comparison.CANDIDATES[1:-1] if n in compared and not unsupported]
    if name := next((n for n in names if n in judged), None):
        return measured(name, Action.UNCLEAR)
    if name := next((n for n in names if compared[n].above), None):
        return predicted(name, compared[name].above, True, Action.UNCLEAR)
    action = Action.UNSUPPORTED if unsupported else Action.UNCLEAR
    return Recommendation(action, False, None, None, None, None, 0, better)


def _extrapolation(inputs: Inputs, solved_for: Mapping[str, float]) -> dict[str, Extrapolation]:
    fit, found = inputs.fit, {}
    tested_R = np.isfinite(fit.oof_pred_TxR).all(axis=0)
    points, scale = fit.dataset.points, fit.dataset.scale
    columns = {"n_params": (points.n_R, scale.n), "n_tokens": (points.d_R, scale.d)}
    for name, value in solved_for.items():
        scaled_R, unit = columns[name]
        least, most = float(scaled_R.min()) * unit, float(scaled_R.max()) * unit
        if not least / (1 + SAME_SCALE) <= value <= most * (1 + SAME_SCALE):
            validated = bool(tested_R.any() and scaled_R[tested_R].min() > scaled_R.min())
            found[name] = Extrapolation(value, least, most, validated)
    return found
