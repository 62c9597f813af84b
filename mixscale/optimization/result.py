"""`Optimum`: the best mixture by a fit, how uncertain it is and what the constraints cost; saves and compares.

It can evaluate the problem that it solves and does not know how it was solved; `summary.txt.j2` words it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from mixscale.constraints import Constraints
from mixscale.errors import InputError
from mixscale.io import atomic_write, check_format
from mixscale.laws.result import LawFit
from mixscale.laws.skill import Skill
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture
from mixscale.objective import Objective
from mixscale.optimization.dual_values import POINT, SolvedConstraint
from mixscale.optimization.problem import Problem, build_problem

FORMAT = 1
"""Number of the format that `Optimum.save` writes."""
SAME = 1e-6
"""To what a fit must repeat the predictions saved with an optimum, relative to them or, if they are small, to 1."""

Interval = tuple[float, float]
Estimate = tuple[float, float, float]
"""Value, lower and upper end of its interval."""


def widened(factor: float, centre, draws_SxN: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper quantiles of draws around the estimate, both moved away from it by a factor, shape (2, ...)."""
    return centre + factor * (np.quantile(draws_SxN, [(1 - level) / 2, (1 + level) / 2], axis=0) - centre)


@dataclass(frozen=True)
class Optimum:
    """The best mixture by a fit, and how uncertain it is. Losses are in the targets' units; intervals hold `LEVEL`.

    Attributes:
        mixture: the optimum. interval: for each domain, the range of its weight over the bootstrap laws, widened by
            what held-out runs show (`LawFit.widening`).
        mean: weighted mean of targets there, scores negated, with the interval for a new run (value, lo, hi).
        predicted: each target there (value, lo, hi).
        samples_SxK: the optimum of each bootstrap law under the same constraints, in the order of the mixture's
            domains; targets are kept by that law, and laws by which no mixture keeps them are left out.
        convex: whether the law, and so the whole problem, is convex and was solved: this is the global optimum.
        law: of the fit. weights: of the targets, summing to one.
        objective, constraints: that were solved. value: the objective at the optimum.
        solved: every constraint, with its slack and dual value.
        unconstrained: the optimum without constraints. cost_of_constraints: how much lower its objective is; both are
            None if there was no constraint.
        expected_regret: mean over the bootstrap laws, and 0.95 quantile, of how much worse the optimum is than that
            law's own optimum under the same constraints.
        current: the mixture in use. gain: how much better the optimum is. violated_by_current: the constraints that it
            violates, by name.
        kept: for each target that must not become worse, the share of bootstrap laws by which it does not.
        skill: how well the law predicts the objective for mixtures it has not seen, which decides whether one may be
            chosen by it.
        notes: what a reader should know. reference: for each target the mixture of its lowest value, if the objective
            is relative to that.
        n_params, n_tokens: where a law with scale was solved.
        problem: what was solved; None in an optimum that was loaded, see `of`.
    """

    mixture: Mixture
    mean: Estimate
    predicted: dict[str, Estimate]
    interval: dict[str, Interval]
    samples_SxK: np.ndarray
    convex: bool
    law: str
    weights: dict[str, float]
    objective: Objective
    constraints: Constraints
    value: float
    solved: tuple[SolvedConstraint, ...]
    unconstrained: Mixture | None
    cost_of_constraints: float | None
    expected_regret: Interval
    skill: Skill
    n_params: float | None = None
    n_tokens: float | None = None
    current: Mixture | None = None
    gain: Estimate | None = None
    violated_by_current: tuple[str, ...] = ()
    kept: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reference: dict[str, Mixture] = dataclasses.field(default_factory=dict)
    problem: Problem | None = None

    @property
    def justified(self) -> bool | None:
        """Whether to leave the current mixture: the gain's interval is above zero, and the law passed validation.

        None without a current mixture.
        """
        return None if self.gain is None else self.gain[1] > 0 and self.warning is None

    @property
    def warning(self) -> str | None:
        """Why no mixture may be chosen by the law, in a sentence without a full stop; None if one may."""
        return self.skill.warning

    def regret(self, mixture: Mapping[str, float]) -> Estimate:
        """How much worse `mixture` is than the optimum by the law: (difference, lo, hi), paired over bootstrap laws.

        Raises:
            InputError: the mixture has a domain that the fit lacks, or this optimum was loaded without its fit.
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
        """This optimum with its problem, for the fit that it was solved from.

        Raises:
            InputError: the fit has another law, other domains or targets, or predicts something else at the optimum.
        """
        again = "run `mixscale optimize` again"
        for kind, mine, its in (
            ("law", (self.law,), (fit.law,)),
            ("domains", self.mixture.domains, fit.domains),
            ("targets", tuple(self.predicted), fit.targets),
        ):
            if mine != tuple(its):
                raise InputError(
                    f"the optimum was solved for {kind} {', '.join(mine)}, but the fit has {', '.join(its)}; {again}"
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
                    f"the optimum was solved from another fit: there '{target}' is {then:.6g}, by this fit {now:.6g}; "
                    f"{again}"
                )
        return dataclasses.replace(self, problem=problem)

    def summary(self) -> str:
        """One page of text for a person."""
        return _template().render(best=self, level=LEVEL, point=POINT)

    def _repr_html_(self) -> str:
        from mixscale.formatting import notebook_html

        return notebook_html("optimum", self)

    def save(self, path: str | Path) -> None:
        """Write as JSON, all or nothing; the fit is not part of it.

        Raises:
            InputError: `path` is a folder, or lies below a file.
        """
        about: dict[str, Any] = {"format": FORMAT}
        about |= {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "problem"}
        about |= {"skill": self.skill.to_json(), "constraints": self.constraints.to_json()}
        with atomic_write(path) as file:
            file.write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Optimum:
        """The optimum saved at `path`, without its fit.

        Raises:
            InputError: there is no such file, it holds no optimum, or another version of mixscale saved it.
        """
        try:
            about = json.loads(Path(path).read_text())
            if not isinstance(about, dict) or "mixture" not in about:
                raise InputError(f"'{path}' is not an optimum; run `mixscale optimize` to make one")
            check_format(about.pop("format", None), FORMAT, f"optimum '{path}'", "run `mixscale optimize` again")
            for name in ("mixture", "unconstrained", "current"):
                about[name] = None if about[name] is None else Mixture(about[name])
            for name in ("mean", "gain", "expected_regret", "violated_by_current", "notes"):
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


def _plain(value: Any) -> Any:
    """What JSON can hold of a field."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(Path(__file__).with_name("summary.txt.j2").read_text())
