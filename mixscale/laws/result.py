"""`LawFit`: a fitted law that predicts with intervals and can be saved.

Mixtures are given by domain name or in the order of `domains`; losses are in the targets' own units. On disk a fit is
fit.json, with names and what a person may read, and one npz with the arrays.
"""

from __future__ import annotations

import json
import secrets
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.io import DIAGNOSTICS_FILE, atomic_write, check_format, ensure_dir
from mixscale.laws import fitting, uncertainty
from mixscale.laws.catalogue import get_law
from mixscale.laws.cross_validation import hull_weights
from mixscale.laws.dataset import Dataset, Scale
from mixscale.laws.diagnostics import Diagnostics, diagnose
from mixscale.laws.families import Law, Points
from mixscale.laws.query import build_query, query_columns
from mixscale.laws.skill import MIN_MIXTURES, Skill
from mixscale.laws.uncertainty import DEFAULT_INTERVAL, INTERVALS, LEVEL
from mixscale.objective import BoundObjective, Objective

ARRAYS = (
    "theta_TxP", "sigma_T", "theta_SxTxP", "oof_pred_TxR", "oof_bootstrap_VxTxR", "oof_extrapolation_TxR", "slopes_2xT"
)  # fmt: skip
PLAIN = ("seed", "extrapolation_rate", "interval_method", "noise", "noise_dof", "reason", "notes")  # saved as JSON
FORMAT = 1  # increase it with every change of what a fit contains
REMEDY = "fit the table again with `mixscale fit TABLE --out FOLDER`"


