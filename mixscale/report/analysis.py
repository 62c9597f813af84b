"""`analyse`: decides on data what a report says. Numbers, names and flags only; the templates word them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from mixscale.laws.uncertainty import LEVEL
from mixscale.optimization import Optimum, SolvedConstraint
from mixscale.plots import Points
from mixscale.report import accuracy
from mixscale.report.accuracy import HeldOut, Score
from mixscale.report.comparison import (
    CANDIDATES,
    Candidate,
    Comparison,
    Interval,
    Verdict,
    candidates,
    compare,
    earlier_optimum,
    new_seeds,
    seed_noise,
    verdict,
)
from mixscale.report.inputs import SAME_SCALE, Inputs
from mixscale.report.statistics import Noise

FORMAT = 1
"""Of result.json."""
VISIBLE = 5e-4
"""Difference of a weight that can be seen in a table."""
ABSENT = 0.005
"""Weight below which a domain is called absent."""
REPLACED = ("current", "natural", "uniform")
"""What the optimum would replace, the first that was trained: single targets are compared with it."""
SOLUTION = (
    "value", "solved", "cost_of_constraints", "expected_regret", "gain", "kept", "convex", "predicted", "warning",
    "notes",
)  # fmt: skip
"""Attributes of the optimum that result.json repeats."""
Triple = tuple[float, float, float]
"""Value, and the ends of its interval."""


class Action(StrEnum):
    """What to do with the optimum."""

    USE = "use"
    """it is significantly better than its baseline"""
    KEEP = "keep"
    """keep the current mixture: the optimum is not significantly better"""
    REJECT = "reject"
    """verification found a mixture that keeps the constraints and is significantly better"""
    UNSUPPORTED = "unsupported"
    """the law does not predict differences between mixtures, and nothing was verified"""
    UNCLEAR = "unclear"
    """no mixture is in use, and the optimum is not significantly better than its baseline"""


@dataclass(frozen=True)
class Recommendation:
    """The answer, for its first sentence. Verification counts before the law, the current mixture before others."""

    action: Action
    trained: bool
    """whether it rests on verification runs, and not on the law's prediction"""
    baseline: str | None
    """the mixture that the optimum is compared with"""
    difference: float | None
    """objective of the baseline minus that of the optimum; positive where the optimum is better"""
    interval: Interval | None
    verdict: Verdict | None
    seeds: int
    """number of common seeds behind the difference, if trained"""
    better: list[str]
    """mixtures that verification found significantly better than the optimum"""


@dataclass(frozen=True)
class Extrapolation:
    """A size or token count of the optimum that lies outside the fitted rows."""

    value: float
    least: float
    most: float
    validated: bool
    """whether the intervals rest on left-out rows of larger values"""


