"""From tables to checked and scaled arrays: `Dataset`, the rows that a law is fitted to.

It chooses the rows that can be fitted together (role, status, one size or many). Of a law it knows only whether it
uses scale, the mixture and unique tokens; it knows no parameters and no predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.errors import InputError, listed
from mixscale.laws.families import UNLIMITED, Points
from mixscale.objective import sign_of
from mixscale.run_table import RunTable

USED = 1e-9  # weight above which a mixture uses a domain
SCALES = {"n_params": "size", "n_tokens": "token count"}


@dataclass(frozen=True)
class Scale:
    """Scales losses, sizes and token counts to order one; scaled losses are `(y - offset) / unit`.

    The unit of a score is negative, so that every scaled target is positive and lower is better.
    """

    offset_T: np.ndarray
    unit_T: np.ndarray
    n: float
    d: float

    def inward(self, y_TxR: np.ndarray) -> np.ndarray:
        return (y_TxR - self.offset_T[:, None]) / self.unit_T[:, None]

    def outward(self, y_TxR: np.ndarray) -> np.ndarray:
        return y_TxR * self.unit_T[:, None] + self.offset_T[:, None]


@dataclass(frozen=True)
class Dataset:
    """Rows that one law is fitted to."""

    domains: tuple[str, ...]
    columns: tuple[str, ...]  # full names of the targets, `loss/code`
    targets: tuple[str, ...]  # without the prefix
    points: Points  # mixtures and scaled n, d of each row
    y_TxR: np.ndarray  # losses in their own units
    group_R: np.ndarray  # number of the mixture, or of the run where all have one mixture; folds do not split a group
    run_R: np.ndarray  # number of the run
    scale: Scale
    notes: tuple[str, ...]  # sentences on the rows and targets that were left out
    run_names: tuple[str, ...] = ()  # by the number of the run; not saved with a fit

    @property
    def distinct(self) -> int:
        """Number of distinct points: mixtures at a size, token count and number of unique tokens."""
        return int(self._cells().max()) + 1

    @property
    def never_used_K(self) -> np.ndarray:
        """Whether a domain has weight zero in every row, so that its effect is unknown, shape (K,)."""
        return self.points.h_RxK.max(axis=0) < USED

    @property
    def y_scaled_TxR(self) -> np.ndarray:
        return self.scale.inward(self.y_TxR)

    @property
    def has_repeats(self) -> bool:
        """Whether a row reads a domain more than once, by more than rounding."""
        points = self.points
        return bool((points.h_RxK * points.d_R[:, None] > 1.05 * points.u_RxK).any())

    @property
    def level_R(self) -> np.ndarray:
        """Number of the size and token count of each row; those within a percent of each other are one."""
        return _groups(np.column_stack([levels(self.points.n_R), levels(self.points.d_R)]))

    def replicates(self) -> tuple[np.ndarray, int]:
        """Differences of each row from the mean of its replicates, shape (T, R), and their degrees of freedom."""
        cell_R = self._cells()
        counts = np.bincount(cell_R)
        means_TxC = np.stack([np.bincount(cell_R, y) / counts for y in self.y_TxR])
        return self.y_TxR - means_TxC[:, cell_R], int((counts - 1).sum())

    def seed_noise(self) -> tuple[np.ndarray | None, int]:
        """Pooled standard deviation of replicates per target, shape (T,), and its degrees of freedom."""
        difference_TxR, dof = self.replicates()
        return (np.sqrt((difference_TxR**2).sum(axis=1) / dof), dof) if dof else (None, 0)

    def _cells(self) -> np.ndarray:
        """Number of the point (mixture, size, tokens, unique tokens) of each row, shape (R,)."""
        return _groups(np.column_stack(self.points))


def fit_rows(table: RunTable) -> RunTable:
    """The rows with role 'fit' or no role.

    Raises:
        InputError: there is no such row, or none of them is complete.
    """
    roles = table.frame.get("role")
    rows = table if roles is None else table.where(roles.fillna("fit").replace("", "fit") == "fit")
    if len(rows) == 0:
        raise InputError(f"no row has role 'fit' (found: {', '.join(sorted(map(str, roles.unique())))})")
    if len(rows.complete()) == 0:
        raise InputError(f"none of the {len(rows)} rows to fit is complete; let some finish, or correct their status")
    return rows


def scale_of(rows: RunTable) -> tuple[int, int]:
    """Number of sizes and of token counts in the complete rows; 0 where a row has none."""
    frame = rows.complete().frame
    sizes, tokens = (_distinct(frame[c]) if c in frame else 0 for c in SCALES)
    return sizes, tokens


def unique_known(rows: RunTable) -> bool:
    """Whether every complete row has the unique tokens of each domain that it uses, and its token count."""
    rows = rows.complete()
    columns = [f"unique_tokens/{d}" for d in rows.domains]
    if not {"n_tokens", *columns} <= set(rows.frame):
        return False
    known_RxK = (rows.frame[columns].to_numpy(dtype=np.float64) > 0) | (rows.mixtures_RxK == 0)
    return bool(known_RxK.all() and (rows.frame["n_tokens"].astype(float) > 0).all())


def build_dataset(
    rows: RunTable,
    uses_scale: bool,
    targets: Sequence[str] | None,
    uses_mixture: bool = True,
    uses_unique: bool = False,
) -> Dataset:
    """Arrays for a law that uses, or does not use, scale, the mixture and unique tokens.

    Raises:
        InputError: scale or unique tokens are used but not in the table; a target is unknown or constant; the mixture
            is used, but all rows have one mixture or the same weight above zero of a domain.
    """
    notes = list(rows.notes)
    rows = rows.complete() if uses_scale else _one_scale(rows, notes)
    sizes, tokens = scale_of(rows)
    if uses_scale:
        _check_scale(sizes, tokens, notes)
    elif uses_unique and not tokens:
        raise InputError("a law with repeats needs column 'n_tokens' (above zero) in every row to fit")
    columns = _columns(rows, targets)
    if others := [c for c in rows.targets if c not in columns]:
        why = "you chose others" if targets else "by default only losses are fitted"
        notes.append(f"not fitted: {listed(others)}, since {why} (to add one: --target {others[0]})")
    h_RxK = rows.mixtures_RxK
    group_R = _groups(h_RxK)
    if uses_mixture:
        _check_mixtures(rows.domains, h_RxK, group_R, notes)
    run_R = rows.frame.groupby("run", sort=False).ngroup().to_numpy()
    y_TxR = np.stack([rows.losses(c) for c in columns])
    for column, y_R in zip(columns, y_TxR, strict=True):
        if np.ptp(y_R) <= 1e-9 * float(np.abs(y_R).max()):
            raise InputError(f"target '{column}' is {y_R[0]:.6g} in every row to fit; leave out a constant target")
    n_R, n0 = _scaled(rows, "n_params") if sizes else (None, 1.0)
    d_R, d0 = _scaled(rows, "n_tokens") if uses_scale or uses_unique else (None, 1.0)
    scaled = (n_R, d_R) if uses_scale else ()
    offset_T, unit_T = _units(y_TxR, np.array([sign_of(c) for c in columns]))
    return Dataset(
        rows.domains,
        columns,
        tuple(c.split("/", 1)[1] for c in columns),
        Points.of(h_RxK, *scaled, u_RxK=_row_unique(rows, d0) if uses_unique else None),
        y_TxR,
        group_R if group_R.max() > 0 else run_R,
        run_R,
        Scale(offset_T, unit_T, n0, d0),
        tuple(notes),
        tuple(rows.frame["run"].unique()),
    )


def _columns(rows: RunTable, targets: Sequence[str] | None) -> tuple[str, ...]:
    losses = tuple(c for c in rows.targets if c.startswith("loss/"))
    columns = tuple(dict.fromkeys(rows.column_of(t) for t in targets)) if targets else losses or rows.targets
    bare = [c.split("/", 1)[1] for c in columns]
    if twice := [b for b in bare if bare.count(b) > 1]:
        both = " and ".join(c for c in columns if c.split("/", 1)[1] == twice[0])
        raise InputError(f"target '{twice[0]}' is both {both}; fit one of them")
    return columns


def levels(value_R: np.ndarray) -> np.ndarray:
    """Number of each row's level, ascending; values within a percent are one."""
    sorted_R, of_R = np.unique(value_R, return_inverse=True)
    return np.concatenate([[0], np.cumsum(sorted_R[1:] > 1.01 * sorted_R[:-1])])[of_R]