@dataclass(frozen=True)
class LawFit:
    """A law fitted to every target of a table."""

    family: Law  # `law` is its name
    theta_TxP: np.ndarray  # parameters, scaled
    sigma_T: np.ndarray  # noise of the fit, relative to the scaled loss
    theta_SxTxP: np.ndarray  # parameters of each bootstrap refit
    oof_pred_TxR: np.ndarray  # out-of-fold prediction of each fitted row
    oof_bootstrap_VxTxR: np.ndarray  # the same by V bootstrap refits
    oof_extrapolation_TxR: np.ndarray  # expected extrapolation error of the out-of-fold predictions
    slopes_2xT: np.ndarray  # change of the loss per e-fold of size and of tokens, scaled
    extrapolation_rate: float  # extrapolation error over extrapolation distance (`uncertainty`)
    dataset: Dataset  # the fitted rows
    noise: dict[str, float | None]  # standard deviation between seeds in a target's unit, None without replicates
    noise_dof: int  # its degrees of freedom
    cross_validation: pd.DataFrame  # ranking of the compared laws
    reason: str  # for the choice of the law
    seed: int
    notes: list[str] = field(default_factory=list)  # on rows, targets and laws that were left out
    interval_method: str = DEFAULT_INTERVAL  # a name in `uncertainty.INTERVALS`
    # Prediction of each row by a fit without its mixture, NaN where there is none; None: `oof_pred_TxR` has them.
    mixture_oof_TxR: np.ndarray | None = None

    @property
    def law(self) -> str:
        return self.family.name

    @property
    def domains(self) -> tuple[str, ...]:
        return self.dataset.domains

    @property
    def targets(self) -> tuple[str, ...]:
        return self.dataset.targets

    @property
    def uses_scale(self) -> bool:
        return self.family.uses_scale

    @property
    def n_runs(self) -> int:
        return int(self.dataset.run_R.max()) + 1

    @property
    def params(self) -> dict[str, dict[str, float]]:
        """Parameters of each target by name, in the units of the published formula (`family.source`).

        A formula gives the target above its offset, and a score's distance below it.
        """
        return self._by_name(self._natural(self.theta_TxP), float)

    def param_intervals(self, level: float = LEVEL) -> dict[str, dict[str, tuple[float, float]]]:
        """Bootstrap percentile intervals (lo, hi) of the parameters, by target and name like `params`.

        lo and hi are equal for parameters that refits keep: length scales of a process, weights of a stack.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        uncertainty.check_level(level)
        draws_SxTxN = np.stack([self._natural(theta_TxP) for theta_TxP in self.theta_SxTxP])
        bounds_2xTxN = np.quantile(draws_SxTxN, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return self._by_name(bounds_2xTxN.transpose(1, 2, 0), lambda bounds_2: tuple(map(float, bounds_2)))

    def points(self, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> Points:
        """Checked query points, as `query.build_query`; raises InputError also if one cannot be predicted."""
        return build_query(self.family, self.dataset, h_QxK, n_params, n_tokens, unique_tokens).checked()

    def predict(self, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> np.ndarray:
        """Losses of Q mixtures, shape (Q, T)."""
        return self._losses(self.theta_TxP, self.points(h_QxK, n_params, n_tokens, unique_tokens)).T

    def draws(self, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> np.ndarray:
        """Losses by each bootstrap refit, shape (S, Q, T): the uncertainty of the law, without a run's own noise."""
        return self._draws(self.points(h_QxK, n_params, n_tokens, unique_tokens))

    def interval(
        self, h_QxK: np.ndarray, level: float = LEVEL, n_params=None, n_tokens=None, unique_tokens=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (lo_QxT, hi_QxT) that contain the loss of a new run with probability `level`.

        Raises:
            InputError: the level is not between 0 and 1; as `points`.
        """
        points = self.points(h_QxK, n_params, n_tokens, unique_tokens)
        loss_TxQ, half_TxQ = self._calibrated("half_width", np.eye(len(self.targets)), points, level)
        return (loss_TxQ - half_TxQ).T, (loss_TxQ + half_TxQ).T

    def objective(
        self, h_QxK: np.ndarray, weights=None, level: float = LEVEL, **scale
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The weighted mean of the targets and its interval for a new run: (mean_Q, lo_Q, hi_Q); lower is better.

        It is `Σ_t weight_t sign_t y_t`, in which a score counts negatively. Errors that targets share do not cancel in
        its interval, and others do.

        Args:
            weights: of the targets, as in `mean_objective`. scale: n_params, n_tokens and unique_tokens.
        """
        weight_T = self.mean_objective(weights).coef_T
        (mean_Q,), (half_Q,) = self._calibrated("half_width", weight_T[None], self.points(h_QxK, **scale), level)
        return mean_Q, mean_Q - half_Q, mean_Q + half_Q

    def widening(self, h_1xK: np.ndarray, weights=None, level: float = LEVEL, **scale) -> float:
        """Factor, at least 1, by which the draws' spread at a mixture must grow to cover held-out runs.

        It is the weighted mean over targets, which do not share the error that the draws do not include.
        """
        points, each_TxT = self.points(h_1xK, **scale), np.eye(len(self.targets))
        _, factor_Tx1 = self._calibrated("widening", each_TxT, points, level)
        return max(1.0, float(self.mean_objective(weights).weight_T @ factor_Tx1[:, 0]))

    def mean_objective(self, weights: Mapping[str, float] | None = None) -> BoundObjective:
        """The mean of the targets with these weights, all equal if none is given; InputError if one is unknown."""
        return Objective(dict(weights or {})).bind(self.dataset.columns)

    def predict_table(
        self, frame: pd.DataFrame, level: float = LEVEL, problems: Mapping[int, str] | None = None
    ) -> pd.DataFrame:
        """A table with `mix/<domain>`, and `pred/<t>`, `lo/<t>` and `hi/<t>` of each target for its rows.

        `n_params`, `n_tokens` and `unique_tokens/<domain>` are used where the law needs them. An empty cell of unique
        tokens is no limit; a domain without that column has its amount in the fitted table. A row that cannot be
        predicted (`query.build_query`) has missing values and the reason in a column `note`, and a warning gives
        their number.

        Args:
            problems: why rows cannot be predicted, by number, if that is known.

        Raises:
            InputError: a domain of the fit or a needed column is missing, a value is not a number, no row can be
                predicted, or the level is not between 0 and 1.
        """
        uncertainty.check_level(level)
        columns, unknown = query_columns(self.family, self.domains, frame)
        query = build_query(self.family, self.dataset, *columns)
        problems = query.problems | unknown | dict(problems or {})
        fine_N = np.setdiff1d(np.arange(len(frame)), list(problems))
        value_3xTxQ = np.full((3, len(self.targets), len(frame)), np.nan)
        if len(fine_N):
            points = query.points.rows(fine_N) if problems else query.points
            loss_TxN, half_TxN = self._calibrated("half_width", np.eye(len(self.targets)), points, level)
            value_3xTxQ[..., fine_N] = loss_TxN, loss_TxN - half_TxN, loss_TxN + half_TxN
        for q in fine_N[~np.isfinite(value_3xTxQ[..., fine_N]).all(axis=(0, 1))]:
            problems[q], value_3xTxQ[..., q] = f"mixture {q}: the prediction of the law is not finite", np.nan
        if len(problems) == len(frame):
            raise InputError(f"none of {len(frame)} rows can be predicted: {problems[min(problems)]}")
        names = [f"{kind}/{name}" for name in self.targets for kind in ("pred", "lo", "hi")]
        predicted = frame.assign(**dict(zip(names, value_3xTxQ.swapaxes(0, 1).reshape(len(names), -1), strict=True)))
        if not problems:
            return predicted
        first = problems[min(problems)]
        warnings.warn(f"{len(problems)} of {len(frame)} rows cannot be predicted: {first}", stacklevel=2)
        note_Q = predicted["note"].tolist() if "note" in predicted else [None] * len(frame)
        return predicted.assign(note=[problems.get(q, note) for q, note in enumerate(note_Q)])

    def at_rows(self, h_K: np.ndarray) -> np.ndarray:
        """Losses of one mixture at the size, tokens and unique tokens of every fitted row, shape (R, T)."""
        points = self.dataset.points
        return self._losses(self.theta_TxP, points._replace(h_RxK=np.tile(h_K, (points.count, 1)))).T

    def skill(self, objective: Callable[[np.ndarray], np.ndarray] | None = None) -> Skill:
        """Whether the law distinguishes held-out mixtures in an objective.

        Args:
            objective: from the losses of all fitted rows, (R, T), to one number per row. None: their mean, in which a
                score counts negatively.
        """
        dataset, domains = self.dataset, len(self.domains)
        if not self.family.uses_mixture:
            return Skill(0, domains, uses_mixture=False)
        oof_pred_TxR = self.oof_pred_TxR if self.mixture_oof_TxR is None else self.mixture_oof_TxR
        tested_R = np.isfinite(oof_pred_TxR).all(axis=0)
        centre_RxT = self.at_rows(np.unique(dataset.points.h_RxK, axis=0).mean(axis=0))
        of = objective or self.mean_objective().mean
        y_R, oof_R, centre_R = (of(y_RxT)[tested_R] for y_RxT in (dataset.y_TxR.T, oof_pred_TxR.T, centre_RxT))
        first_G = np.unique(dataset.group_R, return_index=True)[1]
        count_G = hull_weights(dataset.points.h_RxK[first_G], np.arange(len(first_G)))
        differences, group_R = (y_R - centre_R, oof_R - centre_R), dataset.group_R[tested_R]
        skill = Skill.of(*differences, dataset.level_R[tested_R], group_R, count_G[group_R], domains)
        if skill.mixtures >= min(MIN_MIXTURES, len(np.unique(group_R))):
            return skill
        # If few runs share a size, the law itself corrects for size.
        return Skill.of(*differences, np.zeros(len(y_R), dtype=int), group_R, count_G[group_R], domains)

    def summary(self) -> str:
        """A few lines for a person."""
        params, draws = self.family.n_params(len(self.domains)), len(self.theta_SxTxP)
        lines = [
            f"law {self.law}: {self.family.source}",
            f"fitted to {self.n_runs} runs, {len(self.domains)} domains, {len(self.targets)} targets; "
            f"{params} parameters per target, {draws} bootstrap refits",
            f"chosen because {self.reason}" if len(self.cross_validation) > 1 else self.reason,
            "",
            self.cross_validation.to_string(index=False, float_format=lambda v: f"{v:.4f}"),
            "",
            f"{'target':<24}{'held-out MAE':>14}{'seed noise':>12}",
        ]
        lines += [f"{target:<24}{error:>14}{noise:>12}" for target, error, noise, _ in self._target_errors()]
        if self.family.uses_mixture:
            skill = self.skill()
            lines.append(f"warning: {skill.warning}" if skill.warning else skill.describe())
        if self.uses_scale:
            known = self.oof_extrapolation_TxR.any()
            tested = "estimated on held-out levels" if known else "a usual value, not tested"
            lines.append(f"extrapolation error: {self.extrapolation_rate:.0%} of the extrapolated change ({tested})")
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])

    def _repr_html_(self) -> str:
        from mixscale.formatting import notebook_html

        return notebook_html("fit", self, errors=self._target_errors())

    def _target_errors(self) -> list[tuple[str, str, str, str]]:
        """For each target: its name, mean absolute error on held-out rows, seed noise and standard deviation."""
        error_T = np.nanmean(np.abs(self.oof_pred_TxR - self.dataset.y_TxR), axis=1)
        std_T = np.nanstd(self.dataset.y_TxR, axis=1)
        noise = ["unknown" if (n := self.noise[t]) is None else f"{n:.4f}" for t in self.targets]
        return [(t, f"{e:.4f}", n, f"{s:.4f}") for t, e, n, s in zip(self.targets, error_T, noise, std_T, strict=True)]

    def diagnostics(self) -> Diagnostics:
        """Convergence, competing minima, bounds, unidentified parameters and outliers of each target's fit."""
        return diagnose(self.family, self.dataset, self.theta_TxP, self.sigma_T, self.seed)

    def save(self, folder: str | Path) -> None:
        """Writes the arrays to a new file in `folder`, then fit.json, which names it; a kill leaves the old fit.

        Raises:
            InputError: the folder is, or lies below, a file.
        """
        folder, name = ensure_dir(folder), f"fit-{secrets.token_hex(4)}.npz"
        dataset, scale = self.dataset, self.dataset.scale
        about = {
            "format": FORMAT,
            "law": self.law,
            "source": self.family.source,
            "domains": self.domains,
            "columns": dataset.columns,
            "scale": {"n_params": scale.n, "n_tokens": scale.d},
            "params": self.params,
            "param_intervals": self.param_intervals(),
            "skill": self.skill().to_json(),
            "cross_validation": self.cross_validation.to_dict(orient="records"),
            **{key: getattr(self, key) for key in PLAIN},
            "arrays": name,
        }
        arrays = {
            **{key: getattr(self, key) for key in ARRAYS},
            **dataset.points._asdict(),
            **{key: getattr(dataset, key) for key in ("y_TxR", "group_R", "run_R")},
            **{key: getattr(scale, key) for key in ("offset_T", "unit_T")},
            **({} if self.mixture_oof_TxR is None else {"mixture_oof_TxR": self.mixture_oof_TxR}),
        }
        with atomic_write(folder / name) as file:
            np.savez(file, **arrays)
        with atomic_write(folder / "fit.json") as file:
            file.write_text(json.dumps(about, indent=1) + "\n")
        found = folder / DIAGNOSTICS_FILE  # of the older fit
        for old in [found, found.with_suffix(".txt"), *folder.glob("fit-????????.npz")]:
            if old.name != name:
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path) -> LawFit:
        """The fit saved in `folder`.

        Raises:
            InputError: there is none, it has another format, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / "fit.json").is_file():
            raise InputError(f"'{folder}' contains no fit (fit.json)")
        try:
            about = json.loads((folder / "fit.json").read_text())
            check_format(about.get("format"), FORMAT, f"the fit in '{folder}'", REMEDY)
            with np.load(folder / about["arrays"], allow_pickle=False) as data:
                return cls._from_saved(about, dict(data))
        except InputError:
            raise
        except (KeyError, ValueError, OSError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"the fit in '{folder}' is damaged ({error}); {REMEDY}") from error

    @classmethod
    def _from_saved(cls, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> LawFit:
        columns, scale = tuple(about["columns"]), about["scale"]
        dataset = Dataset(
            tuple(about["domains"]),
            columns,
            tuple(c.split("/", 1)[1] for c in columns),
            Points(*(arrays[name] for name in Points._fields)),
            arrays["y_TxR"],
            arrays["group_R"],
            arrays["run_R"],
            Scale(arrays["offset_T"], arrays["unit_T"], scale["n_params"], scale["n_tokens"]),
            (),
        )
        return cls(
            family=get_law(about["law"]).bound(dataset.points),
            dataset=dataset,
            cross_validation=pd.DataFrame(about["cross_validation"]),
            mixture_oof_TxR=arrays.get("mixture_oof_TxR"),
            **{name: arrays[name] for name in ARRAYS},
            **{name: about[name] for name in PLAIN},
        )

    def _losses(self, theta_TxP: np.ndarray, points: Points) -> np.ndarray:
        return self.dataset.scale.outward(fitting.evaluate(self.family, theta_TxP, points))

    def _draws(self, points: Points) -> np.ndarray:
        bootstrap, targets, params = self.theta_SxTxP.shape
        loss_BxQ = fitting.evaluate(self.family, self.theta_SxTxP.reshape(-1, params), points)
        scale = self.dataset.scale
        return loss_BxQ.reshape(bootstrap, targets, -1).transpose(0, 2, 1) * scale.unit_T + scale.offset_T

    @cached_property
    def _fitted_TxR(self) -> np.ndarray:
        """Fitted losses of the rows, shape (T, R)."""
        return self._losses(self.theta_TxP, self.dataset.points)

    def _calibrated(
        self, measure: str, weight_WxT: np.ndarray, points: Points, level: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weighted sums of the targets at points, and a measure of the interval method for each, shapes (W, Q)."""
        loss_TxQ, draws_SxQxT = self._losses(self.theta_TxP, points), self._draws(points)
        distance_TxQ = uncertainty.extrapolation_distance(self.slopes_2xT, self.dataset.points, points)
        error_TxQ = self.extrapolation_rate * np.abs(self.dataset.scale.unit_T)[:, None] * distance_TxQ
        means, measures = [], []
        for weight_T in weight_WxT:
            size_Q, error_Q = self._size(weight_T, loss_TxQ), np.abs(weight_T) @ error_TxQ
            method = getattr(self._interval_method(weight_T), measure)
            measures.append(method(draws_SxQxT @ weight_T, size_Q, level, error_Q))
            means.append(weight_T @ loss_TxQ)
        return np.stack(means), np.stack(measures)

    def _interval_method(self, weight_T: np.ndarray):
        """The interval method, calibrated on the fitted rows for one weighted sum of targets."""
        dataset, size_R = self.dataset, self._size(weight_T, self._fitted_TxR)
        difference_TxR, dof = dataset.replicates()
        variance = float(((weight_T @ difference_TxR / size_R) ** 2).sum() / dof) if dof else None
        return INTERVALS[self.interval_method].of(
            weight_T @ (dataset.y_TxR - self._fitted_TxR),
            weight_T @ (dataset.y_TxR - self.oof_pred_TxR),
            np.einsum("t,vtr->vr", weight_T, self.oof_bootstrap_VxTxR),
            size_R,
            dataset.group_R,
            np.abs(weight_T) @ self.oof_extrapolation_TxR,
            None if variance is None else (variance, dof),
        )

    def _size(self, weight_T: np.ndarray, loss_TxQ: np.ndarray) -> np.ndarray:
        """What noise is relative to: the weighted sum of distances from each target's offset, positive, shape (Q,)."""
        weight_T, unit_T = np.abs(weight_T), self.dataset.scale.unit_T
        size_Q = weight_T @ (np.sign(unit_T)[:, None] * (loss_TxQ - self.dataset.scale.offset_T[:, None]))
        return np.maximum(size_Q, 0.1 * float(weight_T @ np.abs(unit_T)))

    def _natural(self, theta_TxP: np.ndarray) -> np.ndarray:
        """Parameters in the units of the published formula, in the order of the family's names."""
        scale, k = self.dataset.scale, len(self.domains)
        units = [{"loss": abs(float(unit)), "n": scale.n, "d": scale.d} for unit in scale.unit_T]
        return np.stack([self.family.natural(theta_P, k, of) for theta_P, of in zip(theta_TxP, units, strict=True)])

    def _by_name(self, values_TxN: np.ndarray, kind) -> dict[str, dict]:
        names = self.family.names(self.domains)
        return {
            target: dict(zip(names, map(kind, values_N), strict=True))
            for target, values_N in zip(self.targets, values_TxN, strict=True)
        }
