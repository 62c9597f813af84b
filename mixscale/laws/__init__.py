"""Laws that predict the loss of a mixture: `fit(table) -> LawFit`.

`families` has the formulas, `fitting` fits them, `cross_validation` chooses one, `uncertainty` has the bootstrap and
the intervals, and `result` is what a caller gets. This package reads run tables; it does not know how runs were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
from rich.progress import Progress

from mixscale.errors import InputError
from mixscale.laws import catalogue, cross_validation, diagnostics, fitting, stacking, uncertainty
from mixscale.laws.dataset import fit_rows
from mixscale.laws.families import LAWS
from mixscale.laws.result import LawFit
from mixscale.run_table import RunTable

FAILURES = (ArithmeticError, ValueError)  # what numerical code raises; LinAlgError is a ValueError

__all__ = ["LAWS", "LawFit", "fit"]


def fit(
    table: RunTable,
    law: str = "auto",
    targets: Sequence[str] | None = None,
    seed: int = 0,
    bootstrap: int = 200,
    holdout: str = "mixtures",
    progress: bool = False,
) -> LawFit:
    """Fits a law to every target of a table, with cross-validation and a bootstrap.

    Args:
        table: complete rows with role 'fit' or no role are used. A law without scale takes the last row of each run,
            and of several sizes or token counts the largest; `notes` says which rows were left out.
        law: a name in `LAWS`, with '+repeats' or '+constrained' for repeated text; 'stack(NAME, NAME)' for a weighted
            mean; or 'auto', which compares laws and chooses the one with the smallest cross-validation error: laws
            with scale if the table has several sizes or token counts, laws without otherwise, and also their forms
            for repeated text if rows repeat a domain and state its unique tokens. A law, or member of a stack, whose
            fit fails is left out with a note.
        targets: names of the columns to fit, with or without prefix. None: all losses, or all metrics and scores if
            there are no losses.
        seed: of starts, folds and the bootstrap; the same seed gives the same fit.
        bootstrap: number of bootstrap refits, at least 2; half as many again leave out a tenth of the mixtures each.
        holdout: what cross-validation holds out; choose what you will predict: unseen 'mixtures', 'larger-n',
            'larger-d', or 'both' for larger sizes of unseen mixtures.
        progress: show a progress bar.

    Raises:
        InputError: no such law, target or holdout; no row to fit; fewer runs than parameters; a constant target; a
            domain that never varies; only one mixture; a law with scale for a table without; a negative seed; a
            stack where the holdout has only one fold; no law can be fitted.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; give a seed of 0 or more")
    if bootstrap < 2:
        raise InputError(f"bootstrap is {bootstrap}; give at least 2")
    dataset, laws, notes = catalogue.candidate_laws(fit_rows(table), law, targets)
    split = cross_validation.make_split(dataset, holdout, seed)
    named_stack = law.startswith("stack(")
    if named_stack and len(split.kept_FxR) < 2:
        raise InputError(f"'{law}' needs two folds for its weights, and holdout '{holdout}' has one; name one law")
    total = len(laws) + uncertainty.bootstrap_fits(bootstrap, split, len(dataset.targets))
    candidates, failures = [], {}
    # Values that are not finite make a law fail; warnings would say the same less clearly.
    with Progress() if progress else nullcontext() as bar, np.errstate(all="ignore"):
        advance = partial(bar.advance, bar.add_task("fitting", total=total)) if bar else lambda fits: None
        for family in laws:
            try:
                candidates.append(cross_validation.cross_validate(family, dataset, split, seed))
            except FAILURES as error:
                failures[family.name] = error
            advance(1)
        chosen = None
        while chosen is None:
            stackable = not any(name.startswith("stack(") for name in failures)
            stack = stacking.stack(candidates, dataset, prune=not named_stack) if stackable else None
            if not candidates or (named_stack and not stack):
                t = np.ptp(np.log(dataset.y_scaled_TxR), axis=1).argmax()
                low, high = dataset.y_TxR[t].min(), dataset.y_TxR[t].max()
                raise InputError(
                    f"{'; '.join(_failed(failures))}; look for extreme values, such as in {dataset.columns[t]}, which "
                    f"ranges from {low:.4g} to {high:.4g}, or choose another law"
                )
            ranking, chosen, reason = cross_validation.rank(candidates + ([stack] if stack else []), dataset, holdout)
            if named_stack:
                chosen, reason = stack, f"you chose '{stack.law.name}' by name"
            try:
                theta_SxTxP, oof_bootstrap_VxTxR = uncertainty.bootstrap_refits(
                    chosen, dataset, bootstrap, seed, advance
                )
                mixture_oof_TxR = cross_validation.mixture_oof_predictions(chosen, dataset, seed)
                slopes_2xT = uncertainty.slopes(chosen.law, chosen.theta_TxP, dataset.points)
                fitting.check_finite(slopes_2xT)
            except FAILURES as error:
                failures[chosen.law.name] = error
                candidates, chosen = [c for c in candidates if c is not chosen], None
    notes += [f"not compared: {failed}" for failed in _failed(failures)]
    noise_T, noise_dof = dataset.seed_noise()
    distance_TxR = uncertainty.oof_extrapolation(slopes_2xT, dataset.points, split)
    rate = uncertainty.fit_error_rate(chosen, dataset, oof_bootstrap_VxTxR, distance_TxR)
    outward = dataset.scale.outward
    notes += diagnostics.extreme_runs(chosen, dataset)
    return LawFit(
        family=chosen.law,
        theta_TxP=chosen.theta_TxP,
        sigma_T=chosen.sigma_T,
        theta_SxTxP=theta_SxTxP,
        oof_pred_TxR=outward(chosen.oof_pred_TxR),
        oof_bootstrap_VxTxR=np.stack([outward(y_TxR) for y_TxR in oof_bootstrap_VxTxR]),
        mixture_oof_TxR=None if mixture_oof_TxR is None else outward(mixture_oof_TxR),
        oof_extrapolation_TxR=rate * distance_TxR * np.abs(dataset.scale.unit_T)[:, None],
        slopes_2xT=slopes_2xT,
        extrapolation_rate=rate,
        dataset=dataset,
        noise={t: None if noise_T is None else float(noise_T[i]) for i, t in enumerate(dataset.targets)},
        noise_dof=noise_dof,
        cross_validation=ranking,
        reason=reason,
        seed=seed,
        notes=notes,
    )


def _failed(failures: dict[str, Exception]) -> list[str]:
    return [f"law '{name}' cannot be fitted to this table ({error})" for name, error in failures.items()]
