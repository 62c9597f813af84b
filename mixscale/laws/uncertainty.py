"""The uncertainty of a fit: a parametric bootstrap, the error of extrapolation, and intervals for a new run.

The bootstrap gives the uncertainty of the law; residuals of held-out rows give the distance of a new run from it. An
interval method combines both, for one target or for any weighted sum of targets. To add one, register a class with
`of`, `half_width` and `widening` in `INTERVALS`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mixscale.errors import InputError
from mixscale.laws import fitting
from mixscale.laws.cross_validation import Candidate, Split, oof_predictions
from mixscale.laws.dataset import Dataset
from mixscale.laws.families import Law, Points
from mixscale.laws.least_squares import MAD_TO_STD
from mixscale.registry import Registry

LEVEL = 0.9  # default of every interval

TOLERANCE = 1e-4  # of bootstrap refits, which need less precision than a fit
# Bootstrap draws that are refitted without each fold: one in 20 of all, or one in twice the folds if that is more.
OOF_SHARE, OOF_PER_FOLD = 20, 2
CLIP = 3.0  # largest residual in the bootstrap, in robust standard deviations

LOG_STEP = 0.02  # in size and tokens, for slopes
USUAL_RATE, RATE_LOG_STD = 0.25, 1.0  # weak log-normal prior of the extrapolation error rate
RATES = np.geomspace(0.01, 6.0, 80)  # grid of extrapolation error rates
RESIDUAL_DOF = 4  # of the t distribution of residuals in its likelihood, for robustness

# Kernel over the log of the spread: its width, the mixtures that it includes at least, and its grid.
KERNEL_WIDTH, KERNEL_MIXTURES, KERNEL_GRID = 0.5, 20, 41
RESIDUAL_SEED_DOF = 5  # degrees of freedom that the spread of residuals counts for, next to those of replicates


# The bootstrap ------------------------------------------------------------------------------------------------------


def bootstrap_fits(bootstrap: int, split: Split, targets: int) -> int:
    """Number of fits of one target that `bootstrap_refits` makes."""
    folds = len(split.kept_FxR)
    return (bootstrap + _oof_draws(bootstrap, folds) * folds) * targets


def _oof_draws(bootstrap: int, folds: int) -> int:
    return max(2, bootstrap // OOF_SHARE, bootstrap // (OOF_PER_FOLD * folds))


def bootstrap_refits(
    chosen: Candidate, dataset: Dataset, bootstrap: int, seed: int, on_batch=None
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters refitted to simulated losses, and out-of-fold predictions by such refits.

    A parametric bootstrap: each draw is the fitted law plus normal errors, relative to the loss, with the covariance
    of the residuals between targets. A residual is the geometric mean of the fitted and the out-of-fold one, which
    corrects for leverage (HC2). Rows of one mixture share as much of their error as their residuals do. Unlike
    resampling runs, it never drops the only run that uses a domain. Each refit of a formula draws the prior mean from
    the prior (randomized maximum likelihood: Oliver, He and Reynolds 1996), so that parameters the data do not
    identify vary as widely as the prior allows.

    Args:
        on_batch: called with the number of fits that have ended.

    Returns:
        theta_SxTxP, and oof_bootstrap_VxTxR: predictions of each row, scaled, by refits of the first V draws without
        its fold; NaN for rows that no fold tests.
    """
    y_TxR, points, kept_FxR = dataset.y_scaled_TxR, dataset.points, chosen.split.kept_FxR
    targets, rows = y_TxR.shape
    fitted_TxR = fitting.evaluate(chosen.law, chosen.theta_TxP, points)
    residual_TxR = y_TxR - fitted_TxR
    oof_residual_TxR = np.where(chosen.split.tested_R, y_TxR - chosen.oof_pred_TxR, residual_TxR)
    error_TxR = np.sqrt(np.abs(residual_TxR * oof_residual_TxR)) * np.sign(residual_TxR) / fitted_TxR
    # The out-of-fold residual of a vertex is an extrapolation error, not noise; clip it.
    limit_Tx1 = CLIP * MAD_TO_STD * np.median(np.abs(error_TxR), axis=1, keepdims=True)
    error_TxR = np.clip(error_TxR, -limit_Tx1, limit_Tx1)
    shared = _shared_variance(error_TxR, dataset.group_R)
    rng = np.random.default_rng(seed)
    of_row_SxTxR = _normal(rng, error_TxR, bootstrap, rows)
    of_group_SxTxG = _normal(rng, error_TxR, bootstrap, int(dataset.group_R.max()) + 1)
    drawn_SxTxR = np.sqrt(1 - shared) * of_row_SxTxR + np.sqrt(shared) * of_group_SxTxG[..., dataset.group_R]
    drawn_SxTxR = np.maximum(fitted_TxR * (1 + drawn_SxTxR), 0.1 * y_TxR)
    drawn_BxR = drawn_SxTxR.reshape(-1, rows)
    shift_BxP = rng.standard_normal((bootstrap, *chosen.theta_TxP.shape)).reshape(len(drawn_BxR), -1)

    def refit(draws, kept_FxR, theta_TxFxP):
        b, sigma_B, start_BxFxP = draws * targets, np.tile(chosen.sigma_T, draws), np.tile(theta_TxFxP, (draws, 1, 1))
        return fitting.solve_folds(
            chosen.law, points, drawn_BxR[:b], kept_FxR, sigma_B, start_BxFxP, TOLERANCE, shift_BxP[:b], on_batch
        )

    theta_SxTxP = refit(bootstrap, np.ones((1, rows)), chosen.theta_TxP[:, None]).reshape(bootstrap, targets, -1)
    draws = _oof_draws(bootstrap, len(kept_FxR))
    oof_theta_BxFxP = refit(draws, kept_FxR, chosen.theta_TxFxP)
    oof_bootstrap_BxR = oof_predictions(chosen.law, oof_theta_BxFxP, chosen.split, dataset)
    fitting.check_finite(theta_SxTxP, oof_bootstrap_BxR[:, chosen.split.tested_R])
    return theta_SxTxP, oof_bootstrap_BxR.reshape(draws, targets, rows)


