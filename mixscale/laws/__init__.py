"""Laws that predict the loss of a mixture: `fit(table) -> LawFit`.

`families` holds the formulas, `engine` fits any of them, `selection` chooses, `uncertainty` doubts and `result` is
what a caller gets. The room reads run tables only; it knows nothing of how runs were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np

from mixscale.errors import InputError
from mixscale.laws import extrapolation, selection, uncertainty
from mixscale.laws.dataset import Dataset, build_dataset, fit_rows, scale_of, unique_known
from mixscale.laws.families import LAWS, REPEATS
from mixscale.laws.process import GP
from mixscale.laws.result import LawFit
from mixscale.laws.splits import split
from mixscale.run_table import RunTable

__all__ = ["LAWS", "LawFit", "fit"]


def fit(
    table: RunTable,
    law: str = "auto",
    targets: Sequence[str] | None = None,
    seed: int = 0,
    bootstrap: int = 200,
    question: str = "mixtures",
    progress: bool = False,
) -> LawFit:
    """Fit a law to every target of a table, with cross-validation and a bootstrap.

    Args:
        table: rows with role 'fit' are used where there are roles, and only complete ones. A law without scale takes
            the last row of each run, none of a run that diverged or was cut short, and of several sizes or token
            counts the largest (told in `notes`).
        law: a family's name, with '+repeats' or '+constrained' behind it where repeated text is worth less, or
            'auto': of the families marked so, the one that answers the question best, among those with scale when
            the table has several sizes or token counts, and among those without otherwise; where rows read a domain
            more than once and tell how many unique tokens it has, each without repeats and with each form of them.
            'gp' is a Gaussian process and 'stack(a, b)' a weighted mean of laws; 'auto' compares these too.
        targets: names of the columns to fit, with or without prefix; None: all losses, or all metrics and scores
            if there are no losses.
        seed: of starts, folds and resamples; the same seed gives the same fit.
        resamples: refits for the doubt, at least 2; half as many again leave out a tenth of the mixtures each.
        question: what will be asked, which decides what is left out to choose and to calibrate: 'mixtures' that are
            not in the table, 'larger-n', 'larger-d', or 'both', a larger size of such mixtures.
        progress: show a progress bar.

    Raises:
        InputError: no such law or target; no row to fit; fewer runs than parameters; a constant target; a domain
            that never varies; one mixture only; scale asked of a table that has none; a negative seed; a
            stack where the question has one fold only.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are not negative")
    if bootstrap < 2:
        raise InputError(f"bootstrap is {bootstrap}; a spread needs at least 2")
    rows = fit_rows(table)
    dataset, laws, notes = _candidates(rows, law, targets)
    folds = split(dataset, question, seed)
    with _bar(progress, len(laws) + uncertainty.refits(bootstrap, folds, len(dataset.targets))) as advance:
        candidates = []
        for family in laws:
            candidates.append(selection.candidate(family, dataset, folds, seed))
            advance(1)
        asked = law.startswith("stack(")
        joined = selection.stacked(candidates, dataset, prune=not asked)
        if asked and joined is None:
            raise InputError(f"'{law}' needs two folds to find its weights, and '{question}' has one; name one law")
        ranking, chosen, reason = selection.rank([*candidates, *([joined] if joined else [])], dataset, question)
        if asked:
            chosen, reason = joined, f"'{joined.law.name}' was asked for by name"
        theta_SxTxP, oof_bootstrap_VxTxR = uncertainty.resample(chosen, dataset, bootstrap, seed, advance)
        unseen_TxR = selection.unseen(chosen, dataset, seed)
    noise_T, freedom = dataset.seed_noise()
    steep_2xT = extrapolation.steepness(chosen.law, chosen.theta_TxP, dataset.points)
    away_TxR = extrapolation.left_out(steep_2xT, dataset.points, folds)
    drift = uncertainty.drift(chosen, dataset, oof_bootstrap_VxTxR, away_TxR)
    return LawFit(
        family=chosen.law,
        theta_TxP=chosen.theta_TxP,
        sigma_T=chosen.sigma_T,
        theta_SxTxP=theta_SxTxP,
        oof_pred_TxR=dataset.scale.outward(chosen.oof_pred_TxR),
        oof_bootstrap_VxTxR=np.stack([dataset.scale.outward(y_TxR) for y_TxR in oof_bootstrap_VxTxR]),
        missed_TxR=drift * away_TxR * np.abs(dataset.scale.unit_T)[:, None],
        steep_2xT=steep_2xT,
        drift=drift,
        dataset=dataset,
        noise={t: None if noise_T is None else float(noise_T[i]) for i, t in enumerate(dataset.targets)},
        noise_freedom=freedom,
        cross_validation=ranking,
        reason=reason,
        seed=seed,
        notes=notes,
        unseen_TxR=None if unseen_TxR is None else dataset.scale.outward(unseen_TxR),
    )


def _candidates(rows: RunTable, law: str, targets: Sequence[str] | None) -> tuple[Dataset, list, list[str]]:
    """The rows as arrays, the families to compare, and notes; a named law is the only one compared."""
    if law != "auto":
        family = selection.named(law)
        dataset = build_dataset(rows, family.uses_scale, targets, family.uses_mixture, family.uses_unique)
        if problem := selection.check_runs(family, dataset):
            alike = [f for f in LAWS.values() if f.uses_scale == family.uses_scale and f.auto]
            smaller = [f.name for f in alike if selection.check_runs(f, dataset) is None]
            raise InputError(problem + (f" or take {' or '.join(smaller)}" if smaller else ""))
        return dataset, list(getattr(family, "members", [family])), list(dataset.notes)
    sizes, tokens = scale_of(rows)
    uses_scale = min(sizes, tokens) > 0 and max(sizes, tokens) > 1
    varied = len(np.unique(np.round(rows.mixtures_RxK, 9), axis=0)) > 1
    # Where the mixture never varies there is scale alone to learn from.
    families = [f for f in LAWS.values() if f.uses_scale == uses_scale and (f.auto if varied else not f.uses_mixture)]
    dataset = build_dataset(rows, uses_scale, targets, varied or not families, unique_known(rows))
    if _repeats(dataset):
        families += [wide for widen in REPEATS.values() for f in families if (wide := widen(f))]
    if varied and not uses_scale:
        families.append(GP)
    problems = {f: selection.check_runs(f, dataset) for f in families}
    laws = [f for f, problem in problems.items() if problem is None]
    skipped = [p for p in problems.values() if p]
    if not laws:
        raise InputError(min(skipped, key=len))
    return dataset, laws, [*dataset.notes, *(f"not compared, {p}" for p in skipped)]


def _repeats(dataset: Dataset) -> bool:
    """Whether a row reads a domain more than once, by more than rounding."""
    points = dataset.points
    return bool((points.h_RxK * points.d_R[:, None] > 1.05 * points.u_RxK).any())


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
