"""`Optimum`: the best mixture by a fit, its uncertainty and what the constraints cost; it can be saved.

It evaluates its problem but does not know how it was solved; `optimum.txt.j2` is its text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixscale.constraints import Constraints
from mixscale.errors import InputError
from mixscale.formatting import environment
from mixscale.io import OPTIMUM_FORMAT, atomic_write, check_format, json_default
from mixscale.laws.result import LawFit
from mixscale.laws.skill import Skill
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture
from mixscale.objective import BoundObjective, Objective
from mixscale.optimization.dual_values import POINT, SolvedConstraint
from mixscale.optimization.problem import Problem, build_problem

SAME = 1e-6  # tolerance for the predictions saved with an optimum, relative to them or, if they are small, to 1
AGAIN = "run `mixscale optimize` again"

Interval = tuple[float, float]
Estimate = tuple[float, float, float]  # value, and the ends of its interval


def widened(factor: float, centre, draws_SxN: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper quantile of draws, their distance from the estimate times a factor, shape (2, ...)."""
    return centre + factor * (np.quantile(draws_SxN, [(1 - level) / 2, (1 + level) / 2], axis=0) - centre)


@dataclass(frozen=True)
class Optimum:
    """The best mixture by a fit, and its uncertainty. Losses are in the targets' units; intervals hold `LEVEL`."""

    mixture: Mixture
    mean: Estimate  # weighted mean of the targets, scores negated, with the interval for a new run
    predicted: dict[str, Estimate]  # each target, likewise
    interval: dict[str, Interval]  # of each weight over the bootstrap laws, times `LawFit.widening`
    samples_SxK: np.ndarray
    """the optimum of each bootstrap law under the same constraints, with targets kept by that law; without laws by
    which no mixture keeps them"""
    convex: bool  # whether the law is convex and the problem was solved, so that this is the global optimum
    law: str
    weights: dict[str, float]  # of the targets, summing to one
    columns: tuple[str, ...]  # names of the targets with `loss/` or `score/`
    objective: Objective
    constraints: Constraints
    value: float  # the objective at the optimum
    solved: tuple[SolvedConstraint, ...]
    unconstrained: Mixture | None  # the optimum without constraints; None if there are none
    cost_of_constraints: float | None  # how much lower its objective is
    expected_regret: Interval  # mean and 0.95 quantile over the bootstrap laws of the excess over their own optimum
    skill: Skill  # how well the law predicts the objective of held-out mixtures
    n_params: float | None = None  # where a law with scale was solved
    n_tokens: float | None = None
    current: Mixture | None = None  # the mixture in use
    gain: Estimate | None = None  # how much better the optimum is
    violated_by_current: tuple[str, ...] = ()  # names of constraints
    kept: dict[str, float] = dataclasses.field(default_factory=dict)
    """for each kept target, the share of bootstrap laws by which it is kept"""
    notes: tuple[str, ...] = ()
    reference: dict[str, Mixture] = dataclasses.field(default_factory=dict)
    """for each target the mixture of its lowest value, if the objective is relative to that"""
    problem: Problem | None = None  # None in an optimum that was loaded, see `of`

    @property
    def bound_objective(self) -> BoundObjective:
        """The objective over the targets; only `problem` knows their noise and the penalty."""
        return self.objective.bind(self.columns)

    @property
    def justified(self) -> bool | None:
        """Whether to change: the gain's interval is above zero and the law passed validation; None without current."""
        return None if self.gain is None else self.gain[1] > 0 and self.warning is None

    @property
    def warning(self) -> str | None:
        """Why the law cannot choose a mixture; None if it can."""
        return self.skill.warning

    def regret(self, mixture: Mapping[str, float]) -> Estimate:
        """Excess of `mixture` over the optimum by the law, with an interval, paired over bootstrap laws.

        InputError if the fit lacks a domain of the mixture, or this optimum was loaded without its fit.
        """
        if self.problem is None:
            raise InputError("this optimum was loaded without its fit; call `optimum.of(fit)` first")
        fit, domains = self.problem.fit, self.mixture.domains
        h_2xK = np.stack([Mixture(mixture).array(domains), self.mixture.array()])
        value_2 = self.problem.values(fit.theta_TxP[None], h_2xK)[0]
        draws_Sx2 = self.problem.values(fit.theta_SxTxP, h_2xK)
        wider = fit.widening(h_2xK[1:], self.weights, LEVEL, **self.problem.scale)
        worse = float(value_2[0] - value_2[1])
        lo, hi = widened(wider, worse, draws_Sx2[:, 0] - draws_Sx2[:, 1], LEVEL)
        return worse, float(lo), float(hi)

    def of(self, fit: LawFit) -> Optimum:
        """This optimum with its problem; InputError if the fit has another law, domains, targets or predictions."""
        for kind, mine, its in (
            ("law", (self.law,), (fit.law,)),
            ("domains", self.mixture.domains, fit.domains),
            ("targets", tuple(self.predicted), fit.targets),
        ):
            if mine != tuple(its):
                raise InputError(
                    f"the optimum was solved for {kind} {', '.join(mine)}, but the fit has {', '.join(its)}; {AGAIN}"
                )
        problem = build_problem(fit, self.objective, self.constraints, self.current, self.n_params, self.n_tokens)
        if self.reference:
            best_TxK = np.stack([self.reference[t].array(fit.domains) for t in fit.targets])
            problem = dataclasses.replace(problem, best_TxK=best_TxK)
        cost_T = problem.costs(fit.theta_TxP[None], self.mixture.array()[None])[0, 0]
        now_T = problem.objective.sign_T * cost_T
        for (target, (then, *_)), now in zip(self.predicted.items(), now_T, strict=True):
            if abs(now - then) > SAME * max(1.0, abs(then)):
                raise InputError(
                    f"the optimum is from another fit: that fit predicts '{target}' {then:.6g}, this one {now:.6g}; "
                    f"{AGAIN}"
                )
        return dataclasses.replace(self, problem=problem)

    def summary(self) -> str:
        return environment(html=False).get_template("optimum.txt.j2").render(best=self, level=LEVEL, point=POINT)

    def _repr_html_(self) -> str:
        from mixscale.formatting import notebook_html

        return notebook_html("optimum", self, level=LEVEL)

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically, without the fit; InputError if `path` is a folder or lies below a file."""
        about: dict[str, Any] = {"format": OPTIMUM_FORMAT}
        about |= {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "problem"}
        about |= {"skill": self.skill.to_json(), "constraints": self.constraints.to_json()}
        with atomic_write(path) as file:
            file.write_text(json.dumps(about, indent=1, default=json_default) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Optimum:
        """The optimum saved at `path`, without its fit; InputError if it is missing or has another format."""
        try:
            about = json.loads(Path(path).read_text())
            if not isinstance(about, dict) or "mixture" not in about:
                raise InputError(f"'{path}' is not an optimum; run `mixscale optimize` to make one")
            check_format(about.pop("format", None), OPTIMUM_FORMAT, f"optimum '{path}'", AGAIN)
            for name in ("mixture", "unconstrained", "current"):
                about[name] = None if about[name] is None else Mixture(about[name])
            for name in ("mean", "gain", "expected_regret", "violated_by_current", "notes", "columns"):
                about[name] = None if about[name] is None else tuple(about[name])
            for name in ("predicted", "interval"):
                about[name] = {key: tuple(values) for key, values in about[name].items()}
            about["skill"] = Skill.from_json(about["skill"])
            about["objective"] = Objective(**about["objective"])
            about["constraints"] = Constraints.from_json(about["constraints"])
            about["solved"] = tuple(SolvedConstraint(**{**c, "domains": tuple(c["domains"])}) for c in about["solved"])
            about["reference"] = {t: Mixture(m) for t, m in about["reference"].items()}
            about["samples_SxK"] = np.array(about["samples_SxK"])
            return cls(**about)
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"'{path}' is not an optimum: {error}") from error
