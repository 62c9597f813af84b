"""`LawFit`: a fitted law that predicts, says how sure it is, and can be saved.

Everything a reader of a fit needs and nothing of how it was found. Mixtures come and go by domain name or in the
order of `domains`; losses in the targets' own units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.laws import diagnosis, extrapolation, fitting, hull_distance, query, storage
from mixscale.laws.calibration import LEVEL, Calibration
from mixscale.laws.dataset import Dataset
from mixscale.laws.families import Points
from mixscale.laws.selection import AnyLaw
from mixscale.laws.skill import LEAST, Skill
from mixscale.run_table import sign_of


@dataclass(frozen=True)
class LawFit:
    """A law fitted to every target of a table.

    Attributes:
        law: name of the family. family: the family itself.
        domains, targets: names; a target is without its prefix (`code`, not `loss/code`).
        theta_TxP: parameters as the engine holds them; theta_SxTxP: one such set per resample.
        sigma_T: noise that the fit assumed, relative to the scaled loss. seed: that it was fitted with.
        held_TxR: predictions of each fitted row by a fit without its mixture, in the targets' units.
        apart_VxTxR: the same by V resamples that lack the mixture.
        missed_TxR: what the law is expected to miss of each row because it lies beyond those its fold kept.
        steep_2xT, drift: what that is for other points (`beyond`): what a loss changes in an e-fold of size and of
            tokens, scaled, and which share of such a change the law misses beyond the table.
        seen: the rows that were fitted.
        noise: seed noise per target (standard deviation in its unit), None where no run was repeated.
        noise_freedom: degrees of freedom of the seed noise.
        cross_validation: ranking of the laws compared. reason: why this one. notes: what a reader should know.
        unseen_TxR: predictions of each row by a fit without its mixture, NaN where there is none; None where
            `held_TxR` holds just these, as where the question is about mixtures.
    """

    family: AnyLaw
    theta_TxP: np.ndarray
    sigma_T: np.ndarray
    theta_SxTxP: np.ndarray
    oof_pred_TxR: np.ndarray
    oof_bootstrap_VxTxR: np.ndarray
    missed_TxR: np.ndarray
    steep_2xT: np.ndarray
    drift: float
    dataset: Dataset
    noise: dict[str, float | None]
    noise_freedom: int
    cross_validation: pd.DataFrame
    reason: str
    seed: int
    notes: list[str] = field(default_factory=list)
    unseen_TxR: np.ndarray | None = None

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
    def signs_T(self) -> np.ndarray:
        """1 where lower is better, -1 for a score: what each target is multiplied by in an objective, shape (T,)."""
        return np.array([sign_of(c) for c in self.dataset.columns])

    @property
    def uses_scale(self) -> bool:
        return self.family.uses_scale

    @property
    def n_runs(self) -> int:
        return int(self.dataset.run_R.max()) + 1

    @property
    def params(self) -> dict[str, dict[str, float]]:
        """Parameters of each target by name, in the units of the published formula (`family.source`).

        A formula gives the target above its offset; that of a score gives how far it stays below its offset.
        """
        return self._by_name(self._natural(self.theta_TxP), float)

    def param_intervals(self, level: float = LEVEL) -> dict[str, dict[str, tuple[float, float]]]:
        """Bounds (lo, hi) that hold `level` of each parameter's resamples, by target and name like `params`.

        They are equal where resamples keep a parameter: the length scales of a process, the weights of a stack.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"level is {level:g}; give a share between 0 and 1, such as {LEVEL:g}")
        draws_SxTxN = np.stack([self._natural(theta_TxP) for theta_TxP in self.theta_SxTxP])
        bounds_2xTxN = np.quantile(draws_SxTxN, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return self._by_name(bounds_2xTxN.transpose(1, 2, 0), lambda bounds_2: tuple(map(float, bounds_2)))

    def points(self, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> Points:
        """Checked query points, as `query.points`."""
        return query.points(self.family, self.dataset, h_QxK, n_params, n_tokens, unique_tokens)

    def predict(self, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> np.ndarray:
        """Losses of Q mixtures, shape (Q, T)."""
        return self._losses(self.theta_TxP, self.points(h_QxK, n_params, n_tokens, unique_tokens)).T

    def draws(self, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> np.ndarray:
        """Losses by each resample's law, shape (S, Q, T): the doubt about the law, without a run's own noise."""
        return self._draws(self.points(h_QxK, n_params, n_tokens, unique_tokens))

    def interval(
        self, h_QxK: np.ndarray, level: float = LEVEL, n_params=None, n_tokens=None, unique_tokens=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (lo_QxT, hi_QxT) that hold the loss of a new run with probability `level`, above 0 and below 1."""
        points = self.points(h_QxK, n_params, n_tokens, unique_tokens)
        middle_TxQ, draws_SxQxT = self._losses(self.theta_TxP, points), self._draws(points)
        missed_TxQ = self._missed(points)
        half_TxQ = np.stack(
            [
                self._calibration(one_T).half_width(
                    draws_SxQxT @ one_T, self._size(one_T, middle_TxQ), level, one_T @ missed_TxQ
                )
                for one_T in np.eye(len(self.targets))
            ]
        )
        return (middle_TxQ - half_TxQ).T, (middle_TxQ + half_TxQ).T

    def objective(
        self,
        h_QxK: np.ndarray,
        weights=None,
        level: float = LEVEL,
        n_params=None,
        n_tokens=None,
        unique_tokens=None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What an optimum minimizes and its interval for a new run: (mean_Q, lo_Q, hi_Q).

        It is the weighted mean of the targets, `Σ_t weight_t sign_t y_t`, in which a score counts negatively. The
        interval is that of the mean itself, so errors that targets share do not cancel and others do.

        Args:
            weights: of the targets, by name; normalized to sum one, absent ones are zero. None: all equal.
        """
        weight_T = self.signs_T * self.target_weights(weights)
        points = self.points(h_QxK, n_params, n_tokens, unique_tokens)
        middle_TxQ = self._losses(self.theta_TxP, points)
        mean_Q = weight_T @ middle_TxQ
        half_Q = self._calibration(weight_T).half_width(
            self._draws(points) @ weight_T,
            self._size(weight_T, middle_TxQ),
            level,
            np.abs(weight_T) @ self._missed(points),
        )
        return mean_Q, mean_Q - half_Q, mean_Q + half_Q

    def widening(
        self,
        h_1xK: np.ndarray,
        weights=None,
        level: float = LEVEL,
        n_params=None,
        n_tokens=None,
        unique_tokens=None,
    ) -> float:
        """How much wider the draws' spread must be at a mixture to hold what left-out runs show; at least 1.

        The mean over targets by weight: what the draws leave out (a law that is not quite true) is not shared by them.
        """
        points = self.points(h_1xK, n_params, n_tokens, unique_tokens)
        middle_Tx1, draws_Sx1xT = self._losses(self.theta_TxP, points), self._draws(points)
        missed_Tx1 = self._missed(points)
        factor_T = [
            self._calibration(one_T).widening(
                draws_Sx1xT @ one_T, self._size(one_T, middle_Tx1), level, one_T @ missed_Tx1
            )[0]
            for one_T in np.eye(len(self.targets))
        ]
        return max(1.0, float(self.target_weights(weights) @ factor_T))

    def target_weights(self, weights: Mapping[str, float] | None) -> np.ndarray:
        """Weights in the order of `targets`, checked by `query.target_weights`, shape (T,); an objective takes them
        times `signs_T`."""
        return query.target_weights(self.dataset, weights)

    def predict_table(self, frame: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
        """Predictions for the rows of a table with `mix/<domain>`.

        Its n_params and n_tokens, and its `unique_tokens/<domain>`, are taken where the law uses them; an empty cell
        is no limit, and a domain without that column has what it had in the table that was fitted.

        Returns:
            a copy of the table's columns with `pred/<t>`, `lo/<t>` and `hi/<t>` for each target.

        Raises:
            InputError: the domains of the table and the fit differ, a needed column is missing, a value is no number,
                weights are off, or the level is not between 0 and 1.
        """
        h_QxK, *scale = query.columns(self.family, self.domains, frame)
        predicted_QxT = self.predict(h_QxK, *scale)
        lo_QxT, hi_QxT = self.interval(h_QxK, level, *scale)
        columns = {
            f"{kind}/{target}": values_QxT[:, t]
            for t, target in enumerate(self.targets)
            for kind, values_QxT in (("pred", predicted_QxT), ("lo", lo_QxT), ("hi", hi_QxT))
        }
        return frame.assign(**columns)

    def at_rows(self, h_K: np.ndarray) -> np.ndarray:
        """Losses of one mixture at the size, tokens and text of every fitted row, shape (R, T)."""
        points = self.dataset.points
        return self._losses(self.theta_TxP, points._replace(h_RxK=np.tile(h_K, (points.count, 1)))).T

    def skill(self, goal: Callable[[np.ndarray], np.ndarray] | None = None) -> Skill:
        """Whether the law tells mixtures apart that it has not seen, in a goal.

        Args:
            goal: of the losses of all fitted rows, (R, T) in their order, to one number a row; None: their mean, in
                which a score counts negatively.
        """
        dataset, domains = self.dataset, len(self.domains)
        if not self.family.uses_mixture:
            return Skill(0, domains, uses_mixture=False)
        oof_pred_TxR = self.oof_pred_TxR if self.unseen_TxR is None else self.unseen_TxR
        tested_R = np.isfinite(oof_pred_TxR).all(axis=0)
        middle_RxT = self.at_rows(np.unique(dataset.points.h_RxK, axis=0).mean(axis=0))
        of = goal or (lambda y_RxT: y_RxT @ (self.signs_T / len(self.targets)))
        y_R, held_R, middle_R = (of(y_RxT)[tested_R] for y_RxT in (dataset.y_TxR.T, oof_pred_TxR.T, middle_RxT))
        first_G = np.unique(dataset.group_R, return_index=True)[1]
        count_G = hull_distance.counts(dataset.points.h_RxK[first_G], np.arange(len(first_G)))
        differ, group_R = (y_R - middle_R, held_R - middle_R), dataset.group_R[tested_R]
        found = Skill.of(*differ, dataset.level_R[tested_R], group_R, count_G[group_R], domains)
        if found.mixtures >= min(LEAST, len(np.unique(group_R))):
            return found
        # Where hardly two runs are of one size, what size explains is the law's to say.
        return Skill.of(*differ, np.zeros(len(y_R), dtype=int), group_R, count_G[group_R], domains)

    def summary(self) -> str:
        """A few lines a person can read."""
        lines = [
            f"law {self.law}: {self.family.source}",
            f"fitted to {self.n_runs} runs, {len(self.domains)} domains, {len(self.targets)} targets; "
            f"{self.family.n_params(len(self.domains))} parameters a target, {len(self.theta_SxTxP)} resamples",
            f"chosen because {self.reason}" if len(self.cross_validation) > 1 else self.reason,
            "",
            self.cross_validation.to_string(index=False, float_format=lambda v: f"{v:.4f}"),
            "",
            f"{'target':<24}{'MAE unseen':>12}{'seed noise':>12}",
        ]
        for t, target in enumerate(self.targets):
            error = np.nanmean(np.abs(self.oof_pred_TxR[t] - self.dataset.y_TxR[t]))
            noise = self.noise[target]
            lines.append(f"{target:<24}{error:>12.4f}{'unknown' if noise is None else f'{noise:.4f}':>12}")
        if self.family.uses_mixture:
            found = self.skill()
            lines.append(f"warning: {found.warning}" if found.warning else found.said())
        if self.uses_scale:
            known = "misses" if self.missed_TxR.any() else "is taken, as nothing was left out there, to miss"
            told = f"{known} about {self.drift:.0%} of what the loss changes on the way"
            lines.append(f"beyond the table's sizes and tokens it {told}, which intervals count")
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])

    def _repr_html_(self) -> str:
        from mixscale import notebook

        return notebook.of_fit(self)

    def diagnosis(self) -> diagnosis.Diagnosis:
        """How sound the fit of each target is, and what the data could not tell."""
        return diagnosis.diagnose(self.family, self.dataset, self.theta_TxP, self.sigma_T, self.seed)

    def save(self, folder: str | Path) -> None:
        """Write the fit into `folder`, as `storage.save`."""
        storage.save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> LawFit:
        """The fit saved in `folder`, as `storage.load`."""
        return cls(**storage.load(folder))

    def _losses(self, theta_TxP: np.ndarray, points: Points) -> np.ndarray:
        return self.dataset.scale.outward(fitting.evaluate(self.family, theta_TxP, points))

    def _draws(self, points: Points) -> np.ndarray:
        bootstrap, targets, params = self.theta_SxTxP.shape
        loss_BxQ = fitting.evaluate(self.family, self.theta_SxTxP.reshape(-1, params), points)
        scale = self.dataset.scale
        return loss_BxQ.reshape(bootstrap, targets, -1).transpose(0, 2, 1) * scale.unit_T + scale.offset_T

    @cached_property
    def _at_rows(self) -> np.ndarray:
        """Fitted losses of the rows that were fitted, shape (T, R)."""
        return self._losses(self.theta_TxP, self.dataset.points)

    def _missed(self, points: Points) -> np.ndarray:
        """What the law is expected to miss of each point because it lies beyond the table, shape (T, Q)."""
        unit_Tx1 = np.abs(self.dataset.scale.unit_T)[:, None]
        return self.drift * unit_Tx1 * extrapolation.distance(self.steep_2xT, self.dataset.points, points)

    def _calibration(self, weight_T: np.ndarray) -> Calibration:
        fitted_TxR = self._at_rows
        size_R = self._size(weight_T, fitted_TxR)
        apart_TxR, freedom = self.dataset.replicates()
        seed = (float(((weight_T @ apart_TxR / size_R) ** 2).sum() / freedom), freedom) if freedom else None
        return Calibration.of(
            weight_T @ (self.dataset.y_TxR - fitted_TxR),
            weight_T @ (self.dataset.y_TxR - self.oof_pred_TxR),
            np.einsum("t,vtr->vr", weight_T, self.oof_bootstrap_VxTxR),
            size_R,
            self.dataset.group_R,
            np.abs(weight_T) @ self.missed_TxR,
            seed,
        )

    def _size(self, weight_T: np.ndarray, loss_TxQ: np.ndarray) -> np.ndarray:
        """What noise is relative to: the weighted sum of distances from each target's offset, positive, shape (Q,)."""
        weight_T, unit_T = np.abs(weight_T), self.dataset.scale.unit_T
        size_Q = weight_T @ (np.sign(unit_T)[:, None] * (loss_TxQ - self.dataset.scale.offset_T[:, None]))
        return np.maximum(size_Q, 0.1 * float(weight_T @ np.abs(unit_T)))

    def _natural(self, theta_TxP: np.ndarray) -> np.ndarray:
        """Parameters in the units of the published formula, in the order of the family's names."""
        scale, rows = self.dataset.scale, []
        for theta_P, unit in zip(theta_TxP, scale.unit_T, strict=True):
            units = {"loss": abs(float(unit)), "n": scale.n, "d": scale.d}
            rows.append(self.family.natural(theta_P, len(self.domains), units))
        return np.stack(rows)

    def _by_name(self, values_TxN: np.ndarray, kind) -> dict[str, dict]:
        names = self.family.names(self.domains)
        return {
            target: dict(zip(names, map(kind, values_N), strict=True))
            for target, values_N in zip(self.targets, values_TxN, strict=True)
        }