def _normal(rng: np.random.Generator, error_TxR: np.ndarray, bootstrap: int, count: int) -> np.ndarray:
    """Normal vectors over targets with the covariance of the errors, shape (S, T, count)."""
    # Eigenvectors, since fewer rows than targets leave the covariance without a Cholesky factor.
    value_T, vector_TxT = np.linalg.eigh(error_TxR @ error_TxR.T / error_TxR.shape[1])
    root_TxT = vector_TxT * np.sqrt(np.maximum(value_T, 0.0))
    return root_TxT @ rng.standard_normal((bootstrap, len(value_T), count))


def _shared_variance(error_TxR: np.ndarray, group_R: np.ndarray) -> float:
    """Share of the errors' variance that rows of one mixture have in common, 0 to 1."""
    counts_G = np.bincount(group_R)
    pairs = float((counts_G * (counts_G - 1)).sum())
    if pairs == 0:
        return 0.0
    square_T = (error_TxR**2).sum(axis=1)
    product_T = np.stack([np.bincount(group_R, e) ** 2 for e in error_TxR]).sum(axis=1) - square_T
    return float(np.clip(np.mean(product_T / pairs / (square_T / len(group_R))), 0.0, 1.0))


# Extrapolation ------------------------------------------------------------------------------------------------------
# The extrapolation distance of a point is the change of the loss from the range of the table to the point, at the
# slopes of the table. The error is a share of it, the extrapolation error rate, which held-out levels determine. A
# repeated token counts like a new one, so one more epoch is as far as new text.


def slopes(law: Law, theta_TxP: np.ndarray, points: Points) -> np.ndarray:
    """Root mean square change of the loss per e-fold of size and of new tokens, scaled, shape (2, T)."""

    def slope(*fields: str) -> np.ndarray:
        less_TxR, more_TxR = (
            fitting.evaluate(law, theta_TxP, points._replace(**{f: getattr(points, f) * np.exp(step) for f in fields}))
            for step in (-LOG_STEP, LOG_STEP)
        )
        return np.sqrt(((more_TxR - less_TxR) ** 2).mean(axis=1)) / (2 * LOG_STEP)

    return np.stack([slope("n_R"), slope("d_R", "u_RxK")])


def extrapolation_distance(slopes_2xT: np.ndarray, known: Points, points: Points) -> np.ndarray:
    """Distance of each point from the range of the known ones, scaled like the losses, shape (T, Q); 0 within it."""

    def outside(known_R, at_Q):
        return np.maximum(np.maximum(known_R.min() - at_Q, at_Q - known_R.max()), 0.0)

    size_Q, tokens_Q = (outside(np.log(getattr(known, x)), np.log(getattr(points, x))) for x in ("n_R", "d_R"))
    epochs_QxK = np.maximum(points.log_epochs_RxK - known.log_epochs_RxK.max(axis=0), 0.0)
    square_2xQ = np.stack([size_Q**2, tokens_Q**2 + (points.h_RxK * epochs_QxK).sum(axis=1) ** 2])
    return np.sqrt(np.square(slopes_2xT).T @ square_2xQ)


