"""`Material`: what a report is made of, read from one directory and brought into one shape.

The run table may lack every optional column (role, origin, seed, size); here they get their neutral values once, so
that nothing downstream has to ask. Losses are taken from the last row of each run that completed.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.laws import LawFit
from mixscale.laws.dataset import USED, query_columns
from mixscale.mixture import Mixture
from mixscale.optimization import Optimum
from mixscale.report.aim import Aim
from mixscale.report.statistics import LEVEL
from mixscale.run_table import RunTable, read_frame

SCALE = ("n_params", "n_tokens")
SAME_SCALE = 0.01
"""Relative difference of sizes or token counts that are taken for the same."""
ROUNDED = 1e-4
"""To what a weight is rounded before it is trained."""


@dataclass(frozen=True)
class Material:
    """A run table, the law fitted to it and the optimum solved from that, with what else the directory knows.

    Args:
        table: every run, whatever its status.
        fit: the law; its domains and targets must be columns of the table.
        optimum: the solved mixture. worries: what a diagnosis of the fit found, a sentence each; None where there was
            none. front: mixtures between two goals, as `optimum.pareto` gives them; None where none was drawn.
        experiment: the resolved config as JSON, empty where there was none.
        corpus: `store`, `tokenizer`, `context` and `domains`, one dict each; empty where nothing is known of the text.

    Raises:
        InputError: the fit or the optimum speaks of a domain or target that the table lacks, or of different laws; the
            optimum or the front was made from another fit.
    """

    table: RunTable
    fit: LawFit
    optimum: Optimum
    experiment: dict[str, Any] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)
    fit_warnings: tuple[str, ...] | None = None
    front: pd.DataFrame | None = None

    def __post_init__(self):
        for kind, needed, known, again in (
            ("target", self.targets, self.table.targets, "fit"),
            ("domain", self.fit.domains, self.table.domains, "fit"),
            ("target", self.optimum.weights, self.target_names, "optimum"),
            ("domain", self.optimum.mixture.domains, self.fit.domains, "optimum"),
        ):
            if lost := [n for n in needed if n not in known]:
                whole = "run table" if again == "fit" else "fit"
                raise InputError(
                    f"{kind} '{lost[0]}' of the {again} is not in the {whole} ({', '.join(known)}); "
                    f"the {again} was made from another {whole}, so run `mixscale {again}` again"
                )
        object.__setattr__(self, "optimum", self.optimum.of(self.fit))
        if self.front is not None:
            self._check_front(self.front)

    def _check_front(self, front: pd.DataFrame) -> None:
        needed = ["first", "second", "first_goal", "second_goal", *(f"mix/{d}" for d in self.domains)]
        problem = next((f"has no column '{c}'" for c in needed if c not in front), None)
        if problem is None:
            cost_QxT = self.optimum.problem.costs(self.fit.theta_TxP[None], self.mixtures_RxK(front))[0]
            for which in ("first", "second"):
                goal = front[f"{which}_goal"].iloc[0]
                t = self.target_names.index(goal) if goal in self.target_names else None
                if t is not None and not np.allclose(front[which], cost_QxT[:, t], atol=1e-6):
                    problem = f"was drawn from another fit or for another size than the optimum (target '{goal}')"
        if problem:
            raise InputError(f"pareto.csv {problem}; run `mixscale optimize --pareto` again, or remove the file")

    @property
    def title(self) -> str:
        return str(self.experiment.get("name") or "Data mixture")

    @property
    def law(self) -> str:
        """The law's name."""
        return self.fit.law

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.fit.domains)

    @property
    def targets(self) -> tuple[str, ...]:
        """Full column names of what the law predicts, in the fit's order."""
        return tuple(self.fit.dataset.columns)

    @property
    def target_names(self) -> tuple[str, ...]:
        """Targets as a reader calls them: without `loss/`, `metric/` or `score/`."""
        return tuple(self.fit.targets)

    def unknown(self, mixture: Mixture) -> list[str]:
        """Domains of a mixture that no fitted run used, so that the law cannot speak of it."""
        known = dict(zip(self.domains, self.known_K, strict=True))
        return [d for d, w in mixture.items() if w > 0 and not known.get(d, not self.fit.family.uses_mixture)]

    @property
    def known_K(self) -> np.ndarray:
        """Domains that the law can be asked about: those that a fitted run used, all where weights do not matter."""
        return ~self.fit.dataset.never_used_K | (not self.fit.family.uses_mixture)

    @property
    def unit(self) -> str:
        """What differences of the objective are counted in, ready to follow a number."""
        return " nats a token" if all(t.startswith("loss/") for t in self.targets) else ""

    @functools.cached_property
    def aim(self) -> Aim:
        """What runs and mixtures are compared by."""
        return Aim(self.fit, self.optimum)

    @functools.cached_property
    def measured(self) -> pd.DataFrame:
        """Last rows of complete runs; `role`, `origin` and `seed` are always there.

        So are `goal`, the value of the `aim`, and `plain`, the mean where all targets count the same; scores count
        negatively in both.
        """
        frame = self.table.final().complete().frame.copy()
        frame["role"] = _filled(frame, "role", "fit")
        frame["origin"] = _filled(frame, "origin", "")
        unknown = pd.Series(-1.0 - np.arange(len(frame)), index=frame.index)  # unknown seeds count as different ones
        frame["seed"] = frame["seed"].fillna(unknown) if "seed" in frame else unknown
        y_RxT = self.observed_RxT(frame)
        frame["goal"] = self.aim.observed(y_RxT, **self._place_of(frame))
        frame["plain"] = (y_RxT * self.aim.sign_T).mean(axis=1)
        return frame

    @functools.cached_property
    def scale(self) -> dict[str, float]:
        """`n_params` and `n_tokens`, where known, at which mixtures are compared: the largest verified, or fitted."""
        verify = self.measured[self.measured["role"] == "verify"]
        rows = verify if len(verify) else self.measured
        columns = [c for c in SCALE if c in rows and rows[c].notna().all()]
        if not columns or not len(rows):
            return {}
        largest = rows.sort_values(columns).iloc[-1]
        return {c: float(largest[c]) for c in columns}

    @functools.cached_property
    def place(self) -> dict[str, Any]:
        """`scale`, and the text that the optimum was solved with where that was at this scale.

        Elsewhere the text is that of the table: what there is for the size asked for says nothing of what was trained.
        """
        asked = self.optimum.problem.scale
        solved_here = all(
            asked[c] is None or np.isclose(asked[c], value, rtol=SAME_SCALE) for c, value in self.scale.items()
        )
        return {**self.scale, "unique_tokens": asked["unique_tokens"] if solved_here else None}

    @functools.cached_property
    def at_scale(self) -> pd.DataFrame:
        """Rows of `measured` at `scale`, so that their losses differ by mixture and seed only."""
        mask = np.ones(len(self.measured), bool)
        for column, value in self.scale.items():
            mask &= np.isclose(self.measured[column].to_numpy(float), value, rtol=SAME_SCALE)
        return self.measured[mask]

    @functools.cached_property
    def predictable(self) -> pd.DataFrame:
        """Rows of `measured` that the law speaks of: all for a law of size and tokens, else those at `scale`.

        Those that use a domain which no fitted run used are not among them.
        """
        rows = self.measured if self.fit.uses_scale else self.at_scale
        return rows[~self._strange_RxK(rows).any(axis=1)]

    @functools.cached_property
    def strangers(self) -> dict[str, int]:
        """Number of measured runs by the domain that they use and no fitted run did: they are not predicted."""
        counts_K = self._strange_RxK(self.measured).sum(axis=0)
        return {d: int(count) for d, count in zip(self.domains, counts_K, strict=True) if count}

    def _strange_RxK(self, rows: pd.DataFrame) -> np.ndarray:
        return (self.mixtures_RxK(rows) > USED) & ~self.known_K

    def mixtures_RxK(self, rows: pd.DataFrame) -> np.ndarray:
        """Weights of `rows` in the order of the fit's domains."""
        return rows[[f"mix/{d}" for d in self.domains]].to_numpy(float)

    def groups_R(self, rows: pd.DataFrame) -> np.ndarray:
        """Number of each row's mixture, (R,): equal where the mixtures are."""
        return np.unique(self.mixtures_RxK(rows).round(9), axis=0, return_inverse=True)[1].ravel()

    def observed_RxT(self, rows: pd.DataFrame) -> np.ndarray:
        return rows[list(self.targets)].to_numpy(float)

    def predicted_RxT(self, rows: pd.DataFrame) -> np.ndarray:
        """The law's losses for `rows`, each at its own size, tokens and unique tokens."""
        return np.asarray(self.fit.predict(self.mixtures_RxK(rows), **self._place_of(rows)))

    def interval_RxT(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of where the law expects each row's losses."""
        return self.fit.interval(self.mixtures_RxK(rows), level=LEVEL, **self._place_of(rows))

    def predict_at_scale(self, h_QxK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses of mixtures at `place`, and the ends of their intervals, each (Q, T)."""
        low_QxT, high_QxT = self.fit.interval(h_QxK, level=LEVEL, **self.place)
        return np.asarray(self.fit.predict(h_QxK, **self.place)), low_QxT, high_QxT

    def objective(self, h_QxK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value of the aim and its interval for mixtures at `place`, each (Q,)."""
        return self.aim.predicted(h_QxK, **self.place)

    def row_objective(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value of the aim and its interval for `rows`, each at its own size, tokens and unique tokens; each (R,)."""
        return self.aim.predicted(self.mixtures_RxK(rows), **self._place_of(rows))

    def _place_of(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Size, tokens and unique tokens of each row, as the law's methods take them."""
        place = {c: rows[c].to_numpy(float) for c in SCALE if c in rows and rows[c].notna().all()}
        if self.fit.family.uses_unique:
            wanted = [f"{kind}/{d}" for kind in ("mix", "unique_tokens") for d in self.domains]
            asked = query_columns(self.fit.family, self.domains, rows[[c for c in wanted if c in rows]])
            place["unique_tokens"] = asked[-1]
        return place


def load(directory: Path) -> Material:
    """The material in `directory`, as `mixscale sweep`, `fit` and `optimum` leave it.

    Raises:
        InputError: the runs, the fit or the optimum is missing; the message names the command that makes it.
    """
    if directory.is_file():
        raise InputError(f"'{directory}' is a file; give the directory that holds runs.csv and fit")
    if not directory.is_dir():
        raise InputError(f"directory '{directory}' does not exist; `mixscale sweep CONFIG` makes it and its runs")
    for path, what, command in (
        ("runs.csv" if (directory / "runs.csv").exists() else "runs.parquet", "run table", "mixscale sweep CONFIG"),
        ("fit", "fitted law", f"mixscale fit {directory} --out {directory / 'fit'}"),
        ("optimum.json", "optimum", f"mixscale optimize {directory / 'fit'}"),
    ):
        if not (directory / path).exists():
            raise InputError(f"'{directory}' has no {what} ({path}); run `{command}` first")
    return Material(
        table=RunTable.read(directory),
        fit=LawFit.load(directory / "fit"),
        optimum=Optimum.load(directory / "optimum.json"),
        experiment=_json(directory / "experiment.json") or {},
        corpus=_corpus(directory / "corpus.json"),
        fit_warnings=_lines(directory / "fit" / "diagnostics.txt"),
        front=read_frame(directory / "pareto.csv") if (directory / "pareto.csv").is_file() else None,
    )


def same_mixture(a: Mixture, b: Mixture) -> bool:
    """Whether two mixtures are one but for the rounding of their weights before they are trained."""
    return a.distance(b) <= ROUNDED * max(len(a), len(b))


def _filled(frame: pd.DataFrame, column: str, value: str) -> pd.Series:
    if column not in frame:
        return pd.Series(value, index=frame.index)
    return frame[column].fillna(value).astype(str).replace("", value)


def _corpus(path: Path) -> dict[str, Any]:
    corpus = _json(path) or {}
    if corpus and not (isinstance(corpus, dict) and isinstance(corpus.get("domains"), list)):
        raise InputError(f"'{path}' has no list 'domains'; `mixscale sweep CONFIG` writes it anew")
    return corpus


def _lines(path: Path) -> tuple[str, ...] | None:
    return tuple(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else None


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"'{path}' is no JSON: {error}") from error
