"""`Inputs`: everything a report is made of, read from one folder.

Optional columns of the run table (role, origin, seed, size) get neutral values here, so that no other module handles
their absence. Losses are those of the last row of each complete run.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixscale.documents import parse_json
from mixscale.errors import InputError
from mixscale.io import (
    DIAGNOSTICS_FILE,
    FIT_FOLDER,
    OPTIMUM_FILE,
    RUNS_CSV,
    RUNS_PARQUET,
    SWEEP_FORMAT,
    check_format,
    front_file,
)  # fmt: skip
from mixscale.laws import LawFit
from mixscale.laws.dataset import USED
from mixscale.laws.query import query_columns
from mixscale.laws.uncertainty import LEVEL
from mixscale.mixture import Mixture, mixture_index
from mixscale.objective import BoundObjective
from mixscale.optimization import Optimum
from mixscale.run_table import RunTable, is_complete
from mixscale.table_file import read_frame

SCALE = ("n_params", "n_tokens")
SAME_SCALE = 0.01  # relative difference of sizes or token counts that count as equal
ROUNDED = 1e-4  # rounding of a weight before training


@dataclass(frozen=True)
class Inputs:
    """A run table, the law fitted to it, the optimum of that law, and what else the folder holds.

    Raises:
        InputError: a domain or target of the fit or the optimum is not in the table; the optimum or the front is of
            another fit.
    """

    table: RunTable  # every run, whatever its status
    fit: LawFit
    optimum: Optimum
    experiment: dict[str, Any] = field(default_factory=dict)  # the resolved config as JSON
    corpus: dict[str, Any] = field(default_factory=dict)  # store, tokenizer, context, domains and statistics
    fit_warnings: tuple[str, ...] | None = None  # of the diagnostics of the fit; None without diagnostics
    front: pd.DataFrame | None = None  # of `optimization.pareto`

    def __post_init__(self):
        for kind, needed, known in (
            ("target", self.targets, self.table.targets),
            ("domain", self.domains, self.table.domains),
        ):
            if lost := [n for n in needed if n not in known]:
                raise InputError(
                    f"{kind} '{lost[0]}' of the fit is not in the run table ({', '.join(known)}); the fit was made "
                    "from another run table, so run `mixscale fit` again"
                )
        object.__setattr__(self, "optimum", self.optimum.of(self.fit))
        if problem := self.front is not None and self._front_problem(self.front):
            raise InputError(f"pareto.csv {problem}; run `mixscale optimize --pareto` again, or remove the file")

    def _front_problem(self, front: pd.DataFrame) -> str | None:
        needed = ["first", "second", "first_objective", "second_objective", *(f"mix/{d}" for d in self.domains)]
        if missing := [c for c in needed if c not in front]:
            return f"has no column '{missing[0]}'"
        costs = dict(zip(self.fit.targets, self.costs(self.mixtures_RxK(front)).T, strict=True))
        for which in ("first", "second"):
            target = front[f"{which}_objective"].iloc[0]
            if target in costs and not np.allclose(front[which], costs[target], atol=1e-6):
                return f"was drawn from another fit or for another size than the optimum (target '{target}')"
        return None

    def costs(self, h_QxK: np.ndarray) -> np.ndarray:
        """Targets by the law where the optimum was solved, scores negated, shape (Q, T)."""
        return self.optimum.problem.costs(self.fit.theta_TxP[None], h_QxK)[0]

    @property
    def domains(self) -> tuple[str, ...]:
        return self.fit.domains

    @property
    def targets(self) -> tuple[str, ...]:
        """Columns of the fitted targets; `fit.targets` has them without `loss/` or `score/`."""
        return self.fit.dataset.columns

    @property
    def columns(self) -> list[str]:
        """The objective and every target: columns of `measured`, and of all arrays (R, 1 + T) here."""
        return ["objective", *self.targets]

    @property
    def objective(self) -> BoundObjective:
        """What runs and mixtures are compared by."""
        return self.optimum.problem.objective

    @property
    def scores(self) -> list[str]:
        """Targets that are better when higher."""
        return [name for name, sign in zip(self.fit.targets, self.objective.sign_T, strict=True) if sign < 0]

    def violated(self, mixture: Mixture) -> list[str]:
        """Descriptions of the constraints that a mixture violates by more than the rounding of trained weights."""
        violated = self.optimum.problem.violated(mixture.array(self.domains), 5 * ROUNDED)
        return [constraint.description for constraint in violated]

    @property
    def known_K(self) -> np.ndarray:
        """Domains that a fitted run used, or all if the law ignores weights: those that the law can predict."""
        return ~self.fit.dataset.never_used_K | (not self.fit.family.uses_mixture)

    def is_known(self, mixture: Mixture) -> bool:
        """Whether the law can predict a mixture."""
        known = dict(zip(self.domains, self.known_K, strict=True))
        return all(w <= 0 or known.get(d, not self.fit.family.uses_mixture) for d, w in mixture.items())

    @functools.cached_property
    def measured(self) -> pd.DataFrame:
        """Last rows of complete runs with `role`, `origin` and `seed`; each unknown seed is a negative number.

        `objective` is what runs are compared by, `plain` the unweighted mean of the targets, scores negated.
        """
        frame = self.table.final().complete().frame.copy()
        frame["role"] = _filled(frame, "role", "fit")
        # The mean mixture of a staged run is not the mixture that the law and the other runs are about.
        frame = frame[frame["role"] != "staged"].reset_index(drop=True)
        frame["origin"] = _filled(frame, "origin", "")
        unknown = pd.Series(-1.0 - np.arange(len(frame)), index=frame.index)
        frame["seed"] = frame["seed"].fillna(unknown) if "seed" in frame else unknown
        y_RxT = frame[list(self.targets)].to_numpy(float)
        frame["objective"] = self.optimum.problem.observed(y_RxT, **self.scale_of(frame))
        frame["plain"] = self.fit.mean_objective().mean(y_RxT)
        return frame

    @functools.cached_property
    def scale(self) -> dict[str, float]:
        """Known `n_params` and `n_tokens` at which mixtures are compared: the largest verified, or else fitted."""
        verify = self.measured[self.measured["role"] == "verify"]
        rows = verify if len(verify) else self.measured
        columns = [c for c in SCALE if c in rows and rows[c].notna().all()]
        if not columns or not len(rows):
            return {}
        largest = rows.sort_values(columns).iloc[-1]
        return {c: float(largest[c]) for c in columns}

    @functools.cached_property
    def at(self) -> dict[str, Any]:
        """`scale`, with the optimum's unique tokens if it was solved at this scale."""
        solved = self.optimum.problem.scale
        here = all(solved[c] is None or np.isclose(solved[c], v, rtol=SAME_SCALE) for c, v in self.scale.items())
        return {**self.scale, "unique_tokens": solved["unique_tokens"] if here else None}

    @functools.cached_property
    def at_scale(self) -> pd.DataFrame:
        """Rows of `measured` at `scale`, so that their losses differ by mixture and seed only."""
        mask = np.ones(len(self.measured), bool)
        for column, value in self.scale.items():
            mask &= np.isclose(self.measured[column].to_numpy(float), value, rtol=SAME_SCALE)
        return self.measured[mask]

    @functools.cached_property
    def predictable(self) -> pd.DataFrame:
        """Rows of `measured` that the law can predict: known domains, and, for a law without scale, at `scale`."""
        rows = self.measured if self.fit.uses_scale else self.at_scale
        return rows[~self._unknown_RxK(rows).any(axis=1)]

    @functools.cached_property
    def unpredictable(self) -> dict[str, int]:
        """For each domain that no fitted run used, the number of measured runs that use it."""
        counts_K = self._unknown_RxK(self.measured).sum(axis=0)
        return {d: int(count) for d, count in zip(self.domains, counts_K, strict=True) if count}

    def _unknown_RxK(self, rows: pd.DataFrame) -> np.ndarray:
        return (self.mixtures_RxK(rows) > USED) & ~self.known_K

    def mixtures_RxK(self, rows: pd.DataFrame) -> np.ndarray:
        return rows[[f"mix/{d}" for d in self.domains]].to_numpy(float)

    def groups_R(self, rows: pd.DataFrame) -> np.ndarray:
        return mixture_index(self.mixtures_RxK(rows))

    def predict(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`columns` of `rows` by the law at each row's scale, and the ends of their intervals, each (R, 1 + T)."""
        return self._predict(self.mixtures_RxK(rows), self.scale_of(rows))

    def predict_at_scale(self, h_QxK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same for mixtures at the compared scale, each (Q, 1 + T)."""
        return self._predict(h_QxK, self.at)

    def _predict(self, h_QxK: np.ndarray, scale: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets = self.fit.predict(h_QxK, **scale), *self.fit.interval(h_QxK, level=LEVEL, **scale)
        both = zip(self.optimum.problem.predicted(h_QxK, LEVEL, **scale), targets, strict=True)
        return tuple(np.column_stack(sides) for sides in both)  # type: ignore

    def objective_at_scale(self, h_QxK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Objective of mixtures at the compared scale, and the ends of its interval, each (Q,)."""
        return self.optimum.problem.predicted(h_QxK, LEVEL, **self.at)

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """`columns` of fitted rows, measured and predicted by a fit without the row's fold, each (R, 1 + T)."""
        fit, points, unit = self.fit, self.fit.dataset.points, self.fit.dataset.scale
        tested_R = np.isfinite(fit.oof_pred_TxR).all(axis=0)
        scale: dict[str, np.ndarray] = {}
        if fit.uses_scale or fit.family.uses_unique:
            scale = {"n_params": points.n_R * unit.n, "n_tokens": points.d_R * unit.d}
        if fit.family.uses_unique:
            scale["unique_tokens"] = points.u_RxK * unit.d
        scale = {name: values_R[tested_R] for name, values_R in scale.items()}
        sides = (y_TxR.T[tested_R] for y_TxR in (fit.dataset.y_TxR, fit.oof_pred_TxR))
        observed, predicted = (
            np.column_stack([self.optimum.problem.observed(y_RxT, **scale), y_RxT]) for y_RxT in sides
        )
        return observed, predicted

    def scale_of(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Size, tokens and unique tokens of each row: keyword arguments of the fit's methods."""
        scale = {c: rows[c].to_numpy(float) for c in SCALE if c in rows and rows[c].notna().all()}
        if self.fit.family.uses_unique:
            wanted = [f"{kind}/{d}" for kind in ("mix", "unique_tokens") for d in self.domains]
            columns, _ = query_columns(self.fit.family, self.domains, rows[[c for c in wanted if c in rows]])
            scale["unique_tokens"] = columns[-1]
        return scale

    def all_runs(self) -> pd.DataFrame:
        """Last row of every run for a table: verification, held-out, then fitted runs, the best of each first."""
        final = self.table.final().frame
        objective = final["run"].map(self.measured.set_index("run")["objective"])
        rank = _filled(final, "role", "fit").map({"verify": 0, "held_out": 1, "fit": 2}).fillna(3)
        final = final.assign(rank=rank, objective=objective)
        final = final.sort_values(["rank", "objective"], kind="stable", na_position="last")
        first = ["run", "role", "origin", "status", "size", "seed", *SCALE, "objective"]
        mixtures = {f"mix/{d}": f"{d} %" for d in self.domains}
        shown = final[[c for c in (*first, *mixtures, *self.targets, "seconds") if c in final]]
        return shown.assign(**{c: (100 * shown[c]).round(1) for c in mixtures}).rename(columns=mixtures)

    def parameters(self) -> pd.DataFrame:
        """Parameters of the law, a column per target."""
        return pd.DataFrame(self.fit.params).rename_axis("parameter").reset_index()

    def front_points(self, mixtures: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
        """Both objectives of the front, if they are targets, at the optimum and the current mixture."""
        both = [] if self.front is None else [str(self.front[f"{w}_objective"].iloc[0]) for w in ("first", "second")]
        if not both or not set(both) <= set(self.fit.targets):
            return {}
        at, found = [self.fit.targets.index(target) for target in both], {}
        for name in (name for name in ("optimum", "current") if name in mixtures):
            h_1xK = np.array([[mixtures[name].get(d, 0.0) for d in self.domains]])
            found[name] = tuple(self.objective.sign_T[at] * self.costs(h_1xK)[0, at])
        return found

    def statuses(self) -> pd.Series:
        final = self.table.final().frame
        status = _filled(final, "status", "complete").mask(is_complete(final), "complete")
        return pd.Series(status.to_numpy(), index=final["run"].astype(str))


def load(directory: Path) -> Inputs:
    """The inputs in `directory`, as `mixscale sweep`, `fit` and `optimize` write them.

    Raises:
        InputError: the runs, the fit or the optimum is missing; the message names the command that makes it.
    """
    if directory.is_file():
        raise InputError(f"'{directory}' is a file; give the directory that holds runs.csv and fit")
    if not directory.is_dir():
        raise InputError(f"directory '{directory}' does not exist; `mixscale sweep CONFIG` makes it and its runs")
    fit = directory / FIT_FOLDER
    for path, what, command in (
        (RUNS_CSV if (directory / RUNS_CSV).exists() else RUNS_PARQUET, "run table", "mixscale sweep CONFIG"),
        (FIT_FOLDER, "fitted law", f"mixscale fit {directory} --out {fit}"),
        (OPTIMUM_FILE, "optimum", f"mixscale optimize {fit}"),
    ):
        if not (directory / path).exists():
            raise InputError(f"'{directory}' has no {what} ({path}); run `{command}` first")
    corpus, warnings = directory / "corpus.json", (fit / DIAGNOSTICS_FILE).with_suffix(".txt")
    front = front_file(directory / OPTIMUM_FILE)
    found = _json(corpus)
    if found and not (isinstance(found, dict) and isinstance(found.get("domains"), list)):
        raise InputError(f"'{corpus}' has no list 'domains'; `mixscale sweep CONFIG` rewrites it")
    return Inputs(
        table=RunTable.read(directory),
        fit=LawFit.load(fit),
        optimum=Optimum.load(directory / OPTIMUM_FILE),
        experiment=_json(directory / "experiment.json"),
        corpus=found,
        fit_warnings=tuple(warnings.read_text(encoding="utf-8").splitlines()) if warnings.is_file() else None,
        front=read_frame(front) if front.is_file() else None,
    )


def same_mixture(a: Mixture, b: Mixture) -> bool:
    """Whether two mixtures are equal up to the rounding of their weights before training."""
    return a.distance(b) <= ROUNDED * max(len(a), len(b))


def _filled(frame: pd.DataFrame, column: str, value: str) -> pd.Series:
    if column not in frame:
        return pd.Series(value, index=frame.index)
    return frame[column].fillna(value).astype(str).replace("", value)


def _json(path: Path) -> Any:
    found = (parse_json(path.read_text(encoding="utf-8"), f"'{path}'") if path.is_file() else None) or {}
    if found:
        number = found.get("format") if isinstance(found, dict) else None
        check_format(number, SWEEP_FORMAT, f"'{path}'", "train the sweep in a new folder: give another --name")
    return found
