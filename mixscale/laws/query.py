"""Query points of a fit: mixtures, sizes, token counts and unique tokens, checked and scaled to `Points`.

Knows the fitted rows and what the law uses, no parameters and no predictions. Arrays of mixtures are in the order of
the fit's domains; tables have a column for each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mixscale.errors import InputError, did_you_mean
from mixscale.laws.dataset import Dataset
from mixscale.laws.families import UNLIMITED, Law, Points
from mixscale.mixture import ROUNDING, unknown_domain
from mixscale.mixture_file import table_weights
from mixscale.run_table import numeric, off_simplex

USED = 1e-9
"""Weight above which a mixture uses a domain."""


def points(law: Law, dataset: Dataset, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> Points:
    """Checked query points of a law that is fitted to these rows.

    Args:
        n_params, n_tokens: a number or shape (Q,); needed by laws with scale. A law with repeats and without scale
            uses n_tokens too, by default the table's mean.
        unique_tokens: of each domain, by name or of shape (K,) or (Q, K); used by laws with repeats. The default of
            a domain (no name, or NaN) is its amount in the table, and no limit where runs had different amounts.

    Raises:
        InputError: weights are off the simplex, or above zero for a domain that no fitted row used; the law uses
            a scale that is not given; a number of tokens is not positive.
    """
    h_QxK = _on_simplex(np.atleast_2d(np.asarray(h_QxK, dtype=np.float64)), dataset.domains)
    if law.uses_mixture:
        _check_known(h_QxK, dataset)
    count = len(h_QxK)
    n_Q = d_Q = u_QxK = None
    if law.uses_scale:
        n_Q = _scaled(law.name, n_params, "n_params", dataset.scale.n, count)
        d_Q = _scaled(law.name, n_tokens, "n_tokens", dataset.scale.d, count)
    elif law.uses_unique and n_tokens is not None:
        d_Q = _scaled(law.name, n_tokens, "n_tokens", dataset.scale.d, count)
    if law.uses_unique:
        u_QxK = _unique({} if unique_tokens is None else unique_tokens, dataset, h_QxK)
    return Points.of(h_QxK, n_Q, d_Q, u_QxK)


def columns(law: Law, domains: tuple[str, ...], frame: pd.DataFrame) -> tuple:
    """From a table: mixtures, shape (Q, K), and n_params, n_tokens and unique tokens, None if not given.

    Raises:
        InputError: the domains of the table and the fit differ, there is no row, or a value is not a number.
    """
    h_QxK = table_weights(frame, "the table of mixtures", domains).to_numpy()
    n_params, n_tokens = (
        numeric(frame[c]).to_numpy(dtype=np.float64) if used and c in frame else None
        for c, used in (("n_params", law.uses_scale), ("n_tokens", law.uses_scale or law.uses_unique))
    )
    return h_QxK, n_params, n_tokens, _unique_columns(domains, frame) if law.uses_unique else None


def target_weights(dataset: Dataset, weights: Mapping[str, float] | None) -> np.ndarray:
    """Weights in the order of the targets, non-negative and summing to one, shape (T,); all equal for None.

    Raises:
        InputError: a name is unknown, a weight is negative or not finite, or all are zero.
    """
    targets = dataset.targets
    if not weights:
        return np.full(len(targets), 1 / len(targets))
    weight_T = np.zeros(len(targets))
    bare_of = dict(zip(dataset.columns, targets, strict=True))
    for name, value in weights.items():
        bare = bare_of.get(name, name)
        if bare not in targets:
            raise InputError(f"target '{name}' was not fitted{did_you_mean(name, targets)}")
        if not (np.isfinite(value) and value >= 0):
            raise InputError(f"target '{name}' has weight {value}; give a finite weight of 0 or more")
        weight_T[targets.index(bare)] += value
    if weight_T.sum() == 0:
        raise InputError("all weights of targets are zero; give at least one that is positive")
    return weight_T / weight_T.sum()


def _on_simplex(h_QxK: np.ndarray, domains: tuple[str, ...]) -> np.ndarray:
    """The mixtures, normalized where the sum differs from one by rounding."""
    if h_QxK.shape[1] != len(domains):
        raise InputError(
            f"a mixture has {h_QxK.shape[1]} weights; the fit has {len(domains)} domains ({', '.join(domains)})"
        )
    bad_QxK = ~(np.isfinite(h_QxK) & (h_QxK >= 0))
    if bad_QxK.any():
        q, k = np.argwhere(bad_QxK)[0]
        raise InputError(f"mixture {q} has {h_QxK[q, k]:g} of '{domains[k]}'; weights are non-negative")
    sums_Q = h_QxK.sum(axis=1)
    if (np.abs(sums_Q - 1) > ROUNDING).any():
        q = int(np.abs(sums_Q - 1).argmax())
        raise off_simplex(f"mixture {q}", domains, h_QxK[q])
    return np.where(np.abs(sums_Q - 1) > 1e-6, 1 / sums_Q, 1.0)[:, None] * h_QxK


def _check_known(h_QxK: np.ndarray, dataset: Dataset) -> None:
    unknown_QxK = (h_QxK > USED) & dataset.never_used_K
    if unknown_QxK.any():
        q, k = np.argwhere(unknown_QxK)[0]
        raise InputError(
            f"mixture {q} has {h_QxK[q, k]:g} of '{dataset.domains[k]}', which no fitted run used, so its effect is "
            "unknown; set it to 0, or add runs that use it"
        )


def _scaled(law: str, value, name: str, centre: float, count: int) -> np.ndarray:
    """Sizes or token counts over their geometric mean in the table, shape (Q,)."""
    if value is None:
        raise InputError(f"law '{law}' uses scale, so a prediction needs '{name}'")
    v_Q = np.broadcast_to(np.asarray(value, dtype=np.float64), (count,))
    if not (np.isfinite(v_Q).all() and (v_Q > 0).all()):
        raise InputError(f"'{name}' is {v_Q[~(np.isfinite(v_Q) & (v_Q > 0))][0]}; it must be positive")
    return v_Q / centre


def _of_table(dataset: Dataset) -> np.ndarray:
    """Unique tokens that every fitted run had, shape (K,); unlimited where they differ from run to run."""
    u_RxK = dataset.points.u_RxK
    same_K = np.ptp(u_RxK, axis=0) <= 1e-9 * u_RxK.max(axis=0)
    return np.where(same_K, u_RxK[0], UNLIMITED)


def _unique(value, dataset: Dataset, h_QxK: np.ndarray) -> np.ndarray:
    """Unique tokens over the unit of d, shape (Q, K)."""
    domains = dataset.domains
    if isinstance(value, Mapping):
        if unknown := [d for d in value if d not in domains]:
            raise unknown_domain("the number of unique tokens", unknown[0], domains)
        value = [value.get(d, np.nan) for d in domains]
    u_QxK = np.broadcast_to(np.asarray(value, dtype=np.float64), h_QxK.shape)
    bad_QxK = (u_QxK <= 0) & (h_QxK > 0)
    if bad_QxK.any():
        q, k = np.argwhere(bad_QxK)[0]
        raise InputError(f"unique tokens of '{domains[k]}' are {u_QxK[q, k]:g}; they must be positive")
    scaled_QxK = np.where(u_QxK > 0, np.minimum(u_QxK / dataset.scale.d, UNLIMITED), UNLIMITED)
    return np.where(np.isnan(u_QxK), _of_table(dataset), scaled_QxK)


def _unique_columns(domains: tuple[str, ...], frame: pd.DataFrame) -> np.ndarray:
    """`unique_tokens/<domain>` of each row, shape (Q, K), infinite in empty cells and NaN where there is no column."""
    names = [f"unique_tokens/{d}" for d in domains]
    return np.column_stack(
        [numeric(frame[c]).fillna(np.inf) if c in frame else np.full(len(frame), np.nan) for c in names]
    )
