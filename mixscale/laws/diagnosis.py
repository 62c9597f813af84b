"""How sound a fit is: whether it is the best there is, where it is pinned, and what the data could not tell.

Costs are negative log posteriors, so a difference of one half is one standard error; parameters are measured in widths
of their priors, so that one that the data tell nothing of has a doubt of one. Says nothing of how well the law
predicts: that is what cross-validation is for.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.laws import fit_warnings, fitting, levenberg, process
from mixscale.laws.dataset import Dataset
from mixscale.laws.families import Law
from mixscale.laws.process import Process
from mixscale.laws.stack import Stack

ALIKE = 1.0
"""Starts whose costs differ by less have ended in one basin: the data hardly tell them apart."""
UNTOLD = 0.8
"""Share of the prior's width from which a parameter counts as not told by the data."""
PRESSED = 0.5
"""Least cost of a bound that the data press against."""
FLATTEST = 1e-3
"""Least curvature that is told from none, where the prior has one."""
OUTLIER = 0.5
"""Weight in the robust cost below which a row is an outlier: 2.7 times the noise or more away."""


@dataclass(frozen=True)
class Finding:
    """What was found of one law and one target.

    Attributes:
        starts: how many there were; best: how many ended as low as the fit; basins: how many different costs they
            ended at. None for a process, which has one start.
        behind: cost by which the best start is lower than the fit, at least 0.
        gradient: share of what rows and prior pull at the free parameters that does not cancel, 0 at rest.
        to_gain: cost that a last Newton step would still lower.
        condition: condition number of the Hessian (Gauss-Newton; of the evidence for a process).
        at_bounds: names of parameters at a bound; pressed: of those that the data would take beyond it.
        untold: names of parameters of which the data tell little.
        outliers: of the rows; None for a process. noise: its share of the variance; None for a formula.
    """

    law: str
    target: str
    rows: int
    starts: int | None
    best: int | None
    basins: int | None
    behind: float
    gradient: float
    to_gain: float
    condition: float
    at_bounds: tuple[str, ...]
    pressed: tuple[str, ...]
    untold: tuple[str, ...]
    outliers: int | None
    noise: float | None


@dataclass(frozen=True)
class Diagnosis:
    """Findings of every target, and of every member where the law is a stack."""

    findings: tuple[Finding, ...]
    domains: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """One row a finding; names are joined by spaces, and what a law has not is missing."""
        frame = pd.DataFrame([vars(f) for f in self.findings])
        names = {c: frame[c].map(" ".join) for c in ("at_bounds", "pressed", "untold")}
        counts = {c: frame[c].astype("Int64") for c in ("starts", "best", "basins", "outliers")}
        return frame.assign(**names, **counts, noise=frame["noise"].astype(float))

    def summary(self) -> str:
        """What a person should worry about, a line each."""
        return fit_warnings.told(self)


def diagnose(
    law: Law | Process | Stack, dataset: Dataset, theta_TxP: np.ndarray, sigma_T: np.ndarray, seed: int
) -> Diagnosis:
    """The findings of a law fitted to these rows.

    Args:
        sigma_T: relative noise that the fit assumed. seed: that of the fit.
    """
    return Diagnosis(tuple(_findings(law, dataset, theta_TxP, sigma_T, seed)), dataset.domains)


@functools.singledispatch
def _findings(law: Law, dataset: Dataset, theta_TxP, sigma_T, seed) -> list[Finding]:
    y_TxR, k = dataset.y_scaled_TxR, len(dataset.domains)
    cost_T, cost_TxS = fitting.basins(law, dataset.points, y_TxR, sigma_T, theta_TxP, seed)
    residual_TxR, slope_TxRxP = fitting.linearised(law, dataset.points, y_TxR, theta_TxP)
    prior = [law.spread(field, k) for field in ("lower", "upper", "mean", "std")]
    names = np.array(law.names(dataset.domains))
    findings = []
    for t, target in enumerate(dataset.targets):
        weight_R = np.minimum(1.0, levenberg.HUBER * sigma_T[t] / np.maximum(np.abs(residual_TxR[t]), 1e-300))
        local = _Local.of(residual_TxR[t] / sigma_T[t], slope_TxRxP[t] / sigma_T[t], weight_R, theta_TxP[t], *prior)
        findings.append(
            Finding(
                law=law.name,
                target=target,
                rows=dataset.points.count,
                starts=len(cost_TxS[t]),
                best=int((cost_TxS[t] < cost_T[t] + ALIKE).sum()),
                basins=1 + int((np.diff(np.sort(cost_TxS[t])) > ALIKE).sum()),
                behind=max(0.0, float(cost_T[t] - cost_TxS[t].min())),
                outliers=int((weight_R < OUTLIER).sum()),
                noise=None,
                **local.measures(names),
            )
        )
    return findings


