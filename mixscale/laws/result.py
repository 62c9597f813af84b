"""`LawFit`: a fitted law that predicts, says how sure it is, and can be saved.

Everything a reader of a fit needs and nothing of how it was found. Mixtures come and go by domain name or in the
order of `domains`; losses in the targets' own units.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.laws import engine
from mixscale.laws.engine import Points
from mixscale.laws.families import Law
from mixscale.laws.observations import Observations, Scale
from mixscale.laws.selection import named
from mixscale.laws.uncertainty import Calibration
from mixscale.mixture import ROUNDING
from mixscale.runs import nearest


@dataclass(frozen=True)
class LawFit:
    """A law fitted to every target of a table.

    Attributes:
        law: name of the family. family: the family itself.
        domains, targets: names; a target is without its prefix (`code`, not `loss/code`).
        theta_TxP: parameters as the engine holds them; theta_SxTxP: one such set per resample.
        held_TxR: predictions of each fitted row by a fit without its mixture, in the targets' units.
        seen: the rows that were fitted.
        noise: seed noise per target (standard deviation in its unit), None where no run was repeated.
        noise_freedom: degrees of freedom of the seed noise.
        cross_validation: ranking of the laws compared. reason: why this one. notes: what a reader should know.
    """

    family: Law
    theta_TxP: np.ndarray
    theta_SxTxP: np.ndarray
    held_TxR: np.ndarray
    seen: Observations
    noise: dict[str, float | None]
    noise_freedom: int
    cross_validation: pd.DataFrame
    reason: str
    notes: list[str] = field(default_factory=list)

    @property
    def law(self) -> str:
        return self.family.name

    @property
    def domains(self) -> tuple[str, ...]:
        return self.seen.domains

    @property
    def targets(self) -> tuple[str, ...]:
        return self.seen.targets

    @property
    def uses_scale(self) -> bool:
        return self.family.uses_scale

    @property
    def n_runs(self) -> int:
        return int(self.seen.run_R.max()) + 1

    @property
    def params(self) -> dict[str, dict[str, float]]:
        """Parameters of each target by name, in the units of the published formula (`family.source`)."""
        names = self.family.names(self.domains)
        result = {}
        for target, theta_P, unit in zip(self.targets, self.theta_TxP, self.seen.scale.unit_T, strict=True):
            units = {"loss": float(unit), "n": self.seen.scale.n, "d": self.seen.scale.d}
            values_P = self.family.natural(theta_P, len(self.domains), units)
            result[target] = dict(zip(names, map(float, values_P), strict=True))
        return result

    def points(self, h_QxK: np.ndarray, n_params=None, n_tokens=None) -> Points:
        """Checked query points; `n_params` and `n_tokens` are a number or shape (Q,), unused by laws without scale.

        Raises:
            InputError: weights are off the simplex, or the law uses a scale that is not given.
        """
        h_QxK = np.atleast_2d(np.asarray(h_QxK, dtype=np.float64))
        if h_QxK.shape[1] != len(self.domains):
            raise InputError(
                f"a mixture has {h_QxK.shape[1]} weights; the fit has {len(self.domains)} domains "
                f"({', '.join(self.domains)})"
            )
        bad_QxK = ~(np.isfinite(h_QxK) & (h_QxK >= 0))
        if bad_QxK.any():
            q, k = np.argwhere(bad_QxK)[0]
            raise InputError(f"mixture {q} has {h_QxK[q, k]:g} of '{self.domains[k]}'; weights are non-negative")
        sums_Q = h_QxK.sum(axis=1)
        if (np.abs(sums_Q - 1) > ROUNDING).any():
            q = int(np.abs(sums_Q - 1).argmax())
            raise InputError(f"mixture {q} has weights that sum to {sums_Q[q]:.6g}; they must sum to 1")
        h_QxK = np.where(np.abs(sums_Q - 1) > 1e-6, 1 / sums_Q, 1.0)[:, None] * h_QxK
        return Points(
            h_QxK,
            self._scaled(n_params, "n_params", self.seen.scale.n, len(h_QxK)),
            self._scaled(n_tokens, "n_tokens", self.seen.scale.d, len(h_QxK)),
        )

    def predict(self, h_QxK: np.ndarray, n_params=None, n_tokens=None) -> np.ndarray:
        """Losses of Q mixtures, shape (Q, T)."""
        return self._losses(self.theta_TxP, self.points(h_QxK, n_params, n_tokens)).T

    def draws(self, h_QxK: np.ndarray, n_params=None, n_tokens=None) -> np.ndarray:
        """Losses by each resample's law, shape (S, Q, T): the doubt about the law, without a run's own noise."""
        return self._draws(self.points(h_QxK, n_params, n_tokens))

    def interval(self, h_QxK: np.ndarray, level: float = 0.9, n_params=None, n_tokens=None):
        """Bounds (lo_QxT, hi_QxT) that hold the loss of a new run with probability `level`."""
        points = self.points(h_QxK, n_params, n_tokens)
        middle_QxT, draws_SxQxT = self._losses(self.theta_TxP, points).T, self._draws(points)
        one_TxT = np.eye(len(self.targets))
        half_QxT = np.stack(
            [self._calibration(one_T).half_width(draws_SxQxT @ one_T, level) for one_T in one_TxT], axis=1
        )
        return middle_QxT - half_QxT, middle_QxT + half_QxT

    def objective(self, h_QxK: np.ndarray, weights=None, level: float = 0.9, n_params=None, n_tokens=None):
        """Weighted mean of the targets and its interval for a new run: (mean_Q, lo_Q, hi_Q).

        The interval is that of the mean itself, so errors that targets share do not cancel and others do.

        Args:
            weights: of the targets, by name; normalised to sum one, absent ones are zero. None: all equal.
        """
        weight_T = self.target_weights(weights)
        points = self.points(h_QxK, n_params, n_tokens)
        mean_Q = weight_T @ self._losses(self.theta_TxP, points)
        half_Q = self._calibration(weight_T).half_width(self._draws(points) @ weight_T, level)
        return mean_Q, mean_Q - half_Q, mean_Q + half_Q

    def target_weights(self, weights: Mapping[str, float] | None) -> np.ndarray:
        """Weights in the order of `targets`, summing to one, shape (T,).

        Raises:
            InputError: a name is unknown, a weight is negative or not finite, or all are zero.
        """
        if not weights:
            return np.full(len(self.targets), 1 / len(self.targets))
        weight_T = np.zeros(len(self.targets))
        for name, value in weights.items():
            bare = name if name in self.targets else name.removeprefix("loss/").removeprefix("metric/")
            if bare not in self.targets:
                raise InputError(f"target '{name}' was not fitted{nearest(name, self.targets)}")
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"target '{name}' has weight {value}; weights of targets are finite and non-negative")
            weight_T[self.targets.index(bare)] += value
        if weight_T.sum() == 0:
            raise InputError("all weights of targets are zero; at least one must be positive")
        return weight_T / weight_T.sum()

    def predict_table(self, frame: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
        """Predictions for the rows of a table with `mix/<domain>` (and n_params, n_tokens where the law uses them).

        Returns:
            a copy of the table's columns with `pred/<t>`, `lo/<t>` and `hi/<t>` for each target.

        Raises:
            InputError: the domains of the table and the fit differ, a needed column is missing, or weights are off.
        """
        given = [c.removeprefix("mix/") for c in frame.columns if str(c).startswith("mix/")]
        missing, extra = [d for d in self.domains if d not in given], [d for d in given if d not in self.domains]
        if missing or extra:
            parts = [f"{word} {', '.join(names)}" for word, names in (("missing", missing), ("extra", extra)) if names]
            raise InputError(f"the mixtures' domains differ from the fit's: {'; '.join(parts)}")
        h_QxK = frame[[f"mix/{d}" for d in self.domains]].to_numpy(dtype=np.float64)
        n_params, n_tokens = (
            frame[c].to_numpy(dtype=np.float64) if c in frame else None for c in ("n_params", "n_tokens")
        )
        predicted_QxT = self.predict(h_QxK, n_params, n_tokens)
        lo_QxT, hi_QxT = self.interval(h_QxK, level, n_params, n_tokens)
        columns = {
            f"{kind}/{target}": values_QxT[:, t]
            for t, target in enumerate(self.targets)
            for kind, values_QxT in (("pred", predicted_QxT), ("lo", lo_QxT), ("hi", hi_QxT))
        }
        return frame.assign(**columns)

    def summary(self) -> str:
        """A few lines a person can read."""
        lines = [
            f"law {self.law}: {self.family.source}",
            f"fitted to {self.n_runs} runs, {len(self.domains)} domains, {len(self.targets)} targets; "
            f"{self.theta_TxP.shape[1]} parameters a target, {len(self.theta_SxTxP)} resamples",
            f"chosen because {self.reason}" if len(self.cross_validation) > 1 else self.reason,
            "",
            self.cross_validation.to_string(index=False, float_format=lambda v: f"{v:.4f}"),
            "",
            f"{'target':<24}{'MAE unseen':>12}{'seed noise':>12}",
        ]
        for t, target in enumerate(self.targets):
            error = np.abs(self.held_TxR[t] - self.seen.y_TxR[t]).mean()
            noise = self.noise[target]
            lines.append(f"{target:<24}{error:>12.4f}{'unknown' if noise is None else f'{noise:.4f}':>12}")
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])

    def save(self, folder: str | Path) -> None:
        """Write fit.json (names, parameters, ranking) and fit.npz (arrays) into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        scale = self.seen.scale
        arrays = {
            "theta_TxP": self.theta_TxP,
            "theta_SxTxP": self.theta_SxTxP,
            "held_TxR": self.held_TxR,
            "y_TxR": self.seen.y_TxR,
            "h_RxK": self.seen.points.h_RxK,
            "n_R": self.seen.points.n_R,
            "d_R": self.seen.points.d_R,
            "group_R": self.seen.group_R,
            "run_R": self.seen.run_R,
            "offset_T": scale.offset_T,
            "unit_T": scale.unit_T,
        }
        np.savez(folder / "fit.npz", **arrays)
        about = {
            "law": self.law,
            "source": self.family.source,
            "domains": self.domains,
            "columns": self.seen.columns,
            "scale": {"n_params": scale.n, "n_tokens": scale.d},
            "params": self.params,
            "noise": self.noise,
            "noise_freedom": self.noise_freedom,
            "cross_validation": self.cross_validation.to_dict(orient="records"),
            "reason": self.reason,
            "notes": self.notes,
        }
        (folder / "fit.json").write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> LawFit:
        """The fit saved in `folder`.

        Raises:
            InputError: there is none, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / "fit.json").is_file() or not (folder / "fit.npz").is_file():
            raise InputError(f"'{folder}' holds no fit (fit.json and fit.npz)")
        try:
            about = json.loads((folder / "fit.json").read_text())
            with np.load(folder / "fit.npz", allow_pickle=False) as data:
                arrays = dict(data)
            return cls._from(about, arrays)
        except (KeyError, ValueError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the fit in '{folder}' is damaged ({error}); fit again") from error

    @classmethod
    def _from(cls, about: dict, arrays: dict[str, np.ndarray]) -> LawFit:
        columns = tuple(about["columns"])
        scale = Scale(arrays["offset_T"], arrays["unit_T"], about["scale"]["n_params"], about["scale"]["n_tokens"])
        seen = Observations(
            tuple(about["domains"]),
            columns,
            tuple(c.split("/", 1)[1] for c in columns),
            Points(arrays["h_RxK"], arrays["n_R"], arrays["d_R"]),
            arrays["y_TxR"],
            arrays["group_R"],
            arrays["run_R"],
            scale,
            (),
        )
        return cls(
            named(about["law"]),
            arrays["theta_TxP"],
            arrays["theta_SxTxP"],
            arrays["held_TxR"],
            seen,
            about["noise"],
            about["noise_freedom"],
            pd.DataFrame(about["cross_validation"]),
            about["reason"],
            about["notes"],
        )

    def _losses(self, theta_TxP: np.ndarray, points: Points) -> np.ndarray:
        return self.seen.scale.outward(engine.evaluate(self.family, theta_TxP, points))

    def _draws(self, points: Points) -> np.ndarray:
        resamples, targets, params = self.theta_SxTxP.shape
        loss_BxQ = engine.evaluate(self.family, self.theta_SxTxP.reshape(-1, params), points)
        scale = self.seen.scale
        return loss_BxQ.reshape(resamples, targets, -1).transpose(0, 2, 1) * scale.unit_T + scale.offset_T

    @cached_property
    def _at_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Fitted losses (T, R) and draws (S, R, T) at the rows that were fitted, which calibrate every interval."""
        return self._losses(self.theta_TxP, self.seen.points), self._draws(self.seen.points)

    def _calibration(self, weight_T: np.ndarray) -> Calibration:
        fitted_TxR, draws_SxRxT = self._at_rows
        y_TxR = self.seen.y_TxR
        return Calibration.of(
            weight_T @ (y_TxR - fitted_TxR),
            weight_T @ (y_TxR - self.held_TxR),
            draws_SxRxT @ weight_T,
        )

    def _scaled(self, value, name: str, centre: float, count: int) -> np.ndarray:
        if not self.uses_scale:
            return np.ones(count)
        if value is None:
            raise InputError(f"law '{self.law}' uses scale, so a prediction needs '{name}'")
        v_Q = np.broadcast_to(np.asarray(value, dtype=np.float64), (count,))
        if not (np.isfinite(v_Q).all() and (v_Q > 0).all()):
            raise InputError(f"'{name}' is {v_Q[~(np.isfinite(v_Q) & (v_Q > 0))][0]}; it must be positive")
        return v_Q / centre
