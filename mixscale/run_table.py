"""`RunTable`: one row for each measurement of a run, with checked names, weights and losses.

It is the only interface between packages that produce rows (sweeps, importers) and packages that read them (laws,
optimization, report), and knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mixscale.direction import higher_is_better
from mixscale.errors import InputError, did_you_mean, listed
from mixscale.io import RUNS_CSV, RUNS_PARQUET, Status, atomic_write
from mixscale.mixture import ROUNDING, Mixture
from mixscale.table_file import check_unique, conversion_note, numeric, read_frame

NUMERIC = ("seed", "step", "n_params", "n_params_total", "n_tokens", "flops", "seconds")
SCORE = "score/"  # prefix of targets for which higher is better; for all others lower is better
TARGETS = ("loss/", "metric/", SCORE)
NUMERIC_PREFIXES = ("mix/", "stage/", "tokens/", "unique_tokens/", "epochs/", "bits_per_byte/", *TARGETS)
EXACT = 1e-6  # largest deviation of a row's sum of weights from one that is left as it is (floating-point error)


class RunTable:
    """A checked table of runs.

    Required columns are `run`, `mix/<domain>` and at least one target: `loss/<target>` (nats per token),
    `metric/<name>` (anything else for which lower is better) or `score/<name>` (higher is better, as an accuracy).
    Optional ones are `seed`, `step`, `n_params`, `n_params_total`, `n_tokens`, `flops`, `seconds`, `tokens/*`,
    `unique_tokens/*`, `epochs/*`, `status` (complete, diverged or stopped; complete if it is missing), `role` (fit,
    held_out or verify), `origin` and `size`; others are kept.

    Args:
        frame: the rows; copied. Rounded weights are normalized, with a note.

    Attributes:
        frame: the checked rows, index 0..len-1.
        notes: sentences about what was changed, and what looks suspicious.

    Raises:
        InputError: a required column is missing, weights are negative, NaN or do not sum to one, a complete row has a
            NaN or infinite loss, a (run, step) occurs twice, a run has several mixtures, or there is no row.
    """

    def __init__(self, frame: pd.DataFrame):
        self.frame = frame.reset_index(drop=True).copy()
        self.notes: list[str] = []
        self._check_columns()
        self._make_numeric()
        self._check_rows()
        self._check_weights()
        self._check_losses()
        self._note_copies()
        self._note_directions()

    @classmethod
    def read(cls, path: str | Path) -> RunTable:
        """The table in a .csv or .parquet file, or in a folder with runs.parquet or runs.csv; raises InputError."""
        return cls(read_frame(_file_of(Path(path))))

    def write(self, path: str | Path) -> None:
        """Writes a .csv or .parquet file, atomically; every float reads back bit for bit."""
        file = Path(path)
        if file.suffix not in (".csv", ".parquet"):
            raise InputError(f"run table '{file}' has suffix '{file.suffix}'; it must be .csv or .parquet")
        with atomic_write(file) as temporary:
            if file.suffix == ".parquet":
                self.frame.to_parquet(temporary, index=False)
            else:
                self.frame.to_csv(temporary, index=False)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains in the order of their columns."""
        return tuple(c.removeprefix("mix/") for c in self.frame.columns if c.startswith("mix/"))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the target columns: `loss/...`, then `metric/...`, then `score/...`."""
        columns = [str(c) for c in self.frame.columns]
        return tuple(c for p in TARGETS for c in columns if c.startswith(p))

    @property
    def mixtures_RxK(self) -> np.ndarray:
        """Weights of every row in the order of `domains`, float64, shape (R, K)."""
        return self.frame[[f"mix/{d}" for d in self.domains]].to_numpy(dtype=np.float64)

    def column_of(self, target: str) -> str:
        """Column of a target given as `loss/code` or, if that is unambiguous, as `code`."""
        bare = [c.split("/", 1)[1] for c in self.targets]
        found = [c for c, name in zip(self.targets, bare, strict=True) if target in (c, name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"target '{target}' is ambiguous; give its full name, {' or '.join(found)}")
        raise InputError(f"target '{target}' is not in the table{did_you_mean(target, [*self.targets, *bare])}")

    def losses(self, target: str) -> np.ndarray:
        """Values of a target, float64, shape (R,); rows that are not complete may have NaN."""
        return self.frame[self.column_of(target)].to_numpy(dtype=np.float64)

    def mixture(self, run: str) -> Mixture:
        """The planned mixture of a run."""
        rows = np.nonzero((self.frame["run"] == str(run)).to_numpy())[0]
        if len(rows) == 0:
            raise InputError(f"run '{run}' is not in the table{did_you_mean(str(run), self.frame['run'])}")
        return Mixture.from_array(self.domains, self.mixtures_RxK[rows[0]])

    def where(self, mask: np.ndarray | pd.Series) -> RunTable:
        """The rows where `mask`, boolean of shape (R,), is true; the result may be empty."""
        return self._derived(self.frame[np.asarray(mask, dtype=bool)])

    def complete(self) -> RunTable:
        """The rows that neither diverged nor stopped early."""
        return self.where(is_complete(self.frame))

    def final(self) -> RunTable:
        """The last row of each run: the one with the most tokens, or steps if the table has no tokens."""
        clock = next((c for c in ("n_tokens", "step") if c in self.frame), None)
        ordered = self.frame.sort_values(clock, kind="stable", na_position="first") if clock else self.frame
        last = ordered.drop_duplicates("run", keep="last").index
        return self._derived(self.frame.loc[sorted(last)])

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        runs = self.frame["run"].nunique()
        return f"RunTable({len(self)} rows, {runs} runs, {len(self.domains)} domains, {len(self.targets)} targets)"

    def _repr_html_(self) -> str:
        from mixscale.formatting import notebook_html

        scale = [c for c in ("n_params", "n_tokens") if c in self.frame]
        columns = [*scale, *(f"mix/{d}" for d in self.domains), *self.targets]
        ranges = {c: self.frame[c].quantile([0, 0.5, 1]).tolist() for c in columns}
        return notebook_html("table", self, summary=repr(self), ranges=ranges)

    def _derived(self, frame: pd.DataFrame) -> RunTable:
        """A part of this table: already checked, possibly empty."""
        table = object.__new__(RunTable)
        table.frame = frame.reset_index(drop=True)
        table.notes = list(self.notes)
        return table

    def _check_columns(self) -> None:
        self.frame.columns = columns = [str(c) for c in self.frame.columns]
        check_unique(columns, "run table")
        if "run" not in columns:
            raise InputError(f"run table has no column 'run', the name of each run{did_you_mean('run', columns)}")
        if not self.domains:
            raise InputError(
                "run table has no column 'mix/<domain>'; name the columns of weights like 'mix/web' "
                f"(found: {listed(columns)})"
            )
        if not self.targets:
            raise InputError(
                "run table has no column 'loss/<target>', 'metric/<name>' or 'score/<name>' (higher is better); "
                f"name the columns of targets like 'loss/web' (found: {listed(columns)})"
            )
        if len(self.frame) == 0:
            raise InputError("run table has no rows")

    def _make_numeric(self) -> None:
        frame = self.frame
        blank_R = (frame["run"].isna() | (frame["run"].astype(str).str.strip() == "")).to_numpy(dtype=bool)
        if blank_R.any():
            raise InputError(f"row {int(blank_R.argmax())} has no run name; give every row one")
        frame["run"] = frame["run"].astype(str)
        converted: dict[str, str] = {}
        for column in frame.columns:
            if column not in NUMERIC and not column.startswith(NUMERIC_PREFIXES):
                continue
            numbers = numeric(frame[column], converted)
            measured = column.startswith(("mix/", *TARGETS))
            frame[column] = numbers.astype(np.float64) if measured else numbers
        if converted:
            self.notes.append(conversion_note(converted))

    def _check_rows(self) -> None:
        frame = self.frame
        if "status" in frame:
            known = frame["status"].isna() | frame["status"].isin([*Status, ""])
            if not known.all():
                row = frame[~known].iloc[0]
                raise InputError(f"run '{row['run']}' has status '{row['status']}'; use one of {', '.join(Status)}")
        clock = next((c for c in ("step", "n_tokens") if c in frame), None)
        again = frame.duplicated(["run", clock] if clock else ["run"])
        if again.any():
            row = frame[again].iloc[0]
            at = f" at {clock} {row[clock]:.12g}" if clock else ""
            raise InputError(
                f"duplicate runs: '{row['run']}'{at} occurs more than once ({int(again.sum())} such rows); "
                "drop the duplicates, or give each seed its own run name"
            )

    def _check_weights(self) -> None:
        frame, names = self.frame, [f"mix/{d}" for d in self.domains]
        weights_RxK = frame[names].to_numpy(dtype=np.float64)
        bad_RxK = ~(np.isfinite(weights_RxK) & (weights_RxK >= 0))
        if bad_RxK.any():
            row, k = np.argwhere(bad_RxK)[0]
            raise InputError(
                f"run '{frame['run'].iloc[row]}' has {names[k]} = {weights_RxK[row, k]:g}; "
                "weights must be finite and not negative (write 0 for a domain that is not used)"
            )
        sums_R = weights_RxK.sum(axis=1)
        off_R = np.abs(sums_R - 1.0)
        if off_R.max() > ROUNDING:
            row = int(off_R.argmax())
            whose = f"run '{frame['run'].iloc[row]}' ({int((off_R > ROUNDING).sum())} such rows)"
            raise InputError(f"{off_simplex(whose, self.domains, weights_RxK[row])}{_remedy(sums_R[row])}")
        rounded_R = off_R > EXACT
        if rounded_R.any():
            weights_RxK[rounded_R] /= sums_R[rounded_R, None]
            frame[names] = weights_RxK
            self.notes.append(
                f"the weights of {int(rounded_R.sum())} of {len(frame)} rows differed from a sum of 1 by up to "
                f"{off_R.max():.2g} (rounding) and were normalized"
            )
        first_R = frame.groupby("run", sort=False).ngroup().to_numpy()
        _, start = np.unique(first_R, return_index=True)
        moved_R = np.abs(weights_RxK - weights_RxK[start[first_R]]).max(axis=1) > ROUNDING
        if moved_R.any():
            raise InputError(
                f"run '{frame['run'].iloc[int(moved_R.argmax())]}' has several mixtures; "
                "give each mixture its own run name"
            )

    def _check_losses(self) -> None:
        complete_R = is_complete(self.frame)
        for column in self.targets:
            bad_R = complete_R & ~np.isfinite(self.frame[column].to_numpy(dtype=np.float64))
            if bad_R.any():
                row = self.frame.iloc[int(bad_R.argmax())]
                raise InputError(
                    f"run '{row['run']}' is complete but has {column} = {row[column]} ({int(bad_R.sum())} such rows); "
                    f"mark its status '{Status.DIVERGED}', or drop the row or the column"
                )

    def _note_copies(self) -> None:
        """Notes runs with exactly the losses of another run of the same mixture, size and token count."""
        scale = [c for c in ("n_params", "n_tokens") if c in self.frame]
        alike = [*(f"mix/{d}" for d in self.domains), *scale, *self.targets]
        rows = self.frame[["run", *alike]].dropna(subset=list(self.targets)).drop_duplicates()
        copies = rows[rows.duplicated(alike, keep=False)].groupby(alike, sort=False, dropna=False)["run"]
        if len(copies):
            one, other = next(iter(copies))[1].iloc[:2]
            self.notes.append(
                f"runs '{one}' and '{other}' have the same mixture and identical losses (such cases: {len(copies)}); "
                "duplicates bias the estimated seed noise downwards, so drop them"
            )

    def _note_directions(self) -> None:
        """Notes targets whose name contradicts their prefix."""
        for column in self.targets:
            higher, score = higher_is_better(column), column.startswith(SCORE)
            if higher is (not score):
                other = ("metric/" if score else SCORE) + column.split("/", 1)[1]
                self.notes.append(
                    f"{column} will be {'maximised' if score else 'minimised'}, but its name says that "
                    f"{'higher' if higher else 'lower'} is better; if so, rename the column to {other}"
                )


def is_complete(frame: pd.DataFrame) -> np.ndarray:
    """Which rows are complete, boolean of shape (R,); a row without a status counts as complete."""
    if "status" not in frame:
        return np.ones(len(frame), dtype=bool)
    return (frame["status"].isna() | frame["status"].isin([Status.COMPLETE, ""])).to_numpy(dtype=bool)


def off_simplex(whose: str, domains: Sequence[str], weights_K: np.ndarray) -> InputError:
    """The error for weights that do not sum to one."""
    try:
        Mixture(dict(zip(domains, map(float, weights_K), strict=True)))
    except InputError as error:
        return InputError(f"{whose}: {error}")
    raise AssertionError(f"the weights of {whose} sum to one")


def _remedy(total: float) -> str:
    """End of the error for weights that sum to `total`: the likely cause and the remedy."""
    normalize = "`mixscale import csv TABLE --normalize --out RUNS.csv` normalizes each row"
    if abs(total - 100) <= 100 * ROUNDING:
        return f". These look like percentages: divide them by 100; {normalize}"
    if 0 < total < 1:
        return (
            f". If a column 'mix/<domain>' with the remaining {1 - total:.4g} is missing, add it; otherwise "
            f"{normalize}"
        )
    return f". If these are token counts or relative weights, {normalize}" if total > 0 else ""


def _file_of(path: Path) -> Path:
    if path.is_dir():
        for name in (RUNS_PARQUET, RUNS_CSV):
            if (path / name).is_file():
                return path / name
        raise InputError(f"folder '{path}' has neither {RUNS_PARQUET} nor {RUNS_CSV}")
    if not path.is_file():
        raise InputError(f"run table '{path}' does not exist")
    return path
