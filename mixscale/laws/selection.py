"""Chooses a law by cross-validation: one for all targets, on rows that look like the question, with the noise of it.

Besides the families and the process there is their stack, whose weights are found without the rows it is judged on. It
knows laws only by what they predict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from mixscale.errors import InputError, did_you_mean
from mixscale.laws import fitting, stack
from mixscale.laws.dataset import Dataset
from mixscale.laws.families import ALIASES, LAWS, REPEATS, Law, Points
from mixscale.laws.process import GP, MOST, Process
from mixscale.laws.splits import QUESTIONS, Split, by_mixture
from mixscale.laws.stack import Stack

TIED, NEAR = 2.0, 0.02
"""A law is as good as the best if it is worse by less than so many standard errors and by less than this share."""
ALIKE = 0.1
"""Least distance of tested rows from their median that errors are measured in, as a share of that of all rows."""
AnyLaw = Law | Process | Stack


@dataclass(frozen=True)
class Candidate:
    """One law fitted to one table: point fit, assumed noise, and what each row was predicted to be unseen."""

    law: AnyLaw
    theta_TxP: np.ndarray
    sigma_T: np.ndarray
    theta_TxFxP: np.ndarray
    """parameters without each fold"""
    split: Split
    oof_pred_TxR: np.ndarray
    """out-of-fold predictions, scaled; NaN for rows that no fold tests"""


def named(name: str) -> AnyLaw:
    """The law of that name, or of which it is another name; with a suffix of `REPEATS`, the law with repeats.

    'gp' is the process and 'stack(a, b)' a stack of two or more.

    Raises:
        InputError: there is none, or it cannot have that suffix.
    """
    if name.startswith("stack(") and name.endswith(")"):
        members = tuple(named(n.strip()) for n in name[6:-1].split(","))
        if len(members) < 2 or any(isinstance(m, Stack) for m in members):
            raise InputError(f"'{name}' is no stack; name two laws or more, as in 'stack(power-additive, gp)'")
        if len({m.uses_scale for m in members}) > 1:
            raise InputError(f"'{name}' joins laws with and without scale; take one kind")
        return Stack(members)
    suffix = next((s for s in REPEATS if name.endswith(s)), "")
    bare = name.removesuffix(suffix)
    base = ALIASES.get(bare, bare)
    if name == GP.name:
        return GP
    if base not in LAWS:
        raise InputError(f"law '{name}' is not known{did_you_mean(bare, [*LAWS, *ALIASES, GP.name, 'auto'])}")
    if not suffix:
        return LAWS[base]
    if wide := REPEATS[suffix](LAWS[base]):
        return wide
    others = [f"'{base}{s}'" for s, widen in REPEATS.items() if widen(LAWS[base])]
    raise InputError(f"law '{base}' lacks what '{suffix}' rests on, a term A/N^alpha; take {' or '.join(others)}")


def described() -> str:
    """Every law by name with its formula and source, those that 'auto' compares with a star."""
    lines = [f"{'*' if law.auto else ' '} {law.name:<22}{law.source}" for law in (*LAWS.values(), GP)]
    lines += [f"  {f'NAME{suffix}':<22}a law of that name where text is read again" for suffix in REPEATS]
    lines += [f"  {'stack(NAME, NAME)':<22}weighted mean of laws", "* is compared by auto, and so is their stack"]
    return "\n".join(lines)


def check_runs(law: AnyLaw, dataset: Dataset) -> str | None:
    """Why a law has too many parameters for these rows, or a process too many rows, and what to do; or None."""
    if isinstance(law, Stack):
        return next(filter(None, (check_runs(m, dataset) for m in law.members)), None)
    if isinstance(law, Process) and dataset.points.count > MOST:
        return f"law '{law.name}' takes at most {MOST} runs, and the table has {dataset.points.count}; leave some out"
    needed = law.n_params(len(dataset.domains))
    if dataset.distinct >= needed:
        return None
    what = "mixtures at a size and token count" if law.uses_scale else "mixtures"
    return (
        f"fewer runs than parameters: law '{law.name}' has {needed} parameters for {len(dataset.domains)} domains, "
        f"and the table has {dataset.distinct} distinct {what}; add runs"
    )


def candidate(law: Law | Process, dataset: Dataset, split: Split, seed: int) -> Candidate:
    """Fit a law to all rows, then once more without each fold, starting from the whole fit."""
    law, y_TxR = law.bound(dataset.points), dataset.y_scaled_TxR
    theta_TxP, sigma_T = fitting.fit_points(law, dataset.points, y_TxR, seed)
    theta_TxFxP = fitting.leave_out(law, dataset.points, y_TxR, split.kept_FxR, sigma_T, theta_TxP)
    return Candidate(law, theta_TxP, sigma_T, theta_TxFxP, split, left_out(law, theta_TxFxP, split, dataset))


def stacked(candidates: list[Candidate], dataset: Dataset, prune: bool = True) -> Candidate | None:
    """The stack of candidates, or None where one of them alone is best or there is one fold only.

    Each fold is judged with weights found on the rows of the others.

    Args:
        prune: leave out candidates of little weight.
    """
    split = candidates[0].split
    if len(candidates) < 2 or len(split.kept_FxR) < 2:
        return None
    kept_M = stack.useful(*_errors(candidates, dataset, split.tested_R)) if prune else np.arange(len(candidates))
    if len(kept_M) < 2:
        return None
    members = [candidates[m] for m in kept_M]
    weight_TxM = stack.weights(*_errors(members, dataset, split.tested_R))
    others_FxR = split.tested_R & (split.fold_R != np.arange(len(split.kept_FxR))[:, None])
    weight_TxFxM = np.stack([stack.weights(*_errors(members, dataset, of_R)) for of_R in others_FxR], axis=1)
    law = Stack(tuple(c.law for c in members))
    sigma_TxM = np.stack([c.sigma_T for c in members], axis=1)
    theta_TxP = stack.joined(weight_TxM, sigma_TxM, [c.theta_TxP for c in members])
    theta_TxFxP = stack.joined(weight_TxFxM, sigma_TxM, [c.theta_TxFxP for c in members])
    oof_pred_TxR = left_out(law, theta_TxFxP, split, dataset)
    return Candidate(law, theta_TxP, (sigma_TxM * weight_TxM).sum(axis=1), theta_TxFxP, split, oof_pred_TxR)


def left_out(law: AnyLaw, theta_BxFxP: np.ndarray, split: Split, dataset: Dataset) -> np.ndarray:
    """What each row is predicted to be by the fit of the fold that tests it, scaled, shape (B, R); NaN for others."""
    held_BxR = np.full((len(theta_BxFxP), dataset.points.count), np.nan)
    for fold in range(len(split.kept_FxR)):
        rows_N = np.flatnonzero(split.fold_R == fold)
        points = Points(*(x[rows_N] for x in dataset.points))
        held_BxR[:, rows_N] = fitting.evaluate(law, theta_BxFxP[:, fold], points)
    return held_BxR


def unseen(chosen: Candidate, dataset: Dataset, seed: int) -> np.ndarray | None:
    """What each row is predicted to be by a fit without its mixture, scaled, shape (T, R).

    None where that is what the candidate was chosen by; NaN where there is one mixture only.
    """
    split, all_G = chosen.split, np.arange(int(dataset.group_R.max()) + 1)
    kept_FxG, tested_FxG = (
        np.stack([np.isin(all_G, dataset.group_R[of_R]) for of_R in of_FxR])
        for of_FxR in (split.kept_FxR > 0, split.fold_R == np.arange(len(split.kept_FxR))[:, None])
    )
    if not chosen.law.uses_mixture or not (kept_FxG & tested_FxG).any():
        return None
    y_TxR = dataset.y_scaled_TxR
    if len(all_G) < 2:
        return np.full(y_TxR.shape, np.nan)
    apart = by_mixture(dataset.group_R, seed)
    theta_TxFxP = fitting.leave_out(
        chosen.law, dataset.points, y_TxR, apart.kept_FxR, chosen.sigma_T, chosen.theta_TxP
    )
    return left_out(chosen.law, theta_TxFxP, apart, dataset)


def _errors(candidates: list[Candidate], dataset: Dataset, of_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold errors on the N rows of a mask, each target in units of its mean distance from its median there.

    Returns:
        errors of shape (C, T, N), and how much each row counts, shape (N,): all rows of a mixture as much as the one
        row of another, so that a run with a hundred checkpoints is one run, and as much as the split says of it.
    """
    y_TxN, group_N = dataset.y_scaled_TxR[:, of_R], dataset.group_R[of_R]
    count_N = candidates[0].split.count_R[of_R] / np.bincount(group_N)[group_N]
    naive_Tx1, whole_Tx1 = (
        np.average(np.abs(y - np.median(y, axis=1, keepdims=True)), axis=1, weights=w, keepdims=True)
        for y, w in ((y_TxN, count_N), (dataset.y_scaled_TxR, None))
    )
    # Few rows, or rows all alike, say nothing of what an error is worth.
    naive_Tx1 = np.maximum(naive_Tx1, ALIKE * whole_Tx1)
    return np.stack([(c.oof_pred_TxR[:, of_R] - y_TxN) / naive_Tx1 for c in candidates]), count_N