@_findings.register
def _(law: Process, dataset: Dataset, theta_TxP, sigma_T, seed) -> list[Finding]:
    names, findings = np.array(law.names(dataset.domains)[1:]), []
    for target, y_R, theta_P in zip(dataset.targets, dataset.y_scaled_TxR, theta_TxP, strict=True):
        std_H, prior_H, evidence_H, hessian_HxH = process.curvature(dataset.points, y_R, theta_P, seed)
        pull_2xH = np.stack([prior_H, evidence_H]) * std_H
        inside_H = np.zeros(len(names), dtype=bool)
        local = _Local(pull_2xH, hessian_HxH * np.outer(std_H, std_H), inside_H, inside_H)
        amplitude, noise = np.exp(theta_P[1:3])
        findings.append(
            Finding(
                law=law.name,
                target=target,
                rows=dataset.points.count,
                starts=None,
                best=None,
                basins=None,
                behind=0.0,
                outliers=None,
                noise=float(noise / (amplitude + noise)),
                **local.measures(names),
            )
        )
    return findings


@_findings.register
def _(law: Stack, dataset: Dataset, theta_TxP, sigma_T, seed) -> list[Finding]:
    count, findings = len(law.members), []
    for i, (member, at) in enumerate(zip(law.members, law.parts(len(dataset.domains)), strict=True)):
        findings += _findings(member, dataset, theta_TxP[:, at], theta_TxP[:, count + i], seed)
    return findings


@dataclass(frozen=True)
class _Local:
    """The cost around a fit, in parameters measured in widths of their priors.

    Attributes:
        pull_NxP: gradient of each row's cost and of the prior. hessian_PxP: of their sum.
        pinned_P: whether a parameter is at a bound and pulled outwards. at_bound_P: whether it is at one.
    """

    pull_NxP: np.ndarray
    hessian_PxP: np.ndarray
    pinned_P: np.ndarray
    at_bound_P: np.ndarray

    @classmethod
    def of(cls, residual_R, slope_RxP, weight_R, theta_P, lower_P, upper_P, mean_P, std_P) -> _Local:
        """From residuals and their derivatives in units of the noise, and the weights of the robust cost."""
        slope_RxP = slope_RxP * std_P
        prior_P = (theta_P - mean_P) / std_P
        pull_NxP = np.concatenate([(weight_R * residual_R)[:, None] * slope_RxP, prior_P[None]])
        hessian_PxP = (slope_RxP * weight_R[:, None]).T @ slope_RxP + np.eye(len(prior_P))
        gradient_P, near_P = pull_NxP.sum(axis=0), 1e-9 * (upper_P - lower_P)
        low_P, high_P = theta_P <= lower_P + near_P, theta_P >= upper_P - near_P
        return cls(pull_NxP, hessian_PxP, (low_P & (gradient_P > 0)) | (high_P & (gradient_P < 0)), low_P | high_P)

    def measures(self, names: np.ndarray) -> dict:
        """The fields of a `Finding` that are read from the cost around the fit."""
        gradient_P, size_P = self.pull_NxP.sum(axis=0), np.abs(self.pull_NxP).sum(axis=0)
        free_P = ~self.pinned_P
        # One that merely rests at a bound may still be untold; one that is pressed against it is not.
        pressed_P = self.pinned_P & (0.5 * gradient_P**2 / np.diag(self.hessian_PxP) > PRESSED)
        inverse_PxP, condition = _inverse(self.hessian_PxP, ~pressed_P)
        step_P = _inverse(self.hessian_PxP, free_P)[0] @ gradient_P
        return {
            "gradient": float(np.linalg.norm(gradient_P[free_P]) / max(np.linalg.norm(size_P[free_P]), 1e-300)),
            "to_gain": 0.5 * float(gradient_P @ step_P),
            "condition": condition,
            "at_bounds": tuple(names[self.at_bound_P]),
            "pressed": tuple(names[pressed_P]),
            "untold": tuple(names[np.sqrt(np.diag(inverse_PxP)) > UNTOLD]),
        }


def _inverse(hessian_PxP: np.ndarray, kept_P: np.ndarray) -> tuple[np.ndarray, float]:
    """Inverse over the parameters that are kept, zero for the others, and condition number."""
    inverse_PxP = np.zeros_like(hessian_PxP)
    if not kept_P.any():
        return inverse_PxP, 1.0
    value_F, vector_FxF = np.linalg.eigh(hessian_PxP[np.ix_(kept_P, kept_P)])
    # Away from its maximum the evidence of a process may curve the wrong way.
    value_F = np.maximum(np.abs(value_F), FLATTEST)
    inverse_PxP[np.ix_(kept_P, kept_P)] = vector_FxF / value_F @ vector_FxF.T
    return inverse_PxP, float(value_F.max() / value_F.min())