@dataclass(frozen=True)
class Analysis:
    """All that is said about a folder of runs; `to_json` is what result.json holds."""

    law: str
    unit: str
    level: float
    n_params: float | None
    n_tokens: float | None
    objective: str
    """name of what mixtures are compared by, such as `weighted mean loss`; lower is better"""
    objective_settings: dict[str, Any]
    weighted: bool
    target_weights: dict[str, float]
    target_sign: dict[str, float]
    """-1 for a score, which is better when higher; else 1"""
    recommendation: Recommendation
    optimum: dict[str, float]
    """heaviest domain first"""
    optimum_interval: dict[str, Interval]
    bootstrap: int
    bootstrap_moved: int
    """number of bootstrap fits that have another optimum than the law"""
    earlier_optimum: bool
    """whether the verification runs of an optimum are all of a different one than this"""
    candidates: dict[str, Candidate]
    comparisons: dict[str, Comparison]
    """of each trained baseline with the optimum, by the objective"""
    by_target: dict[str, dict[str, Comparison]]
    """the same by each target alone"""
    target_baseline: str | None
    """baseline of the comparison of single targets; None if none was trained or there is one target"""
    runs_inside: int
    """verification runs inside the interval of a run, of `runs_verified`"""
    runs_verified: int
    held_out: HeldOut | None
    left_out: dict[str, Score]
    """of the fitted runs, each predicted by a fit without it"""
    noise: Noise | None
    """seed noise of the objective"""
    target_noise: dict[str, Noise | None]
    spread: dict[str, float | None]
    """standard deviation over the fitted mixtures, of the objective and each target"""
    runs: dict[str, int]
    """number of runs by status"""
    unfinished: dict[str, list[str]]
    """runs by status, of those that are not complete"""
    unpredictable: dict[str, int]
    """number of runs that use a domain which no fitted run used, by domain"""
    solution: Optimum
    """the solved optimum; result.json has those of its numbers that `SOLUTION` names"""
    kl_penalty: float | None
    """what the objective pays for its distance to the prior, where that has a weight"""
    is_convex: bool
    """whether the law is; an optimum of a convex law that is not global did not converge"""
    solved_for: dict[str, float]
    """n_params and n_tokens of the optimum, if the law uses them"""
    solved_elsewhere: bool
    """whether the optimum was solved for another scale than mixtures are compared at"""
    extrapolation: dict[str, Extrapolation]
    """by n_params and n_tokens"""
    fit_warnings: list[str] | None
    """what the diagnostics of the fit found; None without diagnostics"""
    points: dict[str, Points]
    """measured and predicted values of all runs, for a figure"""

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
        """Targets on which the optimum is better, worse or not significantly different, the largest first."""
        found = self.by_target[self.target_baseline] if self.target_baseline else {}
        ordered = sorted(found.items(), key=lambda item: -abs(item[1].mean))
        return {target: c for target, c in ordered if c.verdict == verdict}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; numbers that are not finite become null."""
        mine = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        mine |= {"solution": {name: getattr(self.solution, name) for name in SOLUTION}}
        del mine["points"]
        return {"format": FORMAT, **_plain(mine)}


def analyse(inputs: Inputs) -> Analysis:
    """What the runs of `inputs` show about the law and its optimum."""
    fit, best = inputs.fit, inputs.optimum
    noise = seed_noise(inputs)
    new = new_seeds(inputs, noise)
    compared = candidates(inputs, new)
    mixtures = {name: c.mixture for name, c in compared.items()}
    comparisons = compare(mixtures, {n: c.objective.observed for n, c in compared.items()}, noise["objective"])
    sign = dict(zip(inputs.targets, inputs.objective.sign_T.tolist(), strict=True))
    by_target: dict[str, dict[str, Comparison]] = {}
    for target, of in sign.items():
        values = {n: {s: of * v for s, v in c.targets[target].observed.items()} for n, c in compared.items()}
        for name, c in compare(mixtures, values, noise[target]).items():
            by_target.setdefault(name, {})[target] = c
    statuses = inputs.statuses()
    unfinished = statuses[statuses != "complete"]
    inside = {}  # one run may stand for several candidates
    for e in (c.objective for c in compared.values()):
        inside |= {(seed, value): e.of_run[0] <= value <= e.of_run[1] for seed, value in e.observed.items()}
    given = {"n_params": best.n_params, "n_tokens": best.n_tokens}
    solved_for = {name: float(v) for name, v in given.items() if v is not None and fit.uses_scale}
    order = sorted(best.mixture, key=lambda d: -best.mixture[d])
    return Analysis(
        law=fit.law,
        unit=inputs.unit,
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
        earlier_optimum=earlier_optimum(inputs),
        candidates=compared,
        comparisons=comparisons,
        by_target=by_target,
        target_baseline=_target_baseline(comparisons, by_target) if len(sign) > 1 else None,
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
        kl_penalty=float(best.problem.penalty(best.mixture.array()[None])[0]) if best.constraints.kl_weight else None,
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
        gain: of the optimum over the current mixture by the law, None without one. supported: whether a mixture may be
            chosen by the law.
    """
    trained = bool(compared["optimum"].objective.observed)
    better = [n for n, c in comparisons.items() if c.verdict == "worse" and not compared[n].violated]
    judged = [n for n, c in comparisons.items() if c.interval]

    def measured(action: Action, name: str) -> Recommendation:
        c = comparisons[name]
        seeds = len(c.differences) if c.paired else 0
        return Recommendation(action, True, name, c.mean, c.interval, c.verdict, seeds, better)

    def predicted(action: Action, name: str, value: Triple) -> Recommendation:
        ends = value[1:]
        return Recommendation(action, False, name, value[0], ends, verdict(ends), 0, better)

    if better:
        return measured(Action.REJECT, min(better, key=lambda n: comparisons[n].mean))
    if "current" in judged:
        return measured(Action.USE if comparisons["current"].verdict == "better" else Action.KEEP, "current")
    if gain is not None:
        if supported or trained:
            return predicted(Action.USE if supported and gain[1] > 0 else Action.KEEP, "current", gain)
        return predicted(Action.UNSUPPORTED, "current", gain)
    names = [n for n in CANDIDATES[1:-1] if n in compared]
    if not supported and not trained:
        return Recommendation(Action.UNSUPPORTED, False, None, None, None, None, 0, better)
    if name := next((n for n in names if n in judged), None):
        return measured(Action.USE if comparisons[name].verdict == "better" else Action.UNCLEAR, name)
    if name := next((n for n in names if compared[n].above), None):
        above = compared[name].above
        return predicted(Action.USE if above[1] > 0 else Action.UNCLEAR, name, above)
    return Recommendation(Action.UNCLEAR, False, None, None, None, None, 0, better)


def _target_baseline(
    comparisons: Mapping[str, Comparison], by_target: Mapping[str, Mapping[str, Comparison]]
) -> str | None:
    """The first baseline that is another mixture and has an interval for any target."""
    known = (n for n in REPLACED if n in by_target and comparisons[n].verdict != "same mixture")
    return next((n for n in known if any(c.interval for c in by_target[n].values())), None)


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


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
