"""`Optimum`: the best mixture by a fit, how sure that is and what the constraints cost; saves and compares.

It knows how to ask a question for values and nothing of how the optimum was found; `words` prints it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixscale.constraints import Constraints, from_json, to_json
from mixscale.errors import InputError
from mixscale.io import atomic_write
from mixscale.laws.result import LawFit
from mixscale.laws.skill import Skill
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture
from mixscale.objective import Objective
from mixscale.optimization import words
from mixscale.optimization.prices import Price
from mixscale.optimization.question import Question, ask

SAME = 1e-6
"""To what a fit must repeat the predictions saved with an optimum, relative to them or, where they are small, to 1."""

Interval = tuple[float, float]
Estimate = tuple[float, float, float]


def widened(factor: float, centre, draws_SxN: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper quantiles of draws around the estimate, both moved away from it by a factor, shape (2, ...)."""
    return centre + factor * (np.quantile(draws_SxN, [(1 - level) / 2, (1 + level) / 2], axis=0) - centre)


@dataclass(frozen=True)
class Optimum:
    """The best mixture by a fit, and how sure that is. Losses are in the targets' units; intervals hold `LEVEL`.

    Attributes:
        mixture: the optimum. interval: for each domain, where its weight lies over the resamples, widened by what
            left-out runs show (`LawFit.widening`).
        objective: weighted mean of targets there, scores negated, with the interval for a new run (value, lo, hi).
        predicted: each target there (value, lo, hi).
        draws_SxK: the optimum of each resample under the same constraints, in the order of the mixture's domains; a
            target is kept by the resample's own law, and resamples by which no mixture keeps it are left out.
        convex: whether the law, and so the whole problem, is convex and was solved: this is the global optimum.
        weights: of the targets, summing to one. lower, upper: bounds of every domain that were asked for.
        n_params, n_tokens: where a law with scale was solved.
        goal: what was minimized. value: the goal at the optimum.
        prices: what each constraint costs. unconstrained: the optimum without constraints. given_up: how much lower
            its goal is; both are None where there was no constraint.
        expected_regret: mean over the resamples, and 0.95 quantile, of how much worse the optimum is than the
            resample's own optimum under the same constraints.
        current: the mixture in use. gain: how much better the optimum is. current_breaks: what it does not keep.
        kept: for each target that must not become worse, the share of resamples by which it does not.
        skill: what the law foretells of the goal at mixtures it has not seen, which decides whether one may be chosen
            by it; None in files of earlier versions.
        notes: what a reader should know. constraints: that were asked for. counted_from: for each target the mixture
            where it is best, where the goal counts from that.
        question: what was solved; None in an optimum that was loaded, see `of`.
    """

    mixture: Mixture
    objective: Estimate
    predicted: dict[str, Estimate]
    interval: dict[str, Interval]
    draws_SxK: np.ndarray
    convex: bool
    law: str
    weights: dict[str, float]
    lower: dict[str, float]
    upper: dict[str, float]
    n_params: float | None = None
    n_tokens: float | None = None
    goal: Objective = Objective()
    value: float | None = None
    prices: tuple[Price, ...] = ()
    unconstrained: Mixture | None = None
    given_up: float | None = None
    expected_regret: tuple[float, float] | None = None
    current: Mixture | None = None
    gain: Estimate | None = None
    current_breaks: tuple[str, ...] = ()
    kept: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skill: Skill | None = None
    constraints: Constraints = Constraints()
    counted_from: dict[str, Mixture] = dataclasses.field(default_factory=dict)
    question: Question | None = None

    @property
    def justified(self) -> bool | None:
        """Whether leaving the current mixture is: the gain's interval lies above zero, and the law is to be believed.

        None without a current one.
        """
        return None if self.gain is None else self.gain[1] > 0 and self.warning is None

    @property
    def warning(self) -> str | None:
        """Why nothing may be chosen by the law, in a sentence without an end; None where something may."""
        return None if self.skill is None else self.skill.warning

    def regret(self, mixture: Mapping[str, float]) -> Estimate:
        """How much worse `mixture` is than the optimum by the law: (difference, lo, hi), paired over the resamples.

        Raises:
            InputError: the mixture has a domain that the fit has not, or this optimum was loaded without its fit.
        """
        if self.question is None:
            raise InputError("an optimum that was loaded has no fit; give it with `of(fit)` to ask for a regret")
        fit, domains = self.question.fit, self.mixture.domains
        h_2xK = np.stack([Mixture(mixture).array(domains), self.mixture.array()])
        value_2 = self.question.values(fit.theta_TxP[None], h_2xK)[0]
        draws_Sx2 = self.question.values(fit.theta_SxTxP, h_2xK)
        wider = fit.widening(h_2xK[1:], self.weights, LEVEL, **self.question.at)
        worse = float(value_2[0] - value_2[1])
        lo, hi = widened(wider, worse, draws_Sx2[:, 0] - draws_Sx2[:, 1], LEVEL)
        return worse, float(lo), float(hi)

    def of(self, fit: LawFit) -> Optimum:
        """This optimum with the question that it answers, asked of the fit that it was solved from.

        Raises:
            InputError: the fit has another law, other domains or targets, or predicts something else at the optimum.
        """
        if fit.law != self.law:
            raise InputError(
                f"the optimum was solved from law '{self.law}', but the fit is law '{fit.law}'; "
                "run `mixscale optimize` again"
            )
        for kind, mine, its in (
            ("domains", self.mixture.domains, fit.domains),
            ("targets", tuple(self.predicted), fit.targets),
        ):
            if mine != tuple(its):
                raise InputError(
                    f"the optimum was solved for {kind} {', '.join(mine)}, but the fit has {', '.join(its)}; "
                    "run `mixscale optimize` again"
                )
        if self.goal.relative_to == "best" and not self.counted_from:
            raise InputError(
                "the optimum was saved by an earlier version, without what its goal counts from; "
                "run `mixscale optimize` again"
            )
        scale = (self.n_params, self.n_tokens)
        asked = ask(fit, None, None, None, *scale, self.goal, self.constraints, self.current)
        self._check_predicted(asked)
        if self.counted_from:
            best_TxK = np.stack([self.counted_from[t].array(fit.domains) for t in fit.targets])
            asked = dataclasses.replace(asked, best_TxK=best_TxK)
        return dataclasses.replace(self, question=asked)

    def _check_predicted(self, asked: Question) -> None:
        fit = asked.fit
        now_T = fit.signs_T * asked.costs(fit.theta_TxP[None], self.mixture.array()[None])[0, 0]
        for (target, (then, *_)), now in zip(self.predicted.items(), now_T, strict=True):
            if abs(now - then) > SAME * max(1.0, abs(then)):
                raise InputError(
                    f"the optimum was solved from another fit: there '{target}' is {then:.6g}, by this fit {now:.6g}; "
                    "run `mixscale optimize` again"
                )

    def summary(self) -> str:
        """A page that a person can read."""
        return words.summary(self)

    def _repr_html_(self) -> str:
        from mixscale import notebook

        return notebook.of_optimum(self)

    def save(self, path: str | Path) -> None:
        """Write as JSON, all or nothing; the fit is not part of it.

        Raises:
            InputError: `path` is a folder, or lies below a file.
        """
        about = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del about["question"]
        about["goal"] = dataclasses.asdict(self.goal)
        about["skill"] = None if self.skill is None else self.skill.to_json()
        about["prices"] = [dataclasses.asdict(p) for p in self.prices]
        about["draws"] = about.pop("draws_SxK").tolist()
        about["constraints"] = to_json(self.constraints)
        about["counted_from"] = {t: dict(m) for t, m in self.counted_from.items()}
        for name in ("mixture", "unconstrained", "current"):
            about[name] = None if about[name] is None else dict(about[name])
        with atomic_write(path) as file:
            file.write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Optimum:
        """The optimum saved at `path`, without its fit.

        Raises:
            InputError: there is no such file, or it holds no optimum.
        """
        try:
            about = json.loads(Path(path).read_text())
            for name in ("mixture", "unconstrained", "current"):
                about[name] = None if about.get(name) is None else Mixture(about[name])
            for name in ("objective", "gain", "expected_regret", "current_breaks", "notes"):
                about[name] = None if about.get(name) is None else tuple(about[name])
            for name in ("predicted", "interval"):
                about[name] = {key: tuple(values) for key, values in about[name].items()}
            about["skill"] = None if about.get("skill") is None else Skill.from_json(about["skill"])
            about["goal"] = Objective(**about.get("goal", {}))
            about["prices"] = tuple(Price(**p) for p in about.get("prices", ()))
            about["counted_from"] = {t: Mixture(m) for t, m in about.get("counted_from", {}).items()}
            # Files from before constraints were saved tell the bounds of every domain.
            asked = about.get("constraints") or {kind: about[kind] for kind in ("lower", "upper")}
            about["constraints"] = from_json(asked)
            return cls(draws_SxK=np.array(about.pop("draws")), **about)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"'{path}' holds no optimum: {error}") from error
