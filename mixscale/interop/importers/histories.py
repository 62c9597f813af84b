"""The measurements in the log of a run, whose targets may be logged at different steps, and may end in NaN.

A log is a frame with one row for each step, in order. A blank is a value that was not logged; an infinite number
marks one that was logged but is not finite. Knows nothing of the tool that logged it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mixscale.errors import listed
from mixscale.run_table import Status, is_complete


@dataclass
class Histories:
    """Takes logs of runs, one after another, and notes what was joined or dropped."""

    joined: dict[str, str] = field(default_factory=dict)  # run to the steps of its targets
    diverged: dict[str, str] = field(default_factory=dict)  # run to the target that ends in a value that is not finite
    late: dict[str, str] = field(default_factory=dict)  # column to an example of a value from before its row
    skipped: dict[str, int] = field(default_factory=dict)  # run to the number of values in between that are not finite

    def measured(
        self, run: str, log: pd.DataFrame, targets: Sequence[str], counts: Sequence[str] = (), failed: str = ""
    ) -> pd.DataFrame:
        """The rows of `log` at which all targets were measured; the last row is the last measurement.

        A row takes the last value of each column at or before its step. It counts if no target is older than half of
        the shortest time between two values of a target; the last row counts if no other does.

        Args:
            log: with a column step. counts: columns that grow with the step, such as tokens. failed: the column that
                shows that the run diverged, if its targets do not.
        """
        others = [c for c in log if c not in targets]
        log = log.reset_index(drop=True)
        at_C = {c: log["step"].where(log[c].notna()) for c in counts}
        log = log.assign(**log[others].ffill()).dropna(subset=list(targets), how="all")
        present = [t for t in targets if log[t].notna().any()]
        values_RxT = log[present].to_numpy(dtype=np.float64)
        ends = {t: log[t].dropna().iloc[-1] for t in present}
        failed = next((t for t, v in ends.items() if np.isinf(v)), failed)
        if failed:
            self.diverged[run] = failed
            last = log.ffill().iloc[-1:].replace([np.inf, -np.inf], np.nan)
            return last.assign(status=Status.DIVERGED)
        if bad := int(np.isinf(values_RxT).sum()):
            self.skipped[run] = bad
            log = log.replace([np.inf, -np.inf], np.nan)
            log = log.dropna(subset=list(targets), how="all")
            values_RxT = log[present].to_numpy(dtype=np.float64)
        steps_R = log["step"].to_numpy(dtype=np.float64)
        logged_RxT = ~np.isnan(values_RxT)
        at_RxT = np.maximum.accumulate(np.where(logged_RxT, steps_R[:, None], -np.inf), axis=0)
        age_R = (steps_R[:, None] - at_RxT).max(axis=1, initial=0)
        whole_R = (age_R == 0) | (age_R < _shortest_gap(steps_R, logged_RxT) / 2)
        if not whole_R.any():
            whole_R[-1:] = True
        # Of rows that share a value, the last has the newest others.
        rows = np.nonzero(whole_R)[0]
        newer = [bool((at_RxT[after] > at_RxT[row]).all()) for row, after in zip(rows[:-1], rows[1:], strict=True)]
        rows = rows[[*newer, True]] if len(rows) else rows
        if len(rows) and age_R[rows[-1]] > 0:
            self.joined[run] = ", ".join(f"{t} at {s:.12g}" for t, s in zip(present, at_RxT[rows[-1]], strict=True))
        found = log.ffill().iloc[rows]
        for count in counts:
            before = at_C[count][: log.index[rows[-1]] + 1].dropna()
            step = found["step"].iloc[-1]
            if len(before) and before.iloc[-1] < step:
                self.late[count] = f"run '{run}' has at step {step:.12g} the value of step {before.iloc[-1]:.12g}"
        return found

    def notes(self, among: int) -> list[str]:
        """Sentences on what was joined or dropped in the logs of `among` runs."""
        notes = []
        if self.joined:
            run, steps = next(iter(self.joined.items()))
            notes.append(
                f"the targets of {len(self.joined)} of {among} runs were logged at different steps; a row joins the "
                f"last value of each at or before its step (run '{run}': {steps})"
            )
        if self.diverged:
            run, target = next(iter(self.diverged.items()))
            notes.append(
                f"{len(self.diverged)} of {among} runs end with a value that is not finite and have status "
                f"{Status.DIVERGED}, so they are kept but not fitted: {listed(list(self.diverged))} (run '{run}': "
                f"{target})"
            )
        notes += [f"{c} was not logged at the steps of all targets: {example}" for c, example in self.late.items()]
        if self.skipped:
            runs = listed([f"{run} ({count})" for run, count in self.skipped.items()])
            notes.append(f"values that are not finite, before the end of a run, were left out: {runs}")
        return notes


def short_runs(frame: pd.DataFrame, remedy: str) -> list[str]:
    """A note, which ends with `remedy`, on the complete runs of a table with a column step that end before others."""
    last = frame[is_complete(frame)].groupby("run")["step"].max()
    if not len(short := last[last < last.max()]):
        return []
    return [
        f"{len(short)} of {len(last)} runs end before the last step, {last.max():.12g}: {listed(list(short.index))}; "
        f"delete the rows of those that were cut short, {remedy}"
    ]


def _shortest_gap(steps_R: np.ndarray, logged_RxT: np.ndarray) -> float:
    """Fewest steps between two values of a target, of those that are not logged in most rows if there are any."""
    gaps_T = [float(np.diff(steps_R[logged_R]).min(initial=np.inf)) for logged_R in logged_RxT.T]
    rare = [gap for gap, logged_R in zip(gaps_T, logged_RxT.T, strict=True) if logged_R.mean() <= 0.5]
    shortest = min(rare, default=np.inf)
    return shortest if np.isfinite(shortest) else min(gaps_T, default=np.inf)
