"""Laws that predict the loss of a mixture: `fit(table) -> LawFit`.

`families` holds the formulas, `engine` fits any of them, `selection` chooses, `uncertainty` doubts and `result` is
what a caller gets. The room reads run tables only; it knows nothing of how runs were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np

from mixscale.errors import InputError
from mixscale.laws import selection, uncertainty
from mixscale.laws.families import LAWS
from mixscale.laws.observations import Observations, fit_rows, observe, scale_of
from mixscale.laws.result import LawFit
from mixscale.runs import RunTable

__all__ = ["LAWS", "LawFit", "fit"]


def fit(
    table: RunTable,
    law: str = "auto",
    targets: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 200,
    progress: bool = False,
) -> LawFit:
    """Fit a law to every target of a table, with cross-validation and a bootstrap.

    Args:
        table: rows with role 'fit' are used where there are roles, and only complete ones. A law without scale takes
            the last row of each run, none of a run that diverged or was cut short, and of several sizes or token
            counts the largest (told in `notes`).
        law: a family's name, or 'auto': the family that predicts unseen mixtures best, among those with scale when
            the table has several sizes or token counts, and among those without otherwise.
        targets: names of the columns to fit, with or without prefix; None: all losses, or all metrics if there are
            no losses.
        seed: of starts, folds and resamples; the same seed gives the same fit.
        resamples: refits for the doubt, at least 2; half as many again leave out a tenth of the mixtures each.
        progress: show a progress bar.

    Raises:
        InputError: no such law or target; no row to fit; fewer runs than parameters; a constant target; a domain
            that never varies; one mixture only; scale asked of a table that has none; a negative seed.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are not negative")
    if resamples < 2:
        raise InputError(f"resamples is {resamples}; a spread needs at least 2")
    rows = fit_rows(table)
    seen, laws, notes = _candidates(rows, law, targets)
    total = len(laws) + uncertainty.refits(resamples, seen)
    with _bar(progress, total) as advance:
        candidates = []
        for family in laws:
            candidates.append(selection.candidate(family, seen, seed))
            advance(1)
        ranking, chosen, reason = selection.rank(candidates, seen)
        theta_SxTxP, apart_VxTxR = uncertainty.resample(chosen, seen, resamples, seed, advance)
    noise_T, freedom = seen.seed_noise()
    return LawFit(
        family=chosen.law,
        theta_TxP=chosen.theta_TxP,
        theta_SxTxP=theta_SxTxP,
        held_TxR=seen.scale.outward(chosen.held_TxR),
        apart_VxTxR=np.stack([seen.scale.outward(y_TxR) for y_TxR in apart_VxTxR]),
        seen=seen,
        noise={t: None if noise_T is None else float(noise_T[i]) for i, t in enumerate(seen.targets)},
        noise_freedom=freedom,
        cross_validation=ranking,
        reason=reason,
        notes=notes,
    )


def _candidates(rows: RunTable, law: str, targets: Sequence[str] | None) -> tuple[Observations, list, list[str]]:
    """The rows as arrays, the families to compare, and notes; a named law is the only one compared."""
    if law != "auto":
        family = selection.named(law)
        seen = observe(rows, family.uses_scale, targets)
        if problem := selection.check_runs(family, seen):
            alike = [f for f in LAWS.values() if f.uses_scale == family.uses_scale]
            smaller = [f.name for f in alike if selection.check_runs(f, seen) is None]
            remedy = f"add runs or take {' or '.join(smaller)}" if smaller else "add runs"
            raise InputError(f"{problem}; {remedy}")
        return seen, [family], list(seen.notes)
    sizes, tokens = scale_of(rows)
    uses_scale = min(sizes, tokens) > 0 and max(sizes, tokens) > 1
    seen = observe(rows, uses_scale, targets)
    problems = {f: selection.check_runs(f, seen) for f in LAWS.values() if f.uses_scale == uses_scale}
    laws = [f for f, problem in problems.items() if problem is None]
    skipped = [p for p in problems.values() if p]
    if not laws:
        raise InputError(f"{min(skipped, key=len)}; add runs")
    return seen, laws, [*seen.notes, *(f"not compared, {p}" for p in skipped)]


@contextmanager
def _bar(shown: bool, total: int):
    """Yields a function that advances a progress bar, or does nothing."""
    if not shown:
        yield _ignore
        return
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("fitting", total=total)
        yield lambda done: bar.update(task, advance=done)


def _ignore(done: int) -> None:
    """Progress that nobody watches."""
