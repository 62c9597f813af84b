"""Goals over many resamples, solved by few: only the worst decide, and which these are is found by looking.

An exchange method: solve for the scenarios that are worst at the last mixture, look at all of them at the new one, and
take in those that have become worst. Leaving scenarios out can only lower the goal, so once the worst of all are among
those that were taken, the answer is that for all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixscale.optimization.answer import Answer, Job, answers
from mixscale.optimization.question import Question

LEAST, WIDER = 24, 2.0
"""Scenarios taken at first: so many more than those that decide, at least."""
ROUNDS = 8
MOST = 50
"""Most scenarios where each adds a variable and a row for every target."""
MET = 1e-9


def weighed(question: Question, theta_SxTxP: np.ndarray) -> np.ndarray:
    """The scenarios that the goal is over: all, but for the mean, or the mean of the tail, of worst targets."""
    dear = question.goal.worst and question.goal.robust in ("mean", "quantile")
    return theta_SxTxP[:MOST] if dear else theta_SxTxP


def robust(
    questions: list[Question], theta_SxTxP: np.ndarray, starts: list[np.ndarray], near_1xK: np.ndarray
) -> list[Answer]:
    """The optimum of each question over all scenarios.

    Args:
        starts: mixtures to start from, for each question. near_1xK: a mixture at which to look first.
    """
    theta_SxTxP = weighed(questions[0], theta_SxTxP)
    count = len(theta_SxTxP)
    if questions[0].goal.robust == "mean":
        return answers(*(Job(q, theta_SxTxP[None], s, q.ceilings) for q, s in zip(questions, starts, strict=True)))
    size = min(count, LEAST + int(np.ceil(WIDER * questions[0].goal.tail(count))))
    taken = [_worst(q, theta_SxTxP, near_1xK)[:size] for q in questions]
    for _ in range(ROUNDS):
        found = answers(
            *(
                Job(q, theta_SxTxP[None, index], s, q.ceilings, count)
                for q, index, s in zip(questions, taken, starts, strict=True)
            )
        )
        missing = [_missing(q, theta_SxTxP, f, index) for q, f, index in zip(questions, found, taken, strict=True)]
        if not any(len(m) for m in missing):
            break
        # All take in as many, so that they stay one batch.
        more = max(map(len, missing))
        taken = [
            np.union1d(index, _first_new(_worst(q, theta_SxTxP, f.h_BxK), index, more))
            for q, f, index in zip(questions, found, taken, strict=True)
        ]
    # What still misses scenarios is a lower bound, and must not be told as the answer.
    return [replace(f, converged_B=f.converged_B & (len(m) == 0)) for f, m in zip(found, missing, strict=True)]


def _worst(question: Question, theta_SxTxP: np.ndarray, h_1xK: np.ndarray) -> np.ndarray:
    """Scenarios at a mixture, worst first."""
    return np.argsort(-question.values(theta_SxTxP, h_1xK)[:, 0], kind="stable")


def _missing(question: Question, theta_SxTxP: np.ndarray, found: Answer, taken: np.ndarray) -> np.ndarray:
    """Scenarios that decide at the answer but were not asked; none where the answer is that for all."""
    value_SxQ = question.values(theta_SxTxP, found.h_BxK)
    if question.goal.of_all(value_SxQ)[0] <= found.value_B[0] + MET * question.size:
        return taken[:0]
    tail = int(np.ceil(question.goal.tail(len(theta_SxTxP))))
    return np.setdiff1d(np.argsort(-value_SxQ[:, 0], kind="stable")[:tail], taken)


def _first_new(order: np.ndarray, taken: np.ndarray, count: int) -> np.ndarray:
    return order[~np.isin(order, taken)][:count]