def _check_scale(sizes: int, tokens: int, notes: list[str]) -> None:
    if not (sizes and tokens):
        column = "n_tokens" if sizes else "n_params"
        raise InputError(f"a law that uses scale needs column '{column}' (above zero) in every row to fit")
    if sizes == tokens == 1:
        raise InputError(
            "a law that uses scale needs several sizes (n_params) or token counts (n_tokens), and the table has "
            "one of each; use a law without scale"
        )
    for (column, what), count in zip(SCALES.items(), (sizes, tokens), strict=True):
        if count == 1:
            notes.append(f"{column} never varies, so the fit predicts only at this {what}")


def _one_scale(rows: RunTable, notes: list[str]) -> RunTable:
    """The final row of each complete run; of several sizes or token counts the largest."""
    final = rows.final()
    if len(final) < len(rows):
        notes.append(f"the law has no scale, so only the last row of each of {len(final)} runs is fitted")
    # The last good step of a run that diverged is not a complete run: its loss there belongs to fewer tokens.
    kept = final.complete()
    if lost := len(final) - len(kept):
        notes.append(f"{lost} of {len(final)} runs diverged or were stopped and are left out")
    if len(kept) == 0:
        raise InputError(f"none of the {len(final)} runs to fit is complete; let some finish, or correct their status")
    for column, what in SCALES.items():
        if column not in kept.frame or _distinct(kept.frame[column]) <= 1:
            continue
        value_R = kept.frame[column].to_numpy(dtype=np.float64)
        largest = np.abs(value_R / np.nanmax(value_R) - 1) < 0.01
        notes.append(
            f"the law has no scale, so only the {int(largest.sum())} runs with the largest {what} "
            f"({column} {np.nanmax(value_R):.4g}) are fitted; {int((~largest).sum())} are left out"
        )
        kept = kept.where(largest)
    return kept