def rank(candidates: list[Candidate], dataset: Dataset, question: str) -> tuple[pd.DataFrame, Candidate, str]:
    """Order candidates by their error on rows they have not seen.

    The error of a law on a target is its mean absolute error over that of the target's median; `error` is the mean
    over targets and then over mixtures, those far from all others counting less. `worse_by` and its standard error
    `noise` come from paired differences to the best, by mixture.

    Returns:
        the ranking (law, parameters, error, worse_by, noise, rho; best first), the chosen law (the simplest of those
        that are as good as the best), and the reason in words.
    """
    tested_R = candidates[0].split.tested_R
    y_TxR, group_R = dataset.y_scaled_TxR[:, tested_R], dataset.group_R[tested_R]
    error_CxTxR, count_R = _errors(candidates, dataset, tested_R)
    count_G = np.bincount(group_R, count_R)
    count_G, there_G = count_G[count_G > 0], count_G > 0
    error_CxG = np.stack([np.bincount(group_R, count_R * e_R) for e_R in np.abs(error_CxTxR).mean(axis=1)])
    error_CxG = error_CxG[:, there_G] / count_G
    share_G = count_G / count_G.sum()
    order = np.argsort(error_CxG @ share_G, kind="stable")
    best = order[0]
    rows = []
    for i in order:
        extra_G = error_CxG[i] - error_CxG[best]
        rows.append(
            {
                "law": candidates[i].law.name,
                "parameters": candidates[i].law.n_params(len(dataset.domains)),
                "error": float(share_G @ error_CxG[i]),
                "worse_by": float(share_G @ extra_G),
                "noise": float(np.linalg.norm(share_G * (extra_G - share_G @ extra_G))),
                "rho": _mean_spearman(candidates[i].oof_pred_TxR[:, tested_R], y_TxR),
            }
        )
    ranking = pd.DataFrame(rows)
    chosen = _simplest(ranking, [candidates[i].law for i in order])
    return ranking, candidates[order[chosen]], _reason(ranking, chosen, question)


