"""A cell is one method measured on one task: the least that is computed at once, and kept once it is.

A cell that fails (too few runs, an unknown law) is recorded with its reason and tried again the next time.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.measures import measures
from benchmark.methods import Bounds, losses, named
from benchmark.tasks import Part, Task
from mixscale.errors import InputError
from mixscale.run_table import RunTable

Rows = list[dict]


@dataclass(frozen=True)
class Cell:
    """What to compute: `key` names it for good, `about` fills every row's columns, and `run` returns the rows and,
    where they are to be drawn, predictions. A cell whose `split_id` has changed is another, in the old one's place."""

    key: str
    about: dict
    run: Callable[[], tuple[Rows, pd.DataFrame | None]]
    split_id: str = ""


def of_task(task: Task, bootstrap: int, wanted: set[str]) -> Iterator[Cell]:
    """A cell for each method; those of a learning curve are fitted without intervals."""
    draws = bootstrap if task.main else 2
    split_id = _split_id(task)
    for method in task.methods:
        if wanted and method not in wanted:
            continue
        about = {"table": task.table, "split": task.split, "runs": task.runs, "seed": task.seed, "method": method}
        key = "/".join(str(about[c]) for c in ("table", "split", "runs", "seed", "method")) + f"@{draws}"
        yield Cell(key, about, lambda method=method: _measured(task, method, draws), split_id)


def attempt(cell: Cell) -> tuple[Rows, pd.DataFrame | None]:
    """The rows of a cell, or one that says why there are none."""
    about = cell.about | {"key": cell.key, "split_id": cell.split_id}
    try:
        rows, shown = cell.run()
    except (InputError, ImportError) as error:
        return [about | {"status": "cannot", "reason": str(error)}], None
    return [about | row | {"status": "done"} for row in rows], shown


def _split_id(task: Task) -> str:
    """A checksum of what is fitted and what is predicted."""
    parts = [(fold.fit, *(held.rows for held in fold.parts.values())) for fold in task.folds]
    rows = [pd.util.hash_pandas_object(t.frame, index=False).to_numpy() for tables in parts for t in tables]
    return f"{zlib.crc32(np.concatenate(rows).tobytes()):08x}"


def _measured(task: Task, name: str, bootstrap: int) -> tuple[Rows, pd.DataFrame | None]:
    """Fit every fold, predict its parts, and measure each part over all folds together."""
    method = named(name, task.stop_on)
    pooled: dict[str, list] = {}
    chosen, seconds = [], 0.0
    for fold in task.folds:
        begin = time.perf_counter()
        fitted = method(fold.fit, task.seed, bootstrap, task.holdout)
        seconds += time.perf_counter() - begin
        chosen.append(fitted.chosen)
        for part, held in fold.parts.items():
            bounds = fitted.interval(held.rows) if task.main and not held.order_only else None
            pooled.setdefault(part, []).append((held, fitted.predict(held.rows), bounds))
    rows = []
    for part, pieces in pooled.items():
        about = {"part": part, "seconds": round(seconds, 3), "chosen": ", ".join(sorted(set(filter(None, chosen))))}
        rows.append(about | _of_part(pieces))
    rows += [{"part": "1B, Pile-CC"} | _of_target(pieces, "loss/pile_cc") for pieces in _one(pooled, "1B")]
    return rows, _shown(task, name, pooled)


def _of_part(pieces: list[tuple[Part, np.ndarray, Bounds]]) -> dict:
    y_QxT = np.concatenate([losses(held.rows) for held, _, _ in pieces])
    p_QxT = np.concatenate([p for _, p, _ in pieces])
    bounds = None
    if all(b is not None for _, _, b in pieces):
        bounds = tuple(np.concatenate([b[side] for _, _, b in pieces]) for side in (0, 1))
    one_scale = _one_scale([held.rows for held, _, _ in pieces])
    return {"rows": len(y_QxT)} | measures(y_QxT, p_QxT, bounds, pieces[0][0].order_only, one_scale)


def _of_target(pieces: list, target: str) -> dict:
    """One target alone, by order only."""
    (held, p_QxT, _) = pieces[0]
    t = list(held.rows.targets).index(target)
    y_QxT = losses(held.rows)
    return {"rows": len(y_QxT)} | measures(y_QxT[:, [t]], p_QxT[:, [t]], None, True, True)


def _one(pooled: dict[str, list], part: str) -> list:
    """The pieces of RegMix's 1B part, whose Pile-CC loss is RegMix's own objective."""
    pieces = pooled.get(part)
    return [pieces] if pieces and "loss/pile_cc" in pieces[0][0].rows.targets else []


def _one_scale(tables: list[RunTable]) -> bool:
    """Whether all rows are of one size and token count, as far as that is known."""
    columns = [c for c in ("n_params", "n_tokens") if all(c in t.frame for t in tables)]
    return all(pd.concat([t.frame[c] for t in tables]).nunique() == 1 for c in columns)


def _shown(task: Task, name: str, pooled: dict[str, list]) -> pd.DataFrame | None:
    """Observed and predicted rows of 'auto', for the figure."""
    if name != "auto" or not task.main or task.seed > 0:
        return None
    frames = []
    for part, pieces in pooled.items():
        for held, p_QxT, _ in pieces:
            if held.order_only:
                continue
            y_QxT = losses(held.rows)
            for t, target in enumerate(held.rows.targets):
                about = {"table": task.table, "split": task.split, "part": part, "target": target.split("/", 1)[1]}
                frames.append(pd.DataFrame(about | {"observed": y_QxT[:, t], "predicted": p_QxT[:, t]}))
    return pd.concat(frames) if frames else None