def _check_mixtures(domains: Sequence[str], h_RxK: np.ndarray, group_R: np.ndarray, notes: list[str]) -> None:
    if group_R.max() == 0:
        raise InputError(
            f"all {len(h_RxK)} rows to fit have the same mixture; a law of the mixture needs several "
            "('chinchilla' needs several sizes or token counts instead)"
        )
    for domain, h_R in zip(domains, h_RxK.T, strict=True):
        if h_R.max() < USED:
            notes.append(
                f"domain '{domain}' has weight 0 in every row to fit, so its effect is unknown and predictions must "
                "keep it at 0"
            )
        elif np.ptp(h_R) < 1e-9:
            raise InputError(
                f"domain '{domain}' has weight {h_R[0]:.6g} in every row to fit, so its effect cannot be estimated; "
                "vary it, or drop its column and renormalize"
            )


def _groups(h_RxK: np.ndarray) -> np.ndarray:
    """Number of each distinct row of the array (to nine decimals), in order of appearance."""
    return pd.Series([row.tobytes() for row in np.round(h_RxK, 9) + 0.0]).factorize()[0]


def _distinct(values: pd.Series) -> int:
    """Number of values that differ by more than a percent; 0 where one is missing or not positive."""
    v_R = values.to_numpy(dtype=np.float64)
    return 1 + int(levels(v_R).max()) if np.isfinite(v_R).all() and (v_R > 0).all() else 0


def _scaled(rows: RunTable, column: str) -> tuple[np.ndarray, float]:
    """The column over its geometric mean, and that mean."""
    v_R = rows.frame[column].to_numpy(dtype=np.float64)
    centre = float(np.exp(np.log(v_R).mean()))
    return v_R / centre, centre


def _row_unique(rows: RunTable, d0: float) -> np.ndarray:
    """Unique tokens of each domain over d0, shape (R, K)."""
    columns = [f"unique_tokens/{d}" for d in rows.domains]
    if missing := [c for c in columns if c not in rows.frame]:
        raise InputError(
            f"a law with repeats needs column '{missing[0]}', the unique tokens of that domain; add it, or use the "
            "law without repeats"
        )
    u_RxK = rows.frame[columns].to_numpy(dtype=np.float64)
    if len(bad := np.argwhere(~(u_RxK > 0) & (rows.mixtures_RxK > 0))):
        row, k = bad[0]
        raise InputError(
            f"run '{rows.frame['run'].iloc[row]}' has {columns[k]} = {u_RxK[row, k]:g}; a domain that is used needs "
            "unique tokens above zero"
        )
    return scaled_unique(u_RxK, d0)


def scaled_unique(u_RxK: np.ndarray, d0: float) -> np.ndarray:
    """Unique tokens over the unit of d; what is missing or huge is no limit."""
    return np.where(u_RxK > 0, np.minimum(u_RxK / d0, UNLIMITED), UNLIMITED)


def _units(y_TxR: np.ndarray, sign_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offset and unit of each target: zero and the median of a positive target; any other is scaled to 1..2.

    `sign_T` is -1 for a score, which is negated first.
    """
    y_TxR = y_TxR * sign_T[:, None]
    low_T, span_T = y_TxR.min(axis=1), np.ptp(y_TxR, axis=1)
    positive_T = low_T > 0
    offset_T = np.where(positive_T, 0.0, low_T - span_T)
    return sign_T * offset_T, sign_T * np.where(positive_T, np.median(y_TxR, axis=1), span_T)
