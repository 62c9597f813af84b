"""`Optimum`: the best mixture by a fit and how sure that is; prints, saves and compares with other mixtures.

It knows how to ask a fit for predictions and nothing of how the optimum was found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixscale.errors import InputError
from mixscale.files import replaced
from mixscale.laws.result import LawFit
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture

Interval = tuple[float, float]


def widened(factor: float, centre, draws_SxN: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper quantiles of draws around the estimate, both moved away from it by a factor, shape (2, ...)."""
    return centre + factor * (np.quantile(draws_SxN, [(1 - level) / 2, (1 + level) / 2], axis=0) - centre)


@dataclass(frozen=True)
class Optimum:
    """The best mixture by a fit, and how sure that is. Losses are in the targets' units; intervals hold `LEVEL`.

    Attributes:
        mixture: the optimum. interval: for each domain, where its weight lies over the resamples, widened by what
            left-out runs show (`LawFit.widening`).
        objective: weighted mean of targets there, with the interval for a new run (value, lo, hi).
        predicted: each target there (value, lo, hi).
        draws_SxK: the optimum of each resample, in the order of the mixture's domains.
        convex: whether the law is convex, so that this is the global optimum.
        weights: of the targets, summing to one. lower, upper: bounds of every domain.
        n_params, n_tokens: where a law with scale was solved.
        fit: the fit that was solved; None in an optimum that was loaded.
    """

    mixture: Mixture
    objective: tuple[float, float, float]
    predicted: dict[str, tuple[float, float, float]]
    interval: dict[str, Interval]
    draws_SxK: np.ndarray
    convex: bool
    law: str
    weights: dict[str, float]
    lower: dict[str, float]
    upper: dict[str, float]
    n_params: float | None = None
    n_tokens: float | None = None
    fit: LawFit | None = None

    def regret(self, mixture: Mixture) -> tuple[float, float, float]:
        """How much worse `mixture` is than the optimum by the law: (difference, lo, hi), paired over the resamples.

        Raises:
            InputError: the mixture has a domain that the fit has not, or this optimum was loaded without its fit.
        """
        if self.fit is None:
            raise InputError("an optimum that was loaded has no fit; solve again to ask for a regret")
        domains = self.mixture.domains
        h_2xK = np.stack([mixture.array(domains), self.mixture.array()])
        weight_T = self.fit.target_weights(self.weights)
        mean_2 = self.fit.predict(h_2xK, self.n_params, self.n_tokens) @ weight_T
        draws_Sx2 = self.fit.draws(h_2xK, self.n_params, self.n_tokens) @ weight_T
        wider = self.fit.widening(h_2xK[1:], self.weights, LEVEL, self.n_params, self.n_tokens)
        worse = float(mean_2[0] - mean_2[1])
        lo, hi = widened(wider, worse, draws_Sx2[:, 0] - draws_Sx2[:, 1], LEVEL)
        return worse, float(lo), float(hi)

    def summary(self) -> str:
        """A few lines a person can read."""
        kind = "the global optimum (the law is convex)" if self.convex else "the best of many starts"
        value, lo, hi = self.objective
        lines = [f"{kind} of law {self.law}", f"{'domain':<24}{'weight':>9}{f'{LEVEL:.0%} region':>20}"]
        for domain, weight in self.mixture.items():
            low, high = self.interval[domain]
            lines.append(f"{domain:<24}{weight:>9.1%}{f'{low:.1%} to {high:.1%}':>20}{self._at_bound(domain)}")
        lines.append(f"{'objective':<24}{value:>9.4f}{f'{lo:.4f} to {hi:.4f}':>20}")
        lines += [f"{t:<24}{v:>9.4f}{f'{a:.4f} to {b:.4f}':>20}" for t, (v, a, b) in self.predicted.items()]
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write as JSON, all or nothing; the fit is not part of it.

        Raises:
            InputError: `path` is a folder, or lies below a file.
        """
        about = {
            "law": self.law,
            "convex": self.convex,
            "mixture": dict(self.mixture),
            "interval": self.interval,
            "objective": self.objective,
            "predicted": self.predicted,
            "weights": self.weights,
            "lower": self.lower,
            "upper": self.upper,
            "n_params": self.n_params,
            "n_tokens": self.n_tokens,
            "draws": self.draws_SxK.tolist(),
        }
        with replaced(path) as file:
            file.write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Optimum:
        """The optimum saved at `path`, without its fit.

        Raises:
            InputError: there is no such file, or it holds no optimum.
        """
        try:
            about = json.loads(Path(path).read_text())
            return cls(
                mixture=Mixture(about.pop("mixture")),
                objective=tuple(about.pop("objective")),
                predicted={t: tuple(v) for t, v in about.pop("predicted").items()},
                interval={d: tuple(v) for d, v in about.pop("interval").items()},
                draws_SxK=np.array(about.pop("draws")),
                **about,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"'{path}' holds no optimum: {error}") from error

    def _at_bound(self, domain: str) -> str:
        weight, low, high = self.mixture[domain], self.lower[domain], self.upper[domain]
        if low > 0 and weight <= low + 1e-6:
            return f"  at its lower bound {low:.1%}"
        return f"  at its upper bound {high:.1%}" if high < 1 and weight >= high - 1e-6 else ""