def oof_extrapolation(slopes_2xT: np.ndarray, points: Points, split: Split) -> np.ndarray:
    """Extrapolation distance of each row from those that its fold keeps, shape (T, R); 0 for untested rows."""
    distance_TxR = np.zeros((slopes_2xT.shape[1], points.count))
    for fold, kept_R in enumerate(split.kept_FxR > 0):
        tested_R = split.fold_R == fold
        distance_TxR[:, tested_R] = extrapolation_distance(slopes_2xT, points.rows(kept_R), points.rows(tested_R))
    return distance_TxR


def fit_error_rate(
    chosen: Candidate, dataset: Dataset, oof_bootstrap_VxTxR: np.ndarray, distance_TxR: np.ndarray
) -> float:
    """Extrapolation error rate of a law, from held-out errors that exceed the bootstrap spread and a run's noise."""
    y_TxR, tested_R = dataset.y_scaled_TxR, chosen.split.tested_R
    fitted_TxR = fitting.evaluate(chosen.law, chosen.theta_TxP, dataset.points)[:, tested_R]
    residual_TxR = y_TxR[:, tested_R] - fitted_TxR
    oof_residual_TxR = (y_TxR - chosen.oof_pred_TxR)[:, tested_R]
    draws_TxVxR = oof_bootstrap_VxTxR[:, :, tested_R].swapaxes(0, 1)
    each = zip(residual_TxR, oof_residual_TxR, np.abs(fitted_TxR), draws_TxVxR, strict=True)
    spread_TxR = np.stack([spread(draws, run_noise(r, oof, size), size) for r, oof, size, draws in each])
    return error_rate(oof_residual_TxR, spread_TxR, distance_TxR[:, tested_R], chosen.split.fold_R[tested_R])


def error_rate(
    oof_residual_TxR: np.ndarray, spread_TxR: np.ndarray, distance_TxR: np.ndarray, fold_R: np.ndarray
) -> float:
    """Extrapolation error over extrapolation distance: the mode of its posterior.

    Args:
        spread_TxR: standard deviation of the residuals without extrapolation error.
        fold_R: the fold that tests each row. All rows of a fold count as one, since a law with the wrong curvature
            is wrong about all of them.
    """
    log_posterior_C = stats.norm.logpdf(np.log(RATES / USUAL_RATE) / RATE_LOG_STD)
    for fold in np.unique(fold_R[(fold_R >= 0) & (distance_TxR > 0).any(axis=0)]):
        of_R = fold_R == fold
        scale_CxTxR = np.hypot(spread_TxR[:, of_R], RATES[:, None, None] * distance_TxR[:, of_R])
        log_posterior_C += stats.t.logpdf(oof_residual_TxR[:, of_R], RESIDUAL_DOF, scale=scale_CxTxR).mean(axis=(1, 2))
    return float(RATES[log_posterior_C.argmax()])


# Intervals ----------------------------------------------------------------------------------------------------------


def run_noise(residual_R: np.ndarray, oof_residual_R: np.ndarray, size_R: np.ndarray) -> float:
    """Robust spread of runs around the law, relative to the loss."""
    return max(MAD_TO_STD * float(np.median(np.sqrt(np.abs(residual_R * oof_residual_R)) / size_R)), 1e-12)


def spread(draws_SxR: np.ndarray, noise: float, size_R: np.ndarray) -> np.ndarray:
    """Standard deviation of a run around the law: that of the bootstrap draws and of a run's own noise."""
    return np.hypot(draws_SxR.std(axis=0, ddof=1), noise * size_R)


def seed_noise(noise: float, replicates: tuple[float, int] | None) -> float:
    """Standard deviation between seeds; with few replicates it is shrunk towards the spread of the residuals."""
    if replicates is None:
        return 0.0
    variance, dof = replicates
    shrunk = (dof * variance + RESIDUAL_SEED_DOF * min(noise**2, variance)) / (dof + RESIDUAL_SEED_DOF)
    return float(np.sqrt(shrunk))


# `of` takes residuals, out-of-fold residuals and draws of the fitted rows, for one weighted sum of targets;
# `half_width` and `widening` take draws, size and extrapolation error of new points.
INTERVALS: Registry[type] = Registry("interval method")
DEFAULT_INTERVAL = "local-conformal"


