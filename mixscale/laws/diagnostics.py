"""Diagnostics of a fit: convergence, competing minima, bounds, unidentified parameters and outliers.

Costs are negative log posteriors, so a difference of one half is one standard error. Parameters are measured in widths
of their priors, so a parameter that the data do not identify has a standard error of one. `cross_validation` and
`skill` measure how well a law predicts.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.laws import fitting, gp
from mixscale.laws.dataset import Dataset
from mixscale.laws.families import Law
from mixscale.laws.least_squares import HUBER
from mixscale.laws.stacking import Stack

SAME_BASIN = 1.0  # starts whose costs differ by less ended in one basin: the data hardly distinguish them
UNIDENTIFIED = 0.8  # standard error, in widths of the prior, from which a parameter counts as unidentified
ACTIVE_BOUND = 0.5  # least cost of a bound that counts as active
MIN_CURVATURE = 1e-3  # least curvature that is distinguished from none; that of the prior is one
OUTLIER = 0.5  # weight in the robust cost below which a row is an outlier: 2.7 times the noise or more away

MAX_DECREMENT, MAX_COST_GAP = 0.5, 1.0  # costs above which a fit has not converged, or is not the best minimum
MAX_CONDITION = 1e13  # above it float64 sums of squares cannot separate the parameters
MAX_OUTLIERS = 0.1  # share of the rows; normal errors give 0.007, more where few rows determine the noise
MAX_NOISE = 0.5  # share of noise in the variance
LISTED = 3  # longest list of names in a warning
NO_WARNINGS = "no warnings: the fit has converged, no start reached a lower minimum, and all parameters are identified"


@dataclass(frozen=True)
class Finding:
    """Diagnostics of one law and one target."""

    law: str
    target: str
    rows: int
    starts: int | None = None  # None for a process, like the next two: it has one start
    starts_at_best: int | None = None  # how many ended as low as the fit
    basins: int | None = None  # number of different minima
    cost_gap: float = 0.0  # cost by which the best start is below the fit, at least 0
    gradient: float = 0.0  # its norm over that of its parts from rows and prior, for free parameters; 0 at a minimum
    newton_decrement: float = 0.0  # cost that one more Newton step would gain
    condition: float = 1.0  # of the Hessian (Gauss-Newton; of the marginal likelihood for a process)
    at_bounds: tuple[str, ...] = ()
    active_bounds: tuple[str, ...] = ()  # those at a bound that the data would take beyond it
    unidentified: tuple[str, ...] = ()  # parameters about which the data say little
    outliers: int | None = None  # number of rows; None for a process
    noise: float | None = None  # share of the variance; None for a formula


@dataclass(frozen=True)
class Diagnostics:
    """Findings for every target, and for every member of a stack."""

    findings: tuple[Finding, ...]
    domains: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """One row per finding, with names joined by spaces and missing values where a column does not apply."""
        frame = pd.DataFrame([vars(f) for f in self.findings])
        names = {c: frame[c].map(" ".join) for c in ("at_bounds", "active_bounds", "unidentified")}
        counts = {c: frame[c].astype("Int64") for c in ("starts", "starts_at_best", "basins", "outliers")}
        return frame.assign(**names, **counts, noise=frame["noise"].astype(float))

    def warnings(self) -> list[str]:
        """What you should check, a sentence each; for many domains and targets it gives their number."""
        laws = tuple(dict.fromkeys(f.law for f in self.findings))
        return [
            f"{law}: {line}" if len(laws) > 1 else line
            for law in laws
            for line in _warnings([f for f in self.findings if f.law == law], len(self.domains))
        ]

    def summary(self) -> str:
        """The warnings, a line each, or a line that says there are none."""
        return "\n".join(self.warnings()) or NO_WARNINGS


def diagnose(law: Law, dataset: Dataset, theta_TxP: np.ndarray, sigma_T: np.ndarray, seed: int) -> Diagnostics:
    """Diagnostics of a law fitted to these rows with this relative noise and seed."""
    return Diagnostics(tuple(_findings(law, dataset, theta_TxP, sigma_T, seed)), dataset.domains)


@functools.singledispatch
def _findings(law: Law, dataset: Dataset, theta_TxP, sigma_T, seed) -> list[Finding]:
    y_TxR = dataset.y_scaled_TxR
    cost_T, cost_TxS = fitting.basins(law, dataset.points, y_TxR, sigma_T, theta_TxP, seed)
    residual_TxR, slope_TxRxP = fitting.linearize(law, dataset.points, y_TxR, theta_TxP)
    lower_P, upper_P, mean_P, std_P = law.priors(len(dataset.domains))
    near_P, names, findings = 1e-9 * (upper_P - lower_P), law.names(dataset.domains), []
    for t, (target, theta_P) in enumerate(zip(dataset.targets, theta_TxP, strict=True)):
        weight_R = np.minimum(1.0, HUBER * sigma_T[t] / np.maximum(np.abs(residual_TxR[t]), 1e-300))
        slope_RxP = slope_TxRxP[t] / sigma_T[t] * std_P
        row_gradient_RxP = (weight_R * (residual_TxR[t] / sigma_T[t]))[:, None] * slope_RxP
        gradient_NxP = np.concatenate([row_gradient_RxP, ((theta_P - mean_P) / std_P)[None]])
        hessian_PxP = (slope_RxP * weight_R[:, None]).T @ slope_RxP + np.eye(len(theta_P))
        low_P, high_P = theta_P <= lower_P + near_P, theta_P >= upper_P - near_P
        findings.append(
            Finding(
                law.name,
                target,
                dataset.points.count,
                starts=len(cost_TxS[t]),
                starts_at_best=int((cost_TxS[t] < cost_T[t] + SAME_BASIN).sum()),
                basins=1 + int((np.diff(np.sort(cost_TxS[t])) > SAME_BASIN).sum()),
                cost_gap=max(0.0, float(cost_T[t] - cost_TxS[t].min())),
                outliers=int((weight_R < OUTLIER).sum()),
                **_measures(names, gradient_NxP, hessian_PxP, low_P, high_P),
            )
        )
    return findings


@_findings.register
def _(law: gp.Process, dataset: Dataset, theta_TxP, sigma_T, seed) -> list[Finding]:
    names, findings = law.names(dataset.domains)[1:], []
    for target, y_R, theta_P in zip(dataset.targets, dataset.y_scaled_TxR, theta_TxP, strict=True):
        std_H, prior_H, likelihood_H, hessian_HxH = gp.curvature(dataset.points, y_R, theta_P, seed)
        gradient_2xH = np.stack([prior_H, likelihood_H]) * std_H
        inside_H = np.zeros(len(names), dtype=bool)
        measures = _measures(names, gradient_2xH, hessian_HxH * np.outer(std_H, std_H), inside_H, inside_H)
        amplitude, noise = np.exp(theta_P[1:3])
        share = float(noise / (amplitude + noise))
        findings.append(Finding(law.name, target, dataset.points.count, noise=share, **measures))
    return findings


@_findings.register
def _(law: Stack, dataset: Dataset, theta_TxP, sigma_T, seed) -> list[Finding]:
    count, findings = len(law.members), []
    for i, (member, at) in enumerate(law.parts(len(dataset.domains))):
        findings += _findings(member, dataset, theta_TxP[:, at], theta_TxP[:, count + i], seed)
    return findings


def _measures(names: list[str], gradient_NxP, hessian_PxP, low_P, high_P) -> dict:
    """The fields of a `Finding` that follow from the cost around the fit, in parameters in widths of their priors.

    Args:
        gradient_NxP: of each row's cost and of the prior. hessian_PxP: of their sum. low_P, high_P: whether a
            parameter is at its lower or upper bound.
    """
    gradient_P, size_P = gradient_NxP.sum(axis=0), np.abs(gradient_NxP).sum(axis=0)
    pinned_P = (low_P & (gradient_P > 0)) | (high_P & (gradient_P < 0))
    # A parameter at a bound may be unidentified, but not one with an active bound.
    active_P = pinned_P & (0.5 * gradient_P**2 / np.diag(hessian_PxP) > ACTIVE_BOUND)
    inverse_PxP, condition = _inverse(hessian_PxP, ~active_P)
    step_P = _inverse(hessian_PxP, ~pinned_P)[0] @ gradient_P
    of_P = np.array(names)
    return {
        "gradient": float(np.linalg.norm(gradient_P[~pinned_P]) / max(np.linalg.norm(size_P[~pinned_P]), 1e-300)),
        "newton_decrement": 0.5 * float(gradient_P @ step_P),
        "condition": condition,
        "at_bounds": tuple(of_P[low_P | high_P]),
        "active_bounds": tuple(of_P[active_P]),
        "unidentified": tuple(of_P[np.sqrt(np.diag(inverse_PxP)) > UNIDENTIFIED]),
    }


def _inverse(hessian_PxP: np.ndarray, kept_P: np.ndarray) -> tuple[np.ndarray, float]:
    """Inverse over the kept parameters, zero for the others, and condition number."""
    inverse_PxP = np.zeros_like(hessian_PxP)
    if not kept_P.any():
        return inverse_PxP, 1.0
    value_F, vector_FxF = np.linalg.eigh(hessian_PxP[np.ix_(kept_P, kept_P)])
    # Away from its maximum the marginal likelihood of a process may have negative curvature.
    value_F = np.maximum(np.abs(value_F), MIN_CURVATURE)
    inverse_PxP[np.ix_(kept_P, kept_P)] = vector_FxF / value_F @ vector_FxF.T
    return inverse_PxP, float(value_F.max() / value_F.min())


_CHECKS: dict[str, tuple[Callable[[Finding], bool], Callable[[Finding], str]]] = {
    "a start reached a lower minimum than the fit; fit again with another seed": (
        lambda f: f.cost_gap > MAX_COST_GAP,
        lambda f: f"lower by {f.cost_gap:.2g} in log likelihood",
    ),
    "almost no start reached the minimum of the fit; another seed may find a better one": (
        lambda f: f.starts is not None and f.starts_at_best <= 1 < f.starts,
        lambda f: f"{f.starts_at_best} of {f.starts}, in {f.basins} basins",
    ),
    "the fit has not converged": (
        lambda f: f.newton_decrement > MAX_DECREMENT,
        lambda f: f"{f.newton_decrement:.2g} of log likelihood to gain",
    ),
    "the data cannot separate the parameters": (
        lambda f: f.condition > MAX_CONDITION,
        lambda f: f"condition number {f.condition:.1e}",
    ),
    "many rows are outliers with little weight": (
        lambda f: (f.outliers or 0) > MAX_OUTLIERS * f.rows,
        lambda f: f"{f.outliers} of {f.rows}",
    ),
    "most of the variance is noise": (lambda f: (f.noise or 0.0) > MAX_NOISE, lambda f: f"{f.noise:.0%}"),
}


def _warnings(findings: list[Finding], domains: int) -> Iterator[str]:
    """Warnings about one law."""
    for what, (check, detail) in _CHECKS.items():
        if found := [f for f in findings if check(f)]:
            first = f"{found[0].target}: " if len(found) > 1 else ""
            yield f"{what} for {_targets([f.target for f in found], len(findings))} ({first}{detail(found[0])})"
    for field, what in (("active_bounds", "at an active bound"), ("unidentified", "not identified by the data")):
        for block in dict.fromkeys(n.split("/", 1)[0] for f in findings for n in getattr(f, field)):
            yield _block_warning(block, field, what, findings, domains)


def _block_warning(block: str, field: str, what: str, findings: list[Finding], domains: int) -> str:
    """`gamma of 5 of 17 domains is not identified by the data for target arxiv`."""
    count = Counter({f.target: sum(n.split("/", 1)[0] == block for n in getattr(f, field)) for f in findings})
    targets = [t for t, n in count.items() if n]
    worst, most = count.most_common(1)[0]
    names = next(getattr(f, field) for f in findings if f.target == worst)
    of = [n.split("/", 1)[1] for n in names if n.startswith(f"{block}/")]
    if not of:
        return f"{block} is {what} for {_targets(targets, len(findings))}"
    which = f"{block} of {' and '.join(of) if most <= LISTED else f'{most} of {domains} domains'}"
    if len(targets) == 1:
        return f"{which} is {what} for target {worst}"
    return f"{block} of some domains is {what} for {_targets(targets, len(findings))}; for {worst}, {which}"


def _targets(names: list[str], all_targets: int) -> str:
    if len(names) == 1:
        return f"target {names[0]}"
    if len(names) == all_targets:
        return "all targets"
    return f"{len(names)} of {all_targets} targets" + (f" ({', '.join(names)})" if len(names) <= LISTED else "")