def _simplest(ranking: pd.DataFrame, laws: list[AnyLaw]) -> int:
    """Place of the simplest law that is as good as the best: convex before others, then by parameters."""
    extra, noise = ranking["worse_by"], ranking["noise"]
    tied = np.flatnonzero((extra <= TIED * noise) & (extra <= NEAR * ranking["error"].iloc[0]))
    return int(min(tied, key=lambda at: (not laws[at].convex, ranking["parameters"].iloc[at])))


def _reason(ranking: pd.DataFrame, chosen: int, question: str) -> str:
    best = ranking.iloc[0]
    text = f"'{best['law']}' has the smallest error on {QUESTIONS[question]} ({best['error']:.1%} of the naive error)"
    if len(ranking) == 1:
        return text + "; no other law was compared"
    other = ranking.iloc[max(chosen, 1)]
    text += f"; '{other['law']}' is worse by {other['worse_by']:.2%} ± {other['noise']:.2%}, "
    if chosen > 0:
        return text + "which is not distinguishable, and it is simpler"
    tie = other["worse_by"] < TIED * other["noise"]
    return text + ("which is not distinguishable" if tie else "which is beyond the noise")


def _mean_spearman(predicted_TxR: np.ndarray, y_TxR: np.ndarray) -> float:
    pairs = zip(predicted_TxR, y_TxR, strict=True)
    return float(np.mean([np.corrcoef(rankdata(p), rankdata(y))[0, 1] if np.ptp(p) > 0 else 0.0 for p, y in pairs]))