@INTERVALS.register(DEFAULT_INTERVAL)
@dataclass(frozen=True)
class LocalConformal:
    """Normalized conformal intervals with out-of-fold residuals (Papadopoulos 2008), localised (Guan 2023).

    The out-of-fold residual of each row is divided by its spread: a run's noise and the spread of bootstrap draws
    without its fold. A held-out vertex is an extrapolation with a large spread, so it does not widen the interval of
    an inner mixture. Errors that the bootstrap does not include (a law with the wrong curvature) grow with the
    extrapolation too, so the quantile of the ratios weights rows by the similarity of their log spread over noise.
    """

    noise: float  # spread of runs around the law, relative to the loss
    seed_noise: float  # standard deviation between seeds, relative to the loss; 0 if unknown
    ratio_R: np.ndarray  # |out-of-fold residual| over spread, ascending
    log_spread_R: np.ndarray  # log of the spread over the noise, in the same order; 0 where the draws agree
    rows_per_mixture: float  # a new mixture has the weight of so many rows

    @classmethod
    def of(
        cls, residual_R, oof_residual_R, oof_bootstrap_VxR, size_R, group_R, extrapolation_R=0.0, replicates=None
    ) -> LocalConformal:
        """From the fitted rows; rows that no fold tests (NaN) are ignored.

        Args:
            size_R: the loss that noise is relative to. group_R: number of the row's mixture.
            extrapolation_R: expected extrapolation error of each out-of-fold prediction.
            replicates: variance between replicates over the squared loss, and its degrees of freedom.
        """
        tested_R = np.isfinite(oof_residual_R)
        extrapolation_R = np.broadcast_to(extrapolation_R, tested_R.shape)
        residual_R, oof_residual_R, size_R, group_R, extrapolation_R = (
            x[tested_R] for x in (residual_R, oof_residual_R, size_R, group_R, extrapolation_R)
        )
        noise = run_noise(residual_R, oof_residual_R, size_R)
        between_seeds = seed_noise(noise, replicates)
        noise = max(noise, between_seeds)
        spread_R = np.hypot(spread(oof_bootstrap_VxR[:, tested_R], noise, size_R), extrapolation_R)
        ratio_R = np.abs(oof_residual_R) / spread_R
        order_R = np.argsort(ratio_R, kind="stable")
        log_spread_R = np.log(spread_R / (noise * size_R))
        return cls(
            noise, between_seeds, ratio_R[order_R], log_spread_R[order_R], len(group_R) / len(np.unique(group_R))
        )

    def half_width(self, draws_SxQ: np.ndarray, size_Q: np.ndarray, level: float, extrapolation_Q=0.0) -> np.ndarray:
        """Half width of an interval that contains a new run with probability `level`, shape (Q,)."""
        multiplier_Q, spread_Q = self._multiplier(draws_SxQ, size_Q, level, extrapolation_Q)
        normal = stats.norm.ppf((1 + level) / 2)
        # Held-out levels test the law with less data than it has, so beyond the table they may only widen intervals.
        multiplier_Q = np.where(np.asarray(extrapolation_Q) > 0, np.maximum(multiplier_Q, normal), multiplier_Q)
        return np.maximum(multiplier_Q * spread_Q, normal * self.seed_noise * size_Q)

    def widening(self, draws_SxQ: np.ndarray, size_Q: np.ndarray, level: float, extrapolation_Q=0.0) -> np.ndarray:
        """Width of the interval over that of normal errors with the expected spread, shape (Q,)."""
        multiplier_Q, _ = self._multiplier(draws_SxQ, size_Q, level, extrapolation_Q)
        return multiplier_Q / stats.norm.ppf((1 + level) / 2)

    def _multiplier(self, draws_SxQ, size_Q, level, extrapolation_Q) -> tuple[np.ndarray, np.ndarray]:
        """Quantile of the ratios of rows with a similar spread, on a grid, and the spread; shapes (Q,)."""
        check_level(level)
        spread_Q = np.hypot(spread(draws_SxQ, self.noise, size_Q), extrapolation_Q)
        grid_G = np.linspace(0.0, max(float(self.log_spread_R.max()), 1e-3), KERNEL_GRID)
        distance_GxR = np.abs(grid_G[:, None] - self.log_spread_R)
        nearest = min(int(KERNEL_MIXTURES * self.rows_per_mixture), len(self.log_spread_R)) - 1
        width_Gx1 = np.maximum(np.partition(distance_GxR, nearest, axis=1)[:, nearest, None], KERNEL_WIDTH)
        weight_GxR = np.exp(-0.5 * (distance_GxR / width_Gx1) ** 2)
        below_GxR = np.cumsum(weight_GxR, axis=1) / (weight_GxR.sum(axis=1, keepdims=True) + self.rows_per_mixture)
        quantile_G = [np.interp(level, below_R, self.ratio_R) for below_R in below_GxR]
        return np.interp(np.log(spread_Q / (self.noise * size_Q)), grid_G, quantile_G), spread_Q


def check_level(level: float) -> None:
    """Refuses a level that is not between 0 and 1."""
    if not 0 < level < 1:
        raise InputError(f"level is {level:g}; give a share between 0 and 1, such as {LEVEL:g}")
