"""`LawFit`: a fitted law that predicts, says how sure it is, and can be saved.

Everything a reader of a fit needs and nothing of how it was found. Mixtures come and go by domain name or in the
order of `domains`; losses in the targets' own units.
"""

from __future__ import annotations

import json
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mixscale.errors import InputError, nearest
from mixscale.files import made_folder, replaced
from mixscale.laws import engine
from mixscale.laws.families import UNLIMITED, Law, Points
from mixscale.laws.observations import Observations, Scale
from mixscale.laws.selection import named
from mixscale.laws.uncertainty import LEVEL, Calibration
from mixscale.mixture import ROUNDING
from mixscale.runs import numeric, off_simplex, sign_of


@dataclass(frozen=True)
class LawFit:
    """A law fitted to every target of a table.

    Attributes:
        law: name of the family. family: the family itself.
        domains, targets: names; a target is without its prefix (`code`, not `loss/code`).
        theta_TxP: parameters as the engine holds them; theta_SxTxP: one such set per resample.
        held_TxR: predictions of each fitted row by a fit without its mixture, in the targets' units.
        apart_VxTxR: the same by V resamples that lack the mixture.
        seen: the rows that were fitted.
        noise: seed noise per target (standard deviation in its unit), None where no run was repeated.
        noise_freedom: degrees of freedom of the seed noise.
        cross_validation: ranking of the laws compared. reason: why this one. notes: what a reader should know.
    """

    family: Law
    theta_TxP: np.ndarray
    theta_SxTxP: np.ndarray
    held_TxR: np.ndarray
    apart_VxTxR: np.ndarray
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
    def signs_T(self) -> np.ndarray:
        """1 where lower is better, -1 for a score: what each target is multiplied by in an objective, shape (T,)."""
        return np.array([sign_of(c) for c in self.seen.columns])

    @property
    def uses_scale(self) -> bool:
        return self.family.uses_scale

    @property
    def n_runs(self) -> int:
        return int(self.seen.run_R.max()) + 1

    @property
    def params(self) -> dict[str, dict[str, float]]:
        """Parameters of each target by name, in the units of the published formula (`family.source`).

        A formula gives the target above its offset; that of a score gives how far it stays below its offset.
        """
        names = self.family.names(self.domains)
        result = {}
        for target, theta_P, unit in zip(self.targets, self.theta_TxP, self.seen.scale.unit_T, strict=True):
            units = {"loss": abs(float(unit)), "n": self.seen.scale.n, "d": self.seen.scale.d}
            values_P = self.family.natural(theta_P, len(self.domains), units)
            result[target] = dict(zip(names, map(float, values_P), strict=True))
        return result

    def points(self, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None) -> Points:
        """Checked query points.

        Args:
            n_params, n_tokens: a number or shape (Q,); unused by laws without scale.
            unique_tokens: of each domain, by name or of shape (K,) or (Q, K); unused by laws without repeats, and
                without limit where it is not given.

        Raises:
            InputError: weights are off the simplex, or above zero for a domain that no fitted row used; the law uses
                a scale that is not given; a number of tokens is not positive.
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
            raise off_simplex(f"mixture {q}", self.domains, h_QxK[q])
        h_QxK = np.where(np.abs(sums_Q - 1) > 1e-6, 1 / sums_Q, 1.0)[:, None] * h_QxK
        self._check_used(h_QxK)
        return Points.of(
            h_QxK,
            self._scaled(n_params, "n_params", self.seen.scale.n, len(h_QxK)),
            self._scaled(n_tokens, "n_tokens", self.seen.scale.d, len(h_QxK)),
            self._unique(unique_tokens, len(h_QxK)),
        )

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
        half_TxQ = np.stack(
            [
                self._calibration(one_T).half_width(draws_SxQxT @ one_T, self._size(one_T, middle_TxQ), level)
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
        """What an optimum minimises and its interval for a new run: (mean_Q, lo_Q, hi_Q).

        It is the weighted mean of the targets, `Σ_t weight_t sign_t y_t`, in which a score counts negatively. The
        interval is that of the mean itself, so errors that targets share do not cancel and others do.

        Args:
            weights: of the targets, by name; normalised to sum one, absent ones are zero. None: all equal.
        """
        weight_T = self.signs_T * self.target_weights(weights)
        points = self.points(h_QxK, n_params, n_tokens, unique_tokens)
        middle_TxQ = self._losses(self.theta_TxP, points)
        mean_Q = weight_T @ middle_TxQ
        half_Q = self._calibration(weight_T).half_width(
            self._draws(points) @ weight_T, self._size(weight_T, middle_TxQ), level
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
        factor_T = [
            self._calibration(one_T).widening(draws_Sx1xT @ one_T, self._size(one_T, middle_Tx1), level)[0]
            for one_T in np.eye(len(self.targets))
        ]
        return max(1.0, float(self.target_weights(weights) @ factor_T))

    def target_weights(self, weights: Mapping[str, float] | None) -> np.ndarray:
        """Weights in the order of `targets`, non-negative and summing to one, shape (T,); an objective takes them
        times `signs_T`.

        Raises:
            InputError: a name is unknown, a weight is negative or not finite, or all are zero.
        """
        if not weights:
            return np.full(len(self.targets), 1 / len(self.targets))
        weight_T = np.zeros(len(self.targets))
        bare_of = dict(zip(self.seen.columns, self.targets, strict=True))
        for name, value in weights.items():
            bare = bare_of.get(name, name)
            if bare not in self.targets:
                raise InputError(f"target '{name}' was not fitted{nearest(name, self.targets)}")
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"target '{name}' has weight {value}; weights of targets are finite and non-negative")
            weight_T[self.targets.index(bare)] += value
        if weight_T.sum() == 0:
            raise InputError("all weights of targets are zero; at least one must be positive")
        return weight_T / weight_T.sum()

    def predict_table(self, frame: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
        """Predictions for the rows of a table with `mix/<domain>`.

        Its n_params and n_tokens, and its `unique_tokens/<domain>`, are taken where the law uses them; a domain
        without unique tokens has no limit.

        Returns:
            a copy of the table's columns with `pred/<t>`, `lo/<t>` and `hi/<t>` for each target.

        Raises:
            InputError: the domains of the table and the fit differ, a needed column is missing, a value is no number,
                weights are off, or the level is not between 0 and 1.
        """
        given = [c.removeprefix("mix/") for c in frame.columns if str(c).startswith("mix/")]
        missing, extra = [d for d in self.domains if d not in given], [d for d in given if d not in self.domains]
        if missing or extra:
            parts = [f"{word} {', '.join(names)}" for word, names in (("missing", missing), ("extra", extra)) if names]
            raise InputError(f"the mixtures' domains differ from the fit's: {'; '.join(parts)}")
        h_QxK = np.column_stack([numeric(frame[f"mix/{d}"]).to_numpy(dtype=np.float64) for d in self.domains])
        n_params, n_tokens = (
            numeric(frame[c]).to_numpy(dtype=np.float64) if self.uses_scale and c in frame else None
            for c in ("n_params", "n_tokens")
        )
        scale = (n_params, n_tokens, self._unique_columns(frame))
        predicted_QxT = self.predict(h_QxK, *scale)
        lo_QxT, hi_QxT = self.interval(h_QxK, level, *scale)
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
            error = np.nanmean(np.abs(self.held_TxR[t] - self.seen.y_TxR[t]))
            noise = self.noise[target]
            lines.append(f"{target:<24}{error:>12.4f}{'unknown' if noise is None else f'{noise:.4f}':>12}")
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])

    def save(self, folder: str | Path) -> None:
        """Write fit.json (names, parameters, ranking) and the arrays it names into `folder`.

        The arrays go to a new file and fit.json, which names it, comes last: until then the old fit stays whole.

        Raises:
            InputError: the folder is, or lies below, a file.
        """
        folder = made_folder(folder)
        scale = self.seen.scale
        arrays = {
            "theta_TxP": self.theta_TxP,
            "theta_SxTxP": self.theta_SxTxP,
            "held_TxR": self.held_TxR,
            "apart_VxTxR": self.apart_VxTxR,
            "y_TxR": self.seen.y_TxR,
            "h_RxK": self.seen.points.h_RxK,
            "n_R": self.seen.points.n_R,
            "d_R": self.seen.points.d_R,
            "u_RxK": self.seen.points.u_RxK,
            "group_R": self.seen.group_R,
            "run_R": self.seen.run_R,
            "offset_T": scale.offset_T,
            "unit_T": scale.unit_T,
        }
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
            "arrays": f"fit-{secrets.token_hex(4)}.npz",
        }
        with replaced(folder / about["arrays"]) as file:
            np.savez(file, **arrays)
        with replaced(folder / "fit.json") as file:
            file.write_text(json.dumps(about, indent=1) + "\n")
        for old in folder.glob("fit-????????.npz"):
            if old.name != about["arrays"]:
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path) -> LawFit:
        """The fit saved in `folder`.

        Raises:
            InputError: there is none, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / "fit.json").is_file():
            raise InputError(f"'{folder}' holds no fit (fit.json)")
        try:
            about = json.loads((folder / "fit.json").read_text())
            with np.load(folder / about["arrays"], allow_pickle=False) as data:
                arrays = dict(data)
            return cls._from(about, arrays)
        except KeyError as error:
            raise InputError(
                f"the fit in '{folder}' lacks {error}: damaged, or of another version; fit again"
            ) from error
        except (ValueError, OSError, TypeError, zipfile.BadZipFile) as error:
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
            Points(arrays["h_RxK"], arrays["n_R"], arrays["d_R"], arrays["u_RxK"]),
            arrays["y_TxR"],
            arrays["group_R"],
            arrays["run_R"],
            scale,
            (),
        )
        return cls(
            named(about["law"]).bound(seen.points),
            arrays["theta_TxP"],
            arrays["theta_SxTxP"],
            arrays["held_TxR"],
            arrays["apart_VxTxR"],
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
    def _at_rows(self) -> np.ndarray:
        """Fitted losses of the rows that were fitted, shape (T, R)."""
        return self._losses(self.theta_TxP, self.seen.points)

    def _calibration(self, weight_T: np.ndarray) -> Calibration:
        fitted_TxR = self._at_rows
        return Calibration.of(
            weight_T @ (self.seen.y_TxR - fitted_TxR),
            weight_T @ (self.seen.y_TxR - self.held_TxR),
            np.einsum("t,vtr->vr", weight_T, self.apart_VxTxR),
            self._size(weight_T, fitted_TxR),
            self.seen.group_R,
        )

    def _size(self, weight_T: np.ndarray, loss_TxQ: np.ndarray) -> np.ndarray:
        """What noise is relative to: the weighted sum of distances from each target's offset, positive, shape (Q,)."""
        weight_T, unit_T = np.abs(weight_T), self.seen.scale.unit_T
        size_Q = weight_T @ (np.sign(unit_T)[:, None] * (loss_TxQ - self.seen.scale.offset_T[:, None]))
        return np.maximum(size_Q, 0.1 * float(weight_T @ np.abs(unit_T)))

    def _check_used(self, h_QxK: np.ndarray) -> None:
        if not self.family.uses_mixture:
            return
        asked_QxK = (h_QxK > 1e-9) & self.seen.never_used_K
        if asked_QxK.any():
            q, k = np.argwhere(asked_QxK)[0]
            raise InputError(
                f"mixture {q} has {h_QxK[q, k]:g} of '{self.domains[k]}', which no fitted run used, so nothing is "
                "known of it; set it to 0, or add runs that use it"
            )

    def _unique(self, value, count: int) -> np.ndarray | None:
        """Unique tokens over the unit of d, shape (Q, K); None where nothing is limited."""
        if value is None or not self.family.uses_unique:
            return None
        if isinstance(value, Mapping):
            if unknown := [d for d in value if d not in self.domains]:
                raise InputError(
                    f"unique tokens of '{unknown[0]}', which the fit has not{nearest(unknown[0], self.domains)}"
                )
            value = [value.get(d, np.inf) for d in self.domains]
        u_QxK = np.broadcast_to(np.asarray(value, dtype=np.float64), (count, len(self.domains)))
        if not (u_QxK > 0).all():
            q, k = np.argwhere(~(u_QxK > 0))[0]
            raise InputError(f"unique tokens of '{self.domains[k]}' are {u_QxK[q, k]:g}; they must be positive")
        return np.minimum(u_QxK / self.seen.scale.d, UNLIMITED)

    def _unique_columns(self, frame: pd.DataFrame) -> np.ndarray | None:
        """`unique_tokens/<domain>` of each row, shape (Q, K), infinite where it is not given."""
        if not self.family.uses_unique:
            return None
        columns = [f"unique_tokens/{d}" for d in self.domains]
        return np.column_stack(
            [numeric(frame[c]).fillna(np.inf) if c in frame else np.full(len(frame), np.inf) for c in columns]
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
